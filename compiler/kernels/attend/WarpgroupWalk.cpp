// What the roles share, and who does what; see WarpgroupWalk.h.
#include "compiler/kernels/attend/WarpgroupWalk.h"

using namespace mlir;

namespace winnow {

std::string WarpgroupWalk::Ring::object(const char *what) const {
  return name.empty() ? what : name + "_" + what;
}

std::string WarpgroupWalk::Ring::constant(const char *what) const {
  if (name.empty())
    return std::string("k") + what;
  std::string word = name;
  word[0] = llvm::toUpper(word[0]);
  return "k" + word + what;
}

WarpgroupWalk::WarpgroupWalk(KernelBuilder &t, const AttendPlan &plan, const AttendSizes &sizes,
                             Tokens &tokens, TileList &tileList, KeySource &source, Mask &mask,
                             bool split, StoredChanges stored)
    : split(split), t(t), plan(plan), sizes(sizes), tokens(tokens), tileList(tileList),
      source(source), mask(mask), stored(std::move(stored)) {
  const int keyBytes = sizes.keyBytes(plan), valueBytes = sizes.valueBytes(plan);
  if (sizes.fromChanges())
    rings = {{"key", true, false, sizes.stages, keyBytes},
             {"change", false, false, sizes.changeStages, sizes.tokens * kChangeTileBytes}};
  else if (sizes.ofGradients())
    rings = {{"key", true, false, sizes.stages, keyBytes},
             {"value", false, true, sizes.valueStages, valueBytes}};
  else
    rings = {{"", true, true, sizes.stages, keyBytes + valueBytes}};
}

int WarpgroupWalk::threads(const AttendSizes &sizes) {
  return kWarpThreads * (sizes.warps + kFeedingWarps);
}

void WarpgroupWalk::describe(std::vector<TensorMapRecipe> &maps) {
  if (!sizes.fromChanges())
    tokens.describe(maps, sizes.rowTokens);
  if (sizes.ofGradients() && !sizes.fromChanges())
    tokens.describeGradients(maps, sizes.rowTokens);
  source.describe(maps, sizes.tileKeys());
}

void WarpgroupWalk::constants() {
  tokens.constants("query heads that share a tile");
  tileList.constants(sizes.tilesPerBlock);
  t.constant("kPartKeys", sizes.tileKeys(), "keys of one key tile");
  t.constant("kParts", sizes.parts, "key tiles of one step");
  t.constant("kKeys", sizes.keys, "keys of one step, and of one ring stage");
  for (const Ring &ring : rings)
    if (plan.paged)
      t.constant("kRowBytes", ring.stageBytes / sizes.keys,
                 "bytes of a key and its value in the ring");
    else if (!ring.hasChanges()) // of changes as many as an entry's tokens have
      t.constant(ring.bytesConstant(), ring.stageBytes, "bytes of one ring stage");
  t.constant("kWarpgroups", sizes.warpgroups(), "warpgroups that compute, 64 rows of queries each");
  t.constant("kWarpTokens", sizes.rowTokens, "tokens of one warp: 16 rows of queries");
  t.constant("kTokens", sizes.tokens, "tokens of one tile");
  const int rows = 4 * sizes.rowTokens * plan.group;
  if (sizes.fromChanges())
    t.constant("kBlock", plan.block, "keys of one selectable block");
  else if (sizes.ofGradients())
    t.constant("kQueryBytes",
               panelTileBytes(rows, plan.headDim) + panelTileBytes(rows, plan.valueDim),
               "bytes of a warpgroup's queries and of the gradients of their output");
  else
    t.constant("kQueryBytes", panelTileBytes(rows, plan.headDim), "bytes of a warpgroup's queries");
  t.constant("kBitmapTiles", sizes.bitmapTiles, "key tiles that the bitmap covers at a time");
  t.constant("kEntries", sizes.entries, "entries of one list");
  for (const Ring &ring : rings)
    t.constant(ring.constant("Stages"), ring.stages,
               ring.name.empty() ? "stages of the ring of keys and values"
                                 : "stages of the ring of " + ring.name + "s");
  t.constant("kWorkStages", kWorkStages, "lists: the one in work and the next one");
}

void WarpgroupWalk::declare() {
  auto ring = [&](StringRef name, const char *stages, int count, tile::ObjectType tile, int bytes) {
    return t.shared(name, t.type("Ring", {stages, tile}), count * bytes, true);
  };
  auto queryTiles = [&](StringRef name, const char *columns, int dim) {
    return ring(name, "@kWarpgroups", sizes.warpgroups(),
                t.type("PanelTile", {64, columns, plan.element}), panelTileBytes(64, dim));
  };
  if (!sizes.fromChanges())
    queryRing = queryTiles("query_ring", "@kDim", plan.headDim);
  if (sizes.ofGradients() && !sizes.fromChanges())
    gradientRing = queryTiles("gradient_ring", "@kValueDim", plan.valueDim);
  for (Ring &tiles : rings) {
    const std::string stages = "@" + tiles.constant("Stages");
    if (tiles.hasKeys)
      tiles.keys =
          ring("key_ring", stages.c_str(), tiles.stages, source.keyTile(), sizes.keyBytes(plan));
    if (tiles.hasValues)
      tiles.values = ring("value_ring", stages.c_str(), tiles.stages, source.valueTile(),
                          sizes.valueBytes(plan));
    if (tiles.hasChanges()) {
      tiles.changes = ring("change_ring", stages.c_str(), tiles.stages,
                           t.type("ChangeTile", {"@kTokens"}), tiles.stageBytes);
      for (Value &table : changeTables)
        table = t.shared("change_table", t.type("ChangeTable", {"@kTokens"}),
                         sizes.changeTableBytes(), true);
    }
  }
  work = t.shared("work", t.type("WorkRing", {"@kWorkStages", "@kEntries", "@kTokens"}),
                  kWorkStages * sizes.listBytes(), true);
  tileList.declare(sizes.bitmapBytes(), /*pinned=*/true);
  declareBarriers();
  t.leaf("clear_bitmap", {tileList.bitmap});
  warp = t.value("warp", "warp_index");
  warpgroup = t.div(warp, t.number(4), "warpgroup");
  if (queryRing && sizes.rowTokens * plan.group != 16) // rows that no query fills must hold numbers
    t.when(t.less(warpgroup, named("kWarpgroups")), [&] { clearUnfilled(); });
  t.leaf("sync_threads", {});
}

void WarpgroupWalk::declareBarriers() {
  auto barriers = [&](StringRef name, const char *stages, int count) {
    return t.shared(name, t.type("RingBarriers", {stages}), kBarrierBytes * count, true);
  };
  for (Ring &ring : rings) {
    const std::string stages = "@" + ring.constant("Stages");
    ring.barriers = barriers(ring.object("barriers"), stages.c_str(), ring.stages);
    if (!ring.changes)
      ring.landing = barriers(ring.object("landing"), "1", 1);
  }
  workBarriers = barriers("work_barriers", "@kWorkStages", kWorkStages);
  if (queryRing)
    queryBarriers = barriers("query_barriers", "@kWarpgroups", sizes.warpgroups());
  t.when(t.equal(t.value("", "thread_index"), t.number(0)), [&] {
    // Who fills and who releases a stage: every lane of the feeding and of the consumer warps,
    // which is faster than one lane for its warp (6 % at 32,768 tokens), and racecheck can follow;
    // for the lists the building warp, and all who read them.
    for (const Ring &ring : rings) {
      t.leaf("init_barriers", {ring.barriers, t.number(32), t.number(128 * sizes.warpgroups())});
      if (ring.landing)
        t.leaf("init_barriers", {ring.landing, t.number(32), t.number(1)});
    }
    // All who compute, who feed tiles, and one who feeds queries, or changes as another does.
    const int readers = 4 * sizes.warpgroups() + static_cast<int>(rings.size()) + 1;
    t.leaf("init_barriers", {workBarriers, t.number(32), t.number(32 * readers)});
    if (queryRing)
      t.leaf("init_barriers", {queryBarriers, t.number(1), t.number(128)});
    t.leaf("fence_barriers", {});
  });
}

void WarpgroupWalk::clearUnfilled() {
  Value at = t.fragment("mine", t.type("Cursor", {"@kWarpgroups"}));
  t.leaf("move_to", {at, warpgroup});
  auto clear = [&](StringRef name, Value ring) {
    t.leaf("clear_rows", {stage(name, ring, at), t.number(0), t.number(64)}, {128});
  };
  clear("unfilled", queryRing);
  if (gradientRing)
    clear("unfilled_gradients", gradientRing);
}

void WarpgroupWalk::perform(function_ref<void()> consume) {
  // 65,536 registers for the block: three warpgroups of 160 and one of 32, or two of 232 and
  // one of 40; who finds stored changes needs more, and who multiplies them less.
  const bool three = sizes.warpgroups() == 3;
  const int computing = sizes.fromChanges() ? 152
                        : three             ? 160
                                            : 232,
            feeding = sizes.fromChanges() ? 56
                      : three             ? 32
                                          : 40;
  t.when(
      t.less(warpgroup, named("kWarpgroups")),
      [&] {
        t.leaf("claim_registers", {}, {computing});
        consume();
      },
      [&] {
        t.leaf("release_registers", {}, {feeding});
        Value role = t.sub(warp, t.mul(named("kWarpgroups"), t.number(4)), "role");
        auto perform = [&](int number, function_ref<void()> body) {
          t.when(t.equal(role, t.number(number)), [&] { body(); });
        };
        perform(0, [&] { feedTiles(rings[0]); });
        perform(1, [&] { buildLists(); });
        if (sizes.fromChanges()) {
          for (int feeder = 0; feeder < kChangeFeeders; ++feeder)
            perform(2 + feeder, [&] { feedChanges(rings[1], feeder); });
          return;
        }
        perform(2, [&] { feedQueries(); });
        if (rings.size() > 1)
          perform(3, [&] { feedTiles(rings[1]); });
      });
}

void WarpgroupWalk::enterRings() {
  for (Ring &ring : rings)
    ring.cursor = t.fragment(ring.object("cursor"),
                             t.type("Cursor", {("@" + ring.constant("Stages")).c_str()}));
}

void WarpgroupWalk::enterQueries() {
  queryCursor = t.fragment("query_cursor", t.type("Cursor", {"@kWarpgroups"}));
  t.leaf("move_to", {queryCursor, warpgroup});
}

void WarpgroupWalk::overWork(function_ref<void()> body) {
  turn = t.fragment("turn", t.type("Cursor", {"@kWorkStages"}));
  t.whileLoop(
      {}, {},
      [&](ValueRange, SmallVector<Value> &passed) {
        t.leaf("wait_full", {workBarriers, turn});
        passed = {stage("list", work, turn)};
        return t.value("", "has_work", passed);
      },
      [&](ValueRange passed) {
        list = passed[0];
        header = t.value("header", "work_header", {list});
        body();
        t.leaf("arrive_empty", {workBarriers, turn});
        t.leaf("advance", {turn});
        return SmallVector<Value>();
      });
}

void WarpgroupWalk::skipStep() {
  for (const Ring &ring : rings) {
    waitFor(ring);
    release(ring);
    advance(ring);
  }
}

void WarpgroupWalk::releaseQueries() {
  t.leaf("arrive_empty", {queryBarriers, queryCursor});
  t.leaf("next_turn", {queryCursor});
}

} // namespace winnow
