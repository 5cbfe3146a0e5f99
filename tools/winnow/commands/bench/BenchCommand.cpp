// `winnow bench`: times of the selection and of attention on a GPU, correct first: sampled rows are
// compared with the fp64 reference before anything is timed. Variants (architectures, configs) run
// interleaved, so that a drifting clock meets all of them alike.
#include "runtime/Printable.h"
#include "tools/winnow/ProgramFlags.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/backends/HostMemory.h"
#include "tools/winnow/commands/bench/BackwardCommand.h"
#include "tools/winnow/commands/bench/BenchReport.h"
#include "tools/winnow/commands/bench/CrossingCommand.h"
#include "tools/winnow/commands/bench/DecodeCommand.h"
#include "tools/winnow/commands/bench/LayoutFlags.h"
#include "tools/winnow/commands/bench/SpecGrid.h"
#include "tools/winnow/commands/bench/Variants.h"
#include "tools/winnow/commands/prepare/Prepare.h"
#include "tools/winnow/help.inc"
#include "tools/winnow/io/Flags.h"
#include "tools/winnow/io/Json.h"
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace winnow {
namespace {

class BenchCommand {
public:
  BenchCommand(CLI::App &command, Session &session) : session(session) {
    command.add_option("WHAT", what, "prefill, select or attend; or a command below")
        ->check(CLI::IsMember({"prefill", "select", "attend"}));
    flags.addTo(command, /*methodRequired=*/false);
    command.remove_option(command.get_option("--topk")); // here it takes a list
    command.add_option("--topk", topk, "Blocks selected per token, separated by commas")
        ->capture_default_str()
        ->check(listOf(between(1, kMostSpecNumber)))
        ->group(kSpecGroup);
    flags.addTargetFlags(command, "");
    command
        .add_option("--tuned", tuned,
                    "on: measure the tuned configuration instead of the default (see `winnow db`)")
        ->capture_default_str()
        ->check(CLI::IsMember({"on", "off"}))
        ->group("Tuned configurations");
    command.add_option("--device", device, "GPU to use, counted from 0")
        ->check(between(0, 1023))
        ->capture_default_str();
    command.add_option("--seq", seq, "Tokens, separated by commas")
        ->check(listOf(between(1, kMostTokens)))
        ->capture_default_str();
    command.add_option("--overlap", overlap, "Likeness of neighbours, separated by commas")
        ->check(listOf(between(1, kMostTokens)))
        ->capture_default_str();
    command.add_option("--variant", variantTexts,
                       "What to compare: tunables, parameters of the method (dense_len=auto_0), "
                       "\"default\" or \"tuned\", the latter beside the default where it is the "
                       "only one; may be given several times");
    place.addTo(command);
    command.add_flag("--ptx", ptx, "Load PTX of the architecture's virtual counterpart");
    command.add_flag("--dense", dense, "Measure our dense attention beside it");
    command.add_option("--peer", peerTexts,
                       "NAME=MS or NAME@TOKENS=MS of another implementation, beside ours as given");
    command.add_option("--rounds", rounds, "Timed rounds")
        ->capture_default_str()
        ->check(between(1, 100000));
    command
        .add_option("--rows", rows,
                    "Rows compared with the reference first; 0 leaves the comparison out")
        ->check(between(0, 100000))
        ->capture_default_str();
    command
        .add_option("--peak", peak,
                    "1e12 operations per second behind the floor; 0: the device's table entry")
        ->check(between(0.0, 1e9))
        ->capture_default_str();
    prepareOption.addTo(command);
  }

  Status run() {
    if (what.empty())
      return fail(ErrorKind::Usage,
                  "say what to measure: prefill, decode, backward, select or attend");
    lengths = splitNumbers(seq), budgets = splitNumbers(topk), overlaps = splitNumbers(overlap);
    variants.read(variantTexts, tuned == "on");
    for (const std::string &text : peerTexts) {
      Peer peer;
      WINNOW_TRY(peer, Peer::parse(text));
      peers.push_back(peer);
    }
    if (prepareOption.only)
      return prepare();
    WINNOW_TRY(bench, BenchDevice::open(device));
    const Target *own = nullptr;
    WINNOW_TRY(own, targetForDevice(bench->info().major, bench->info().minor));
    std::vector<std::string> helperFlags{"--prepare"};
    if (flags.arch.empty()) {
      flags.arch = own->arch;
      helperFlags.insert(helperFlags.end(), {"--arch", flags.arch});
    }
    if (peak <= 0)
      peak = own->tensorTflops;
    WINNOW_CHECK(readFlags());
    std::vector<CompileRequest> all;
    WINNOW_TRY(all, everyRequest());
    preparePrograms(all, cache, {}, helperFlags);
    if (!session.json)
      fmt::print("{}, {}; {}; floor: useful operations at {} TFLOP/s\n", bench->info().name,
                 bench->driverText(), programText(), peak);
    for (int budget : budgets)
      WINNOW_CHECK(benchBudget(budget));
    return finish();
  }

private:
  Status readFlags() {
    WINNOW_TRY(archs, flags.architectures());
    WINNOW_CHECK(place.read());
    const bool packed = place.layout == Layout::Packed;
    if (packed && flags.hasKvDtype())
      return fail(ErrorKind::Usage, "--kv-dtype: keys of another type than queries lie in pages: "
                                    "give a --layout that has them, as halves");
    flags.spec.paged = flags.spec.paged || !packed;
    WINNOW_TRY(base, flags.request());
    if (flags.method.empty()) {
      WINNOW_TRY(flags.method, selectingMethod(base.spec));
    }
    base.method = flags.method;
    return {};
  }

  Status prepare() {
    if (flags.arch.empty())
      return fail(ErrorKind::Usage, "--prepare needs --arch: there may be no GPU to ask");
    WINNOW_CHECK(readFlags());
    std::vector<CompileRequest> all;
    WINNOW_TRY(all, everyRequest());
    return prepareOption.run(all, cache);
  }

  Result<Spec> specFor(int budget) const {
    Spec spec = base.spec;
    spec.topk = budget;
    WINNOW_CHECK(fitLocal(base.method, spec));
    return spec;
  }

  /// Every variant of a method and spec for one workload.
  Result<std::vector<Labelled>> labelled(const std::string &method, const Spec &spec,
                                         const Workload &workload) {
    CompileRequest request = base;
    request.method = method;
    request.spec = spec;
    request.form = ptx ? CodeForm::Ptx : CodeForm::Cubin;
    return variants.of(request, archs, workload, bench ? bench->info().name : "");
  }

  Result<std::vector<Labelled>> labelledDense(int budget, int tokens) {
    std::string name;
    WINNOW_TRY(name, denseMethod(base.spec));
    Spec plain = base.spec;
    plain.topk = budget;
    plain.params.clear();
    WINNOW_TRY(std::vector<Labelled> list, labelled(name, plain, {tokens, 0}));
    for (Labelled &one : list) // those of variants are of the method that selects
      one.request.spec.params.clear();
    return list;
  }

  Result<std::vector<CompileRequest>> everyRequest() {
    std::vector<CompileRequest> all;
    std::vector<Labelled> list;
    auto keep = [&] {
      for (const Labelled &one : list)
        all.push_back(one.request);
    };
    for (int tokens : lengths) {
      for (int budget : budgets)
        for (int likeness : overlaps) {
          Spec spec;
          WINNOW_TRY(spec, specFor(budget));
          WINNOW_TRY(list, labelled(base.method, spec, {tokens, likeness}));
          keep();
        }
      if (dense) {
        WINNOW_TRY(list, labelledDense(budgets.front(), tokens));
        keep();
      }
    }
    return all;
  }

  /// Programs stay loaded: most variants are the same for every workload.
  Result<std::vector<Side>> loadAll(const std::vector<Labelled> &list, int tokens) {
    std::vector<Side> programs;
    for (const Labelled &one : list) {
      if (!one.note.empty() && told.insert(one.note).second)
        say(one.note);
      const CompileRequest &request = one.request;
      std::string what = fmt::format("{} {} {} {}", request.method, request.spec.text(),
                                     request.config.text(), request.arch);
      if (!loaded.count(what)) {
        ObtainedProgram obtained;
        WINNOW_TRY(obtained, obtainProgram(request, cache));
        WINNOW_TRY(loaded[what], bench->load(one.name, obtained.image, ptx));
      }
      Side side{loaded[what], {}};
      side.variant.name = one.name;
      WINNOW_TRY(side.method, readAxes(request.method, request.spec));
      if (side.method.denseByLaunch) {
        WINNOW_TRY(side.method.denseLen, side.variant.program->denseLength(1, tokens));
      }
      programs.push_back(std::move(side));
    }
    return programs;
  }

  Status benchBudget(int budget) {
    Spec spec;
    WINNOW_TRY(spec, specFor(budget));
    if (spec.params != base.spec.params && !session.json)
      fmt::print("top-{}: local={}, because the method forces more blocks than that\n", budget,
                 spec.params["local"]);
    reference::Method method;
    WINNOW_TRY(method, readAxes(base.method, spec));
    for (int tokens : lengths)
      WINNOW_CHECK(benchLength(spec, method, tokens));
    return {};
  }

  Status benchLength(const Spec &spec, const reference::Method &method, int tokens) {
    WINNOW_CHECK(requireTensors(spec, tokens));
    BenchInputs inputs(spec, tokens, 1);
    const reference::Problem &problem = inputs.problem;
    std::optional<DecodeInputs> pages;
    if (place.layout != Layout::Packed)
      pages.emplace(spec, DecodeShape{1, tokens}, place.layout, place.pageSize, inputs);
    WINNOW_CHECK(
        bench->place(inputs, pages ? &*pages : nullptr, problem.selectHeads(method), rows));
    Measurement about;
    about.tokens = tokens;
    about.topk = spec.topk;
    std::vector<Labelled> list;
    std::vector<Side> programs;
    WINNOW_TRY(list, labelled(base.method, spec, {tokens, overlaps.front()}));
    WINNOW_TRY(programs, loadAll(list, tokens));
    if (what != "attend" && method.selects) {
      about.phase = "select";
      WINNOW_CHECK(benchPhase(about, programs, Phase::Select, problem));
    }
    if (what == "prefill") {
      about.phase = "whole";
      WINNOW_CHECK(benchPhase(about, programs, Phase::All, problem));
    }
    if (what != "select" && method.selects)
      for (int likeness : overlaps) {
        about.phase = "attend";
        about.overlap = likeness;
        WINNOW_CHECK(bench->placeIds(overlappingIds(method, problem, likeness, 7)));
        WINNOW_TRY(list, labelled(base.method, spec, {tokens, likeness}));
        WINNOW_TRY(programs, loadAll(list, tokens));
        WINNOW_CHECK(benchPhase(about, programs, Phase::Attend, problem));
      }
    bool denseDone = std::any_of(results.begin(), results.end(), [&](const Measurement &m) {
      return m.phase == "dense" && m.tokens == tokens;
    });
    if (!dense || denseDone)
      return {};
    WINNOW_TRY(list, labelledDense(budgets.front(), tokens));
    WINNOW_TRY(programs, loadAll(list, tokens));
    about.phase = "dense";
    about.overlap = 0;
    return benchPhase(about, programs, Phase::All, problem);
  }

  /// Useful operations of a phase.
  static double operationsOf(const reference::Method &method, const reference::Problem &problem,
                             Phase phase) {
    return (phase == Phase::Attend ? 0 : scoreOperations(method, problem)) +
           (phase == Phase::Select ? 0 : attendOperations(method, problem));
  }

  Status benchPhase(Measurement about, const std::vector<Side> &programs, Phase phase,
                    const reference::Problem &problem) {
    std::vector<Timing> timings;
    WINNOW_TRY(timings, bench->measure(programs, phase, rounds,
                                       fmt::format("{} {}", about.phase, about.tokens)));
    for (size_t i = 0; i < timings.size(); ++i) {
      Measurement m = about;
      m.variant = programs[i].variant.name;
      m.checked = rows > 0;
      m.timing = timings[i];
      m.operations = operationsOf(programs[i].method, problem, phase);
      m.peakTflops = peak;
      if (!m.timing.fault.empty() && failure.empty())
        failure =
            fmt::format("{} at {} tokens, {}: {}", m.phase, m.tokens, m.variant, m.timing.fault);
      fmt::print(session.json ? stderr : stdout, "{}", measurementText(m));
      std::fflush(stdout);
      results.push_back(std::move(m));
    }
    return {};
  }

  std::string programText() const {
    return winnow::programText(base, base.spec.paged ? place.text() : "");
  }

  Status finish() {
    if (session.json) {
      nlohmann::json object =
          runJson(bench->info().name, bench->driverText(), programText(), rounds, rows > 0);
      object.update({{"peak_tflops", peak},
                     {"results", nlohmann::json::array()},
                     {"peers", nlohmann::json::array()}});
      for (const Measurement &m : results)
        object["results"].push_back(measurementJson(m));
      for (const Peer &peer : peers)
        object["peers"].push_back(
            {{"name", peer.name}, {"tokens", peer.tokens}, {"ms", peer.milliseconds}});
      printJson(object);
    } else {
      for (const std::string &peer : peerTexts)
        fmt::print("beside it, as given: {} ms\n", peer);
    }
    if (!failure.empty())
      return fail(ErrorKind::WrongResult, failure);
    return {};
  }

  Session &session;
  ProgramFlags flags;
  std::string tuned = "off", what, seq = "131072", overlap = "32", topk = "96";
  std::vector<std::string> variantTexts, peerTexts;
  bool ptx = false, dense = false;
  LayoutFlags place{"packed"};
  int device = 0, rounds = 20, rows = 24;
  double peak = 0;

  PrepareOption prepareOption;
  Cache cache;
  CompileRequest base; ///< without the top-k
  std::vector<int> lengths, budgets, overlaps;
  std::vector<Peer> peers;
  std::vector<std::string> archs;
  Variants variants;
  std::unique_ptr<BenchDevice> bench;
  std::set<std::string> told;            ///< notes
  std::map<std::string, Variant> loaded; ///< by what they are, without the workload
  std::vector<Measurement> results;
  std::string failure;
};

/// `winnow bench table`: a page's table from the files of several runs.
class BenchTableCommand {
public:
  explicit BenchTableCommand(CLI::App &command) {
    command.add_option("FILE", files, "What `winnow bench --json` wrote")->required();
    command.add_option("--into", target,
                       "A markdown file: replaces what stands between <!-- bench:begin --> and "
                       "<!-- bench:end -->");
  }

  Status run() {
    std::string text;
    WINNOW_TRY(text, benchTable(files));
    if (!target.empty())
      return replaceBetweenMarks(target, text);
    fmt::print("{}", printable(text));
    return {};
  }

private:
  std::vector<std::string> files;
  std::string target;
};

} // namespace

void addBenchCommand(CLI::App &app, Session &session) {
  CLI::App *command =
      app.add_subcommand("bench", "Measures selection, attention and gradients on a GPU");
  command->footer(kBenchHelp);
  auto state = std::make_shared<BenchCommand>(*command, session);
  CLI::App *table = command->add_subcommand("table", "A markdown table from the JSON of runs");
  auto tableState = std::make_shared<BenchTableCommand>(*table);
  setBody(*table, session, [tableState] { return tableState->run(); });
  CLI::App *decode = addDecodeCommand(*command, session);
  CLI::App *backward = addBackwardCommand(*command, session);
  CLI::App *crossing = addCrossingCommand(*command, session);
  setBody(*command, session, [=] {
    const bool isOther =
        table->parsed() || decode->parsed() || backward->parsed() || crossing->parsed();
    return isOther ? Status() : state->run();
  });
}

} // namespace winnow
