// `winnow soak`: a decode launch is captured once and replayed while everything that may change
// between two replays does. Steps run in rounds: the device answers some of them, then the
// reference judges all of these on all cores.
#include "runtime/program/DenseLength.h"
#include "tools/winnow/ProgramFlags.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/backends/HostMemory.h"
#include "tools/winnow/commands/bench/SpecGrid.h"
#include "tools/winnow/commands/prepare/Programs.h"
#include "tools/winnow/commands/soak/BackwardSoakCommand.h"
#include "tools/winnow/commands/soak/SoakDevice.h"
#include "tools/winnow/commands/soak/SoakJudge.h"
#include "tools/winnow/help.inc"
#include "tools/winnow/io/Flags.h"
#include "tools/winnow/io/Json.h"
#include <algorithm>
#include <fmt/format.h>
#include <limits>
#include <nlohmann/json.hpp>

namespace winnow {
namespace {

constexpr int kMostSteps = 1'000'000, kMostBatch = 1024, kMostQueries = 16;
constexpr int kTopk = 16; ///< so that a sequence of some thousand keys has blocks to choose from
constexpr int kElsewhere = 4;   ///< of so many steps one is repeated in other pages
constexpr int kRoundSteps = 32; ///< answered before they are judged

class SoakCommand {
public:
  SoakCommand(CLI::App &command, Session &session) : session(session) {
    flags.spec.topk = kTopk;
    flags.addTo(command, /*methodRequired=*/false);
    command.remove_option(command.get_option("--paged")); // it always is
    flags.addTargetFlags(command, "");
    command
        .add_option("--device", device,
                    "GPU to use, counted from 0; emulated or emulated:ARCH: without one, and "
                    "without a graph")
        ->capture_default_str();
    addNumber(command, "--steps", steps, "Batches, each launched once or twice", 1, kMostSteps);
    command.add_option("--only", only, "Run this step alone, counted from 0")
        ->check(between(0, kMostSteps - 1));
    command.add_option("--seed", seed, "What batches come from")
        ->check(between<uint64_t>(0, UINT64_MAX))
        ->capture_default_str();
    addNumber(command, "--batch", shape.batch, "Sequences", 1, kMostBatch);
    addNumber(command, "--seq", shape.keys, "Most keys of a sequence", 1, kMostTokens);
    addNumber(command, "--queries", shape.queries, "Most query tokens of a sequence", 1,
              kMostQueries);
    command
        .add_option("--layout", layoutName,
                    "Where keys and values lie: halves, pages, rows or pairs")
        ->capture_default_str();
    pageOption = addNumber(command, "--page-size", pageSize,
                           "Tokens of a page, of layouts with pages", 1, 1 << 20);
    command
        .add_option("--phase", phase,
                    "all: the whole program in one launch; attend: attention over given ids; "
                    "separated by commas")
        ->check(listOf(CLI::IsMember({"all", "attend"})))
        ->capture_default_str();
    command.add_flag("--busy", busy, "Another stream keeps half of the GPU busy meanwhile");
    command.add_flag("--direct", direct, "Launch the kernels instead of replaying a graph");
    addNumber(command, "--limit", limit,
              "Seconds after which a launch that has not ended counts as hanging", 1, 3600);
    command.add_flag("--prepare", prepareOnly,
                     "Compile for --arch into the cache and stop; needs no GPU");
  }

  Status run() {
    WINNOW_CHECK(readFlags());
    ObtainedProgram obtained;
    if (prepareOnly) {
      WINNOW_TRY(obtained, obtainProgram(base, cache));
      say(fmt::format("{} for {} is in the cache", base.method, base.arch));
      return {};
    }
    WINNOW_TRY(soak, SoakDevice::open(device, limit));
    if (busy && soak->emulated())
      return fail(ErrorKind::Usage, "--busy is for GPUs: the emulator runs one launch at a time");
    if (base.arch.empty()) {
      const Target *own = nullptr;
      WINNOW_TRY(own, targetForDevice(soak->info().major, soak->info().minor));
      base.arch = own->arch;
    }
    base.form = soak->codeForm();
    WINNOW_TRY(method, readAxes(base.method, base.spec));
    WINNOW_TRY(obtained, obtainProgram(base, cache));
    if (method.denseByLaunch) { // every launch has the same shape, and so the same threshold
      WINNOW_TRY(const DenseLength dense, DenseLength::parse(obtained.image->denseLength));
      WINNOW_TRY(method.denseLen, dense.of(shape.batch, shape.queries));
    }
    const SoakInputs inputs(base.spec, shape, layout, pageSize, method, obtained.image->summaries,
                            seed);
    if (!method.selects) // attention is the whole program
      phases = {Phase::All};
    WINNOW_CHECK(soak->place(inputs, obtained.image, phases, direct));
    if (busy) {
      WINNOW_TRY(busyCount, soak->beBusy());
    }
    const double began = now();
    Progress progress("soak");
    const int first = only >= 0 ? only : 0, end = only >= 0 ? only + 1 : steps;
    for (int begin = first; begin < end && failure.empty(); begin += kRoundSteps) {
      WINNOW_CHECK(runRound(inputs, begin, std::min(end, begin + kRoundSteps)));
      progress.show(static_cast<double>(done) / (end - first));
    }
    WINNOW_CHECK(soak->stopBusy());
    return finish(now() - began);
  }

private:
  struct Answered {
    int index = 0;
    Phase phase = Phase::All;
    std::shared_ptr<const SoakStep> step;
    CaseAnswer answer;
    std::string fault;
  };

  static CLI::Option *addNumber(CLI::App &command, const char *name, int &target,
                                const char *meaning, int least, int most) {
    return command.add_option(name, target, meaning)
        ->check(between(least, most))
        ->capture_default_str();
  }

  Status readFlags() {
    WINNOW_TRY(base, pagedRequest(flags));
    if (prepareOnly && flags.arch.empty())
      return fail(ErrorKind::Usage, "--prepare needs --arch: there may be no GPU to ask");
    WINNOW_CHECK(fitLocal(base.method, base.spec));
    Result<Layout> known = parseLayout(layoutName);
    if (!known)
      return fail(ErrorKind::Usage, "--layout: " + known.error().message);
    layout = *known;
    if (layout == Layout::Packed)
      return fail(ErrorKind::Usage,
                  "--layout packed: take one with pages, which can change places");
    if (layout == Layout::Rows && pageOption->count() > 0)
      return fail(ErrorKind::Usage, "--page-size: the layout rows has no pages of a size");
    for (const std::string &one : splitList(phase))
      phases.push_back(one == "all" ? Phase::All : Phase::Attend);
    if (only >= steps)
      return fail(ErrorKind::Usage,
                  fmt::format("--only {}: steps are counted from 0 to {}", only, steps - 1));
    if (int64_t(shape.batch) * shape.keys > std::numeric_limits<int32_t>::max() / 4)
      return fail(ErrorKind::Usage, fmt::format("--batch {} of --seq {} are too many tokens",
                                                shape.batch, shape.keys));
    return requireTensors(base.spec, int64_t(shape.batch) * shape.keys * 4);
  }

  static const char *phaseText(Phase phase) {
    return phase == Phase::All ? "the whole program" : "attention over given ids";
  }
  std::string stepText(int index, Phase which) const {
    return fmt::format("step {} of seed {}, {}", index, seed, phaseText(which));
  }

  Result<CaseAnswer> answer(const SoakStep &step, int index, Phase which) {
    const std::string what = stepText(index, which);
    Result<CaseAnswer> result = soak->run(step, which, what);
    if (!result)
      return fail(result.error().kind, fmt::format("{}: {}", what, result.error().message));
    return result;
  }

  /// Steps [begin, end): on the device one after the other, then judged side by side.
  Status runRound(const SoakInputs &inputs, int begin, int end) {
    std::vector<Answered> round;
    for (int index = begin; index < end; ++index) {
      auto step = std::make_shared<const SoakStep>(inputs.draw(index));
      for (Phase which : phases) {
        Answered &one = round.emplace_back();
        one.index = index, one.phase = which, one.step = step;
        WINNOW_TRY(one.answer, answer(*step, index, which));
        if (index % kElsewhere != 0)
          continue;
        WINNOW_TRY(const CaseAnswer other, answer(inputs.elsewhere(*step, index), index, which));
        one.fault = differenceOf(inputs, *step, one.answer, other);
        ++repeated;
      }
    }
    reference::parallelFor(round.size(), {}, [&](size_t i) {
      Answered &one = round[i];
      const std::string fault = faultOf(method, inputs, *one.step, one.phase, one.answer);
      one.fault = fault.empty() ? one.fault : fault;
    });
    for (const Answered &one : round) {
      ++judged;
      if (!one.fault.empty() && failure.empty())
        failure = fmt::format("{}: {}; repeat: --seed {} --only {}", stepText(one.index, one.phase),
                              one.fault, seed, one.index);
    }
    done += end - begin;
    return {};
  }

  Status finish(double seconds) {
    const bool usesGraph = !direct && !soak->emulated();
    const std::string where =
        busy ? fmt::format(", {} of {} multiprocessors busy", busyCount, soak->info().smCount) : "";
    if (session.json)
      printJson(nlohmann::json{{"device", soak->info().name},
                               {"method", base.method},
                               {"arch", base.arch},
                               {"kv_dtype", name(base.spec.kvDtype)},
                               {"steps", done},
                               {"answers", judged},
                               {"repeated", repeated},
                               {"launches", soak->launches()},
                               {"graph", usesGraph},
                               {"busy", busyCount},
                               {"seed", seed},
                               {"seconds", seconds},
                               {"check", failure.empty() ? "ok" : failure}});
    else
      fmt::print("{}, {} on {}{}: {} steps, {} {}{}, {} answers judged, {} repeated in other "
                 "pages, {:.1f} s: {}\n",
                 soak->info().name, base.method, base.arch,
                 base.spec.hasFp8Keys() ? fmt::format(", keys {}", name(base.spec.kvDtype)) : "",
                 done, soak->launches(), usesGraph ? "replays" : "launches", where, judged,
                 repeated, seconds, failure.empty() ? "ok" : "WRONG");
    return failure.empty() ? Status() : fail(ErrorKind::WrongResult, failure);
  }

  Session &session;
  ProgramFlags flags;
  const CLI::Option *pageOption = nullptr;
  std::string device = "0", layoutName = "halves", phase = "all,attend";
  SoakShape shape;
  int steps = 1000, only = -1, pageSize = 64, limit = 20;
  uint64_t seed = 1;
  bool busy = false, direct = false, prepareOnly = false;

  Cache cache;
  CompileRequest base;
  Layout layout = Layout::Halves;
  std::vector<Phase> phases;
  reference::Method method;
  std::unique_ptr<SoakDevice> soak;
  int done = 0, busyCount = 0;
  long judged = 0, repeated = 0;
  std::string failure;
};

} // namespace

void addSoakCommand(CLI::App &app, Session &session) {
  CLI::App *command = app.add_subcommand(
      "soak", "Replays one captured decode launch while everything changes, or gradients");
  command->footer(kSoakHelp);
  auto state = std::make_shared<SoakCommand>(*command, session);
  CLI::App *backward = addBackwardSoakCommand(*command, session);
  setBody(*command, session, [=] { return backward->parsed() ? Status() : state->run(); });
}

} // namespace winnow
