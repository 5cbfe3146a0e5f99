// What the parts of attend kernels share. A part is one aspect of a kernel: its constants, what it
// declares, and one or two verbs. It knows other parts by the rows and keys that they hand over,
// and of the skeleton that uses it nothing: order, roles and waiting are the skeleton's.
#pragma once
#include "compiler/kernels/KernelBuilder.h"
#include "compiler/select/plans/AttendPlan.h"

namespace winnow {

/// What a warp holds of 16 rows of queries: tokens x the query heads that share a selection.
struct RowTile {
  std::string suffix;          ///< of names: "" where a warp has one row tile, else "0" or "1"
  mlir::Value index;           ///< number in the tile of tokens
  mlir::Value rows;            ///< QueryRows: tokens, heads, positions
  mlir::Value scale;           ///< of its logits, where keys are fp8: LogitScale
  mlir::Value query;           ///< in registers, or a warpgroup's tile in shared memory
  mlir::Value wants;           ///< a bit for each token that wants the key tile at hand
  mlir::Value logits, weights; ///< of the keys at hand
  mlir::Value output, state;   ///< of all keys so far: sums of weighted values, SoftmaxState
};

/// The keys at hand: one key tile, or a step of several, each of which other tokens may want.
struct KeysAtHand {
  mlir::Value first; ///< the tile's first key, counted in its sequence
  mlir::Value step;  ///< in the place of `first`: StepKeys, which knows where each tile's keys lie
                     ///< and who wants them
  mlir::Value sums;  ///< with `step`: StepSums, the row sums of this step's weights
};

class Part {
public:
  Part(KernelBuilder &t, const AttendPlan &plan) : t(t), plan(plan) {}

protected:
  using Value = mlir::Value;
  /// The key/value head of a tile of heads.
  Value kvHeadOf(Value firstHead) {
    return t.div(firstHead, t.div(t.named("kHeads"), t.named("kKvHeads")), "kv_head");
  }
  /// What turns a logit of the row tile into an exponent of 2, or before the method's region where
  /// there is one.
  Value scaleOf(const RowTile &r, llvm::StringRef constant) {
    const bool isFirst = (constant == "kLogitScale") == (plan.logitHook != nullptr);
    return r.scale && isFirst ? t.value("", "scale_of", {r.scale}) : t.namedReal(constant);
  }
  KernelBuilder &t;
  const AttendPlan &plan;
};

} // namespace winnow
