// The top_k kernels over 16-bit ranks: forced blocks and the best of the rest, per token, exact and
// deterministic (SelectRow.h). One warp per row where its blocks fit the registers of a warp; else
// 16 warps per row, or 32 for small blocks at the far end. The recipe picks by the longest
// sequence.
#include "compiler/kernels/parts/IdRow.h"
#include "compiler/kernels/parts/SelectionPart.h"
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
  KernelBuilder t(module, blocks > 0 ? llvm::formatv("top_k_{0}", blocks).str() : "top_k",
                  IdRow::title(plan, blocks), IdRow::threads(warps), warps > 1 ? 1 : 4);
  IdRow token(t, plan, scores, warps);
  BlockScores blockScores(t, plan, scores);
  RowSelection selection(t, plan, scores, warps);
  planConstants(t, plan, {"kBlock", "kTopK", "kLocal"});
  if (plan.denseLength > 0)
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

} // namespace

BuiltKernel buildForced(ModuleOp module, const SelectionPlan &plan) {
  return buildOne(module, plan, ScorePlan(), 1, 0, 0);
}

std::vector<BuiltKernel> buildTopKRanks(ModuleOp module, const SelectionPlan &plan,
                                        const ScorePlan &scores) {
  std::vector<BuiltKernel> kernels;
  int shorter = RowSelection::kWarpBlocks;
  // The fused kernel holds the same rows, but decode kernels leave theirs to this one.
  if (!scores.fused || plan.keepsRows())
    kernels.push_back(buildOne(module, plan, scores, 1, 0, shorter));
  if (scores.fused && plan.keepsRows()) {
    std::string &when = kernels.back().recipe.when;
    when = llvm::formatv("{0} * {1}", when, decodes()).str();
  }
  for (int warps : kWideWarps) {
    if (shorter >= kLongestSequence / plan.block)
      break;
    const int blocks = warps * RowSelection::kWarpBlocks;
    kernels.push_back(buildOne(module, plan, scores, warps, shorter, blocks));
    shorter = blocks;
  }
  return kernels;
}

} // namespace winnow
