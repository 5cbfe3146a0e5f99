// Reads an AttendPlan off its step.
#include "compiler/select/plans/AttendPlan.h"

namespace winnow {

Result<AttendPlan> planAttend(select::AttendOp attend, const SelectionPlan *selection) {
  AttendPlan plan(attend);
  plan.valueDim =
      number(attend->getParentOfType<select::MethodOp>().getSpecAttr().get("value_dim"));
  plan.selective = selection != nullptr;
  if (selection) {
    plan.group = selection->group;
    plan.init = selection->init;
    plan.local = selection->local;
  }
  plan.logitHook = attend.getRewrite().empty() ? nullptr : &attend.getRewrite();
  return checkHook(plan.logitHook).map([&] { return plan; });
}

} // namespace winnow
