// From the method's output backward: its attention, and the selection that serves it.
#include "compiler/select/plans/MethodPlans.h"

using namespace mlir;

namespace winnow {

Result<MethodPlans> planMethod(select::MethodOp method) {
  auto output = cast<select::ReturnOp>(method.getBody().front().getTerminator()).getOutput();
  auto attend = cast<select::AttendOp>(origin(output));
  MethodPlans plans;
  if (attend.getIds()) {
    Result<SelectionPlan> selection = planSelection(attend);
    if (!selection)
      return tl::unexpected<Error>(selection.error());
    plans.selection = std::move(*selection);
  }
  Result<AttendPlan> plan = planAttend(attend, plans.selection ? &*plans.selection : nullptr);
  if (!plan)
    return tl::unexpected<Error>(plan.error());
  plans.attend = std::move(*plan);
  return plans;
}

} // namespace winnow
