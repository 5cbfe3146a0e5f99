// The producer warps of dK and dV on warpgroups: one finds items and their lists of tokens while
// the others work on the one before, two feed the keys and values of a warpgroup each, so that
// neither waits for the other, and one feeds the query rows of those tokens. See
// KeysOnWarpgroups.h.
#include "compiler/kernels/backward/KeysOnWarpgroups.h"
#include "compiler/kernels/parts/DenseLength.h"

using namespace mlir;

namespace winnow {

/// Items by ranges, then by key/value heads. Within both the first pair, which most tokens may
/// want, and then from the last one down, since the blocks near the tokens have more of them.
void BackwardKeysOnWarpgroups::findItems() {
  turn = t.fragment("turn", t.type("Cursor", {"@kItems"}));
  Value slots = t.add(t.div(t.field(t.params(), "total_k"), named("kPairKeys")),
                      t.field(t.params(), "batch"), "slots");
  Value perRange = t.mul(slots, named("kKvHeads"), "per_range");
  Value ranges = t.field(t.params(), "parts"), firstRange;
  if (stores) {
    Value begin = t.field(t.params(), "token_begin"), width = rangeTokens();
    Value tokens = t.sub(t.field(t.params(), "token_end"), begin);
    firstRange = t.div(begin, width, "first_range");
    ranges = t.div(t.add(tokens, t.number(kStoredRangeTokens - 1)), width);
  }
  Value count = t.mul(ranges, perRange, "count");
  t.whileLoop(
      {}, {},
      [&](ValueRange, SmallVector<Value> &passed) {
        passed = {takeItem(firstRange)};
        return t.less(passed[0], count);
      },
      [&](ValueRange passed) {
        Value nth = t.rem(passed[0], slots, "nth");
        Value slot = t.select(t.equal(nth, t.number(0)), t.number(0), t.sub(slots, nth), "slot");
        Value range = t.div(passed[0], perRange, "range");
        if (firstRange)
          range = t.add(firstRange, range, "range");
        describeItem(range, t.div(t.rem(passed[0], perRange), slots, "kv_head"), slot);
        return SmallVector<Value>();
      });
  t.leaf("wait_empty", {itemBarriers, turn});
  t.leaf("end_items", {items, turn});
  t.leaf("report_full", {itemBarriers, turn});
}

/// The next item that nobody has taken, of the launch or of its chunk.
Value BackwardKeysOnWarpgroups::takeItem(Value firstRange) {
  if (stores)
    return t.value("taken", "take_chunk_item", {places, firstRange});
  return t.value("taken", "take_key_item", {buffer(BackwardBuffer::KeyItems)});
}

/// Tokens of a range: as many of each where ranges may end anywhere.
Value BackwardKeysOnWarpgroups::rangeTokens() {
  if (stores)
    return named("kRangeTokens");
  Value parts = t.field(t.params(), "parts"), maxQ = t.field(t.params(), "max_q");
  return t.max(t.number(1), t.div(t.sub(t.add(maxQ, parts), t.number(1)), parts), "range_tokens");
}

void BackwardKeysOnWarpgroups::describeItem(Value range, Value kvHead, Value slot) {
  Value batch = t.field(t.params(), "batch"), totalK = t.field(t.params(), "total_k");
  Value pair = t.value("pair", "find_key_block",
                       {t.pointer("cu_q"), t.pointer("cu_k"), batch, totalK, slot}, {"@kPairKeys"});
  Value width = rangeTokens();
  Value first = t.value("", "tile_of_pair", {pair, t.number(0)});
  t.when(t.value("", "sees_range", {first, range, width}), [&] {
    Value begin = t.mul(range, width, "begin"), end = t.add(begin, width, "end");
    Value lists = tokensOf(pair, kvHead, begin, end);
    Value slots = t.add(t.div(totalK, named("kPairKeys")), batch);
    Value place = t.mul(t.add(t.mul(kvHead, slots), slot), named("kWarpgroups"), "first_place");
    t.leaf("wait_empty", {itemBarriers, turn});
    t.leaf("describe_item", {items, turn, pair, place, kvHead, range, width, lists});
    if (stores)
      t.leaf("place_item", {items, turn, places, t.params(), kvHead, pair, begin});
    t.leaf("report_full", {itemBarriers, turn});
    t.leaf("advance", {turn});
  });
}

/// The tokens in [begin, end) that attend to the pair's tiles.
Value BackwardKeysOnWarpgroups::tokensOf(Value pair, Value kvHead, Value begin, Value end) {
  if (!plan.selects())
    return t.value("tokens", "later_pair", {pair, begin, end});
  Value all = mayBeDense(plan) ? isDense(t, plan, pair) : t.flag(false);
  return t.value("tokens", "listed_pair",
                 {buffer(BackwardBuffer::Lists), buffer(BackwardBuffer::Ranges), t.params(), kvHead,
                  pair, all, begin, end});
}

/// One warp, by its first lane: the keys and values of one warpgroup.
void BackwardKeysOnWarpgroups::feedKeys(Value tile) {
  keyCursor = t.fragment("key_cursor", t.type("Cursor", {"@kWarpgroups"}));
  t.leaf("move_to", {keyCursor, tile});
  overItems([&] {
    Value item = t.value("item", "key_item", {items, turn});
    Value row = t.add(t.field(item, "row"), t.mul(tile, named("kKeys")), "row");
    t.when(t.equal(t.value("", "lane_index"), t.number(0)), [&] {
      t.leaf("wait_empty", {keyBarriers, keyCursor});
      Value barrier = t.value("barrier", "full_barrier", {keyBarriers, keyCursor});
      t.leaf("arrive_expecting", {barrier, named("kKeyBytes")});
      auto copy = [&](const char *name, Value ring, StringRef map) {
        t.leaf("copy_rows",
               {stage(name, ring, keyCursor), t.number(0), t.field(t.params(), map), barrier,
                t.field(item, "kv_head"), row},
               {"@kKeys"});
      };
      copy("key_tile", keyRing, keyMap);
      copy("value_tile", valueRing, valueMap);
    });
    t.leaf("next_turn", {keyCursor});
  });
}

/// One warp: the query rows of an item's tokens, of one tile of heads after the other.
void BackwardKeysOnWarpgroups::feedRows() {
  cursor = t.fragment("cursor", t.type("Cursor", {"@kStages"}));
  auto announce = [&](Value bytes) {
    t.leaf("announce_rows", {rowBarriers, cursor, bytes}, {"@kTokens"});
  };
  overItems([&] {
    if (headTiles() == 1)
      feedHeads({}, announce);
    else
      t.loop("head_tile", t.number(0), named("kHeadTiles"), t.number(1),
             [&](Value headTile) { feedHeads(headTile, announce); });
    t.leaf("wait_empty", {rowBarriers, cursor});
    t.leaf("end_rows", {headers, cursor});
    announce(t.number(0));
    t.leaf("advance", {cursor});
  });
}

/// `headTile`: among those of the key/value head, null where it has one.
void BackwardKeysOnWarpgroups::feedHeads(Value headTile, function_ref<void(Value)> announce) {
  Value feed = t.fragment("feed", t.type("TokenFeed", {"@kTokens"}));
  // Methods that select nothing have no lists, and read none.
  Value lists = plan.selects() ? buffer(BackwardBuffer::Lists) : t.pointer("q");
  t.leaf("open_feed", {feed, lists, t.value("", "key_item", {items, turn})});
  t.whileLoop(
      {}, {},
      [&](ValueRange, SmallVector<Value> &passed) {
        passed = {t.value("rows", "next_rows", {feed, lists})};
        return t.differ(t.field(passed[0], "kind"), t.number(0));
      },
      [&](ValueRange passed) {
        // Read again for each tile: the lists leave few registers.
        Value item = t.value("item", "key_item", {items, turn});
        t.leaf("wait_empty", {rowBarriers, cursor});
        t.leaf("describe_rows", {headers, cursor, passed[0], item});
        if (stores)
          t.leaf("place_rows", {headers, cursor, feed, passed[0], item});
        announce(named("kRowBytes"));
        copyRows(passed[0], item, headTile);
        t.leaf("advance", {cursor});
        return SmallVector<Value>();
      });
}

/// A run of neighbouring tokens by one copy of each tensor, others by some for each token.
void BackwardKeysOnWarpgroups::copyRows(Value rows, Value item, Value headTile) {
  Value tile = t.field(item, "kv_head"), row = t.field(item, "q_row");
  if (headTile)
    tile = t.add(t.mul(tile, named("kHeadTiles")), headTile);
  Value firstHead = t.mul(tile, named("kTileHeads"), "first_head");
  Value barrier = t.value("barrier", "full_barrier", {rowBarriers, cursor});
  auto copyAll = [&](bool run, StringRef ofQueries, StringRef ofGradients) {
    auto copy = [&](const char *name, Value ring, StringRef map) {
      SmallVector<Value> about{
          stage(name, ring, cursor), t.field(t.params(), map), barrier, rows, row, firstHead};
      if (run)
        t.leaf("copy_row_run", about);
      else
        t.leaf("copy_token_rows", about, {"@kTokens"});
    };
    copy("query_tile", queryRing, ofQueries);
    copy("gradient_tile", gradientRing, ofGradients);
    t.leaf(run ? "copy_statistics_run" : "copy_statistics",
           {headers, cursor, buffer(BackwardBuffer::Statistics), barrier, rows, row, firstHead,
            t.field(t.params(), "total_q")},
           {"@kTileHeads"});
  };
  auto copyEach = [&] { copyAll(false, queryMap, gradientMap); };
  if (queryRunMap.empty())
    copyEach();
  else
    t.when(t.field(rows, "run"), [&] { copyAll(true, queryRunMap, gradientRunMap); }, copyEach);
}

} // namespace winnow
