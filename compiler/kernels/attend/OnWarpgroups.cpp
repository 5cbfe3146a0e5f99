// The attend kernel for targets with warpgroup products and bulk copies. The idea is that of
// OnWarps.cpp: load the union of neighbouring tokens' blocks once, each owner skips what it did not
// select. Here the roles are written out instead of being split off by a pass, because they are
// more than a loop cut in two: one warp builds the list of the next tile of tokens while one feeds
// key tiles and one feeds queries, and a consumer's product of weights and values stays in flight
// while the next logits are made, which bounds how far it may look ahead in the ring.
#include "compiler/kernels/attend/OnWarpgroups.h"

using namespace mlir;

namespace winnow {

AttendOnWarpgroups::AttendOnWarpgroups(ModuleOp module, const AttendPlan &plan,
                                       const AttendSizes &sizes, const Config &config,
                                       std::vector<TensorMapRecipe> &maps)
    : AttendFrame(module, "attend", plan, sizes,
                  {/*someWant=*/true, /*lazy=*/config.attendSoftmax == AttendSoftmax::Lazy,
                   config.attendFma == AttendFma::None ? 0 : static_cast<int>(config.attendFma)},
                  "blocks of threads stay and take one tile of",
                  kWarpThreads * (sizes.warps + kFeedingWarps)),
      split(config.attendSplit == YesNo::Yes && sizes.parts == 1) {
  tokens.describe(maps, sizes.rowTokens);
  source.describe(maps, sizes.tileKeys());
}

void AttendOnWarpgroups::constants() {
  tokens.constants("query heads that share a tile");
  tileList.constants(sizes.tilesPerBlock);
  t.constant("kPartKeys", sizes.tileKeys(), "keys of one key tile");
  t.constant("kParts", sizes.parts, "key tiles of one step");
  t.constant("kKeys", sizes.keys, "keys of one step, and of one ring stage");
  const int stageBytes = sizes.keyBytes(plan) + sizes.valueBytes(plan);
  if (plan.paged)
    t.constant("kRowBytes", stageBytes / sizes.keys, "bytes of a key and its value in the ring");
  else
    t.constant("kStageBytes", stageBytes, "bytes of one ring stage");
  t.constant("kWarpgroups", sizes.warpgroups(), "warpgroups that compute, 64 rows of queries each");
  t.constant("kWarpTokens", sizes.rowTokens, "tokens of one warp: 16 rows of queries");
  t.constant("kTokens", sizes.tokens, "tokens of one tile");
  t.constant("kQueryBytes", panelTileBytes(4 * sizes.rowTokens * plan.group, plan.headDim),
             "bytes of a warpgroup's queries");
  t.constant("kBitmapTiles", sizes.bitmapTiles, "key tiles that the bitmap covers at a time");
  t.constant("kEntries", sizes.entries, "entries of one list");
  t.constant("kStages", sizes.stages, "stages of the ring of keys and values");
  t.constant("kWorkStages", kWorkStages, "lists: the one in work and the next one");
  logits.constants();
}

void AttendOnWarpgroups::declare() {
  auto ring = [&](StringRef name, const char *stages, tile::ObjectType tile, int bytes) {
    return t.shared(name, t.type("Ring", {stages, tile}), bytes, true);
  };
  queryRing = ring("query_ring", "@kWarpgroups", t.type("PanelTile", {64, "@kDim", plan.element}),
                   sizes.warpgroups() * panelTileBytes(64, plan.headDim));
  keyRing = ring("key_ring", "@kStages", source.keyTile(), sizes.stages * sizes.keyBytes(plan));
  valueRing =
      ring("value_ring", "@kStages", source.valueTile(), sizes.stages * sizes.valueBytes(plan));
  work = t.shared("work", t.type("WorkRing", {"@kWorkStages", "@kEntries", "@kTokens"}),
                  kWorkStages * sizes.listBytes(), true);
  tileList.declare(sizes.bitmapBytes(), /*pinned=*/true);
  auto barrierRing = [&](StringRef name, const char *stages, int count) {
    return t.shared(name, t.type("RingBarriers", {stages}), kBarrierBytes * count, true);
  };
  barriers = barrierRing("barriers", "@kStages", sizes.stages);
  landing = barrierRing("landing", "1", 1);
  workBarriers = barrierRing("work_barriers", "@kWorkStages", kWorkStages);
  queryBarriers = barrierRing("query_barriers", "@kWarpgroups", sizes.warpgroups());
  t.when(t.equal(t.value("", "thread_index"), t.number(0)), [&] {
    // Who fills and who releases a stage: every lane of the feeding and of the consumer warps,
    // which is faster than one lane for its warp (6 % at 32,768 tokens), and racecheck can follow;
    // for the lists the building warp, and all who read them.
    t.leaf("init_barriers", {barriers, t.number(32), t.number(128 * sizes.warpgroups())});
    t.leaf("init_barriers", {landing, t.number(32), t.number(1)});
    t.leaf("init_barriers",
           {workBarriers, t.number(32), t.number(32 * (4 * sizes.warpgroups() + 2))});
    t.leaf("init_barriers", {queryBarriers, t.number(1), t.number(128)});
    t.leaf("fence_barriers", {});
  });
  t.leaf("clear_bitmap", {tileList.bitmap});
  warp = t.value("warp", "warp_index");
  warpgroup = t.div(warp, t.number(4), "warpgroup");
  if (sizes.rowTokens * plan.group != 16) // rows that no query fills must hold numbers
    t.when(t.less(warpgroup, named("kWarpgroups")), [&] {
      Value at = t.fragment("mine", t.type("Cursor", {"@kWarpgroups"}));
      t.leaf("move_to", {at, warpgroup});
      Value tile = t.value("unfilled", "stage", {queryRing, at});
      t.leaf("clear_rows", {tile, t.number(0), t.number(64)}, {128});
    });
  t.leaf("sync_threads", {});
}

BuiltKernel AttendOnWarpgroups::build() {
  logits.declareRegion(/*takesFactors=*/true);
  constants();
  declare();
  // 65,536 registers for the block: three warpgroups of 160 and one of 32, or two of 232 and
  // one of 40.
  t.when(
      t.less(warpgroup, named("kWarpgroups")),
      [&] {
        t.leaf("claim_registers", {}, {sizes.warpgroups() == 3 ? 160 : 232});
        consume();
      },
      [&] {
        t.leaf("release_registers", {}, {sizes.warpgroups() == 3 ? 32 : 40});
        Value role = t.sub(warp, t.mul(named("kWarpgroups"), t.number(4)), "role");
        t.when(t.equal(role, t.number(0)), [&] { feedKeys(); });
        t.when(t.equal(role, t.number(1)), [&] { buildLists(); });
        t.when(t.equal(role, t.number(2)), [&] { feedQueries(); });
      });
  return finish(llvm::formatv("min(sm_count, (total_q / {0} + batch) * {1})", sizes.tokens,
                              plan.heads / plan.group)
                    .str(),
                "1");
}

Result<BuiltKernel> buildAttendWarpgroups(ModuleOp module, const AttendPlan &plan,
                                          const Target &target, Config config,
                                          std::vector<TensorMapRecipe> &maps) {
  WINNOW_TRY(AttendSizes sizes, chooseAttendOnWarpgroups(plan, target, config));
  config.attendForm = AttendForm::Warpgroups;
  if (config.attendSplit == YesNo::Default)
    config.attendSplit =
        sizes.parts == 1 && plan.selects() && maskBits(sizes.tokens) <= 64 ? YesNo::Yes : YesNo::No;
  if (config.attendSoftmax == AttendSoftmax::Default)
    config.attendSoftmax = AttendSoftmax::Lazy;
  // Even where a region keeps the special-function units busy (tanh), the cubic's instructions cost
  // more than they save.
  if (config.attendFma == AttendFma::Default)
    config.attendFma = AttendFma::None;
  BuiltKernel built = AttendOnWarpgroups(module, plan, sizes, config, maps).build();
  built.config = config;
  return built;
}

} // namespace winnow
