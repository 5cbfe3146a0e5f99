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
    blockScores.hide(rowScores, firstRow, t.add(firstRow, t.number(kRows)), end, visible, rows,
                     [&] { return visible; });
    blockScores.storeOfThread(scoreRow, rowScores, firstRow, rows, exists);
  });
  // A barrier too: scores lie in device memory, which no pass watches over.
  return t.value("", "any_leaves", {vote});
}

} // namespace winnow
