// The top_k kernels over fp32 scores: forced blocks and the best of the rest, per token, exact and
// deterministic. One warp per row where its blocks fit the registers of a warp, else 16 warps per
// row; the recipe picks by the longest sequence.
#include "compiler/kernels/Kernels.h"
#include "compiler/kernels/parts/BlockScores.h"
#include "compiler/kernels/parts/DenseLength.h"
#include "compiler/kernels/parts/HeadWeights.h"
#include "compiler/kernels/parts/IdRow.h"
#include "compiler/kernels/parts/RowSearch.h"
#include "compiler/kernels/parts/SelectionPart.h"
#include "compiler/select/Features.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

/// A size of the kernel: blocks of rows longer than `above` and up to `blocks` go to it.
struct Variant {
  int warpsPerRow, ranksPerLane, above;
  int blocks() const { return warpsPerRow * ranksPerLane * 32; }
};
constexpr Variant kVariants[] = {{1, 16, 0}, {1, 64, 512}, {16, 64, 2048}};
/// At decode all warps of a block of threads share a row.
constexpr Variant kDecodeVariants[] = {{16, 8, 0}, {16, 64, 4096}};
/// For small blocks at the far end: its ranks take every register there is, so most of them live in
/// local memory.
constexpr Variant kLongest = {32, 64, 32768};

class TopKBuilder {
public:
  /// `decode`: from the weights of decode.
  TopKBuilder(ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores,
              const Variant &variant, bool decode = false)
      : plan(plan), scores(scores), variant(variant), decode(decode),
        t(module, IdRow::name(variant.blocks(), decode), IdRow::title(plan, variant.blocks()),
          IdRow::threads(variant.warpsPerRow), variant.warpsPerRow > 1 ? 1 : 2),
        token(t, plan, scores, variant.warpsPerRow), row(t, variant.warpsPerRow),
        blockScores(t, plan, scores), weights(t, plan, scores) {}
  BuiltKernel build();

private:
  void constants();
  void select();
  void store(Value search);

  const SelectionPlan &plan;
  const ScorePlan &scores;
  const Variant variant;
  const bool decode;
  KernelBuilder t;
  IdRow token;
  RowSearch row;
  BlockScores blockScores;
  HeadWeights weights;
  Value ranks, firstBlock, beyond; ///< `beyond`: decode's scores leave the range of fp32
};

void TopKBuilder::constants() {
  planConstants(t, plan, {"kBlock", "kTopK", "kInit", "kLocal", "kDenseLength"});
  if (decode)
    weights.constants(IdRow::threads(variant.warpsPerRow));
  else
    planConstants(t, plan, {"kRowsPerBlock", "kPad"});
  t.constant("kBlocksPerEdge", scores.blocksPerEdge, "blocks from one edge to the next");
  token.constants();
  if (row.wide())
    t.constant("kWarps", variant.warpsPerRow, "warps of one row");
  t.constant("kRanksPerLane", variant.ranksPerLane, "block scores that a lane keeps in registers");
}

void TopKBuilder::store(Value search) {
  if (plan.normalizer >= 0) { // raw scores may be any fp32 value
    Value leaves = t.value("leaves", "leaves_order", {search, token.own}, {"@kTopK"});
    if (beyond)
      leaves = t.either(leaves, beyond);
    Value first = t.equal(token.warp, t.number(0)); // of the row's warps
    t.when(row.wide() ? t.compute<arith::AndIOp>(leaves, first) : leaves,
           [&] { t.leaf("mark_unordered", {token.ids}); });
    t.returnIf(leaves);
  }
  Value above = t.value("above", "count_above", {ranks, row.threshold(search)});
  Value aboveAll = row.total(above, "total_above");
  Value aboveBefore = t.number(0), equalBefore = t.number(0);
  if (row.wide()) {
    aboveBefore = row.before("above_before");
    Value reached = t.value("reached", "count_at_least", {ranks, row.threshold(search)});
    equalBefore = row.before("equal_before", t.sub(reached, above));
  }
  Value wanted = t.field(search, "wanted");
  t.leaf("store_ids", {token.ids, ranks, row.threshold(search), firstBlock, aboveBefore,
                       equalBefore, t.sub(wanted, aboveAll)});
  row.once([&] { t.leaf("pad_ids", {token.ids, wanted}, {"@kTopK"}); });
}

void TopKBuilder::select() {
  firstBlock = row.wide() ? t.mul(token.warp, t.number(variant.ranksPerLane * 32), "first_block")
                          : t.number(0);
  Value forcedFrom = t.value("forced_from", "first_forced", {token.own}, {"@kTopK", "@kLocal"});
  Value rowScores = blockScores.row(token.selectHead, token.row, "scores");
  if (decode)
    beyond = weights.fill(token.tile, token.own, token.selectHead, token.row, rowScores);
  Value edges = blockScores.edges(rowScores);
  ranks = t.fragment("ranks", t.type("BlockRanks", {"@kRanksPerLane"}));
  t.leaf("load_ranks", {ranks, rowScores, edges, firstBlock, forcedFrom, token.own},
         {blockScores.pool(), "@kInit", "@kBlocksPerEdge"});
  store(row.find(token.own, "@kTopK", 0, [&](Value threshold) {
    return t.value("count", "count_at_least", {ranks, threshold});
  }));
}

BuiltKernel TopKBuilder::build() {
  constants();
  row.declare();
  if (decode)
    weights.declare();
  token.locate();
  row.place(token.warp);
  row.when(
      isDense(t, plan, token.tile),
      [&] { row.once([&] { t.leaf("pad_ids", {token.ids, t.number(0)}, {"@kTopK"}); }); },
      [&] { select(); });
  BuiltKernel built = token.finish(variant.above, variant.blocks());
  if (decode)
    launchWhen(built, decodes());
  return built;
}

} // namespace

std::vector<BuiltKernel> buildTopK(ModuleOp module, const SelectionPlan &plan,
                                   const ScorePlan &scores) {
  std::vector<BuiltKernel> kernels;
  for (const Variant &variant : kVariants)
    kernels.push_back(TopKBuilder(module, plan, scores, variant).build());
  if (std::end(kVariants)[-1].blocks() < kLongestSequence / plan.block)
    kernels.push_back(TopKBuilder(module, plan, scores, kLongest).build());
  if (!plan.weighsHeads())
    return kernels;
  for (BuiltKernel &kernel : kernels)
    leaveDecode(plan, kernel);
  for (const Variant &variant : kDecodeVariants)
    kernels.push_back(TopKBuilder(module, plan, scores, variant, /*decode=*/true).build());
  if (std::end(kDecodeVariants)[-1].blocks() < kLongestSequence / plan.block)
    kernels.push_back(TopKBuilder(module, plan, scores, kLongest, /*decode=*/true).build());
  return kernels;
}

} // namespace winnow
