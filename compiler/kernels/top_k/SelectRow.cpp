// Forced blocks, and the best of the rest by a search for the threshold: exact and deterministic. A
// row is searched in as many registers as the token's blocks need.
#include "compiler/kernels/top_k/SelectRow.h"
#include "compiler/kernels/parts/DenseLength.h"
#include "compiler/kernels/parts/SelectionPart.h"

using namespace mlir;

namespace winnow {

static constexpr int kChunkSizes[] = {1, 2, 4, 6}; ///< and kMostChunks: for shorter rows

void RowSelection::constants() {
  planConstants(t, plan, {"kInit"});
  if (searched == 0)
    return;
  planConstants(t, plan, {"kSearched"});
  t.constant("kBlocksPerEdge", scores.blocksPerEdge, "blocks from one edge to the next");
  if (row.wide())
    t.constant("kWarps", warps, "warps of one row");
  t.constant("kChunkBlocks", kChunkBlocks, "blocks of a warp in 4 registers of each lane");
}

RowSelection::Held RowSelection::load(int chunksOfWarp, Value firstBlock) {
  Value held = t.fragment("ranks", t.type("RankPairs", {chunksOfWarp}));
  t.leaf("load_rank_pairs", {held, ranks, edges, firstBlock, forcedFrom},
         {"@kInit", "@kBlocksPerEdge"});
  return {held, firstBlock, chunksOfWarp};
}

Value RowSelection::reaching(Value held, Value threshold) {
  return t.value("count", "count_at_least", {held, threshold});
}

/// The best kSearched candidates of rows that fit `chunks` chunks of each lane.
void RowSelection::search(int chunks) {
  const Held held = load(
      chunks, row.wide() ? t.mul(warp, t.number(chunks * kChunkBlocks), "first_block") : start);
  Value upper = row.total(t.value("upper", "count_upper", {held.ranks}), "total_upper");
  Value isUpper = t.atLeast(upper, t.named("kSearched"), "is_upper");
  t.leaf("fold_ranks", {held.ranks, isUpper});
  // Bits 14 to 0.
  store(held, isUpper, row.find(own, "@kSearched", 17, [&](Value threshold) {
    return reaching(held.ranks, threshold);
  }));
}

/// The same of rows that one warp holds, by several: each searches in the whole row and stores the
/// ids of a part.
void RowSelection::searchTogether() {
  Value whole = t.fragment("all_ranks", t.type("RankPairs", {kMostChunks}));
  t.leaf("load_all_rank_pairs", {whole, ranks, edges, forcedFrom}, {"@kInit", "@kBlocksPerEdge"});
  const Held held = load(1, t.mul(warp, t.number(kChunkBlocks), "first_block"));
  Value upper = t.value("upper", "count_upper", {whole});
  Value isUpper = t.atLeast(upper, t.named("kSearched"), "is_upper");
  t.leaf("fold_ranks", {whole, isUpper});
  t.leaf("fold_ranks", {held.ranks, isUpper});
  store(held, isUpper, row.findTogether(own, "@kSearched", [&](Value threshold) {
    return reaching(whole, threshold);
  }));
}

/// The ids of the ranks that a warp holds.
void RowSelection::store(const Held &held, Value isUpper, Value state) {
  Value marks = t.fragment("marks", t.type("BlockMarks", {held.chunks}));
  t.leaf("mark_blocks", {marks, held.ranks, row.threshold(state)});
  Value above = t.value("above", "marked_above", {marks});
  Value aboveAll = row.total(above, "total_above");
  Value before = t.named("kInit"), equalBefore = t.number(0);
  if (row.wide()) {
    before = t.add(before, row.before("above_before"));
    equalBefore = row.before("equal_before", t.value("", "marked_at", {marks}));
  }
  t.when(
      t.value("", "folded_leaves_order", {state, isUpper}),
      [&] { row.once([&] { t.leaf("mark_unordered", {ids}); }); },
      [&] {
        t.leaf("store_marked", {ids, marks, held.firstBlock, before, equalBefore,
                                t.sub(t.named("kSearched"), aboveAll)});
      });
}

/// A token with more causal blocks than may be selected.
void RowSelection::selectSome(function_ref<Value()> rankRow) {
  forcedFrom = t.add(t.sub(own, t.named("kLocal")), t.number(1), "forced_from");
  row.once([&] {
    if (plan.init > 0)
      t.leaf("store_range", {ids, t.number(0), t.number(0), t.named("kInit")});
    if (plan.local > 0)
      t.leaf("store_range",
             {ids, t.sub(t.named("kTopK"), t.named("kLocal")), forcedFrom, t.named("kLocal")});
  });
  if (searched == 0)
    return;
  ranks = rankRow();
  edges = blockScores.edges(ranks);
  if (together) {
    row.when(
        t.atLeast(t.number(kWarpBlocks), forcedFrom), [&] { searchTogether(); },
        [&] { search(chunks); });
    return;
  }
  std::function<void(ArrayRef<int>)> bySize = [&](ArrayRef<int> sizes) {
    if (sizes.empty())
      return search(chunks);
    Value most = t.mul(t.number(sizes.front()), t.named("kChunkBlocks"));
    t.when(
        t.atLeast(most, forcedFrom), [&] { search(sizes.front()); },
        [&] { bySize(sizes.drop_front()); });
  };
  bySize(row.wide() ? ArrayRef<int>() : ArrayRef(kChunkSizes));
}

void RowSelection::select(Value tile, Value ownBlock, Value idRow, Value place,
                          function_ref<Value()> rankRow, Value first) {
  own = ownBlock, ids = idRow, warp = place;
  row.place(place);
  start = first ? first : t.number(0);
  auto sparse = [&] {
    row.when(
        t.less(own, t.named("kTopK")),
        [&] {
          row.once([&] {
            Value count = t.add(own, t.number(1), "count");
            t.leaf("store_range", {ids, t.number(0), t.number(0), count});
            t.leaf("pad_ids", {ids, count}, {"@kTopK"});
          });
        },
        [&] { selectSome(rankRow); });
  };
  if (mayBeDense(plan))
    row.when(
        isDense(t, plan, tile),
        [&] { row.once([&] { t.leaf("pad_ids", {ids, t.number(0)}, {"@kTopK"}); }); }, sparse);
  else
    sparse();
}

} // namespace winnow
