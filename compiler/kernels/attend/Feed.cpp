// The producer warps of attention and its gradients on warpgroups: one builds the list of the next
// tile of tokens, one or two feed key and value tiles, one feeds queries. See WarpgroupWalk.h.
#include "compiler/kernels/attend/WarpgroupWalk.h"

using namespace mlir;

namespace winnow {

void WarpgroupWalk::forOneLane(function_ref<void()> body) {
  t.when(t.equal(t.value("", "lane_index"), t.number(0)), [&] { body(); });
}

/// One warp, by its first lane: the key tiles of every list, their values, or both, into the ring.
void WarpgroupWalk::feedTiles(Ring &ring) {
  ring.cursor = t.fragment("cursor", t.type("Cursor", {("@" + ring.constant("Stages")).c_str()}));
  Value landed = t.fragment("landed", t.type("Cursor", {1}));
  overWork([&] {
    source.locate(about("tile"), tokens.kvHeadOf(tokens.firstHead(about("select_head"))));
    Value overrun = source.overrun();
    t.loop("entry", t.number(0), about("length"), named("kParts"),
           [&](Value entry) { copyStage(ring, landed, entry, overrun); });
  });
}

void WarpgroupWalk::copyStage(const Ring &ring, Value landed, Value entry, Value overrun) {
  SmallVector<Value> firstKeys;
  Value end;
  for (int part = 0; part < sizes.parts; ++part) {
    Value at = part == 0 ? entry : t.add(entry, t.number(part));
    Value tile = t.value("", "work_tile", {list, at});
    firstKeys.push_back(t.mul(tile, named("kPartKeys"), "first_key"));
    Value partEnd = t.add(firstKeys.back(), named("kPartKeys"));
    end = part == 0 ? partEnd : t.max(end, partEnd);
  }
  // A stage with anything from behind the sequence lands on a barrier of this warp's own first.
  Value overruns = t.greater(end, overrun, "overruns");
  SmallVector<Value> boxes; // pages are looked up while the stage is in use
  for (int part = 0; plan.paged && part < sizes.parts; ++part)
    boxes.push_back(source.boxes(firstKeys[part]));
  t.leaf("wait_empty", {ring.barriers, ring.cursor});
  Value keyTile, valueTile;
  if (ring.keys)
    keyTile = stage("key_tile", ring.keys, ring.cursor);
  if (ring.values)
    valueTile = stage("value_tile", ring.values, ring.cursor);
  auto target = [&] {
    return t.select(overruns, t.value("", "full_barrier", {ring.landing, landed}),
                    t.value("", "full_barrier", {ring.barriers, ring.cursor}), "barrier");
  };
  auto forParts = [&](function_ref<void(int part, Value row)> body) {
    for (int part = 0; part < sizes.parts; ++part)
      body(part, part == 0 ? t.number(0) : t.mul(t.number(part), named("kPartKeys")));
  };
  if (plan.paged) {
    Value barrier = target();
    forOneLane([&] {
      Value keys;
      forParts([&](int part, Value) {
        Value count = source.keysInBoxes(firstKeys[part]);
        keys = part == 0 ? count : t.add(keys, count);
      });
      t.leaf("arrive_expecting", {barrier, t.mul(keys, named("kRowBytes"))});
    });
    forParts([&](int part, Value row) {
      source.copyBoxes(keyTile, valueTile, row, barrier, boxes[part]);
    });
  } else {
    forOneLane([&] {
      Value barrier = target();
      t.leaf("arrive_expecting", {barrier, named(ring.bytesConstant())});
      forParts([&](int part, Value row) {
        source.copy(keyTile, valueTile, row, barrier, firstKeys[part]);
      });
    });
  }
  // Attention multiplies values, but not keys, by weights of 0; boxes may not have brought all
  // keys. Gradients multiply either.
  SmallVector<Value> uncleared;
  if (valueTile)
    uncleared.push_back(valueTile);
  if (keyTile && (plan.paged || sizes.ofGradients()))
    uncleared.push_back(keyTile);
  Value others = t.greater(t.value("", "lane_index"), t.number(0), "other_lane");
  t.when(overruns, [&] {
    // Every lane arrives before it waits, so that the next use cannot pass one that still waits.
    t.when(others, [&] { t.leaf("report_full", {ring.landing, landed}); });
    t.leaf("wait_full", {ring.landing, landed});
    t.leaf("next_turn", {landed});
    for (int part = 0; part < sizes.parts; ++part)
      source.clearOverrun(uncleared, t.mul(t.number(part), named("kPartKeys")), firstKeys[part]);
  });
  // One lane has arrived with the bytes of its copies, unless it was on the warp's own barrier.
  t.when(t.either(overruns, others), [&] { t.leaf("report_full", {ring.barriers, ring.cursor}); });
  advance(ring);
}

/// One of two warps: the stored changes of every entry's tokens. They take turns of 32 entries;
/// while the other one copies, a warp finds where the changes of its next entries lie. Who has the
/// turn hands it over by a barrier of both, since the parity of a stage tells nothing to a warp
/// that has not filled the one before: of each list the first warp has the first turn.
void WarpgroupWalk::feedChanges(Ring &ring, int feeder) {
  constexpr int kToSecond = 1, kToFirst = 2; // barriers
  ring.cursor = t.fragment("cursor", t.type("Cursor", {("@" + ring.constant("Stages")).c_str()}));
  Value places =
      t.value("places", "change_places", {t.pointer(stored.changes), t.params()}, {"@kKvHeads"});
  Value table = changeTables[feeder], turnEntries = t.number(kWarpThreads);
  auto handOver = [&](int barrier) {
    t.leaf("sync_some", {t.number(barrier), t.number(kChangeFeeders * kWarpThreads)});
  };
  overWork([&] {
    Value length = t.value("length", "warp_uniform", {about("length")});
    auto find = [&](Value entry) {
      Value all = mayBeDense(plan) ? isDense(t, plan, about("tile")) : t.flag(false);
      t.leaf("find_changes",
             {table, places, t.pointer(stored.bits), t.params(), list, about("select_head"), entry,
              all},
             {"@kBlock"});
    };
    auto copy = [&](Value from, Value end) {
      t.loop("entry", from, end, t.number(1), [&](Value entry) {
        t.leaf("wait_empty", {ring.barriers, ring.cursor});
        Value barrier = t.value("barrier", "full_barrier", {ring.barriers, ring.cursor});
        t.leaf("copy_changes", {stage("change_tile", ring.changes, ring.cursor), barrier, table,
                                places, list, entry});
        advance(ring);
      });
    };
    if (feeder == 0)
      find(t.number(0));
    t.loop("from", t.number(0), length, turnEntries, [&](Value from) {
      Value next = t.add(from, turnEntries, "next"), end = t.min(next, length, "end");
      Value turn = t.rem(t.div(from, turnEntries), t.number(kChangeFeeders));
      t.when(
          t.equal(turn, t.number(feeder)),
          [&] {
            if (feeder == 1)
              handOver(kToSecond);
            copy(from, end);
            if (feeder == 1)
              handOver(kToFirst);
            else
              t.when(t.less(next, length), [&] { handOver(kToSecond); });
          },
          [&] {
            find(next);
            t.leaf("advance_by", {ring.cursor, t.sub(end, from)});
            if (feeder == 0)
              handOver(kToFirst);
          });
    });
  });
}

/// One warp, by its first lane: the queries of every tile, one warpgroup's after the other.
void WarpgroupWalk::feedQueries() {
  queryCursor = t.fragment("query_cursor", t.type("Cursor", {"@kWarpgroups"}));
  overWork([&] {
    t.when(about("opens"), [&] {
      Value firstHead = tokens.firstHead(about("select_head"), "first_head");
      t.loop("receiver", t.number(0), named("kWarpgroups"), t.number(1), [&](Value receiver) {
        // By the lane that copies alone: nothing that follows waits for the other lanes, so one of
        // them could be left waiting for a phase that comes and goes without it.
        forOneLane([&] { copyQueries(receiver, firstHead); });
        t.leaf("advance", {queryCursor});
      });
    });
  });
}

void WarpgroupWalk::copyQueries(Value receiver, Value firstHead) {
  t.leaf("wait_empty", {queryBarriers, queryCursor});
  Value queryTile = stage("query_tile", queryRing, queryCursor), gradientTile;
  if (gradientRing)
    gradientTile = stage("gradient_tile", gradientRing, queryCursor);
  Value barrier = t.value("barrier", "full_barrier", {queryBarriers, queryCursor});
  t.leaf("arrive_expecting", {barrier, named("kQueryBytes")});
  Value row = t.add(about("tile.row"), t.mul(t.mul(receiver, t.number(4)), named("kWarpTokens")));
  tokens.copy(queryTile, barrier, firstHead, row);
  if (gradientTile)
    tokens.copyGradients(gradientTile, barrier, firstHead, row);
}

/// One warp: the lists of one tile of tokens after the other, heaviest first, one key/value head at
/// a time so that its keys stay in the L2 cache.
void WarpgroupWalk::buildLists() {
  turn = t.fragment("turn", t.type("Cursor", {"@kWorkStages"}));
  Value batch = t.field(t.params(), "batch");
  if (!sizes.fromChanges()) {
    Value slots = t.add(t.div(t.field(t.params(), "total_q"), named("kTokens")), batch, "slots");
    return listItems(slots, [&](Value slot) { return tokens.find(slot); });
  }
  // Of each segment the tokens of the chunk.
  Value begin = t.field(t.params(), "token_begin");
  Value count = t.sub(t.field(t.params(), "token_end"), begin);
  Value tiles = t.div(t.add(count, t.number(sizes.tokens - 1)), named("kTokens"), "tiles");
  listItems(t.mul(tiles, batch, "slots"), [&](Value slot) {
    Value first = t.add(begin, t.mul(t.rem(slot, tiles), named("kTokens")));
    return tokens.findInSegment(t.div(slot, tiles), first);
  });
}

/// `find`: the tile of tokens in one of the `slots`.
void WarpgroupWalk::listItems(Value slots, function_ref<Value(Value slot)> find) {
  Value items = t.mul(slots, t.number(plan.heads / plan.group), "items");
  t.loop("item", t.blockIndex('x'), items, t.gridDimension('x'), [&](Value item) {
    Value slot = t.sub(t.sub(slots, t.number(1)), t.rem(item, slots), "slot");
    Value tile = find(slot);
    t.when(t.greater(t.field(tile, "tokens"), t.number(0)),
           [&] { buildList(tile, t.div(item, slots, "select_head")); });
  });
  t.leaf("wait_empty", {workBarriers, turn});
  t.leaf("end_work", {stage("last", work, turn)});
  t.leaf("report_full", {workBarriers, turn});
}

void WarpgroupWalk::buildList(Value tile, Value head) {
  // A tile without keys has a list too, an empty one: its results are due as well.
  Value keyTiles = t.max(t.number(1), mask.visibleTiles(tile), "key_tiles");
  t.loop("from_tile", t.number(0), keyTiles, named("kBitmapTiles"), [&](Value fromTile) {
    Value tiles = t.min(t.sub(keyTiles, fromTile), named("kBitmapTiles"), "tiles");
    tileList.mark(tile, head, fromTile, tiles);
    t.whileLoop(
        {"from"}, {t.number(0)},
        [&](ValueRange at, SmallVector<Value> &passed) {
          passed = {at[0]};
          return t.less(at[0], tiles);
        },
        [&](ValueRange at) {
          t.leaf("wait_empty", {workBarriers, turn});
          Value next = stage("list", work, turn);
          Value rest = t.value("rest", "fill_list", {next, tileList.bitmap, fromTile, at[0], tiles},
                               {split ? "true" : "false", sizes.whole ? "true" : "false", "@kParts",
                                "@kWarpTokens"});
          Value begin = t.add(fromTile, at[0]), end = t.add(fromTile, rest);
          t.leaf("describe_work",
                 {next, tile, head, t.equal(begin, t.number(0)), t.atLeast(end, keyTiles)});
          t.leaf("report_full", {workBarriers, turn});
          t.leaf("advance", {turn});
          return SmallVector<Value>{rest};
        });
  });
}

} // namespace winnow
