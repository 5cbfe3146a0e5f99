// Sizes of the attend kernels; see Sizes.h.
#include "compiler/kernels/attend/Sizes.h"
#include "compiler/kernels/parts/DenseLength.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace winnow {
namespace {

constexpr int kMostBitmapTiles = 16384; ///< a list entry holds a 16-bit tile index

//===-- On warps ------------------------------------------------------------------------------===//

/// Most fp32 registers of queries, output and logits (see laneRegisters) that leave ptxas enough
/// for the rest, in blocks of 12 and of 8 warps.
constexpr int kMostLaneRegisters12 = 128, kMostLaneRegisters8 = 216;

constexpr int kLeastEntries = 32, kMostStages = 10;

int laneRegisters(const AttendPlan &plan, const AttendSizes &s) {
  return attendLaneRegisters(s.rowTiles, plan.headDim, plan.valueDim, s.keys);
}

/// What a kernel on warps stores: the rings first, the list behind them, then the small objects;
/// the bitmap lies where the rings will be. Holds for a list that is no longer than either ring.
struct WarpsStorage {
  int keys, values, list, barriers;

  WarpsStorage(const AttendPlan &plan, const AttendSizes &s)
      : keys(s.stages * s.keyBytes(plan)), values(s.stages * s.valueBytes(plan)),
        list(s.listBytes()), barriers(s.stages * kBarrierBytes) {}
  int bytes() const {
    return keys + values + barriers + static_cast<int>(llvm::alignTo(list, 16)) + kTileSlotBytes;
  }
  bool fits(const Target &target) const {
    return bytes() <= target.sharedPerBlock && list <= std::min(keys, values);
  }
};

/// Warps where the config leaves them open: 12 warps leave a thread 168 registers, 8 warps 255.
void chooseWarps(const AttendPlan &plan, const Config &config, AttendSizes &s) {
  const bool wide = laneRegisters(plan, s) > kMostLaneRegisters12;
  s.warps = config.attendWarps;
  s.producers = config.attendProducers;
  if (s.rowTiles == 1) {
    s.producers = s.producers ? s.producers : wide ? 2 : 4;
    s.warps = s.warps ? s.warps : wide ? 6 : 8;
    return;
  }
  // Pairs of row tiles take twice as long per key tile, so that one producer keeps up with seven
  // consumers; each quarter of the SM but the producer's has two of them.
  const int most = wide ? 8 : 12;
  if (s.producers == 0 && s.warps == 0)
    s.producers = wide ? 1 : 4;
  else if (s.producers == 0)
    s.producers =
        static_cast<int>(llvm::bit_floor(static_cast<unsigned>(std::clamp(most - s.warps, 1, 4))));
  if (s.warps == 0)
    s.warps = std::max(1, std::min(8, most - s.producers));
}

AttendSizes warpsWithKeys(const AttendPlan &plan, const Config &config, int keys) {
  AttendSizes s;
  s.rowTiles = config.attendRows == 0 ? 1 : config.attendRows / 16;
  s.rowTokens = plan.rowTokens();
  s.keys = keys;
  s.tilesPerBlock = plan.block / keys;
  s.stages = config.attendStages != 0 ? config.attendStages : 2;
  s.entries = kLeastEntries;
  chooseWarps(plan, config, s);
  s.tokens = s.warps * s.rowTiles * s.rowTokens;
  return s;
}

/// The largest key tiles that registers allow and two ring stages have room for, else the smallest.
AttendSizes largestKeys(const AttendPlan &plan, const Target &target, const Config &config) {
  auto given = [&](int otherwise) {
    return std::min(plan.block, config.attendKeys != 0 ? config.attendKeys : otherwise);
  };
  for (int keys = given(64);; keys /= 2) {
    AttendSizes s = warpsWithKeys(plan, config, keys), two = s;
    two.stages = 2;
    if (keys <= given(32) ||
        (laneRegisters(plan, s) <= kMostLaneRegisters8 && WarpsStorage(plan, two).fits(target)))
      return s;
  }
}

/// Pairs of row tiles exist to be fast, so they are refused where they would spill.
Status checkRegisters(const AttendPlan &plan, const Target &target, const AttendSizes &s) {
  const int warps = s.warps + s.producers;
  const int need = laneRegisters(plan, s) + kOtherRegisters;
  const int have = threadRegisters(target.registersPerSm, kWarpThreads * warps);
  if (s.rowTiles == 1 || need <= have)
    return {};
  return fail(ErrorKind::Unsupported,
              llvm::formatv("attend_rows=32 needs {0} registers per thread for rows of {1} and {2} "
                            "elements and {3} keys, {4} warps leave {5}: take attend_rows=16{6}",
                            need, plan.headDim, plan.valueDim, s.keys, warps, have,
                            need <= 255 ? " or fewer warps" : "")
                  .str());
}

Error tooManyStages(const AttendPlan &plan, const Target &target, AttendSizes s) {
  const int asked = s.stages, bytes = WarpsStorage(plan, s).bytes();
  while (s.stages > 0 && !WarpsStorage(plan, s).fits(target))
    --s.stages;
  return {ErrorKind::Unsupported,
          llvm::formatv("attend_stages={0} needs {1} bytes of shared memory, {2} has {3}: at "
                        "most {4} stages of {5} keys fit",
                        asked, bytes, target.arch, target.sharedPerBlock, s.stages, s.keys)
              .str()};
}

} // namespace

Result<AttendSizes> chooseAttendOnWarps(const AttendPlan &plan, const Target &target,
                                        Config &config) {
  AttendSizes s = largestKeys(plan, target, config);
  WINNOW_CHECK(checkRegisters(plan, target, s));
  // A list that may hold every selected tile needs one pass over the ids; a shorter one takes
  // several bitmaps. Pairs of row tiles come with small stages, beside which a long list finds
  // room.
  const int mostEntries = s.rowTiles == 2 ? 4096 : 1024;
  const int all = plan.selects() ? s.tokens * plan.topk * s.tilesPerBlock : mostEntries;
  s.entries = std::min(all, mostEntries);
  while (s.entries > kLeastEntries && !WarpsStorage(plan, s).fits(target))
    s.entries = std::max(kLeastEntries, s.entries / 2);
  if (!WarpsStorage(plan, s).fits(target))
    return tl::unexpected<Error>(tooManyStages(plan, target, s));
  if (config.attendStages == 0)
    for (AttendSizes more = s;
         ++more.stages <= kMostStages && WarpsStorage(plan, more).fits(target);)
      s.stages = more.stages;
  s.bitmapTiles = s.entries < all ? s.entries : kMostBitmapTiles;
  const WarpsStorage storage(plan, s);
  while (s.bitmapBytes() > storage.keys + storage.values)
    s.bitmapTiles /= 2;
  config.attendRows = 16 * s.rowTiles;
  config.attendKeys = s.keys;
  config.attendProducers = s.producers;
  config.attendWarps = s.warps;
  config.attendStages = s.stages;
  return s;
}

//===-- On warpgroups -------------------------------------------------------------------------===//

/// What a kernel on warpgroups stores, at most: small objects may also find room between large
/// ones.
static int bytesOnWarpgroups(const AttendPlan &plan, const AttendSizes &s) {
  if (s.fromChanges())
    return s.stages * s.keyBytes(plan) + s.changeStages * s.tokens * kChangeTileBytes +
           kBarrierBytes * (s.stages + s.changeStages + kWorkStages + 1) +
           sharedRoom(kWorkStages * s.listBytes()) + sharedRoom(s.bitmapBytes()) +
           kChangeFeeders * sharedRoom(s.changeTableBytes());
  const int valueStages = s.ofGradients() ? s.valueStages : s.stages;
  const int landings = s.ofGradients() ? 2 : 1;
  const int barriers =
      kBarrierBytes * (s.stages + s.valueStages + s.warpgroups() + kWorkStages + landings);
  const int queries =
      panelTileBytes(64, plan.headDim) + (s.ofGradients() ? panelTileBytes(64, plan.valueDim) : 0);
  return s.warpgroups() * queries + s.stages * s.keyBytes(plan) + valueStages * s.valueBytes(plan) +
         barriers + sharedRoom(kWorkStages * s.listBytes()) + sharedRoom(s.bitmapBytes());
}

/// Long masks (many tokens of few heads) cost the building warp more than a third warpgroup brings.
static bool hasShortMasks(const AttendPlan &plan) { return 3 * 4 * plan.rowTokens() <= 128; }

static AttendSizes sizesOnWarpgroups(const AttendPlan &plan, int warps) {
  AttendSizes s;
  s.warps = warps;
  s.producers = 3; // of keys, of queries, of lists
  s.mmaWarps = 4;
  s.rowTokens = plan.rowTokens();
  s.tokens = s.warps * s.rowTokens;
  return s;
}

/// Key tiles of `keys` keys of one ring stage.
static void setKeys(const AttendPlan &plan, int keys, AttendSizes &s) {
  s.keys = keys;
  s.parts = plan.selects() ? s.keys / std::min(plan.block, s.keys) : 1;
  s.tilesPerBlock = plan.selects() ? std::max(1, plan.block / s.tileKeys()) : 1;
}

/// Warpgroups and their tokens.
static Result<AttendSizes> chooseWarpgroups(const AttendPlan &plan, const Target &target,
                                            const Config &config) {
  // A consumer thread holds output, logits and weights: three warpgroups have 160 registers each.
  const bool three = plan.valueDim <= 128;
  int warps = config.attendWarps;
  if (warps == 0)
    warps = three && hasShortMasks(plan) ? 12 : 8;
  const AttendSizes s = sizesOnWarpgroups(plan, warps);
  if (s.warps != 8 && s.warps != 12 && s.warps != 4)
    return fail(ErrorKind::Unsupported,
                llvm::formatv("attend_warps={0} cannot be built for {1}: its kernels are made of "
                              "warpgroups, take 4, 8 or 12",
                              s.warps, target.arch)
                    .str());
  if (s.warps == 12 && !three)
    return fail(ErrorKind::Unsupported,
                "attend_warps=12 leaves too few registers for value rows of more than 128 "
                "elements: take 8");
  if (config.attendRows == 32)
    return fail(
        ErrorKind::Unsupported,
        llvm::formatv("attend_rows=32 cannot be built for {0}: its warpgroups have 64 rows, "
                      "16 per warp",
                      target.arch)
            .str());
  return s;
}

/// Lists and bitmaps for a choice of all the rest, in the order of preference.
static void addLists(const AttendPlan &plan, AttendSizes s, int leastBitmapTiles,
                     std::vector<AttendSizes> &candidates) {
  // Every selected tile fits a list.
  s.whole = plan.selects() && !mayBeDense(plan);
  s.entries = s.tokens * plan.topk * s.tilesPerBlock + s.parts;
  for (s.bitmapTiles = kMostBitmapTiles; s.whole && s.bitmapTiles >= 1024; s.bitmapTiles /= 2)
    candidates.push_back(s);
  // Lists of a part of the bitmap each.
  s.whole = false;
  s.entries = 256;
  for (s.bitmapTiles = kMostBitmapTiles; s.bitmapTiles >= leastBitmapTiles; s.bitmapTiles -= 128)
    candidates.push_back(s);
}

/// Many ring stages before large key tiles before long lists; with few stages even small bitmaps.
static std::vector<AttendSizes> candidatesOnWarpgroups(const AttendPlan &plan, const Config &config,
                                                       AttendSizes s) {
  std::vector<AttendSizes> candidates;
  const int mostStages = config.attendStages ? config.attendStages : 6;
  for (int enough : {4, 2})
    for (int keys = config.attendKeys ? config.attendKeys : 64;
         keys >= (config.attendKeys ? config.attendKeys : 32); keys /= 2) {
      setKeys(plan, keys, s);
      for (s.stages = mostStages; s.stages >= (config.attendStages ? mostStages : enough);
           --s.stages)
        addLists(plan, s, enough == 4 ? 1024 : 128, candidates);
    }
  return candidates;
}

Result<AttendSizes> chooseAttendOnWarpgroups(const AttendPlan &plan, const Target &target,
                                             Config &config) {
  WINNOW_TRY(AttendSizes warpgroups, chooseWarpgroups(plan, target, config));
  for (const AttendSizes &s : candidatesOnWarpgroups(plan, config, warpgroups)) {
    if (bytesOnWarpgroups(plan, s) > target.sharedPerBlock)
      continue;
    config.attendRows = 16;
    config.attendKeys = s.keys;
    config.attendProducers = kFeedingWarps;
    config.attendWarps = s.warps;
    config.attendStages = s.stages;
    return s;
  }
  return fail(ErrorKind::Unsupported,
              llvm::formatv("attend does not fit the {0} bytes of shared memory of {1} with "
                            "attend_stages={2}, attend_keys={3}: take less",
                            target.sharedPerBlock, target.arch, config.attendStages,
                            config.attendKeys)
                  .str());
}

Result<AttendSizes> chooseGradientsOnWarpgroups(const AttendPlan &plan, const Target &target) {
  // A consumer thread holds the gradient of queries, logits and changes: three warpgroups have 160
  // registers each. 32 keys make products of half the size from the same queries.
  constexpr struct {
    int warps, keys;
  } kForms[] = {{12, 64}, {8, 64}, {8, 32}, {4, 64}, {4, 32}};
  const bool three = plan.headDim <= 128 && hasShortMasks(plan);
  std::vector<AttendSizes> candidates;
  for (int enough : {5, 3})
    for (auto [warps, keys] : kForms) {
      AttendSizes s = sizesOnWarpgroups(plan, warps);
      s.producers = 4; // of keys, of values, of queries, of lists
      setKeys(plan, keys, s);
      // Keys stay until the last product, values until the second: of an odd number they have less.
      for (int stages = 8; stages >= enough && (warps < 12 || three); --stages) {
        s.stages = stages - stages / 2;
        s.valueStages = stages / 2;
        addLists(plan, s, enough == 5 ? 1024 : 128, candidates);
      }
    }
  for (const AttendSizes &s : candidates)
    if (bytesOnWarpgroups(plan, s) <= target.sharedPerBlock)
      return s;
  return fail(ErrorKind::Unsupported,
              llvm::formatv("gradients of queries of {0} and values of {1} elements do not fit the "
                            "{2} bytes of shared memory of {3} on warpgroups: take "
                            "backward_queries=warps",
                            plan.headDim, plan.valueDim, target.sharedPerBlock, target.arch)
                  .str());
}

Result<AttendSizes> chooseGradientsFromChanges(const AttendPlan &plan, const Target &target) {
  AttendSizes s = sizesOnWarpgroups(plan, 12);
  s.producers = 4; // of keys, of lists, and two of changes
  setKeys(plan, 64, s);
  std::vector<AttendSizes> candidates;
  for (int stages = 6; stages >= 2; --stages) {
    s.stages = s.changeStages = stages;
    addLists(plan, s, 128, candidates);
  }
  for (const AttendSizes &candidate : candidates)
    if (bytesOnWarpgroups(plan, candidate) <= target.sharedPerBlock)
      return candidate;
  return fail(ErrorKind::Unsupported,
              llvm::formatv("backward_changes=stored needs shorter rows of keys than {0} elements: "
                            "leave it out or take backward_changes=remade",
                            plan.headDim)
                  .str());
}

KernelFacts attendFacts(const AttendPlan &plan, const AttendSizes &s) {
  KernelFacts facts;
  facts.warps = s.warps;
  facts.producers = s.producers;
  facts.mmaWarps = s.mmaWarps;
  facts.stages = s.stages;
  facts.tokens = s.tokens;
  facts.rowTiles = s.rowTiles;
  facts.rowTokens = s.rowTokens;
  if (s.mmaWarps == 1)
    facts.laneRegisters = laneRegisters(plan, s);
  facts.headDim = plan.headDim;
  facts.valueDim = plan.valueDim;
  facts.group = plan.group;
  facts.topk = plan.selects() ? plan.topk : 0;
  facts.keys = s.keys;
  facts.tileKeys = s.tileKeys();
  facts.tilesPerBlock = s.tilesPerBlock;
  facts.bitmapTiles = s.bitmapTiles;
  facts.listEntries = s.entries;
  return facts;
}

} // namespace winnow
