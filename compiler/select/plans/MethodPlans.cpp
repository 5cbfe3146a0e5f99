// From the method's output backward: its attention, and the selection that serves it.
#include "compiler/select/plans/MethodPlans.h"

using namespace mlir;

namespace winnow {

Result<MethodPlans> planMethod(select::MethodOp method) {
  auto output = cast<select::ReturnOp>(method.getBody().front().getTerminator()).getOutput();
  auto attend = cast<select::AttendOp>(origin(output));
  MethodPlans plans;
  if (attend.getIds()) {
    WINNOW_TRY(plans.selection, planSelection(attend));
  }
  WINNOW_TRY(plans.attend, planAttend(attend, plans.selection ? &*plans.selection : nullptr));
  return plans;
}

} // namespace winnow
