// An elementwise region as the fp64 reference evaluates it: straight-line code that has its own
// arithmetic. Of the compiler it knows only the table of names and types in dialect/.
#pragma once
#include "dialect/select/RegionCheck.h"
#include "runtime/Error.h"
#include <functional>

namespace winnow {

/// Independent of the MLIR context that the region came from. Every fp32 value is rounded to fp32
/// as soon as it is computed, so that ranges and comparisons are those of the region's types.
class RegionCode {
public:
  /// Error: Unsupported, with the place of an op that the table does not have or this class cannot
  /// evaluate.
  static Result<RegionCode> of(mlir::Region &region);

  double operator()(double value, int position, int row) const;

private:
  using Function = std::function<double(const double *)>;
  struct Step {
    Function function;
    std::vector<size_t> operands;
  };
  static Function functionOf(mlir::Operation &op);

  size_t result = 0;
  std::vector<Step> steps; ///< a value per step, behind the three arguments
};

} // namespace winnow
