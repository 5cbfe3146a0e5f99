// `winnow bench`: times of the selection and of attention on a GPU, correct first: sampled rows are
// compared with the fp64 reference before anything is timed. Variants (architectures, configs) run
// interleaved, so that a drifting clock meets all of them alike.
#include "tests/reference/Compare.h"
#include "tools/winnow/BenchInputs.h"
#include "tools/winnow/CudaTensors.h"
#include "tools/winnow/DeviceClock.h"
#include "tools/winnow/ProgramFlags.h"
#include "tools/winnow/Programs.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/help.inc"
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace winnow {
namespace {

/// One way of compiling the program.
struct Variant {
  std::string name;
  std::shared_ptr<const ProgramImage> image;
  std::unique_ptr<LoadedProgram> program;
};

struct Measurement {
  std::string phase, variant;
  int tokens = 0, overlap = 0; ///< overlap 0: does not apply
  double medianMs = 0, fastestMs = 0, operations = 0;
  int clock = 0;
  std::vector<std::pair<std::string, double>> kernels;
  std::string check;
};

std::vector<int> numbers(const std::string &list) {
  std::vector<int> values;
  for (const std::string &piece : splitList(list))
    values.push_back(piece.size() < 9 && piece.find_first_not_of("0123456789") == std::string::npos
                         ? std::stoi(piece)
                         : 0);
  return values;
}

class BenchCommand {
public:
  BenchCommand(CLI::App &command, Session &session) : session(session) {
    command.add_option("WHAT", what, "prefill, select or attend")
        ->required()
        ->check(CLI::IsMember({"prefill", "select", "attend"}));
    flags.addTo(command, /*methodRequired=*/false);
    flags.addTargetFlags(command, "");
    command.add_option("--device", device, "GPU to use, counted from 0")->capture_default_str();
    command.add_option("--seq", seq, "Tokens, separated by commas")->capture_default_str();
    command.add_option("--overlap", overlap, "Likeness of neighbours, separated by commas")
        ->capture_default_str();
    command.add_option("--topks", topks, "Values of --topk to go through, separated by commas");
    command.add_option("--variant", variants, "A config to compare; may be given several times");
    command.add_flag("--ptx", ptx, "Load PTX of the architecture's virtual counterpart");
    command.add_flag("--dense", dense, "Measure our dense attention beside it");
    command.add_option("--peer", peers,
                       "NAME=MS of another implementation, printed beside ours as given");
    command.add_option("--rounds", rounds, "Timed rounds")->capture_default_str();
    command
        .add_option("--rows", rows,
                    "Rows compared with the reference first; 0 leaves the comparison out")
        ->capture_default_str();
  }

  Status run() {
    WINNOW_CHECK(prepare());
    std::vector<int> lengths = numbers(seq),
                     budgets = topks.empty() ? std::vector<int>{spec.topk} : numbers(topks);
    bool valid = !lengths.empty() && !budgets.empty() &&
                 std::count(lengths.begin(), lengths.end(), 0) == 0 &&
                 std::count(budgets.begin(), budgets.end(), 0) == 0;
    std::vector<int> overlaps = numbers(overlap);
    if (!valid || std::count(overlaps.begin(), overlaps.end(), 0) != 0)
      return fail(ErrorKind::Usage,
                  "--seq, --overlap and --topks take numbers above 0, separated by commas");
    for (int budget : budgets) {
      spec.topk = budget;
      std::vector<Variant> loaded;
      WINNOW_TRY(loaded, loadVariants(flags.method));
      Result<reference::Method> axes = readAxes(flags.method, spec);
      if (!axes)
        return tl::unexpected(axes.error());
      method = *axes;
      for (int tokens : lengths)
        WINNOW_CHECK(benchLength(loaded, tokens, overlaps));
    }
    return finish();
  }

private:
  Status prepare() {
    WINNOW_TRY(driver, Driver::open());
    WINNOW_TRY(info, driver->device(device));
    WINNOW_CHECK(driver->makeCurrent(device));
    clock.emplace(info.uuid);
    if (flags.arch.empty()) {
      const Target *target = nullptr;
      WINNOW_TRY(target, targetForDevice(info.major, info.minor));
      flags.arch = target->arch;
    }
    WINNOW_TRY(archs, flags.architectures());
    WINNOW_TRY(request, flags.request());
    spec = request.spec;
    for (const MethodInfo &candidate :
         builtinMethods()) // the first one that selects, if none is named
      if (flags.method.empty())
        if (Result<reference::Method> axes = readAxes(candidate.name, spec); axes && axes->selects)
          flags.method = candidate.name;
    if (flags.method.empty())
      return fail(ErrorKind::Usage, "name the method to measure");
    Result<Stream> made = Stream::create(driver);
    if (!made)
      return tl::unexpected(made.error());
    stream.emplace(std::move(*made));
    return {};
  }

  Result<std::vector<Variant>> loadVariants(const std::string &methodName) {
    std::vector<std::string> configs = variants.empty() ? std::vector<std::string>{""} : variants;
    std::vector<Variant> loaded;
    for (const std::string &arch : archs)
      for (const std::string &text : configs) {
        CompileRequest one = request;
        one.method = methodName;
        one.spec = spec;
        one.arch = arch;
        one.asPtx = ptx;
        if (!text.empty())
          WINNOW_TRY(one.config, Config::parse(text));
        ObtainedProgram obtained;
        WINNOW_TRY(obtained, obtainProgram(one, cache));
        Variant variant;
        variant.name = arch + (ptx ? " ptx" : "") + (text.empty() ? "" : " " + text);
        variant.image = obtained.image;
        LoadOptions options;
        options.device = device;
        options.allowPtx = ptx;
        WINNOW_TRY(variant.program, LoadedProgram::load(obtained.image, driver, options));
        loaded.push_back(std::move(variant));
      }
    return loaded;
  }

  Status benchLength(std::vector<Variant> &loaded, int tokens, const std::vector<int> &overlaps) {
    BenchTensors host = benchTensors(spec, tokens, 1);
    const reference::Problem &problem = host.problem;
    int selectHeads = problem.selectHeads(method);
    DeviceTensors tensors;
    WINNOW_TRY(tensors, DeviceTensors::make(driver, problem, selectHeads, nullptr));
    size_t workspaceBytes = 0;
    for (const Variant &variant : loaded) {
      size_t bytes = 0;
      WINNOW_TRY(bytes, variant.program->workspaceSize(tensors.args(problem).shape));
      workspaceBytes = std::max(workspaceBytes, bytes);
    }
    WINNOW_TRY(tensors.workspace, poisonedBuffer(driver, workspaceBytes));
    if (what != "attend")
      WINNOW_CHECK(benchPhase(loaded, Phase::Select, problem, tensors, 0));
    if (what != "select")
      for (int likeness : overlaps) {
        std::vector<int32_t> ids = overlappingIds(method, problem, likeness, 7);
        WINNOW_CHECK(tensors.ids.upload(ids.data(), ids.size() * sizeof(int32_t)));
        givenIds = std::move(ids);
        WINNOW_CHECK(benchPhase(loaded, Phase::Attend, problem, tensors, likeness));
      }
    if (dense) {
      Result<std::string> name = denseMethod(spec);
      if (!name)
        return tl::unexpected(name.error());
      Spec kept = spec;
      spec.params.clear();
      Result<std::vector<Variant>> plain = loadVariants(*name);
      spec = kept;
      if (!plain)
        return tl::unexpected(plain.error());
      WINNOW_CHECK(benchPhase(*plain, Phase::All, problem, tensors, 0));
    }
    return {};
  }

  /// Checks every variant, then times all of them in interleaved rounds.
  Status benchPhase(std::vector<Variant> &loaded, Phase phase, const reference::Problem &problem,
                    DeviceTensors &tensors, int likeness) {
    LaunchArgs args = tensors.args(problem);
    args.phase = phase;
    std::vector<Measurement> measured(loaded.size());
    std::vector<std::vector<double>> times(loaded.size());
    std::vector<std::map<std::string, std::vector<double>>> kernels(loaded.size());
    for (size_t i = 0; i < loaded.size(); ++i) {
      KernelTimes ignored;
      WINNOW_TRY(ignored, launch(loaded[i], args, tensors));
      WINNOW_TRY(measured[i].check, verify(phase, problem, tensors));
    }
    Progress progress(fmt::format("{} {}", phaseName(phase), problem.totalQ()));
    for (int round = 0; round < rounds; ++round)
      for (size_t n = 0; n < loaded.size(); ++n) {
        size_t i = round % 2 ? loaded.size() - 1 - n : n; // there and back
        KernelTimes one;
        WINNOW_TRY(one, launch(loaded[i], args, tensors));
        times[i].push_back(one.select + one.attend);
        for (const auto &[name, time] : one.kernels)
          kernels[i][name].push_back(time);
        measured[i].clock = std::max(measured[i].clock, clock->smMegahertz());
        progress.show(static_cast<double>(round + 1) / rounds);
      }
    for (size_t i = 0; i < loaded.size(); ++i) {
      Measurement &m = measured[i];
      m.phase = phaseName(phase);
      m.variant = loaded[i].name;
      m.tokens = problem.totalQ();
      m.overlap = likeness;
      m.medianMs = median(times[i]);
      m.fastestMs = *std::min_element(times[i].begin(), times[i].end());
      m.operations = phase == Phase::Select ? scoreOperations(method, problem)
                     : phase == Phase::Attend
                         ? attendOperations(problem, problem.selectHeads(method), givenIds.data())
                         : attendOperations(problem, 0, nullptr);
      for (const auto &[name, list] : kernels[i])
        m.kernels.emplace_back(name, median(list));
      print(m);
      results.push_back(std::move(m));
    }
    return {};
  }

  Result<KernelTimes> launch(const Variant &variant, const LaunchArgs &args,
                             DeviceTensors &tensors) {
    KernelTimer timer(driver);
    WINNOW_CHECK(timer.begin(stream->get()));
    WINNOW_CHECK(variant.program->launch(args, stream->get(), tensors.workspace.data(),
                                         tensors.workspace.size(), KernelTimer::observe, &timer));
    return timer.finish();
  }

  /// "ok", or the fault; a fault also makes the command fail at its end.
  Result<std::string> verify(Phase phase, const reference::Problem &problem,
                             const DeviceTensors &tensors) {
    if (rows == 0)
      return std::string("not checked");
    reference::Options options;
    options.rows = reference::sampleRows(problem, rows);
    CaseAnswer answer;
    WINNOW_TRY(answer, tensors.download(problem, problem.selectHeads(method)));
    std::string fault;
    if (phase == Phase::Select) {
      reference::Selection expected = reference::select(method, problem, options);
      reference::SelectionReport report =
          reference::compareSelection(method, problem, expected, answer.ids.data());
      fault = report.first;
    } else {
      reference::Method judged = method;
      judged.selects = phase == Phase::Attend;
      reference::Attention expected =
          reference::attend(judged, problem, answer.ids.data(), options);
      reference::OutputReport report =
          reference::compareOutput(problem, expected, answer.out.data(), answer.lse.data());
      if (!report.withinBars())
        fault = report.text();
    }
    if (!fault.empty() && failure.empty())
      failure = fmt::format("{} at {} tokens: {}", phaseName(phase), problem.totalQ(), fault);
    return fault.empty() ? std::string("ok") : "WRONG: " + fault;
  }

  static const char *phaseName(Phase phase) {
    return phase == Phase::Select ? "select" : phase == Phase::Attend ? "attend" : "dense";
  }

  void print(const Measurement &m) {
    if (session.json)
      return;
    std::string like = m.overlap ? fmt::format(", overlap {}", m.overlap) : "";
    std::string at = m.clock ? fmt::format(" at {} MHz", m.clock) : "";
    fmt::print(
        "{} {} tokens, top-{}{}, {}: {:.3f} ms (fastest {:.3f}), {:.0f} useful TFLOP/s{}, {}\n",
        m.phase, m.tokens, spec.topk, like, m.variant, m.medianMs, m.fastestMs,
        m.operations / m.medianMs * 1e-9, at, m.check);
    for (const auto &[name, time] : m.kernels)
      if (m.kernels.size() > 1)
        fmt::print("    {:<24} {:.3f} ms\n", name, time);
    std::fflush(stdout);
  }

  Status finish() {
    if (session.json) {
      nlohmann::json object{{"device", info.name}, {"method", flags.method}, {"rounds", rounds}};
      for (const Measurement &m : results) {
        nlohmann::json entry{
            {"phase", m.phase},        {"variant", m.variant},
            {"tokens", m.tokens},      {"overlap", m.overlap},
            {"median_ms", m.medianMs}, {"fastest_ms", m.fastestMs},
            {"sm_mhz", m.clock},       {"tflops", m.operations / m.medianMs * 1e-9},
            {"check", m.check}};
        for (const auto &[name, time] : m.kernels)
          entry["kernel_ms"][name] = time;
        object["results"].push_back(std::move(entry));
      }
      for (const std::string &peer : peers)
        object["peers_as_given"].push_back(peer);
      fmt::print("{}\n", object.dump(2));
    } else {
      for (const std::string &peer : peers)
        fmt::print("beside it, as given: {} ms\n", peer);
    }
    if (!failure.empty())
      return fail(ErrorKind::WrongResult, failure);
    return {};
  }

  Session &session;
  ProgramFlags flags;
  std::string what, seq = "131072", overlap = "32", topks;
  std::vector<std::string> variants, peers;
  bool ptx = false, dense = false;
  int device = 0, rounds = 20, rows = 24;

  Cache cache;
  CompileRequest request;
  Spec spec; ///< with the current top-k
  std::vector<std::string> archs;
  reference::Method method;
  std::shared_ptr<Driver> driver;
  DeviceInfo info;
  std::optional<Stream> stream;
  std::optional<DeviceClock> clock;
  std::vector<int32_t> givenIds;
  std::vector<Measurement> results;
  std::string failure;
};

} // namespace

void addBenchCommand(CLI::App &app, Session &session) {
  CLI::App *command = app.add_subcommand("bench", "Measures selection and attention on a GPU");
  command->footer(kBenchHelp);
  auto state = std::make_shared<BenchCommand>(*command, session);
  setBody(*command, session, [state] { return state->run(); });
}

} // namespace winnow
