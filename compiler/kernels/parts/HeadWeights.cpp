// Which plans weigh heads, the formulas of their workspace, and how top_k fills a row of block
// scores.
#include "compiler/kernels/parts/HeadWeights.h"
#include "compiler/kernels/Kernels.h"
#include "compiler/kernels/parts/DenseLength.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {

/// Formula: tiles of 32 summaries of the longest sequence.
static std::string rowTilesFormula(const SelectionPlan &plan) {
  return llvm::formatv("ceil_div(max_k, {0})", HeadWeights::tileKeys(plan)).str();
}

std::string headWeightBytes(const SelectionPlan &plan) {
  const int columns = plan.selectHeads() * HeadWeights::headTiles(plan);
  const int heads = HeadWeights::tileHeads(plan);
  return llvm::formatv("({0} * 16 * ({1} * {2} + ceil_div({3} * {2}, 4)))", columns, 4 * heads,
                       rowTilesFormula(plan), heads)
      .str();
}

std::string partSumsBytes(const SelectionPlan &plan) {
  return llvm::formatv("{0} * {1}", 8 * plan.heads, HeadWeights::parts(plan)).str();
}

std::string HeadWeights::parts(const SelectionPlan &plan) {
  // Of dense sequences there may be more, which have no weights.
  const std::string ofAttend =
      plan.crossing ? llvm::formatv("min(parts, {0})", selectedParts(plan)).str() : "parts";
  return llvm::formatv("min({0} * {4}, {1}, max(1, {2} / {3}))", kPartsPerAttendPart, kMostParts,
                       rowTilesFormula(plan), kLeastRowTiles, ofAttend)
      .str();
}

void HeadWeights::tileConstants() {
  const NormalizerMeans means = *plan.normalizerMeans();
  t.constant("kRows", kRows, "summaries of one tile");
  t.constant("kMeans", means.count, "scored summaries whose mean is one of the normaliser's");
  t.constant("kMeanStep", means.step, "from one of these to the next");
  t.constant("kMeanStride", means.stride,
             "from the first one of a normaliser's summary to that of the next");
}

Value HeadWeights::query(Value tile, Value firstHead) {
  Value query = t.fragment("query", t.type("LeftOperand", {16, "@kDim", plan.element}));
  Value heads = t.value("heads", "query_rows", {tile, t.number(0)}, {"@kTileHeads"});
  t.leaf("load_query", {query, t.heads("q", plan.paged), heads, firstHead}, {"@kHeads"});
  return query;
}

HeadWeights::Seen HeadWeights::seen(Value tile, Value own, Value firstHead, StringRef hint) {
  const NormalizerMeans means = *plan.normalizerMeans();
  Seen seen;
  Value kvHead = compressed.kvHead(firstHead);
  seen.source =
      t.value("source", "in_summary_order",
              {t.value("", "read_once", {compressed.source(plan.fine, tile, kvHead, "")})});
  seen.rows = compressed.rows(plan.fine, tile, "rows");
  seen.visible = seen.normalizerVisible = compressed.visible(plan.fine, tile, seen.rows, "visible");
  seen.scoredEnd = compressed.scoredEnd(own);
  Value limit = t.max(seen.scoredEnd, seen.visible);
  if (plan.normalizer != plan.fine) {
    seen.normalizerVisible = compressed.visible(
        plan.normalizer, tile, compressed.rows(plan.normalizer, tile, ""), "normalizer_visible");
    Value behind = t.add(t.mul(seen.normalizerVisible, t.named("kMeanStride")),
                         t.number(means.reach() - means.stride + 1));
    limit = t.max(limit, behind);
  }
  Value rowsOfTile = t.named("kRows");
  seen.tiles =
      t.div(t.add(t.min(limit, seen.rows), t.sub(rowsOfTile, t.number(1))), rowsOfTile, hint);
  return seen;
}

Value HeadWeights::oldRows(Value tile) {
  Value oldKeys = t.sub(t.field(tile, "position"), t.field(tile, "first"));
  return compressed.rowsOf(plan.fine, oldKeys, "old_rows");
}

void HeadWeights::hideTile(Value scores, Value firstRow, Value end, Value visible, Value rows) {
  blockScores.hide(scores, firstRow, t.add(firstRow, t.number(kRows)), end, visible, rows,
                   [&] { return visible; });
}

void HeadWeights::storeTile(Value row, Value scores, Value firstRow, Value exist, Value end,
                            Value visible, Value rows) {
  hideTile(scores, firstRow, end, visible, rows);
  blockScores.storeOfThread(row, scores, firstRow, rows, exist);
}

Value HeadWeights::parts() {
  Value most = t.max(t.number(1), t.div(rowTiles(), t.number(kLeastRowTiles)));
  Value ofAttend = t.field(t.params(), "parts");
  if (plan.crossing)
    ofAttend = t.min(ofAttend, t.number(selectedParts(plan)));
  Value wanted = t.mul(ofAttend, t.number(kPartsPerAttendPart));
  return t.min(t.min(wanted, t.number(kMostParts)), most, "parts");
}

Value HeadWeights::fill(Value tile, Value own, Value selectHead, Value queryRow, Value scoreRow) {
  Value scored = t.atLeast(own, t.named("kTopK"), "scored");
  if (mayBeDense(plan))
    scored = t.compute<arith::AndIOp>(scored, isSparse(t, plan, tile));
  Value leaves = t.choose(
      "leaves", scored, [&] { return fillScored(tile, own, selectHead, queryRow, scoreRow); },
      [&] { return t.flag(false); });
  leaves.getDefiningOp()->setAttr("tile.uniform", t.builder.getUnitAttr());
  return leaves;
}

Value HeadWeights::fillScored(Value tile, Value own, Value selectHead, Value queryRow,
                              Value scoreRow) {
  Value first = t.field(t.params(), "token_begin"), token = t.sub(queryRow, first, "token");
  Value tokens = t.sub(t.field(t.params(), "token_end"), first, "tokens");
  Value firstHead = t.mul(selectHead, t.named("kGroup"), "first_head");
  t.leaf("merge_part_sums", {table, shares(), parts(), token, tokens, firstHead},
         {"@kThreads", "@kHeads", "@kGroup"});
  Value rows = compressed.rows(plan.fine, tile, "rows");
  Value visible = compressed.visible(plan.fine, tile, rows, "visible");
  Value end = compressed.scoredEnd(own);
  Value tiles = rowTiles();
  Value headTile = HeadWeights::headTiles(plan) > 1
                       ? t.mul(selectHead, t.number(HeadWeights::headTiles(plan)))
                       : selectHead;
  Value columns = column(token, headTile);
  Value vote = t.fragment("vote", t.type("RangeVote"));
  Value quad = t.div(t.value("", "thread_index"), t.number(4), "quad");
  t.loop("first", t.number(0), end, t.mul(t.named("kThreads"), t.number(8)), [&](Value begin) {
    Value rowTile = t.add(t.div(begin, t.number(kRows)), quad, "row_tile");
    Value firstRow = t.mul(rowTile, t.number(kRows), "first_row");
    Value exists = t.greater(end, firstRow, "exists");
    Value rowScores = blockScores.cleared("RowScores");
    t.leaf("add_stored_heads",
           {rowScores, vote, weights(), table, columns, tiles, rowTile,
            t.compute<arith::AndIOp>(exists, t.less(firstRow, rows))},
           {blockScores.combine(), "@kGroup", "@kTileHeads"});
    storeTile(scoreRow, rowScores, firstRow, exists, end, visible, rows);
  });
  // A barrier too: scores lie in device memory, which no pass watches over.
  return t.value("", "any_leaves", {vote});
}

} // namespace winnow
