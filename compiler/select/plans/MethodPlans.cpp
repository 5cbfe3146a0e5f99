// From the method's output backward: its attention, and the selection that serves it.
#include "compiler/select/plans/MethodPlans.h"

using namespace mlir;

namespace winnow {

Result<MethodPlans> planMethod(select::MethodOp method) {
  auto result = cast<select::ReturnOp>(method.getBody().front().getTerminator());
  auto attend = cast<select::AttendOp>(origin(result.getOutput()));
  MethodPlans plans;
  if (attend.getIds()) {
    WINNOW_TRY(plans.selection, planSelection(attend));
  }
  WINNOW_TRY(plans.attend, planAttend(attend, plans.selection ? &*plans.selection : nullptr));
  if (result.getGradients()) {
    auto backward = cast<select::AttendBackwardOp>(origin(result.getGradients()));
    WINNOW_TRY(plans.backward, planBackward(backward, plans.attend));
  }
  return plans;
}

} // namespace winnow
