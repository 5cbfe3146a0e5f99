// The top_k kernels over 16-bit ranks: forced blocks and the best of the rest, per token, exact and
// deterministic (SelectRow.h). One warp per row where its blocks fit the registers of a warp; else
// 16 warps per row, or 32 for small blocks at the far end. The recipe picks by the longest
// sequence.
#include "compiler/kernels/parts/DenseLength.h"
#include "compiler/kernels/parts/HeadWeights.h"
#include "compiler/kernels/parts/IdRow.h"
#include "compiler/kernels/parts/SelectionPart.h"
#include "compiler/kernels/top_k/Octaves.h"
#include "compiler/kernels/top_k/SelectRow.h"
#include "compiler/select/Features.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

constexpr int kWideWarps[] = {16, 32}; ///< of rows that one warp does not hold

/// Rows of up to `blocks` blocks for so many warps each; 0: forced blocks alone.
BuiltKernel buildOne(ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores, int warps,
                     int shorter, int blocks) {
  KernelBuilder t(module, blocks > 0 ? IdRow::name(blocks, false) : "top_k",
                  IdRow::title(plan, blocks), IdRow::threads(warps), warps > 1 ? 1 : 4);
  IdRow token(t, plan, scores, warps);
  BlockScores blockScores(t, plan, scores);
  RowSelection selection(t, plan, scores, warps);
  planConstants(t, plan, {"kBlock", "kTopK", "kLocal"});
  if (mayBeDense(plan))
    planConstants(t, plan, {"kDenseLength"});
  if (blocks > 0)
    planConstants(t, plan, {"kRowsPerBlock", "kPad"});
  token.constants();
  selection.constants();

  selection.declare();
  token.locate();
  selection.select(token.tile, token.own, token.ids, token.warp,
                   [&] { return blockScores.row(token.selectHead, token.row, "rank_row"); });
  return token.finish(shorter, blocks);
}

/// The same at decode: all warps of a block of threads make a token's ranks from the weights of its
/// heads, then select.
BuiltKernel buildOfWeights(ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores,
                           int warps, int chunks, int shorter, int blocks) {
  KernelBuilder t(module, llvm::formatv("top_k_decode_{0}x{1}", warps, chunks).str(),
                  IdRow::title(plan, blocks), IdRow::threads(warps), 1);
  IdRow token(t, plan, scores, warps);
  BlockScores blockScores(t, plan, scores);
  HeadWeights weights(t, plan, scores);
  RowSelection selection(t, plan, scores, warps, chunks);
  const ScorePlan kept = scores.ofKeptRows();
  OctaveSelection octaves(t, plan, kept, warps);
  planConstants(t, plan, {"kBlock", "kTopK", "kLocal"});
  if (mayBeDense(plan))
    planConstants(t, plan, {"kDenseLength"});
  weights.constants(IdRow::threads(warps));
  token.constants();
  selection.constants();
  planConstants(t, plan, {"kKvHeads", "kDim"});
  Summaries(t, plan, kept).scaleConstant();

  selection.declare();
  weights.declare();
  octaves.declare();
  token.locate();
  Value row = blockScores.row(token.selectHead, token.row, "rank_row");
  Value leaves = weights.fill(token.tile, token.own, token.selectHead, token.row, row);
  selection.select(token.tile, token.own, token.ids, token.warp, [&] { return row; });
  t.leaf("sync_threads", {}); // a mark among the ids
  t.when(t.either(leaves, t.value("", "is_unordered", {token.ids})), [&] {
    Value first = t.field(t.params(), "token_begin"), end = t.field(t.params(), "token_end");
    Value place = t.add(t.mul(token.selectHead, t.sub(end, first)), t.sub(token.row, first));
    octaves.select(token.tile, token.selectHead, token.row, token.ids, octaves.room(place),
                   token.warp);
  });
  std::prev(t.builder.getInsertionPoint())->setAttr("tile.uniform", t.builder.getUnitAttr());
  BuiltKernel built = token.finish(shorter, blocks);
  launchWhen(built, decodes());
  return built;
}

} // namespace

BuiltKernel buildForced(ModuleOp module, const SelectionPlan &plan) {
  return buildOne(module, plan, ScorePlan(), 1, 0, 0);
}

std::vector<BuiltKernel> buildTopKRanks(ModuleOp module, const SelectionPlan &plan,
                                        const ScorePlan &scores) {
  std::vector<BuiltKernel> kernels;
  int shorter = RowSelection::kWarpBlocks;
  // The fused kernel holds the same rows.
  if (!scores.fused)
    kernels.push_back(buildOne(module, plan, scores, 1, 0, shorter));
  for (int warps : kWideWarps) {
    if (shorter >= kLongestSequence / plan.block)
      break;
    const int blocks = warps * RowSelection::kWarpBlocks;
    kernels.push_back(buildOne(module, plan, scores, warps, shorter, blocks));
    shorter = blocks;
  }
  if (!plan.weighsHeads())
    return kernels;
  for (BuiltKernel &kernel : kernels)
    leaveDecode(plan, kernel);
  // Few rows are made by many warps each; many by few, which find room beside the kernels before.
  auto elsewhere = [&](BuiltKernel &kernel) {
    if (scores.clusters)
      launchWhen(kernel, "cluster == 0");
  };
  const std::string few = llvm::formatv("4 * {0} * total_q <= sm_count", plan.selectHeads());
  auto add = [&](int warps, int chunks, const std::string &when, int shorter) {
    const int blocks = warps * chunks * RowSelection::kChunkBlocks;
    kernels.push_back(buildOfWeights(module, plan, scores, warps, chunks, shorter, blocks));
    if (!when.empty())
      launchWhen(kernels.back(), when);
    elsewhere(kernels.back());
    return blocks;
  };
  shorter = add(16, 1, few, 0);
  add(8, 2, "1 - (" + few + ")", 0);
  if (shorter < kLongestSequence / plan.block)
    shorter = add(16, 8, "", shorter);
  if (shorter < kLongestSequence / plan.block)
    add(32, 8, "", shorter);
  if (scores.clusters) // first, since a launch looks for a kernel that serves it
    kernels.insert(kernels.begin(), buildSelectDecode(module, plan, scores));
  return kernels;
}

} // namespace winnow
