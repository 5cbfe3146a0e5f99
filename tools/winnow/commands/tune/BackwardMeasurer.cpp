// What is placed in device memory changes between small cases, which every candidate is tried on,
// and the workload.
#include "tools/winnow/commands/tune/BackwardMeasurer.h"
#include "autotune/search/DeviceProfile.h"
#include "reference/conformance/RandomCases.h"
#include "runtime/JsonText.h"
#include "runtime/program/ImageFormat.h"
#include "tools/winnow/backends/HostMemory.h"
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
  made->ptx = ptx;
  WINNOW_TRY(made->bench, BackwardBench::open(device));
  WINNOW_TRY(made->flush,
             DeviceBuffer::allocate(made->bench->cuda(),
                                    size_t(2) * std::max(made->bench->info().l2Bytes, 1 << 20)));
  return made;
}

Status BackwardMeasurer::program(const std::string &name, const Spec &given) {
  candidates.clear();
  placed.reset();
  tokens = overlap = 0;
  methodName = name, spec = given;
  if (!spec.backward)
    return fail(ErrorKind::Usage, "backward is a phase of programs with gradients");
  WINNOW_TRY(method, readAxes(methodName, spec));
  return {};
}

Result<Json> BackwardMeasurer::handle(const Json &request) {
  JsonFields fields(request);
  const std::string what = fields.text("do"), path = fields.text("path");
  const int length = fields.whole("tokens"), likeness = fields.whole("overlap");
  const int id = fields.whole("candidate", -1);
  WINNOW_CHECK(fields.status());
  if (what == "load") {
    WINNOW_CHECK(load(id, path));
    return Json::object();
  }
  if (what == "workload")
    return workload(length, likeness);
  auto it = candidates.find(id);
  if (it == candidates.end())
    return fail(ErrorKind::Usage, fmt::format("candidate {} is not loaded", id));
  Loaded &candidate = it->second;
  std::string fault;
  if (what == "cases") {
    WINNOW_TRY(fault, tryCases(candidate));
    return Json{{"fault", fault}};
  }
  if (tokens == 0)
    return fail(ErrorKind::Usage, "no workload was placed");
  WINNOW_CHECK(placeWorkload());
  if (what == "time")
    return time(candidate);
  if (what != "check")
    return fail(ErrorKind::Usage, fmt::format("request '{}' is not known", what));
  WINNOW_CHECK(reserve(candidate.side.variant));
  WINNOW_TRY(fault, bench->check(candidate.side, kCheckedRows));
  return Json{{"fault", fault}};
}

Status BackwardMeasurer::load(int id, const std::string &path) {
  WINNOW_TRY(ProgramImage image, loadImageFile(path));
  Loaded loaded;
  loaded.side.method = method;
  WINNOW_TRY(loaded.side.variant,
             bench->load(fmt::format("{}", id),
                         std::make_shared<const ProgramImage>(std::move(image)), ptx));
  candidates.insert_or_assign(id, std::move(loaded));
  return {};
}

void BackwardMeasurer::dropTurns() {
  for (auto &[id, loaded] : candidates)
    loaded.turn.reset();
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
  WINNOW_CHECK(requireTensors(spec, tokens));
  placed.emplace();
  BenchInputs &text = placed->text.emplace(spec, tokens, /*seed=*/1);
  text.provideQueries();
  placed->dout = makeOutputGradient(text.problem, /*seed=*/1);
  if (method.selects)
    placed->ids = overlappingIds(method, text.problem, std::max(1, overlap), 7);
  return bench->place(text.problem, method.selects ? text.problem.selectHeads(method) : 0,
                      placed->ids.data(), placed->dout.data());
}

Result<std::string> BackwardMeasurer::tryCases(const Loaded &loaded) {
  for (int i = 0; i < static_cast<int>(std::size(kTrials)); ++i) {
    WINNOW_CHECK(placeTrial(i));
    WINNOW_CHECK(reserve(loaded.side.variant));
    WINNOW_TRY(const std::string fault, bench->check(loaded.side, kCheckedRows));
    if (!fault.empty())
      return fmt::format("{} inputs: {}", kTrials[i], fault);
  }
  return std::string();
}

Result<Json> BackwardMeasurer::workload(int length, int likeness) {
  if (length <= 0)
    return fail(ErrorKind::Usage, "a workload needs tokens");
  tokens = length, overlap = likeness;
  placed.reset();
  WINNOW_CHECK(placeWorkload());
  for (const auto &[id, loaded] : candidates)
    WINNOW_CHECK(reserve(loaded.side.variant));
  WINNOW_TRY(const Target *own, targetForDevice(bench->info().major, bench->info().minor));
  const double operations = gradientOperations(method, placed->text->problem);
  return Json{{"floor_ms", operations / own->tensorTflops * 1e-9}};
}

/// One launch of gradients, with something else in L2.
Result<Json> BackwardMeasurer::time(Loaded &loaded) {
  WINNOW_CHECK(reserve(loaded.side.variant));
  if (!loaded.turn) {
    // Gradients are of what attention has left, which is nothing yet where no candidate was
    // checked.
    WINNOW_TRY([[maybe_unused]] const std::string unchecked, bench->check(loaded.side, 0));
    WINNOW_TRY(BackwardTurn made, bench->turn(loaded.side.variant, /*withAttention=*/false));
    loaded.turn.emplace(std::move(made));
  }
  WINNOW_CHECK(flush.fill(0, bench->queue().get()));
  int clock = 0;
  WINNOW_TRY(const double milliseconds, bench->timed(*loaded.turn, clock));
  return Json{{"ms", milliseconds}, {"clock_mhz", clock}, {"watts", bench->gauge().watts()}};
}

} // namespace winnow
