// Looks at an elementwise region with the table of region ops in hand.
#pragma once
#include "dialect/select/RegionOps.h"
#include "dialect/select/Select.h"
#include <optional>

namespace winnow {

/// The op's entry, or null.
const RegionOp *regionOpOf(mlir::Operation *op);
/// The types of an op as the table writes them: "f32, f32 -> f32".
std::string signatureOf(mlir::Operation *op);

/// The first op of a region that the table does not have, in these types, and why in one sentence
/// without its place.
struct RegionFault {
  mlir::Operation *op;
  std::string why;
};
std::optional<RegionFault> findRegionFault(mlir::Region &region);

} // namespace winnow
