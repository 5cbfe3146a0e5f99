// Each step is another workload: launched once, compared with the reference, then launched again as
// often as asked, and where it is a batch, twice over in one launch, whose grids are others. All of
// them must give the bits of the first launch.
#include "tools/winnow/commands/soak/BackwardSoakCommand.h"
#include "reference/conformance/RandomCases.h"
#include "tools/winnow/ProgramFlags.h"
#include "tools/winnow/backends/HostMemory.h"
#include "tools/winnow/commands/bench/BackwardBench.h"
#include "tools/winnow/commands/bench/SpecGrid.h"
#include "tools/winnow/commands/prepare/Programs.h"
#include "tools/winnow/commands/soak/BusyStream.h"
#include "tools/winnow/commands/soak/Watchdog.h"
#include "tools/winnow/help.inc"
#include "tools/winnow/io/Flags.h"
#include "tools/winnow/io/Json.h"
#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace winnow {
namespace {

constexpr int kMostSteps = 100'000;
constexpr int kTopk = 16;   ///< so that a sequence of some hundred keys has blocks to choose from
constexpr int kJudged = 48; ///< rows and keys of a step that the reference computes

/// One workload: a random batch with adversarial ids, or one long sequence.
struct SoakWorkload {
  std::vector<uint16_t> q, k, v, dout;
  std::vector<int32_t> ids;
  reference::Problem problem; ///< points into the vectors above, or into `text`
  std::optional<BenchInputs> text;
  HostArray<int32_t> textIds;
  const int32_t *list() const { return text ? textIds.data() : ids.data(); }
};

/// The first `count` words of a tensor twice, what lies behind them once.
std::vector<uint16_t> twice(const std::vector<uint16_t> &rows, size_t count) {
  std::vector<uint16_t> both(rows.begin(), rows.begin() + count);
  both.insert(both.end(), rows.begin(), rows.end());
  return both;
}

/// A batch twice over, as one batch.
std::unique_ptr<SoakWorkload> doubled(const SoakWorkload &batch, int selectHeads) {
  auto both = std::make_unique<SoakWorkload>();
  reference::Problem &problem = both->problem = batch.problem;
  const size_t keys = problem.cuK.back();
  both->q = twice(batch.q, batch.q.size());
  both->dout = twice(batch.dout, batch.dout.size());
  both->k = twice(batch.k, keys * problem.kvHeads * problem.headDim);
  both->v = twice(batch.v, keys * problem.kvHeads * problem.valueWidth());
  const size_t list = batch.ids.size() / std::max(1, selectHeads);
  for (auto head = batch.ids.begin(); head != batch.ids.end(); head += list)
    for (int copy = 0; copy < 2; ++copy)
      both->ids.insert(both->ids.end(), head, head + list);
  for (std::vector<int32_t> *ends : {&problem.cuQ, &problem.cuK}) {
    const std::vector<int32_t> once = *ends;
    for (size_t s = 1; s < once.size(); ++s)
      ends->push_back(once.back() + once[s]);
  }
  problem.q = both->q.data(), problem.k = both->k.data(), problem.v = both->v.data();
  return both;
}

class BackwardSoakCommand {
public:
  BackwardSoakCommand(CLI::App &command, Session &session) : session(session) {
    flags.spec.topk = kTopk;
    flags.spec.backward = true;
    flags.addTo(command, /*methodRequired=*/false);
    for (const char *taken : {"--paged", "--backward", "--kv-dtype"})
      command.remove_option(command.get_option(taken));
    flags.addTargetFlags(command, "");
    command
        .add_option("--device", device,
                    "GPU to use, counted from 0; emulated or emulated:ARCH: without one")
        ->capture_default_str();
    addNumber(command, "--steps", steps, "Workloads", 1, kMostSteps);
    command.add_option("--only", only, "Run this step alone, counted from 0")
        ->check(between(0, kMostSteps - 1));
    command.add_option("--seed", seed, "What workloads come from")
        ->check(between<uint64_t>(0, UINT64_MAX / 16))
        ->capture_default_str();
    addNumber(command, "--repeats", repeats, "Launches of each workload", 1, 10000);
    addNumber(command, "--seq", tokens,
              "One sequence of so many tokens; 0: random batches with adversarial ids", 0,
              static_cast<int>(kMostTokens));
    addNumber(command, "--overlap", overlap, "Likeness of neighbours, with --seq", 1,
              static_cast<int>(kMostTokens));
    command.add_flag("--busy", busy, "Another stream keeps half of the GPU busy meanwhile");
    addNumber(command, "--limit", limit,
              "Seconds after which a launch that has not ended counts as hanging", 1, 3600);
    command.add_flag("--prepare", prepareOnly,
                     "Compile for --arch into the cache and stop; needs no GPU");
  }

  Status run() {
    WINNOW_CHECK(readFlags());
    if (prepareOnly) {
      WINNOW_TRY([[maybe_unused]] const ObtainedProgram made, obtainProgram(base, cache));
      say(fmt::format("{} for {} is in the cache", base.method, base.arch));
      return {};
    }
    WINNOW_CHECK(open());
    const double began = now();
    Progress progress("soak");
    const int first = only >= 0 ? only : 0, end = only >= 0 ? only + 1 : steps;
    for (int index = first; index < end && failure.empty(); ++index) {
      WINNOW_TRY(const std::string fault, runStep(index));
      if (!fault.empty())
        failure = fmt::format("step {} of seed {}: {}; repeat: --seed {} --only {}", index, seed,
                              fault, seed, index);
      ++done;
      progress.show(static_cast<double>(done) / (end - first));
    }
    if (busyStream)
      WINNOW_CHECK(busyStream->stop());
    return finish(now() - began);
  }

private:
  static void addNumber(CLI::App &command, const char *name, int &target, const char *meaning,
                        int least, int most) {
    command.add_option(name, target, meaning)->check(between(least, most))->capture_default_str();
  }

  Status readFlags() {
    WINNOW_TRY(base, flags.request());
    if (flags.method.empty()) {
      WINNOW_TRY(base.method, selectingMethod(base.spec));
    }
    if (prepareOnly && flags.arch.empty())
      return fail(ErrorKind::Usage, "--prepare needs --arch: there may be no GPU to ask");
    WINNOW_CHECK(fitLocal(base.method, base.spec));
    if (only >= steps)
      return fail(ErrorKind::Usage,
                  fmt::format("--only {}: steps are counted from 0 to {}", only, steps - 1));
    return requireTensors(base.spec, tokens);
  }

  Status open() {
    WINNOW_TRY(bench, BackwardBench::open(device));
    if (busy && bench->emulated())
      return fail(ErrorKind::Usage, "--busy is for GPUs: the emulator runs one launch at a time");
    if (base.arch.empty()) {
      WINNOW_TRY(const Target *own, targetForDevice(bench->info().major, bench->info().minor));
      base.arch = own->arch;
    }
    base.form = bench->codeForm();
    WINNOW_TRY(const ObtainedProgram obtained, obtainProgram(base, cache));
    WINNOW_TRY(side.variant, bench->load(base.arch, obtained.image));
    WINNOW_TRY(side.method, readAxes(base.method, base.spec));
    selectHeads =
        side.method.selects ? reference::problemOf(base.spec).selectHeads(side.method) : 0;
    watchdog.emplace(bench->emulated() ? 0 : limit);
    if (busy) {
      WINNOW_TRY(busyStream, BusyStream::open(bench->cuda(), bench->info()));
    }
    return {};
  }

  std::unique_ptr<SoakWorkload> batchOf(int index) const {
    ConformanceCase test =
        drawCase({base.method, base.spec, Config()}, side.method.selects, seed, index);
    test.givenIds = side.method.selects;
    CaseInputs drawn = makeInputs(test, selectHeads);
    auto made = std::make_unique<SoakWorkload>();
    made->problem = drawn.problem;
    made->q = std::move(drawn.q), made->k = std::move(drawn.k), made->v = std::move(drawn.v);
    made->dout = std::move(drawn.dout), made->ids = std::move(drawn.ids);
    made->problem.q = made->q.data(), made->problem.k = made->k.data();
    made->problem.v = made->v.data();
    return made;
  }

  std::unique_ptr<SoakWorkload> sequenceOf(int index) const {
    auto made = std::make_unique<SoakWorkload>();
    BenchInputs &text = made->text.emplace(base.spec, tokens, seed + index);
    text.provideQueries();
    made->problem = text.problem;
    made->dout = makeOutputGradient(text.problem, seed + index);
    if (side.method.selects)
      made->textIds = overlappingIds(side.method, text.problem, overlap, seed + index);
    return made;
  }

  Result<CaseAnswer> launch(int index, const char *what) {
    if (busyStream)
      WINNOW_CHECK(busyStream->keep());
    watchdog->begin(fmt::format("step {} of seed {}, {}", index, seed, what));
    const Status launched = bench->launchBoth(side.variant);
    watchdog->end();
    WINNOW_CHECK(launched);
    ++launches;
    return bench->answer();
  }

  Status place(const SoakWorkload &workload) {
    WINNOW_CHECK(
        bench->place(workload.problem, selectHeads, workload.list(), workload.dout.data()));
    WINNOW_TRY([[maybe_unused]] const bool moved, bench->reserve(side.variant));
    return {};
  }

  /// The first fault in words, or empty.
  Result<std::string> runStep(int index) {
    const std::unique_ptr<SoakWorkload> workload = tokens > 0 ? sequenceOf(index) : batchOf(index);
    if (side.method.denseByLaunch) {
      WINNOW_TRY(side.method.denseLen,
                 side.variant.program->denseLength(
                     static_cast<int>(workload->problem.cuQ.size()) - 1, longestOf(*workload)));
    }
    WINNOW_CHECK(place(*workload));
    WINNOW_TRY(const CaseAnswer first, launch(index, "the first launch"));
    const std::string wrong = bench->faultOf(side.method, first, kJudged);
    if (!wrong.empty())
      return "differs from the reference: " + wrong;
    for (int i = 1; i < repeats; ++i) {
      WINNOW_TRY(const CaseAnswer again, launch(index, "launched again"));
      const std::string other = differenceOf(first, again, 0);
      if (!other.empty())
        return fmt::format("{} of launch {} are not the bits of launch 0", other, i);
    }
    if (tokens > 0 || side.method.denseByLaunch) // whose threshold may depend on the batch
      return std::string();
    const std::unique_ptr<SoakWorkload> both = doubled(*workload, selectHeads);
    WINNOW_CHECK(place(*both));
    WINNOW_TRY(const CaseAnswer twofold, launch(index, "the batch twice over"));
    for (int copy = 0; copy < 2; ++copy)
      if (const std::string other = differenceOf(first, twofold, copy); !other.empty())
        return fmt::format("{} of the batch twice over, copy {}, are not the bits of the batch "
                           "alone",
                           other, copy);
    return std::string();
  }

  static int longestOf(const SoakWorkload &workload) {
    const std::vector<int32_t> &ends = workload.problem.cuQ;
    int longest = 0;
    for (size_t s = 0; s + 1 < ends.size(); ++s)
      longest = std::max(longest, ends[s + 1] - ends[s]);
    return longest;
  }

  /// The gradients that differ from those of copy `copy` in an answer that may hold several.
  static std::string differenceOf(const CaseAnswer &one, const CaseAnswer &other, size_t copy) {
    std::string names;
    auto compare = [&](const char *name, const std::vector<uint16_t> &a,
                       const std::vector<uint16_t> &b) {
      if (!std::equal(a.begin(), a.end(), b.begin() + copy * a.size()))
        names += (names.empty() ? "" : ", ") + std::string(name);
    };
    compare("dq", one.dq, other.dq);
    compare("dk", one.dk, other.dk);
    compare("dv", one.dv, other.dv);
    return names;
  }

  Status finish(double seconds) {
    const int busyCount = busyStream ? busyStream->multiprocessors() : 0;
    if (session.json)
      printJson(nlohmann::json{{"device", bench->info().name},
                               {"method", base.method},
                               {"arch", base.arch},
                               {"steps", done},
                               {"repeats", repeats},
                               {"launches", launches},
                               {"busy", busyCount},
                               {"seed", seed},
                               {"seconds", seconds},
                               {"check", failure.empty() ? "ok" : failure}});
    else
      fmt::print(
          "{}, gradients of {} on {}: {} steps, {} launches{}, {:.1f} s: {}\n", bench->info().name,
          base.method, base.arch, done, launches,
          busy ? fmt::format(", {} of {} multiprocessors busy", busyCount, bench->info().smCount)
               : "",
          seconds, failure.empty() ? "ok" : "WRONG");
    return failure.empty() ? Status() : fail(ErrorKind::WrongResult, failure);
  }

  Session &session;
  ProgramFlags flags;
  std::string device = "0";
  int steps = 20, only = -1, repeats = 20, tokens = 0, overlap = 32, limit = 20;
  uint64_t seed = 1;
  bool busy = false, prepareOnly = false;

  Cache cache;
  CompileRequest base;
  std::unique_ptr<BackwardBench> bench;
  Side side;
  int selectHeads = 0;
  std::optional<Watchdog> watchdog;
  std::unique_ptr<BusyStream> busyStream;
  int done = 0;
  long launches = 0;
  std::string failure;
};

} // namespace

CLI::App *addBackwardSoakCommand(CLI::App &soak, Session &session) {
  CLI::App *command =
      soak.add_subcommand("backward", "Repeats gradients, which must be the same bits");
  command->footer(kBackwardSoakHelp);
  auto state = std::make_shared<BackwardSoakCommand>(*command, session);
  setBody(*command, session, [state] { return state->run(); });
  return command;
}

} // namespace winnow
