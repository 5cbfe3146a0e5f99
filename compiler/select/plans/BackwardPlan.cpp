// Reads a BackwardPlan off its step.
#include "compiler/select/plans/BackwardPlan.h"

namespace winnow {

Result<BackwardPlan> planBackward(select::AttendBackwardOp backward, const AttendPlan &attend) {
  BackwardPlan plan;
  static_cast<AttendPlan &>(plan) = attend;
  if (backward.getRewrite().empty())
    return plan;
  plan.logitHook = &backward.getRewrite();
  plan.slopeHook = &backward.getDerivative();
  WINNOW_CHECK(checkHook(plan.logitHook));
  return checkHook(plan.slopeHook).map([&] { return plan; });
}

} // namespace winnow
