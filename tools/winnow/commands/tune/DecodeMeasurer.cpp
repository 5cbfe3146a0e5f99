// What is placed in device memory changes between a small batch, which every candidate is tried on,
// and the workload.
#include "tools/winnow/commands/tune/DecodeMeasurer.h"
#include "autotune/search/DeviceProfile.h"
#include <algorithm>
#include <tuple>

namespace winnow {
namespace {

using Json = nlohmann::json;

constexpr int kPageSize = 64;
constexpr int kTrialBatch = 3, kTrialQueries = 2; ///< of the small batch
constexpr int kTrialRows = kTrialBatch * kTrialQueries, kCheckedRows = 2;

bool isSame(const DecodeShape &a, const DecodeShape &b) {
  auto all = [](const DecodeShape &s) { return std::tie(s.batch, s.keys, s.queries, s.ragged); };
  return all(a) == all(b);
}

/// Bytes per second that launches on this device read; 0 where nothing is known of it.
double bandwidthOf(const std::string &device) {
  const std::vector<DeviceProfile> &profiles = deviceProfiles();
  auto own = std::find_if(profiles.begin(), profiles.end(),
                          [&](const DeviceProfile &one) { return one.device == device; });
  return own == profiles.end() ? 0 : own->dramBandwidth;
}

} // namespace

Result<std::unique_ptr<DecodeMeasurer>> DecodeMeasurer::open(const std::string &device, bool ptx) {
  auto made = std::make_unique<DecodeMeasurer>();
  WINNOW_CHECK(made->openBench(device, ptx));
  return made;
}

Status DecodeMeasurer::program(const std::string &name, const Spec &given) {
  inputs.reset();
  if (methodName != name || spec.text() != given.text())
    text.reset();
  WINNOW_CHECK(begin(name, given));
  if (!spec.paged)
    return fail(ErrorKind::Usage, "decode is a phase of paged programs");
  return {};
}

/// A batch of a few blocks more than are selected, sequences below that among them.
DecodeShape DecodeMeasurer::smallShape() const {
  constexpr int kMoreBlocks = 9, kOddKeys = 5;
  return {kTrialBatch, (spec.topk + kMoreBlocks) * spec.block + kOddKeys, kTrialQueries,
          /*ragged=*/true};
}

/// Brings a batch into device memory, unless it is there, and makes room for a variant's workspace.
Status DecodeMeasurer::placeBatch(const DecodeShape &shape, const Variant &variant) {
  if (inputs && isSame(shape, placed)) {
    WINNOW_TRY(const bool moved, bench->reserve(variant));
    if (moved)
      dropTurns();
    return {};
  }
  dropTurns();
  inputs.reset();
  if (!text || text->problem.cuK.back() < shape.keys) {
    text.reset(); // before more memory is asked for
    WINNOW_CHECK(requireTensors(spec, shape.keys));
    text = std::make_unique<BenchInputs>(spec, shape.keys, 1);
  }
  inputs = std::make_unique<DecodeInputs>(spec, shape, Layout::Halves, kPageSize, *text);
  if (method.denseByLaunch) {
    WINNOW_TRY(method.denseLen, variant.program->denseLength(shape.batch, shape.queries));
  }
  WINNOW_TRY(const std::string why, bench->place(*inputs, method, variant));
  if (!why.empty()) {
    inputs.reset();
    return fail(ErrorKind::DeviceFailed, why);
  }
  placed = shape;
  return {};
}

Result<std::string> DecodeMeasurer::tryCases(const Loaded &candidate) {
  WINNOW_CHECK(placeBatch(smallShape(), candidate.variant));
  return bench->check(method, candidate.variant, Phase::All, kTrialRows);
}

Result<std::string> DecodeMeasurer::check(const Loaded &candidate) {
  WINNOW_CHECK(placeBatch(asked, candidate.variant));
  return bench->check(method, candidate.variant, Phase::All, kCheckedRows);
}

Result<Json> DecodeMeasurer::place(const Workload &workload) {
  if (workload.tokens <= 0 || workload.batch <= 0)
    return fail(ErrorKind::Usage, "a workload of decode needs tokens and a batch");
  if (candidates.empty())
    return fail(ErrorKind::Usage, "a workload of decode needs a candidate, whose summaries it has");
  asked = DecodeShape{workload.batch, workload.tokens};
  for (const auto &[id, loaded] : candidates)
    WINNOW_CHECK(placeBatch(asked, loaded.variant));
  const double bandwidth = bandwidthOf(bench->info().name);
  return Json{{"floor_ms", bandwidth > 0 ? inputs->bytesExpected(method) / bandwidth * 1000 : 0.0}};
}

/// Mean of the launches of one replay, in milliseconds.
Result<Json> DecodeMeasurer::time(Loaded &loaded) {
  if (!loaded.turn) {
    WINNOW_CHECK(placeBatch(asked, loaded.variant));
    WINNOW_TRY(DecodeTurn made, bench->turn(loaded.variant, Phase::All));
    loaded.turn.emplace(std::move(made));
  }
  int clock = 0;
  WINNOW_TRY(const double microseconds, bench->timed(*loaded.turn, &clock));
  return Json{{"ms", microseconds / 1000}, {"clock_mhz", clock}, {"watts", bench->gauge().watts()}};
}

} // namespace winnow
