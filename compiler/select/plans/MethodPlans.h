// The plans of all kernels of a method: what the driver and the CPU target build from.
#pragma once
#include "compiler/select/plans/BackwardPlan.h"
#include "compiler/select/plans/SelectionPlan.h"
#include <optional>

namespace winnow {

struct MethodPlans {
  AttendPlan attend;
  std::optional<SelectionPlan> selection; ///< none where attention is to all keys
  std::optional<BackwardPlan> backward;   ///< none where no launch asks for gradients
};

/// Reads the plans off a specialised and fused method. Errors (Usage, Unsupported) carry the place
/// in the method's text.
Result<MethodPlans> planMethod(select::MethodOp method);

} // namespace winnow
