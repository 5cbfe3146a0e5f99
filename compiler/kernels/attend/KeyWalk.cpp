// See KeyWalk.h.
#include "compiler/kernels/attend/KeyWalk.h"

using namespace mlir;

namespace winnow {

void KeyWalk::constants() {
  tokens.constants("query heads of one block of threads");
  tileList.constants(sizes.tilesPerBlock);
  t.constant("kKeys", sizes.keys, "keys of one tile");
  t.constant("kRowTokens", sizes.rowTokens, "tokens of a row tile: 16 rows of queries");
  t.constant("kTokens", sizes.tokens, "tokens of one block of threads");
  t.constant("kBitmapTiles", sizes.bitmapTiles, "key tiles that the bitmap covers at a time");
  t.constant("kEntries", sizes.entries, "wanted key tiles at a time");
}

void KeyWalk::locate() {
  keyTile = t.shared("key_tile", source.keyTile(), sizes.keyBytes(plan));
  valueTile = t.shared("value_tile", source.valueTile(), sizes.valueBytes(plan));
  tileList.declare(sizes.bitmapBytes(), /*pinned=*/false);
  list = t.shared("list", t.type("WantedList", {"@kEntries", "@kTokens"}), sizes.listBytes());
  tile = tokens.find(t.blockIndex('x'));
  t.returnIf(t.equal(t.field(tile, "tokens"), t.number(0)));
  warp = t.value("warp", "warp_index", {});
  selectHead = t.blockIndex('y', "select_head");
  firstHead = tokens.firstHead(selectHead, "first_head");
  // The inner loop needs nearly every register: what describes the tile waits in shared memory.
  slot = t.shared("slot", t.type("TileSlot"), kTileSlotBytes);
  t.when(t.equal(t.value("", "thread_index", {}), t.number(0)),
         [&] { t.leaf("park", {slot, tile}); });
}

void KeyWalk::findRows(MutableArrayRef<RowTile> rowTiles) {
  for (RowTile &r : rowTiles)
    r.rows = tokens.rows("rows" + r.suffix, tile, r.index);
}

/// Takes the tile out of shared memory again and derives what the loops need from it.
void KeyWalk::relocate(MutableArrayRef<RowTile> rowTiles) {
  tile = t.value("here", "parked", {slot});
  source.locate(tile, tokens.kvHeadOf(firstHead));
  findRows(rowTiles);
}

/// The list of key tiles that any of the block's tokens wants, among `tiles` tiles from `fromTile`
/// on.
void KeyWalk::collect(Value fromTile, Value tiles) {
  t.leaf("clear_wanted", {tileList.bitmap, tiles});
  tileList.mark(tile, selectHead, fromTile, tiles);
  t.when(t.equal(warp, t.number(0)),
         [&] { t.leaf("compact_list", {list, tileList.bitmap, tiles}); });
}

void KeyWalk::visit(MutableArrayRef<RowTile> rowTiles, Value fromTile, Value entry,
                    function_ref<void(const KeysAtHand &)> step) {
  Value any;
  for (RowTile &r : rowTiles) {
    r.wants = t.value("wants" + r.suffix, "list_wants", {list, entry, r.index}, {"@kRowTokens"});
    any = any ? t.either(any, r.wants) : r.wants;
  }
  Value listed = t.value("", "list_tile", {list, entry});
  KeysAtHand keys;
  keys.first = t.mul(t.add(fromTile, listed), t.named("kKeys"), "first_key");
  source.load(keyTile, valueTile, keys.first, kWarpThreads * sizes.warps);
  t.when(t.differ(any, t.number(0)), [&] { step(keys); });
}

void KeyWalk::walk(MutableArrayRef<RowTile> rowTiles, function_ref<void(const KeysAtHand &)> step) {
  Value keyTiles = mask.visibleTiles(tile, "key_tiles"), atOnce = tileList.tilesAtOnce(tile);
  t.loop("from_tile", t.number(0), keyTiles, atOnce, [&](Value fromTile) {
    relocate(rowTiles);
    Value tiles = t.min(t.sub(keyTiles, fromTile), atOnce, "tiles");
    collect(fromTile, tiles);
    Value entries = t.value("entries", "list_length", {list});
    scf::ForOp loop = t.loop("entry", t.number(0), entries, t.number(1),
                             [&](Value entry) { visit(rowTiles, fromTile, entry, step); });
    // A warp of its own looks each row of a page up once, several together once each.
    const bool takeTurns = plan.paged && sizes.producers <= sizes.stages;
    t.specializeWarps(loop, {sizes.stages, sizes.producers, takeTurns});
  });
  tile = t.value("done", "parked", {slot});
  findRows(rowTiles);
}

} // namespace winnow
