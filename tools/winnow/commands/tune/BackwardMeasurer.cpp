// What is placed in device memory changes between small cases, which every candidate is tried on,
// and the workload.
#include "tools/winnow/commands/tune/BackwardMeasurer.h"
#include "autotune/search/DeviceProfile.h"
#include "reference/conformance/RandomCases.h"
#include <algorithm>
#include <fmt/format.h>

namespace winnow {
namespace {

using Json = nlohmann::json;

constexpr const char *kTrials[] = {"poison", "huge", "ties"}; ///< data of the small cases
constexpr int kCheckedRows = 12;                              ///< of any of them
constexpr uint64_t kTrialSeed = 2509;

} // namespace

Result<std::unique_ptr<BackwardMeasurer>> BackwardMeasurer::open(const std::string &device,
                                                                 bool ptx) {
  auto made = std::make_unique<BackwardMeasurer>();
  WINNOW_CHECK(made->openBench(device, ptx));
  WINNOW_TRY(made->flush,
             DeviceBuffer::allocate(made->bench->cuda(),
                                    size_t(2) * std::max(made->bench->info().l2Bytes, 1 << 20)));
  return made;
}

Status BackwardMeasurer::program(const std::string &name, const Spec &given) {
  placed.reset();
  WINNOW_CHECK(begin(name, given));
  if (!spec.backward)
    return fail(ErrorKind::Usage, "backward is a phase of programs with gradients");
  return {};
}

Status BackwardMeasurer::reserve(const Variant &variant) {
  WINNOW_TRY(const bool moved, bench->reserve(variant));
  if (moved)
    dropTurns();
  return {};
}

/// A ragged batch with adversarial ids, as random checks are made of (fault F26).
Status BackwardMeasurer::placeTrial(int index) {
  dropTurns();
  ConformanceCase test =
      drawCase({methodName, spec, Config()}, method.selects, kTrialSeed, 8 * index);
  test.data = kTrials[index];
  test.givenIds = method.selects;
  placed.emplace();
  const int heads = method.selects ? reference::problemOf(spec).selectHeads(method) : 0;
  CaseInputs &trial = placed->trial.emplace(makeInputs(test, heads));
  trial.problem.q = trial.q.data(), trial.problem.k = trial.k.data();
  trial.problem.v = trial.v.data();
  return bench->place(trial.problem, heads, trial.ids.data(), trial.dout.data());
}

Status BackwardMeasurer::placeWorkload() {
  if (placed && placed->text)
    return {};
  dropTurns();
  placed.reset(); // before more memory is asked for
  WINNOW_CHECK(requireTensors(spec, asked.tokens));
  placed.emplace();
  BenchInputs &text = placed->text.emplace(spec, asked.tokens, /*seed=*/1);
  text.provideQueries();
  placed->dout = makeOutputGradient(text.problem, /*seed=*/1);
  if (method.selects)
    placed->ids = overlappingIds(method, text.problem, std::max(1, asked.overlap), 7);
  return bench->place(text.problem, method.selects ? text.problem.selectHeads(method) : 0,
                      placed->ids.data(), placed->dout.data());
}

Result<std::string> BackwardMeasurer::tryCases(const Loaded &candidate) {
  for (int i = 0; i < static_cast<int>(std::size(kTrials)); ++i) {
    WINNOW_CHECK(placeTrial(i));
    WINNOW_CHECK(reserve(candidate.variant));
    WINNOW_TRY(const std::string fault, bench->check({candidate.variant, method}, kCheckedRows));
    if (!fault.empty())
      return fmt::format("{} inputs: {}", kTrials[i], fault);
  }
  return std::string();
}

Result<std::string> BackwardMeasurer::check(const Loaded &candidate) {
  WINNOW_CHECK(placeWorkload());
  WINNOW_CHECK(reserve(candidate.variant));
  return bench->check({candidate.variant, method}, kCheckedRows);
}

Result<Json> BackwardMeasurer::place(const Workload &workload) {
  if (workload.tokens <= 0)
    return fail(ErrorKind::Usage, "a workload needs tokens");
  asked = workload;
  placed.reset();
  WINNOW_CHECK(placeWorkload());
  for (const auto &[id, loaded] : candidates)
    WINNOW_CHECK(reserve(loaded.variant));
  WINNOW_TRY(const Target *own, targetForDevice(bench->info().major, bench->info().minor));
  const double operations = gradientOperations(method, placed->text->problem);
  return Json{{"floor_ms", operations / own->tensorTflops * 1e-9}};
}

/// One launch of gradients, with something else in L2.
Result<Json> BackwardMeasurer::time(Loaded &loaded) {
  WINNOW_CHECK(placeWorkload());
  WINNOW_CHECK(reserve(loaded.variant));
  if (!loaded.turn) {
    // Gradients are of what attention has left, which is nothing yet where no candidate was
    // checked.
    WINNOW_TRY([[maybe_unused]] const std::string unchecked,
               bench->check({loaded.variant, method}, 0));
    WINNOW_TRY(BackwardTurn made, bench->turn(loaded.variant, /*withAttention=*/false));
    loaded.turn.emplace(std::move(made));
  }
  WINNOW_CHECK(flush.fill(0, bench->queue().get()));
  int clock = 0;
  WINNOW_TRY(const double milliseconds, bench->timed(*loaded.turn, clock));
  return Json{{"ms", milliseconds}, {"clock_mhz", clock}, {"watts", bench->gauge().watts()}};
}

} // namespace winnow
