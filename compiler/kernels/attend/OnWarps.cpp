// The attend kernel: softmax attention of each token over its own selected blocks (all causal
// blocks where nothing is selected). Written as one thread of control per warp of queries; the
// warp-specialisation pass splits off producers. Idea: load the union of neighbouring tokens'
// blocks once, and let each warp skip what its tokens did not select.
#include "compiler/kernels/attend/Frame.h"

using namespace mlir;

namespace winnow {
namespace {

class AttendOnWarps : AttendFrame {
public:
  AttendOnWarps(ModuleOp module, const AttendPlan &plan, const AttendSizes &sizes, StringRef name)
      : AttendFrame(module, name, plan, sizes, {/*someWant=*/sizes.rowTokens * sizes.rowTiles > 1},
                    "a block of threads owns", kWarpThreads * sizes.warps) {}
  BuiltKernel build();

private:
  void constants();
  void locate();
  void findRows();
  void declareRows();
  void relocate();
  void collect(Value fromTile, Value tiles);
  void visit(Value fromTile, Value entry);
  void attendTile(const KeysAtHand &keys);

  SmallVector<RowTile> rowTiles;
  Value tile, slot, warp, selectHead, firstHead, keyTile, valueTile, list;
};

void AttendOnWarps::constants() {
  tokens.constants("query heads of one block of threads");
  tileList.constants(sizes.tilesPerBlock);
  t.constant("kKeys", sizes.keys, "keys of one tile");
  t.constant("kRowTokens", sizes.rowTokens, "tokens of a row tile: 16 rows of queries");
  t.constant("kTokens", sizes.tokens, "tokens of one block of threads");
  t.constant("kBitmapTiles", sizes.bitmapTiles, "key tiles that the bitmap covers at a time");
  t.constant("kEntries", sizes.entries, "wanted key tiles at a time");
  logits.constants();
}

void AttendOnWarps::locate() {
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

void AttendOnWarps::declareRows() {
  for (int i = 0; i < sizes.rowTiles; ++i) {
    RowTile r;
    r.suffix = sizes.rowTiles == 1 ? "" : std::to_string(i);
    r.index = warp;
    if (sizes.rowTiles == 2)
      r.index = i == 0 ? t.mul(warp, t.number(2), "row_tile0")
                       : t.add(rowTiles[0].index, t.number(1), "row_tile1");
    tokens.declare(r);
    epilogue.declare(r);
    softmax.declare(r);
    rowTiles.push_back(r);
  }
  findRows();
  logits.declareRegion(/*takesFactors=*/false);
  for (const RowTile &r : rowTiles)
    tokens.load(r, firstHead);
  for (const RowTile &r : rowTiles)
    t.leaf("clear", {r.output});
}

/// The tokens, heads and positions of the warp's rows, from `tile`.
void AttendOnWarps::findRows() {
  for (RowTile &r : rowTiles)
    r.rows = tokens.rows("rows" + r.suffix, tile, r.index);
}

/// Takes the tile out of shared memory again and derives what the loops need from it.
void AttendOnWarps::relocate() {
  tile = t.value("here", "parked", {slot});
  source.locate(tile, tokens.kvHeadOf(firstHead));
  findRows();
}

/// The list of key tiles that any of the block's tokens wants, among `tiles` tiles from `fromTile`
/// on.
void AttendOnWarps::collect(Value fromTile, Value tiles) {
  t.leaf("clear_wanted", {tileList.bitmap, tiles});
  tileList.mark(tile, selectHead, fromTile, tiles);
  t.when(t.equal(warp, t.number(0)),
         [&] { t.leaf("compact_list", {list, tileList.bitmap, tiles}); });
}

/// One key tile for the tokens of this warp that want it; two row tiles share the loads of their
/// products.
void AttendOnWarps::attendTile(const KeysAtHand &keys) {
  for (RowTile &r : rowTiles) {
    logits.declare(r);
    t.leaf("clear", {r.logits});
  }
  RowTile &one = rowTiles.front(), &other = rowTiles.back();
  if (rowTiles.size() == 1)
    t.leaf("mma_abt", {one.logits, one.query, keyTile});
  else
    t.leaf("mma_abt_pair", {one.logits, other.logits, one.query, other.query, keyTile});
  logits.rewrite(rowTiles, keys);
  mask.hide(rowTiles, keys);
  for (RowTile &r : rowTiles) {
    softmax.step(r, keys);
    r.weights = t.fragment("weights" + r.suffix,
                           t.type("LeftOperand", {16, "@kKeys", plan.productElement}));
    t.leaf("round_to_operand", {r.weights, r.logits});
  }
  if (rowTiles.size() == 1)
    t.leaf("mma_ab", {one.output, one.weights, valueTile});
  else
    t.leaf("mma_ab_pair", {one.output, other.output, one.weights, other.weights, valueTile});
}

void AttendOnWarps::visit(Value fromTile, Value entry) {
  Value any;
  for (RowTile &r : rowTiles) {
    r.wants = t.value("wants" + r.suffix, "list_wants", {list, entry, r.index}, {"@kRowTokens"});
    any = any ? t.either(any, r.wants) : r.wants;
  }
  Value listed = t.value("", "list_tile", {list, entry});
  KeysAtHand keys;
  keys.first = t.mul(t.add(fromTile, listed), t.named("kKeys"), "first_key");
  source.load(keyTile, valueTile, keys.first, kWarpThreads * sizes.warps);
  t.when(t.differ(any, t.number(0)), [&] { attendTile(keys); });
}

BuiltKernel AttendOnWarps::build() {
  constants();
  locate();
  declareRows();
  Value keyTiles = mask.visibleTiles(tile, "key_tiles"), step = tileList.tilesAtOnce(tile);
  t.loop("from_tile", t.number(0), keyTiles, step, [&](Value fromTile) {
    relocate();
    Value tiles = t.min(t.sub(keyTiles, fromTile), step, "tiles");
    collect(fromTile, tiles);
    Value entries = t.value("entries", "list_length", {list});
    scf::ForOp loop = t.loop("entry", t.number(0), entries, t.number(1),
                             [&](Value entry) { visit(fromTile, entry); });
    // A warp of its own looks each row of a page up once, several together once each.
    const bool takeTurns = plan.paged && sizes.producers <= sizes.stages;
    t.specializeWarps(loop, {sizes.stages, sizes.producers, takeTurns});
  });
  tile = t.value("done", "parked", {slot});
  findRows();
  for (const RowTile &r : rowTiles)
    epilogue.store(r, firstHead);

  return finish(llvm::formatv("total_q / {0} + batch", sizes.tokens).str(),
                std::to_string(plan.heads / plan.group));
}

} // namespace

Result<BuiltKernel> buildAttend(ModuleOp module, const AttendPlan &plan, const Target &target,
                                Config config, StringRef name) {
  config.attendForm = AttendForm::Warps;
  WINNOW_TRY(AttendSizes sizes, chooseAttendOnWarps(plan, target, config));
  BuiltKernel built = AttendOnWarps(module, plan, sizes, name).build();
  built.config = config;
  return built;
}

} // namespace winnow
