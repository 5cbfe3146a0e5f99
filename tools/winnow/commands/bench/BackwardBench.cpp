// Launches as graphs under two regimes, and the check of sampled gradients.
#include "tools/winnow/commands/bench/BackwardBench.h"
#include "reference/Compare.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/backends/Backend.h"
#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <map>
#include <thread>

namespace winnow {
namespace {

constexpr int kKernelRounds = 5; ///< launches with an event after each kernel, for the breakdown

/// About `count` keys of a problem, both ends among them.
std::vector<int> sampleKeys(const reference::Problem &problem, int count) {
  const int total = problem.cuK.back(), most = std::min(count, total);
  std::vector<int> keys;
  for (int i = 0; i < most; ++i)
    keys.push_back(static_cast<int>(int64_t(i) * (total - 1) / std::max(1, most - 1)));
  return keys;
}

/// The rows of `tokens` alone, one after the other.
std::vector<uint16_t> rowsOf(const std::vector<uint16_t> &tensor, const std::vector<int> &tokens,
                             size_t width) {
  std::vector<uint16_t> rows;
  for (int token : tokens)
    rows.insert(rows.end(), &tensor[token * width], &tensor[token * width] + width);
  return rows;
}

} // namespace

Result<std::unique_ptr<BackwardBench>> BackwardBench::open(const std::string &name) {
  auto bench = std::make_unique<BackwardBench>();
  WINNOW_CHECK(bench->openDevice(name));
  return bench;
}

Status BackwardBench::place(const reference::Problem &workload, int heads, const int32_t *ids,
                            const uint16_t *outputGradient) {
  tensors = {}; // frees what the last workload had, before more is asked for
  problem = &workload;
  selectHeads = heads;
  dout = outputGradient;
  WINNOW_TRY(tensors, DeviceTensors::make(driver, *problem, selectHeads, ids));
  WINNOW_CHECK(tensors.addGradients(driver, *problem, dout));
  // The copy of pageable memory may go on when its call has returned.
  return driver->check(driver->api().cuCtxSynchronize(), "waiting for uploads");
}

LaunchArgs BackwardBench::args(bool backward) const {
  if (backward)
    return tensors.backwardArgs(*problem);
  LaunchArgs attention = tensors.args(*problem);
  attention.phase = selectHeads > 0 ? Phase::Attend : Phase::All;
  return attention;
}

Result<bool> BackwardBench::reserve(const Variant &variant) {
  size_t bytes = 0;
  for (bool backward : {false, true}) {
    const LaunchArgs launch = args(backward);
    WINNOW_TRY(const size_t own, variant.program->workspaceSize(launch.shape, launch.phase));
    bytes = std::max(bytes, own);
  }
  if (tensors.workspace.size() >= bytes)
    return false;
  tensors.workspace = {};
  WINNOW_TRY(tensors.workspace, poisonedBuffer(driver, bytes));
  return true;
}

Status BackwardBench::launch(const Variant &variant, bool backward, KernelTimer *timer) const {
  return variant.program->launch(args(backward), stream->get(), tensors.workspace.data(),
                                 tensors.workspace.size(), timer ? KernelTimer::observe : nullptr,
                                 timer);
}

Status BackwardBench::launch(const BackwardTurn &turn) const {
  if (turn.graph)
    return turn.graph->replay(stream->get());
  if (turn.withAttention)
    WINNOW_CHECK(launch(*turn.variant, /*backward=*/false));
  return launch(*turn.variant, /*backward=*/true);
}

Result<BackwardTurn> BackwardBench::turn(const Variant &variant, bool withAttention) const {
  BackwardTurn made{&variant, withAttention, std::nullopt};
  if (emulated())
    return made;
  WINNOW_TRY(LaunchGraph captured,
             LaunchGraph::capture(driver, stream->get(), [&] { return launch(made); }));
  made.graph.emplace(std::move(captured));
  return made;
}

Result<double> BackwardBench::timed(const BackwardTurn &turn, int &megahertz) const {
  WINNOW_TRY(Event begin, Event::create(driver));
  WINNOW_TRY(Event end, Event::create(driver));
  WINNOW_CHECK(begin.record(stream->get()));
  WINNOW_CHECK(launch(turn));
  WINNOW_CHECK(end.record(stream->get()));
  megahertz = clock->smMegahertz();
  WINNOW_CHECK(end.synchronize());
  float milliseconds = 0;
  WINNOW_TRY(milliseconds, end.millisecondsSince(begin));
  return milliseconds;
}

Result<std::vector<RegimeTiming>>
BackwardBench::regime(const std::vector<Side> &sides, bool withAttention, int rounds, int idleMs) {
  std::vector<BackwardTurn> turns;
  for (const Side &side : sides) {
    WINNOW_TRY(BackwardTurn made, turn(side.variant, withAttention));
    turns.push_back(std::move(made));
  }
  std::vector<std::vector<double>> times(sides.size()), clocks(sides.size());
  for (int round = 0; round <= rounds; ++round)
    for (size_t n = 0; n < sides.size(); ++n) {
      const size_t i = round % 2 ? sides.size() - 1 - n : n; // there and back
      std::this_thread::sleep_for(std::chrono::milliseconds(idleMs));
      int megahertz = 0;
      WINNOW_TRY(const double time, timed(turns[i], megahertz));
      if (round == 0)
        continue; // warms up
      times[i].push_back(time);
      clocks[i].push_back(megahertz);
    }
  std::vector<RegimeTiming> timings;
  for (size_t i = 0; i < sides.size(); ++i) {
    std::sort(times[i].begin(), times[i].end());
    timings.push_back({quantile(times[i], 0.5), quantile(times[i], 0.25), quantile(times[i], 0.75),
                       static_cast<int>(median(clocks[i]))});
  }
  return timings;
}

Result<std::vector<BackwardTiming>> BackwardBench::measure(const std::vector<Side> &sides,
                                                           int rounds, int checked, int idleMs,
                                                           const std::string &label) {
  std::vector<BackwardTiming> timings(sides.size());
  for (size_t i = 0; i < sides.size(); ++i) {
    WINNOW_TRY([[maybe_unused]] const bool moved, reserve(sides[i].variant));
    WINNOW_TRY(timings[i].scratchBytes,
               sides[i].variant.program->workspaceSize(args(true).shape, Phase::Backward));
  }
  Progress progress(label);
  for (size_t i = 0; i < sides.size(); ++i) {
    WINNOW_TRY(timings[i].fault, check(sides[i], checked));
  }
  const struct {
    RegimeTiming BackwardTiming::*place;
    bool withAttention;
    int idleMs;
  } regimes[] = {{&BackwardTiming::paced, false, idleMs},
                 {&BackwardTiming::bothPaced, true, idleMs},
                 {&BackwardTiming::backToBack, false, 0},
                 {&BackwardTiming::bothBackToBack, true, 0}};
  double done = 0;
  for (const auto &one : regimes) {
    WINNOW_TRY(const std::vector<RegimeTiming> found,
               regime(sides, one.withAttention, rounds, one.idleMs));
    for (size_t i = 0; i < sides.size(); ++i)
      timings[i].*one.place = found[i];
    progress.show(++done / std::size(regimes));
  }
  for (size_t i = 0; i < sides.size(); ++i)
    WINNOW_CHECK(kernelTimes(sides[i].variant, std::min(rounds, kKernelRounds), timings[i]));
  return timings;
}

Status BackwardBench::kernelTimes(const Variant &variant, int rounds,
                                  BackwardTiming &timing) const {
  std::map<std::string, std::vector<double>> times;
  for (int round = 0; round < rounds; ++round) {
    KernelTimer timer(driver);
    WINNOW_CHECK(timer.begin(stream->get()));
    WINNOW_CHECK(launch(variant, /*backward=*/true, &timer));
    WINNOW_TRY(const KernelTimes one, timer.finish());
    for (const auto &[name, time] : one.kernels)
      times[name].push_back(time);
  }
  for (const Kernel &kernel : variant.image->kernels)
    if (auto found = times.find(kernel.name); found != times.end())
      timing.kernels.emplace_back(kernel.name, median(found->second));
  return {};
}

Status BackwardBench::launchBoth(const Variant &variant) {
  // What the last launch wrote must not pass for this one's answer.
  for (DeviceBuffer *result :
       {&tensors.out, &tensors.lse, &tensors.dq, &tensors.dk, &tensors.dv, &tensors.workspace})
    WINNOW_CHECK(result->fill(0xff));
  WINNOW_CHECK(launch(variant, /*backward=*/false));
  WINNOW_CHECK(stream->synchronize());
  WINNOW_CHECK(tensors.workspace.fill(0xff));
  WINNOW_CHECK(launch(variant, /*backward=*/true));
  return stream->synchronize();
}

Result<CaseAnswer> BackwardBench::answer() const {
  WINNOW_TRY(CaseAnswer answer, tensors.download(*problem, selectHeads));
  WINNOW_CHECK(tensors.downloadGradients(*problem, answer));
  return answer;
}

Result<std::string> BackwardBench::check(const Side &side, int count) {
  WINNOW_CHECK(launchBoth(side.variant));
  if (count == 0)
    return std::string();
  WINNOW_TRY(const CaseAnswer found, answer());
  return faultOf(side.method, found, count);
}

std::string BackwardBench::faultOf(const reference::Method &method, const CaseAnswer &answer,
                                   int count) const {
  reference::Options options;
  options.rows = reference::sampleRows(*problem, count);
  const int32_t *ids = selectHeads > 0 ? answer.ids.data() : nullptr;
  const reference::OutputReport output =
      reference::compareOutput(*problem, reference::attend(method, *problem, ids, options),
                               answer.out.data(), answer.lse.data());
  if (!output.withinBars())
    return "of attention: " + output.text();
  const reference::Gradients expected =
      reference::sampleBackward(method, *problem, {answer.out.data(), answer.lse.data(), ids, dout},
                                options.rows, sampleKeys(*problem, count));
  const size_t heads = problem->heads, kvHeads = problem->kvHeads, dim = problem->headDim;
  const auto dq = rowsOf(answer.dq, expected.q.tokens, heads * dim),
             dk = rowsOf(answer.dk, expected.k.tokens, kvHeads * dim),
             dv = rowsOf(answer.dv, expected.v.tokens, kvHeads * problem->valueWidth());
  const reference::GradientReport report =
      reference::compareGradients(*problem, expected, dq.data(), dk.data(), dv.data());
  return report.withinBars() ? std::string() : report.text() + "; " + report.first;
}

} // namespace winnow
