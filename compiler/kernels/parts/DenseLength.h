// Part: which sequences attend to every key because they are short. How short is a constant of the
// kernel where dense_len is a number, and a value of the launch where it is `auto`
// (CrossingPoints.h). Serves attention and selection.
#pragma once
#include "compiler/kernels/KernelBuilder.h"
#include "compiler/select/plans/KernelPlan.h"

namespace winnow {

/// Whether a sequence's length can make it dense.
inline bool mayBeDense(const KernelPlan &plan) { return plan.denseLength > 0 || plan.crossing; }

/// Of kernels that look at lengths where mayBeDense() alone.
inline void denseConstant(KernelBuilder &t, const KernelPlan &plan, const char *meaning) {
  if (plan.denseLength > 0)
    t.constant("kDenseLength", plan.denseLength, meaning);
}

inline mlir::Value denseLength(KernelBuilder &t, const KernelPlan &plan) {
  return plan.crossing ? t.field(t.params(), "dense_length") : t.named("kDenseLength");
}
/// Whether the tile's sequence attends to every key, and whether it is selected from.
inline mlir::Value isDense(KernelBuilder &t, const KernelPlan &plan, mlir::Value tile,
                           llvm::StringRef hint = "") {
  return t.less(t.field(tile, "k_length"), denseLength(t, plan), hint);
}
inline mlir::Value isSparse(KernelBuilder &t, const KernelPlan &plan, mlir::Value tile) {
  return t.atLeast(t.field(tile, "k_length"), denseLength(t, plan));
}

} // namespace winnow
