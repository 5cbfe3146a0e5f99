// `winnow run`: the whole way of a method on one input: compile, run, check, compare times, draw.
#include "runtime/cache/Files.h"
#include "tools/winnow/ProgramFlags.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/backends/Backend.h"
#include "tools/winnow/backends/HostMemory.h"
#include "tools/winnow/commands/run/PagedRun.h"
#include "tools/winnow/commands/run/Picture.h"
#include "tools/winnow/commands/run/Prompt.h"
#include "tools/winnow/commands/run/RunInput.h"
#include "tools/winnow/commands/run/RunReport.h"
#include "tools/winnow/commands/tune/TunedConfigs.h"
#include "tools/winnow/help.inc"
#include "tools/winnow/io/Flags.h"
#include <algorithm>
#include <fmt/format.h>
#include <numeric>
#include <optional>

namespace winnow {
namespace {

/// Rows that the reference looks at: enough to trust, few enough to wait for.
int checkedRows(const reference::Problem &problem) {
  double keys = 0;
  for (size_t s = 0; s + 1 < problem.cuK.size(); ++s)
    keys = std::max<double>(keys, problem.cuK[s + 1] - problem.cuK[s]);
  double workPerRow = keys * problem.heads * problem.headDim;
  return static_cast<int>(std::clamp(6e9 / std::max(1.0, workPerRow), 24.0, 512.0));
}

constexpr int kMostThreads = 4096;
constexpr int64_t kMostBatchTokens = 100'000'000; ///< of all sequences
constexpr int kMostGradientTokens = 4096;         ///< the reference takes all of them

class RunCommand {
public:
  RunCommand(CLI::App &command, Session &session) : session(session), command(command) {
    flags.addTo(command, /*methodRequired=*/false);
    flags.addTargetFlags(command, "sm_80,sm_89,sm_90a");
    flags.addTunedFlags(command, /*withHints=*/false);
    command
        .add_option("--device", backendOptions.device,
                    "auto, cuda, cuda:N, cpu, emulated or emulated:ARCH")
        ->capture_default_str();
    command.add_option("--threads", backendOptions.threads, "CPU threads; 0 stands for all cores")
        ->check(between(0, kMostThreads));
    CLI::Option *sequences =
        command
            .add_option("--seq", seq,
                        "Tokens of each sequence of the structured prompt, separated by commas")
            ->check(listOf(between(0, kMostTokens)));
    CLI::Option *seeds = command.add_option("--seed", seed, "Seed of the structured prompt")
                             ->check(between<uint64_t>(0, UINT64_MAX))
                             ->capture_default_str();
    command.add_option("--svg", svg, "Draw the selection into this file");
    command.add_flag("--no-dense", noDense, "Leave out the comparison with dense attention");
    command.add_flag("--check", check,
                     "Compare with the fp64 reference (always done on the structured prompt)");
    command.add_option("--image", imagePath, "Run this program image instead of compiling METHOD");
    paged.addTo(command);
    std::string group = "NumPy files";
    CLI::Option *queries =
        command.add_option("--q", files.q, "Queries [tokens, heads, head_dim]")->group(group);
    sequences->excludes(queries);
    seeds->excludes(queries);
    command.add_option("--k", files.k, "Keys [tokens, kv_heads, head_dim]")->group(group);
    command.add_option("--v", files.v, "Values [tokens, kv_heads, value_dim]")->group(group);
    command
        .add_option("--cu-seqlens", files.cuSeqlens,
                    "Cumulative lengths of a ragged batch, int32 [batch + 1]")
        ->needs(queries)
        ->group(group);
    command
        .add_option("--cu-seqlens-k", files.cuSeqlensK,
                    "The same of the keys where they differ (history)")
        ->needs(queries)
        ->group(group);
    command.add_option("--use-ids", files.useIds, "Attention alone, over these block ids")
        ->needs(queries)
        ->group(group);
    command.add_option("--out", files.out, "Write the output here")->group(group);
    command.add_option("--lse", files.lse, "Write the log-sum-exp here, float32 [heads, tokens]")
        ->group(group);
    command
        .add_option("--ids", files.ids, "Write the selection here, int32 [kv_heads, tokens, topk]")
        ->group(group);
  }

  Status run() {
    WINNOW_CHECK(prepare());
    if (!files.anyInput())
      WINNOW_CHECK(compileAll());
    WINNOW_CHECK(makeInput());
    if (paged.given()) {
      WINNOW_CHECK(executePaged());
    } else {
      WINNOW_CHECK(execute());
      WINNOW_CHECK(compare());
      if (!files.anyInput())
        WINNOW_CHECK(timeDense());
    }
    WINNOW_CHECK(writeResults(files, problem(), answer.selectHeads, answer.tensors));
    draw();
    return report.finish();
  }

private:
  const reference::Problem &problem() const { return prompt ? prompt->problem : input->problem; }

  /// Flags that need no device first, so that a typing error is found before anything slow.
  Status prepare() {
    if (flags.method.empty() && imagePath.empty())
      return fail(ErrorKind::Usage,
                  "METHOD or --image is needed; `winnow methods` lists the built-in ones");
    if (!flags.method.empty() && !imagePath.empty())
      return fail(ErrorKind::Usage, "give METHOD or --image, not both");
    for (const char *group : {kSpecGroup, kTargetGroup, kTunedGroup})
      if (std::string flag = firstGiven(command, group); !imagePath.empty() && !flag.empty())
        return fail(ErrorKind::Usage,
                    fmt::format("{} describes a program; the one of --image is made", flag));
    if (paged.given())
      WINNOW_CHECK(paged.check(files.anyInput(), !imagePath.empty()));
    flags.spec.paged |= paged.given();
    WINNOW_TRY(request, flags.request());
    WINNOW_TRY(archs, flags.architectures());
    if (command.get_option("--arch")->count() == 0 && request.spec.hasFp8Keys())
      archs.erase(std::remove_if(archs.begin(), archs.end(),
                                 [](const std::string &arch) {
                                   return !(*findTarget(arch))->hasFp8Conversion;
                                 }),
                  archs.end());
    if (!imagePath.empty()) {
      WINNOW_TRY(ProgramImage loaded, loadImageFile(imagePath));
      image = std::make_shared<ProgramImage>(std::move(loaded));
      request.spec = image->spec;
      if (backendOptions.device == "auto")
        backendOptions.device = "cuda"; // an image cannot run elsewhere
      unknownAxes = Error{ErrorKind::Unsupported,
                          "a program image does not say what its method means, so that nothing can "
                          "be compared with the reference"};
    } else {
      Result<reference::Method> axes = readAxes(request.method, request.spec);
      if (axes)
        method = *axes;
      else if (WINNOW_COMPILER || axes.error().kind != ErrorKind::Unsupported)
        return tl::unexpected(axes.error()); // what the reference refuses, the compiler does
      else
        unknownAxes = axes.error();
    }
    if (request.spec.hasFp8Keys() && !paged.given())
      return fail(ErrorKind::Usage, fmt::format("kv_dtype {} is for a paged cache: give --layout",
                                                name(request.spec.kvDtype)));
    if ((check || paged.given()) && unknownAxes)
      return tl::unexpected(*unknownAxes);
    if (files.anyInput()) {
      WINNOW_TRY(RunInput loaded, loadInput(files, request.spec));
      input.emplace(std::move(loaded));
      int selectHeads = image ? image->selectHeads : method ? problem().selectHeads(*method) : 0;
      if (!files.useIds.empty())
        WINNOW_CHECK(loadIds(files, selectHeads, *input));
    }
    WINNOW_TRY(backend, openBackend(backendOptions, cache));
    report.begin(session.json, backend->description());
    WINNOW_CHECK(readLengths());
    tuned.emplace(flags.tunes());
    return {};
  }

  /// The request for one architecture, with tunables for the longest sequence.
  CompileRequest tunedRequest(const std::string &method, const std::string &arch,
                              ChosenConfig *choice = nullptr) {
    CompileRequest one = request;
    one.method = method;
    if (method != request.method) {
      one.spec.params.clear();
      one.spec.backward = false;
    }
    one.arch = arch;
    if (arch.empty() || image) // the CPU has no tunables, an image has its own
      return one;
    Workload workload;
    for (int tokens : lengths)
      workload.tokens = std::max<int64_t>(workload.tokens, tokens);
    ChosenConfig found =
        tuned->fill(one, workload, arch == backend->arch() ? backend->deviceName() : "");
    if (choice)
      *choice = std::move(found);
    return one;
  }

  Status compileAll() {
    if (image || archs.empty())
      return {};
    std::vector<ObtainedProgram> programs;
    Progress progress("compiling");
    for (const std::string &arch : archs) {
      Result<ObtainedProgram> program = obtainProgram(tunedRequest(request.method, arch), cache);
      if (!program) {
        Error error = program.error();
        if (error.kind == ErrorKind::CompileFailed)
          error.message += " (--arch none runs without compiling GPU kernels)";
        return tl::unexpected(error);
      }
      programs.push_back(std::move(*program));
      progress.show(static_cast<double>(programs.size()) / archs.size());
    }
    report.compiled(programs);
    return {};
  }

  Status readLengths() {
    if (input) {
      const std::vector<int> &cu = problem().cuK;
      for (size_t s = 0; s + 1 < cu.size(); ++s)
        lengths.push_back(cu[s + 1] - cu[s]);
      return {};
    }
    for (int length : splitNumbers(seq.empty() ? (backend->isGpu() ? "32768" : "12288") : seq))
      lengths.push_back(length + paged.steps);
    const int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), int64_t(0));
    if (tokens > kMostBatchTokens)
      return fail(ErrorKind::Usage,
                  fmt::format("--seq: {} tokens are more than a batch may have, {}", tokens,
                              kMostBatchTokens));
    if (paged.given()) {
      WINNOW_TRY(Layout layout, parseLayout(paged.layout));
      WINNOW_CHECK(
          requireTensors(request.spec, PagedCache::capacity(lengths, layout, paged.pageSize)));
      if (tokens == 0)
        return fail(ErrorKind::Usage, "--seq 0: there is no token to bring; give --decode STEPS");
    }
    return requireTensors(request.spec, tokens);
  }

  Status makeInput() {
    if (input) {
      if (!input->conversions.empty())
        say("converted: " + input->conversions);
      return {};
    }
    prompt.emplace(makePrompt(request.spec, lengths, seed));
    report.prompt(*prompt);
    return {};
  }

  Status execute() {
    BackendCall call;
    ChosenConfig choice;
    call.request = tunedRequest(request.method, backend->arch(), &choice);
    call.image = image;
    call.problem = &problem();
    call.repeats = backend->isGpu() && !files.anyInput() ? 10 : 0;
    if (!files.useIds.empty())
      call.ids = input->ids.data();
    if (request.spec.backward) {
      outputGradient = makeOutputGradient(problem(), seed);
      call.dout = outputGradient.data();
    }
    Progress progress("running");
    call.progress = progress.callback();
    WINNOW_TRY(answer, backend->run(call));
    if (method && method->denseByLaunch)
      method->denseLen = answer.tensors.denseLength;
    report.ran(problem(), answer);
    if (backend->isGpu() && !image)
      report.tuned(choice, answer.selectHeads > 0);
    return {};
  }

  /// In steps, each of them compared.
  Status executePaged() {
    BackendCall call;
    ChosenConfig choice;
    call.request = tunedRequest(request.method, backend->arch(), &choice);
    PagedOutcome outcome;
    {
      Progress progress("running");
      WINNOW_TRY(outcome, runPaged(*backend, call, *prompt, *method, paged, checkedRows(problem()),
                                   progress.callback()));
    }
    answer = std::move(outcome.answer);
    report.ran(problem(), answer);
    if (backend->isGpu())
      report.tuned(choice, answer.selectHeads > 0);
    std::optional<Recall> recall;
    if (method->selects)
      recall = recallOf(*prompt, *method, answer.tensors.ids.data());
    report.stepped(outcome.steps, recall);
    if (request.spec.hasFp8Keys())
      report.fp8Cost(fp8CostOf(*prompt, *method, answer.tensors, checkedRows(problem())),
                     request.spec.dtype);
    return {};
  }

  Status compare() {
    if (files.anyInput() && !check)
      return {};
    if (!method) {
      report.notChecked(unknownAxes->message);
      return {};
    }
    Progress progress("checking against the fp64 reference");
    reference::Options options;
    options.rows = reference::sampleRows(problem(), checkedRows(problem()));
    if (prompt) { // the rows that look for needles are the interesting ones
      std::vector<int> questions = prompt->questionRows();
      for (size_t i = 0; i < questions.size(); i += 8)
        options.rows.push_back(questions[i]);
      std::sort(options.rows.begin(), options.rows.end());
      options.rows.erase(std::unique(options.rows.begin(), options.rows.end()), options.rows.end());
    }
    if (options.rows.empty()) {
      report.notChecked("there is no query token");
      return {};
    }
    const int32_t *ids = answer.tensors.ids.data();
    std::optional<reference::SelectionReport> selection;
    if (method->selects && files.useIds.empty()) {
      options.progress = [&](double done) { progress.show(done / 2); };
      selection = reference::compareSelection(*method, problem(),
                                              reference::select(*method, problem(), options), ids);
    }
    options.progress = [&](double done) { progress.show(0.5 + done / 2); };
    reference::Attention expected = reference::attend(*method, problem(), ids, options);
    reference::OutputReport output = reference::compareOutput(
        problem(), expected, answer.tensors.out.data(), answer.tensors.lse.data());
    std::optional<Recall> recall;
    if (prompt && method->selects)
      recall = recallOf(*prompt, *method, ids);
    report.checked(options.rows.size(), selection, output, recall);
    compareGradients();
    return {};
  }

  /// Of every token, since each may add to any key.
  void compareGradients() {
    if (outputGradient.empty())
      return;
    if (problem().totalQ() > kMostGradientTokens)
      return report.notChecked(
          fmt::format("gradients of more than {} tokens are not compared", kMostGradientTokens));
    const CaseAnswer &found = answer.tensors;
    const reference::Gradients expected =
        reference::attendBackward(*method, problem(), found.ids.data(), outputGradient.data());
    report.gradients(reference::compareGradients(problem(), expected, found.dq.data(),
                                                 found.dk.data(), found.dv.data()));
  }

  Status timeDense() {
    if (noDense || answer.selectHeads == 0 || image)
      return {};
    WINNOW_TRY(std::string dense, denseMethod(request.spec));
    BackendCall call;
    call.request = tunedRequest(dense, backend->arch());
    call.problem = &problem();
    call.repeats = backend->isGpu() ? 3 : 0;
    call.answers = false;
    Progress progress("dense attention, for comparison");
    call.progress = progress.callback();
    WINNOW_TRY(BackendAnswer result, backend->run(call));
    double touched = touchedShare(problem(), answer.selectHeads, answer.tensors.ids.data());
    report.dense(result.totalMs(), touched);
    return {};
  }

  /// A picture that fails takes nothing from the results: a warning.
  void draw() {
    if (svg.empty())
      return;
    if (answer.tensors.ids.empty())
      return say(fmt::format("winnow: warning: no picture in {}: nothing was selected", svg));
    const std::vector<int32_t> &cu = problem().cuQ;
    int longest = 0;
    for (size_t s = 0; s + 1 < cu.size(); ++s)
      if (cu[s + 1] - cu[s] > cu[longest + 1] - cu[longest])
        longest = static_cast<int>(s);
    std::string title =
        fmt::format("{}, {} tokens, {} of {} blocks of {}", image ? image->method : request.method,
                    cu[longest + 1] - cu[longest], request.spec.topk,
                    (cu[longest + 1] - cu[longest] + request.spec.block - 1) / request.spec.block,
                    request.spec.block);
    std::string picture =
        selectionPicture(problem(), answer.selectHeads, answer.tensors.ids.data(), longest,
                         prompt ? prompt->needles : std::vector<Needle>(), title);
    if (Status written = publishFile(systemFiles(), svg, picture); !written)
      return say("winnow: warning: no picture: " + written.error().message);
    report.drawn(svg, picture.size());
  }

  Session &session;
  const CLI::App &command;
  ProgramFlags flags;
  BackendOptions backendOptions;
  RunFiles files;
  PagedFlags paged;
  std::string seq, imagePath, svg;
  uint64_t seed = 1;
  bool noDense = false, check = false;

  Cache cache;
  CompileRequest request;
  std::vector<std::string> archs;
  std::vector<int> lengths; ///< of the sequences
  std::optional<TunedConfigs> tuned;
  std::shared_ptr<const ProgramImage> image;
  std::optional<reference::Method> method; ///< unknown for an image
  std::optional<Error> unknownAxes;
  std::unique_ptr<Backend> backend;
  std::optional<Prompt> prompt;
  std::optional<RunInput> input;
  BackendAnswer answer;
  std::vector<uint16_t> outputGradient; ///< where gradients are asked for
  RunReport report;
};

} // namespace

void addRunCommand(CLI::App &app, Session &session) {
  CLI::App *command =
      app.add_subcommand("run", "Runs a method: compile, execute, check, compare times, draw");
  command->footer(kRunHelp);
  auto state = std::make_shared<RunCommand>(*command, session);
  setBody(*command, session, [state] { return state->run(); });
}

} // namespace winnow
