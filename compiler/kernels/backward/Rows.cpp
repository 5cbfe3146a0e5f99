// The backward_rows kernel: what both sides of the gradients need of each query row, and the list
// of all kernels of a launch of gradients.
#include "compiler/kernels/backward/Backward.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {

/// Rows of one block of threads, a warp each.
static constexpr int kRows = 8;

BuiltKernel buildBackwardRows(ModuleOp module, const BackwardPlan &plan) {
  KernelBuilder t(
      module, "backward_rows",
      llvm::formatv("backward_rows of {0}: log-sum-exp and sum of dO * out of each query "
                    "row, a warp each.",
                    plan.method)
          .str(),
      32 * kRows, 1);
  t.constant("kHeads", plan.heads, "query heads");
  t.constant("kValueDim", plan.valueDim, "elements of one value or output row");
  t.constant("kRows", kRows, "rows of one block of threads");
  Value row =
      t.add(t.mul(t.blockIndex('x'), t.named("kRows")), t.value("warp", "warp_index"), "row");
  t.leaf("store_statistics",
         {backwardBuffer(t, BackwardBuffer::Statistics), t.pointer("out"), t.pointer("dout"),
          t.pointer("lse"), row, t.field(t.params(), "total_q")},
         {"@kHeads", "@kValueDim", plan.element});
  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "backward";
  built.recipe.gridX = llvm::formatv("ceil_div(total_q * {0}, {1})", plan.heads, kRows).str();
  built.recipe.gridY = "1";
  return built;
}

Result<std::vector<BuiltKernel>> buildBackward(ModuleOp module, const BackwardPlan &plan,
                                               const Target &target, ProgramImage &image) {
  std::vector<BuiltKernel> kernels{buildBackwardRows(module, plan)};
  auto buffer = [&](const char *name, const std::string &bytes) {
    image.backwardBuffers.push_back({name, bytes});
  };
  buffer("row_statistics", llvm::formatv("8 * total_q * {0}", plan.heads).str());
  if (plan.selects()) {
    const std::string slots =
        llvm::formatv("{0} * (total_k / {1} + batch)", selections(plan), plan.block).str();
    buffer("token_bits", slots + " * ceil_div(max_q, 256) * 32");
    buffer("token_ranges", "8 + 8 * " + slots);
    buffer("token_lists", llvm::formatv("4 * total_q * {0}", selections(plan) * plan.topk).str());
    describeRanges(plan, image);
    kernels.push_back(buildBackwardMarks(module, plan));
    kernels.push_back(buildBackwardLists(module, plan));
  }
  Config config = image.config;
  WINNOW_TRY(BuiltKernel queries,
             buildBackwardQueries(module, plan, target, config, image.backwardMaps));
  kernels.push_back(std::move(queries));
  WINNOW_TRY(BuiltKernel keys, buildBackwardKeys(module, plan, target));
  kernels.push_back(std::move(keys));
  if (plan.selects())
    kernels.push_back(buildBackwardJoin(module, plan));
  kernels.back().config = config;
  return kernels;
}

} // namespace winnow
