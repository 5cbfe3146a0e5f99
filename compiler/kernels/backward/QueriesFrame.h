// What the skeletons of the gradients of queries have in common: the parts, and what a warp keeps
// of its rows while it goes through the keys.
#pragma once
#include "compiler/kernels/attend/Frame.h"
#include "compiler/kernels/backward/Backward.h"
#include "compiler/kernels/parts/Changes.h"

namespace winnow {

class QueriesFrame : protected TokensFrame {
protected:
  /// `owner`: who owns the tokens of a tile, for the title.
  QueriesFrame(mlir::ModuleOp module, const BackwardPlan &plan, const AttendSizes &sizes,
               const char *owner, int threads)
      : TokensFrame(module, "backward_queries",
                    llvm::formatv("backward_queries of {0}: the gradient of the queries of {1} "
                                  "tokens of {2} query heads, {3}.",
                                  plan.method, sizes.tokens, plan.group, owner)
                        .str(),
                    plan, sizes, threads),
        changes(t, plan) {}

  void constants() {
    t.constant("kSoftmaxScale", plan.scale, "what a logit has been multiplied by");
    logits.constants();
  }
  void declareRegions() {
    logits.declareRegion(/*takesFactors=*/false);
    changes.declareRegion();
  }
  void declareSums() {
    row.output = t.fragment("query_gradient", t.type("Accumulator", {16, "@kDim"}));
  }
  void declareGradient() {
    declareSums();
    statistics = t.fragment("statistics", t.type("RowStatistics"));
  }
  void loadStatistics(Value firstHead) {
    t.leaf("load_statistics",
           {statistics, backwardBuffer(t, BackwardBuffer::Statistics), row.rows, firstHead,
            t.field(t.params(), "total_q")},
           {"@kTileHeads"});
  }
  void storeGradient(const RowTile &r, Value firstHead) {
    t.leaf("store_query_gradient",
           {t.pointer("dq"), r.output, r.rows, firstHead, t.namedReal("kSoftmaxScale")},
           {"@kHeads", plan.element});
  }

  Changes changes;
  RowTile row;
  Value statistics;
};

/// The kernel on warpgroups, of these sizes. Appends the tensor maps that it reads to `maps`.
BuiltKernel buildQueriesOnWarpgroups(mlir::ModuleOp module, const BackwardPlan &plan,
                                     const AttendSizes &sizes, std::vector<TensorMapRecipe> &maps);

} // namespace winnow
