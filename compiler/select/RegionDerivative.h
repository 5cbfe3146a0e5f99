// The derivative of a method's elementwise region, as another region of the same ops: what the
// gradients of a method with a region are made from.
#pragma once
#include "dialect/select/RegionCheck.h"

namespace winnow {

/// Fills `derivative`, which is empty, with the derivative of `region` by its first argument, at
/// the same arguments, by the rule of each op (RegionOp::derivative). The region is one that
/// findRegionFault has nothing against. Returns the op that has no derivative, where there is one.
std::optional<RegionFault> deriveRegion(mlir::Region &region, mlir::Region &derivative);

} // namespace winnow
