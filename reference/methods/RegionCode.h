// An elementwise region as the fp64 reference evaluates it: straight-line code that has its own
// arithmetic. Of the compiler it knows only the table of names and types in dialect/.
#pragma once
#include "dialect/select/RegionCheck.h"
#include "reference/methods/RegionSlope.h"
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
  /// The derivative by the value, at the same arguments, in fp64: each step's by its operands,
  /// where it jumps that of one side (RegionSlope.h).
  double slope(double value, int position, int row) const;
  /// Whether it has one: no step that depends on the value is without a derivative.
  bool hasSlope() const { return differentiable; }

private:
  using Function = std::function<double(const double *)>;
  struct Step {
    Function function;
    RegionSlope slope; ///< null: it does not depend on the value
    std::vector<size_t> operands;
  };
  static Function functionOf(mlir::Operation &op);
  /// The values of all steps, behind the arguments.
  std::vector<double> run(double value, int position, int row) const;

  bool differentiable = true;
  size_t result = 0;
  std::vector<Step> steps; ///< a value per step, behind the three arguments
};

} // namespace winnow
