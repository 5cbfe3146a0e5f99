// Forced blocks, and the best of the rest by a search for the threshold: exact and deterministic. A
// row is searched in as many registers as the token's blocks need.
#include "compiler/kernels/top_k/SelectRow.h"

using namespace mlir;

namespace winnow {

static constexpr int kChunkSizes[] = {1, 2, 4, 6}; ///< and kMostChunks: for shorter rows

void RowSelection::constants() {
  t.constant("kInit", plan.init, "first blocks, always selected");
  if (searched == 0)
    return;
  t.constant("kSearched", searched, "blocks that are selected by their scores");
  t.constant("kBlocksPerEdge", scores.blocksPerEdge, "blocks from one edge to the next");
  if (wide)
    t.constant("kWarps", warps, "warps of one row");
  t.constant("kChunkBlocks", kChunkBlocks, "blocks of a warp in 4 registers of each lane");
}

void RowSelection::describe(KernelFacts &facts) const {
  facts.group = plan.group;
  facts.topk = plan.topk;
  facts.init = plan.init;
  facts.local = plan.local;
  if (searched == 0)
    return;
  facts.scoreBytes = scores.elementBytes();
  facts.rowWarps = warps;
  facts.rowBlocks = warps * kWarpBlocks;
}

void RowSelection::declare() {
  if (wide)
    counts = t.shared("counts", t.type("WarpCounts", {"@kWarps"}), 4 * warps);
}

void RowSelection::whenUniform(Value condition, TileBuilder::Body then,
                               TileBuilder::Body otherwise) {
  t.when(condition, then, otherwise);
  if (wide) // the block of threads has one row
    std::prev(t.builder.getInsertionPoint())->setAttr("tile.uniform", t.builder.getUnitAttr());
}

void RowSelection::once(TileBuilder::Body body) {
  if (wide)
    t.when(t.equal(warp, t.number(0)), body);
  else
    body();
}

Value RowSelection::total(Value count, StringRef hint) {
  if (!wide)
    return count;
  t.leaf("store_count", {counts, warp, count});
  return t.value(hint, "total_count", {counts});
}

/// The best kSearched candidates of rows that fit `chunks` chunks of each lane.
void RowSelection::search(int chunks) {
  Value firstBlock = wide ? t.mul(warp, t.number(kWarpBlocks), "first_block") : start;
  Value held = t.fragment("keys", t.type("KeyPairs", {chunks}));
  t.leaf("load_key_pairs", {held, keys, edges, firstBlock, forcedFrom},
         {"@kInit", "@kBlocksPerEdge"});
  Value upper = total(t.value("upper", "count_upper", {held}), "total_upper");
  Value isUpper = t.atLeast(upper, t.named("kSearched"), "is_upper");
  t.leaf("fold_keys", {held, isUpper});
  Value state = t.fragment("search", t.type("ThresholdSearch"));
  t.leaf("start_search", {state, own}, {"@kSearched"});
  // Bits 14 to 0.
  t.loop("step", t.number(17), t.number(32), t.number(1), [&](Value step) {
    Value open = t.value("", "is_open", {state}, {}, t.builder.getI1Type());
    whenUniform(open, [&] {
      Value threshold = t.value("threshold", "next_threshold", {state, step});
      Value count = t.value("count", "count_at_least", {held, threshold});
      t.leaf("narrow", {state, threshold, total(count, "total")});
    });
  });
  Value marks = t.fragment("marks", t.type("BlockMarks", {chunks}));
  t.leaf("mark_blocks", {marks, held, t.field(state, "threshold")});
  Value above = t.value("above", "marked_above", {marks});
  Value aboveAll = above, before = t.named("kInit"), equalBefore = t.number(0);
  if (wide) {
    aboveAll = total(above, "total_above");
    before = t.add(t.named("kInit"), t.value("above_before", "count_before", {counts, warp}));
    t.leaf("store_count", {counts, warp, t.value("", "marked_at", {marks})});
    equalBefore = t.value("equal_before", "count_before", {counts, warp});
  }
  t.when(
      t.value("", "folded_leaves_order", {state, isUpper}, {}, t.builder.getI1Type()),
      [&] { once([&] { t.leaf("mark_unordered", {ids}); }); },
      [&] {
        t.leaf("store_marked", {ids, marks, firstBlock, before, equalBefore,
                                t.sub(t.named("kSearched"), aboveAll)});
      });
}

/// A token with more causal blocks than may be selected.
void RowSelection::selectSome(function_ref<Value()> keyRow) {
  forcedFrom = t.add(t.sub(own, t.named("kLocal")), t.number(1), "forced_from");
  once([&] {
    if (plan.init > 0)
      t.leaf("store_range", {ids, t.number(0), t.number(0), t.named("kInit")});
    if (plan.local > 0)
      t.leaf("store_range",
             {ids, t.sub(t.named("kTopK"), t.named("kLocal")), forcedFrom, t.named("kLocal")});
  });
  if (searched == 0)
    return;
  keys = keyRow();
  Value padded =
      t.value("", "padded_blocks", {t.field(t.params(), "max_k")}, {"@kBlock", "@kRowsPerBlock"});
  edges = t.value("edges", "edge_row", {keys, padded}, {"@kPad"}, t.type("pointer"));
  std::function<void(ArrayRef<int>)> bySize = [&](ArrayRef<int> sizes) {
    if (sizes.empty())
      return search(kMostChunks);
    Value most = t.mul(t.number(sizes.front()), t.named("kChunkBlocks"));
    t.when(
        t.atLeast(most, forcedFrom), [&] { search(sizes.front()); },
        [&] { bySize(sizes.drop_front()); });
  };
  bySize(wide ? ArrayRef<int>() : ArrayRef(kChunkSizes));
}

void RowSelection::select(Value tile, Value ownBlock, Value idRow, Value place,
                          function_ref<Value()> keyRow, Value first) {
  own = ownBlock, ids = idRow, warp = place;
  start = first ? first : t.number(0);
  auto sparse = [&] {
    whenUniform(
        t.less(own, t.named("kTopK")),
        [&] {
          once([&] {
            Value count = t.add(own, t.number(1), "count");
            t.leaf("store_range", {ids, t.number(0), t.number(0), count});
            t.leaf("pad_ids", {ids, count}, {"@kTopK"});
          });
        },
        [&] { selectSome(keyRow); });
  };
  if (plan.denseLength > 0)
    whenUniform(
        t.less(t.field(tile, "k_length"), t.named("kDenseLength")),
        [&] { once([&] { t.leaf("pad_ids", {ids, t.number(0)}, {"@kTopK"}); }); }, sparse);
  else
    sparse();
}

} // namespace winnow
