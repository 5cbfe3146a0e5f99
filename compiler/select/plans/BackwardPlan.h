// The plan of the backward kernels, whose only step is select.attend_backward: what the attention
// that they derive knows, and the derivative of its region.
#pragma once
#include "compiler/select/plans/AttendPlan.h"

namespace winnow {

struct BackwardPlan : AttendPlan {
  using AttendPlan::AttendPlan;
  mlir::Region *slopeHook = nullptr; ///< beside logitHook, which is that of this step
};

/// `attend`: the plan of the attention that is derived. Error: Unsupported, for a region that has
/// not one meaning on every target.
Result<BackwardPlan> planBackward(select::AttendBackwardOp backward, const AttendPlan &attend);

} // namespace winnow
