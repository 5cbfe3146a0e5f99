// Every combination of length, budget and overlap: programs are compiled first, their gradients
// checked, then timed, variants side by side.
#include "tools/winnow/commands/bench/BackwardCommand.h"
#include "tools/winnow/ProgramFlags.h"
#include "tools/winnow/backends/HostMemory.h"
#include "tools/winnow/commands/bench/BackwardReport.h"
#include "tools/winnow/commands/bench/BenchReport.h"
#include "tools/winnow/commands/bench/SpecGrid.h"
#include "tools/winnow/commands/bench/Variants.h"
#include "tools/winnow/commands/prepare/Prepare.h"
#include "tools/winnow/help.inc"
#include "tools/winnow/io/Flags.h"
#include "tools/winnow/io/Json.h"
#include <fmt/format.h>
#include <set>

namespace winnow {
namespace {

constexpr int kMostIdleMs = 10000;

class BackwardCommand {
public:
  BackwardCommand(CLI::App &command, Session &session) : session(session), command(command) {
    flags.spec.backward = true;
    flags.addTo(command, /*methodRequired=*/false);
    for (const char *taken : {"--topk", "--paged", "--backward", "--kv-dtype"})
      command.remove_option(command.get_option(taken));
    addNumberList(command, "--topk", topk, "Blocks selected per token, separated by commas",
                  kMostSpecNumber);
    flags.addTargetFlags(command, "");
    command
        .add_option("--tuned", tuned,
                    "on: measure the tuned configuration instead of the default (see `winnow db`)")
        ->capture_default_str()
        ->check(CLI::IsMember({"on", "off"}))
        ->group(kTunedGroup);
    command
        .add_option("--device", device,
                    "GPU to use, counted from 0; emulated or emulated:ARCH: without one, for the "
                    "check alone")
        ->capture_default_str();
    addNumberList(command, "--seq", seq, "Tokens, separated by commas", kMostTokens);
    addNumberList(command, "--overlap", overlap, "Likeness of neighbours, separated by commas",
                  kMostTokens);
    command.add_option("--variant", variantTexts,
                       "What to compare: tunables, parameters of the method, \"default\" or "
                       "\"tuned\", the latter beside the default where it is the only one; may be "
                       "given several times");
    command.add_flag("--dense", dense, "Measure our dense attention beside it");
    command.add_option("--peer", peerFile,
                       "JSON lines of another implementation, as tests/gpu/backward_peer.py "
                       "prints them");
    command.add_option("--rounds", rounds, "Timed launches of each kind")
        ->capture_default_str()
        ->check(between(1, 100000));
    command.add_option("--idle", idleMs, "Milliseconds of rest before a paced launch")
        ->capture_default_str()
        ->check(between(0, kMostIdleMs));
    command
        .add_option("--rows", rows,
                    "Rows, and as many keys, compared with the reference first; 0 leaves the "
                    "comparison out")
        ->check(between(0, 100000))
        ->capture_default_str();
    prepareOption.addTo(command);
  }

  Status run() {
    lengths = splitNumbers(seq), budgets = splitNumbers(topk), overlaps = splitNumbers(overlap);
    variants.read(variantTexts, tuned == "on");
    if (!peerFile.empty()) {
      WINNOW_TRY(peers, BackwardPeer::load(peerFile));
    }
    if (prepareOption.only && flags.arch.empty())
      return fail(ErrorKind::Usage, "--prepare needs --arch: there may be no GPU to ask");
    WINNOW_CHECK(readFlags());
    if (prepareOption.only)
      return prepare();
    WINNOW_TRY(bench, BackwardBench::open(device));
    std::vector<std::string> helperFlags{"--prepare"};
    if (flags.arch.empty()) {
      const Target *own = nullptr;
      WINNOW_TRY(own, targetForDevice(bench->info().major, bench->info().minor));
      archs = {own->arch};
      helperFlags.insert(helperFlags.end(), {"--arch", own->arch});
    }
    base.form = bench->codeForm();
    if (!bench->emulated()) { // emulated kernels are compiled in moments
      WINNOW_TRY(const std::vector<CompileRequest> all, everyRequest());
      preparePrograms(all, cache, {}, helperFlags);
    }
    if (!session.json)
      fmt::print("{}, {}; {}\n", bench->info().name, bench->driverText(), programText(base, ""));
    for (int tokens : lengths)
      WINNOW_CHECK(benchLength(tokens));
    return finish();
  }

private:
  Status readFlags() {
    if (!flags.arch.empty()) {
      WINNOW_TRY(archs, flags.architectures());
    }
    WINNOW_TRY(base, flags.request());
    if (flags.method.empty()) {
      WINNOW_TRY(base.method, selectingMethod(base.spec));
    }
    return {};
  }

  Status prepare() {
    WINNOW_TRY(const std::vector<CompileRequest> all, everyRequest());
    return prepareOption.run(all, cache);
  }

  /// What is measured on one workload: a method, its budget and the likeness of neighbours.
  struct Row {
    CompileRequest request;
    int topk = 0, overlap = 0; ///< 0: nothing is selected
  };

  Result<std::vector<Row>> rowsOf() const {
    std::vector<Row> list;
    WINNOW_TRY(const reference::Method method, readAxes(base.method, base.spec));
    if (!method.selects)
      list.push_back({base});
    else
      for (int budget : budgets)
        for (int likeness : overlaps) {
          Row row{base, budget, likeness};
          row.request.spec.topk = budget;
          WINNOW_CHECK(fitLocal(base.method, row.request.spec));
          list.push_back(row);
        }
    if (dense && method.selects) {
      Row row{base};
      WINNOW_TRY(row.request.method, denseMethod(base.spec));
      row.request.spec.params.clear();
      list.push_back(row);
    }
    return list;
  }

  Result<std::vector<Labelled>> labelled(const Row &row, int tokens) {
    WINNOW_TRY(std::vector<Labelled> list, variants.of(row.request, archs, {tokens, row.overlap},
                                                       bench ? bench->info().name : ""));
    if (row.request.method != base.method) // parameters of variants are of the method that selects
      for (Labelled &one : list)
        one.request.spec.params.clear();
    return list;
  }

  Result<std::vector<CompileRequest>> everyRequest() {
    WINNOW_TRY(const std::vector<Row> all, rowsOf());
    std::vector<CompileRequest> requests;
    for (int tokens : lengths)
      for (const Row &row : all) {
        WINNOW_TRY(const std::vector<Labelled> list, labelled(row, tokens));
        for (const Labelled &one : list)
          requests.push_back(one.request);
      }
    return requests;
  }

  Status benchLength(int tokens) {
    WINNOW_CHECK(requireTensors(base.spec, tokens));
    BenchInputs inputs(base.spec, tokens, 1);
    inputs.provideQueries();
    const std::vector<uint16_t> dout = makeOutputGradient(inputs.problem, /*seed=*/1);
    WINNOW_TRY(const std::vector<Row> all, rowsOf());
    for (const Row &row : all)
      WINNOW_CHECK(benchRow(row, inputs.problem, dout));
    return {};
  }

  Status benchRow(const Row &row, reference::Problem &problem, const std::vector<uint16_t> &dout) {
    problem.topk = row.request.spec.topk;
    WINNOW_TRY(const reference::Method method, readAxes(row.request.method, row.request.spec));
    HostArray<int32_t> ids;
    if (method.selects)
      ids = overlappingIds(method, problem, row.overlap, 7);
    WINNOW_CHECK(bench->place(problem, method.selects ? problem.selectHeads(method) : 0, ids.data(),
                              dout.data()));
    WINNOW_TRY(const std::vector<Side> sides, loadAll(row, problem.totalQ()));
    BackwardMeasurement about;
    about.tokens = problem.totalQ();
    about.topk = row.topk, about.overlap = row.overlap;
    about.checked = rows > 0;
    WINNOW_TRY(const std::vector<BackwardTiming> timings,
               bench->measure(sides, rounds, rows, idleMs, fmt::format("{}", about.tokens)));
    for (size_t i = 0; i < sides.size(); ++i) {
      BackwardMeasurement m = about;
      m.variant = sides[i].variant.name;
      m.timing = timings[i];
      m.operations = gradientOperations(sides[i].method, problem);
      if (!m.timing.fault.empty() && failure.empty())
        failure = fmt::format("{} tokens, {}: {}", m.tokens, m.variant, m.timing.fault);
      fmt::print(session.json ? stderr : stdout, "{}", measurementText(m, peers));
      std::fflush(stdout);
      results.push_back(std::move(m));
    }
    return {};
  }

  Result<std::vector<Side>> loadAll(const Row &row, int tokens) {
    WINNOW_TRY(const std::vector<Labelled> list, labelled(row, tokens));
    std::vector<Side> sides;
    for (const Labelled &one : list) {
      if (!one.note.empty() && told.insert(one.note).second)
        say(one.note);
      WINNOW_TRY(const ObtainedProgram obtained, obtainProgram(one.request, cache));
      Side side;
      WINNOW_TRY(side.variant, bench->load(one.name, obtained.image));
      WINNOW_TRY(side.method, readAxes(one.request.method, one.request.spec));
      if (side.method.denseByLaunch) {
        WINNOW_TRY(side.method.denseLen, side.variant.program->denseLength(1, tokens));
      }
      sides.push_back(std::move(side));
    }
    return sides;
  }

  Status finish() {
    if (session.json) {
      nlohmann::json object =
          runJson(bench->info().name, bench->driverText(), programText(base, ""), rounds, rows > 0);
      object.update({{"idle_ms", idleMs},
                     {"backward", nlohmann::json::array()},
                     {"peers", nlohmann::json::array()}});
      for (const BackwardMeasurement &m : results)
        object["backward"].push_back(measurementJson(m));
      for (const BackwardPeer &peer : peers)
        object["peers"].push_back(peerJson(peer));
      printJson(object);
    }
    if (!failure.empty())
      return fail(ErrorKind::WrongResult, failure);
    return {};
  }

  Session &session;
  CLI::App &command;
  ProgramFlags flags;
  std::string tuned = "off", device = "0", seq = "131072", overlap = "32", topk = "96";
  std::string peerFile;
  std::vector<std::string> variantTexts;
  bool dense = false;
  int rounds = 7, rows = 24, idleMs = 300;

  PrepareOption prepareOption;
  Cache cache;
  CompileRequest base; ///< without the top-k
  std::vector<int> lengths, budgets, overlaps;
  std::vector<BackwardPeer> peers;
  std::vector<std::string> archs;
  Variants variants;
  std::unique_ptr<BackwardBench> bench;
  std::set<std::string> told; ///< notes
  std::vector<BackwardMeasurement> results;
  std::string failure;
};

} // namespace

CLI::App *addBackwardCommand(CLI::App &bench, Session &session) {
  CLI::App *command = bench.add_subcommand(
      "backward", "Measures gradients of attention, alone and behind the attention");
  command->footer(kBackwardHelp);
  auto state = std::make_shared<BackwardCommand>(*command, session);
  setBody(*command, session, [state] { return state->run(); });
  return command;
}

} // namespace winnow
