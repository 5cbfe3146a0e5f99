// The attend kernel for targets with warpgroup products and bulk copies. The idea is that of
// BuildAttend: load the union of neighbouring tokens' blocks once, each owner skips what it did not
// select. Here the roles are written out instead of being split off by a pass, because they are
// more than a loop cut in two: one warp builds the list of the next tile of tokens while one feeds
// key tiles and one feeds queries, and a consumer's product of weights and values stays in flight
// while the next logits are made, which bounds how far it may look ahead in the ring.
#include "compiler/kernels/attend/OnWarpgroups.h"
#include "runtime/program/Budgets.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace winnow {
namespace {

constexpr int kWorkStages = 2; // lists: the one in work and the next one

int panels(int columns) { return llvm::divideCeil(columns, 64); }

} // namespace

/// The first sizes that fit: as many ring stages as possible, at the cost of lists that cover fewer
/// key tiles at a time.
Result<WarpgroupSizes> chooseWarpgroupSizes(const AttendPlan &plan, const Target &target,
                                            const Config &config) {
  WarpgroupSizes s;
  // A consumer thread holds output, logits and weights: three warpgroups have 160 registers each.
  const bool three = plan.valueDim <= 128;
  // Long masks (many tokens of few heads) cost the building warp more than a third group brings.
  const bool shortMasks = 3 * 4 * (16 / plan.group) <= 128;
  const int warps = config.attendWarps ? config.attendWarps : three && shortMasks ? 12 : 8;
  if (warps != 8 && warps != 12 && warps != 4)
    return fail(ErrorKind::Unsupported,
                llvm::formatv("attend_warps={0} cannot be built for {1}: its kernels are made of "
                              "warpgroups, take 4, 8 or 12",
                              warps, target.arch)
                    .str());
  if (warps == 12 && !three)
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
  s.groups = warps / 4;
  s.warpTokens = 16 / plan.group;
  s.tokens = s.groups * 4 * s.warpTokens;
  s.maskBits = static_cast<int>(std::max<uint64_t>(8, llvm::PowerOf2Ceil(s.tokens)));
  const int mostKeys = config.attendKeys ? config.attendKeys : 64;
  const int leastKeys = config.attendKeys ? config.attendKeys : 32;
  const int mostStages = config.attendStages ? config.attendStages : 6;
  const int queryBytes = s.groups * 64 * 128 * panels(plan.headDim);
  for (int enough : {4, 2})
    for (s.keys = mostKeys; s.keys >= leastKeys; s.keys /= 2)
      for (s.stages = mostStages; s.stages >= (config.attendStages ? mostStages : enough);
           --s.stages) {
        s.partKeys = plan.selects() ? std::min(plan.block, s.keys) : s.keys;
        s.parts = s.keys / s.partKeys;
        s.tilesPerBlock = plan.selects() ? std::max(1, plan.block / s.partKeys) : 1;
        // As the planning pass lays them out: what has 1024 bytes or more begins at a multiple of
        // 1024, barriers stand between.
        const int fixed = queryBytes + s.stages * (s.stageBytes(plan) + 16) + s.groups * 16 +
                          (kWorkStages + 1) * 16;
        auto fits = [&] {
          return fixed + llvm::alignTo(kWorkStages * (64 + s.entries * s.entryBytes()), 1024) +
                     llvm::alignTo(s.window * s.maskBits / 8, 1024) <=
                 static_cast<uint64_t>(target.sharedPerBlock);
        };
        // Every selected tile fits a list.
        s.whole = plan.selects() && plan.denseLength <= 0;
        s.entries = s.tokens * plan.topk * s.tilesPerBlock + s.parts;
        for (s.window = 16384; s.whole && s.window >= 1024; s.window /= 2)
          if (fits())
            return s;
        // Lists of a part of the bitmap each.
        s.whole = false;
        s.entries = 256;
        for (s.window = 16384; s.window >= (enough == 4 ? 1024 : 128); s.window -= 128)
          if (fits())
            return s;
      }
  return fail(ErrorKind::Unsupported,
              llvm::formatv("attend does not fit the {0} bytes of shared memory of {1} with "
                            "attend_stages={2}, attend_keys={3}: take less",
                            target.sharedPerBlock, target.arch, config.attendStages,
                            config.attendKeys)
                  .str());
}

AttendOnWarpgroups::AttendOnWarpgroups(ModuleOp module, const AttendPlan &plan,
                                       const WarpgroupSizes &sizes, const Config &config,
                                       std::vector<TensorMapRecipe> &maps)
    : plan(plan), sizes(sizes), split(config.attendSplit == YesNo::Yes && sizes.parts == 1),
      t(module, "attend",
        llvm::formatv("attend of {0}: softmax attention of each token over the keys of its "
                      "selected blocks; blocks of threads stay and take one tile of {1} tokens of "
                      "{2} query heads after the other.",
                      plan.method, sizes.tokens, plan.group)
            .str(),
        128 * (sizes.groups + 1), 1),
      tokens(t, plan), tileList(t, plan, TileList::By::Warp, "@kPartKeys"),
      source(t, plan, KeySource::Tiles::Panels), logits(t, plan), mask(t, plan, "kPartKeys"),
      softmax(t, plan,
              {/*someWant=*/true, /*lazy=*/config.attendSoftmax == AttendSoftmax::Lazy,
               config.attendFma == AttendFma::None ? 0 : static_cast<int>(config.attendFma)}),
      epilogue(t, plan) {
  tokens.describe(maps, sizes.warpTokens);
  source.describe(maps, sizes.partKeys);
}

void AttendOnWarpgroups::constants() {
  tokens.constants("query heads that share a tile");
  tileList.constants(sizes.tilesPerBlock);
  t.constant("kPartKeys", sizes.partKeys, "keys of one key tile");
  t.constant("kParts", sizes.parts, "key tiles of one step");
  t.constant("kKeys", sizes.keys, "keys of one step, and of one ring stage");
  t.constant("kStageBytes", sizes.stageBytes(plan), "bytes of one ring stage");
  t.constant("kGroups", sizes.groups, "warpgroups that compute, 64 rows of queries each");
  t.constant("kWarpTokens", sizes.warpTokens, "tokens of one warp: 16 rows of queries");
  t.constant("kTokens", sizes.tokens, "tokens of one tile");
  t.constant("kQueryBytes", panelTileBytes(4 * sizes.warpTokens * plan.group, plan.headDim),
             "bytes of a warpgroup's queries");
  t.constant("kWindow", sizes.window, "key tiles that the bitmap covers at a time");
  t.constant("kEntries", sizes.entries, "entries of one list");
  t.constant("kStages", sizes.stages, "stages of the ring of keys and values");
  t.constant("kWorkStages", kWorkStages, "lists: the one in work and the next one");
  logits.constants();
}

void AttendOnWarpgroups::declare() {
  auto ring = [&](StringRef name, const char *stages, tile::ObjectType tile, int bytes) {
    return t.shared(
        name,
        tile::ObjectType::get(
            t.builder.getContext(), "Ring",
            t.builder.getArrayAttr(
                {FlatSymbolRefAttr::get(t.builder.getContext(), stages), TypeAttr::get(tile)})),
        bytes, true);
  };
  queryRing = ring("query_ring", "kGroups", t.type("PanelTile", {64, "@kDim", plan.element}),
                   sizes.groups * panelTileBytes(64, plan.headDim));
  keyRing = ring("key_ring", "kStages", source.keyTile(),
                 sizes.stages * KeySource::keyBytes(plan, KeySource::Tiles::Panels, sizes.keys));
  valueRing =
      ring("value_ring", "kStages", source.valueTile(),
           sizes.stages * KeySource::valueBytes(plan, KeySource::Tiles::Panels, sizes.keys));
  work = t.shared("work", t.type("WorkRing", {"@kWorkStages", "@kEntries", "@kTokens"}),
                  kWorkStages * workListBytes(sizes.entries, sizes.maskBits), true);
  tileList.declare(bitmapBytes(sizes.window, sizes.maskBits), /*pinned=*/true);
  auto barrierRing = [&](StringRef name, const char *stages, int count) {
    return t.shared(name, t.type("RingBarriers", {stages}), 16 * count, true);
  };
  barriers = barrierRing("barriers", "@kStages", sizes.stages);
  landing = barrierRing("landing", "1", 1);
  workBarriers = barrierRing("work_barriers", "@kWorkStages", kWorkStages);
  queryBarriers = barrierRing("query_barriers", "@kGroups", sizes.groups);
  t.when(t.equal(t.value("", "thread_index", {}), t.number(0)), [&] {
    // Who fills and who releases a stage: every lane of the feeding and of the consumer warps,
    // which is faster than one lane for its warp (6 % at 32,768 tokens), and racecheck can follow;
    // for the lists the building warp, and all who read them.
    t.leaf("init_barriers", {barriers, t.number(32), t.number(128 * sizes.groups)});
    t.leaf("init_barriers", {landing, t.number(32), t.number(1)});
    t.leaf("init_barriers", {workBarriers, t.number(32), t.number(32 * (4 * sizes.groups + 2))});
    t.leaf("init_barriers", {queryBarriers, t.number(1), t.number(128)});
    t.leaf("fence_barriers", {});
  });
  t.leaf("clear_bitmap", {tileList.bitmap});
  warp = t.value("warp", "warp_index", {});
  group = t.div(warp, t.number(4), "group");
  if (16 % plan.group != 0) // rows that no query fills must hold numbers
    t.when(t.less(group, named("kGroups")), [&] {
      Value at = t.fragment("mine", t.type("Cursor", {"@kGroups"}));
      t.leaf("move_to", {at, group});
      Value tile = t.value("unfilled", "stage", {queryRing, at}, {}, t.type("auto"));
      t.leaf("clear_rows", {tile, t.number(0), t.number(64)}, {128});
    });
  t.leaf("sync_threads", {});
}

KernelFacts AttendOnWarpgroups::facts() const {
  KernelFacts facts;
  facts.warps = 4 * sizes.groups;
  facts.producers = 3; // of keys, of queries, of lists
  facts.mmaWarps = 4;
  facts.stages = sizes.stages;
  facts.tokens = sizes.tokens;
  facts.rowTiles = 1;
  facts.rowTokens = sizes.warpTokens;
  facts.headDim = plan.headDim;
  facts.valueDim = plan.valueDim;
  facts.group = plan.group;
  facts.topk = plan.selects() ? plan.topk : 0;
  facts.keys = sizes.keys;
  facts.tileKeys = sizes.partKeys;
  facts.tilesPerBlock = sizes.tilesPerBlock;
  facts.bitmapTiles = sizes.window;
  facts.listEntries = sizes.entries;
  return facts;
}

BuiltKernel AttendOnWarpgroups::build() {
  logits.declareRegion(/*takesFactors=*/true);
  constants();
  declare();
  // 65,536 registers for the block: three warpgroups of 160 and one of 32, or two of 232 and
  // one of 40.
  t.when(
      t.less(group, named("kGroups")),
      [&] {
        t.leaf("claim_registers", {}, {sizes.groups == 3 ? 160 : 232});
        consume();
      },
      [&] {
        t.leaf("release_registers", {}, {sizes.groups == 3 ? 32 : 40});
        Value role = t.sub(warp, t.mul(named("kGroups"), t.number(4)), "role");
        t.when(t.equal(role, t.number(0)), [&] { feedKeys(); });
        t.when(t.equal(role, t.number(1)), [&] { buildLists(); });
        t.when(t.equal(role, t.number(2)), [&] { feedQueries(); });
      });
  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "attend";
  built.recipe.facts = facts();
  built.recipe.gridX = llvm::formatv("min(sm_count, (total_q / {0} + batch) * {1})", sizes.tokens,
                                     plan.heads / plan.group)
                           .str();
  built.recipe.gridY = "1";
  return built;
}

Result<BuiltKernel> buildAttendWarpgroups(ModuleOp module, const AttendPlan &plan,
                                          const Target &target, Config &config,
                                          std::vector<TensorMapRecipe> &maps) {
  Result<WarpgroupSizes> sizes = chooseWarpgroupSizes(plan, target, config);
  if (!sizes)
    return tl::unexpected<Error>(sizes.error());
  config.attendWarps = 4 * sizes->groups;
  config.attendProducers = 4;
  config.attendRows = 16;
  config.attendStages = sizes->stages;
  config.attendKeys = sizes->keys;
  if (config.attendSplit == YesNo::Default)
    config.attendSplit =
        sizes->parts == 1 && plan.selects() && sizes->maskBits <= 64 ? YesNo::Yes : YesNo::No;
  if (config.attendSoftmax == AttendSoftmax::Default)
    config.attendSoftmax = AttendSoftmax::Lazy;
  // Even where a region keeps the special-function units busy (tanh), the cubic's instructions cost
  // more than they save.
  if (config.attendFma == AttendFma::Default)
    config.attendFma = AttendFma::None;
  return AttendOnWarpgroups(module, plan, *sizes, config, maps).build();
}

} // namespace winnow
