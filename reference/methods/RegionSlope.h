// The derivatives of region ops as the fp64 reference knows them: by value, from the textbook, and
// sharing nothing with the compiler, which derives them as ops.
#pragma once
#include <string>

namespace winnow {

/// The derivative of an op's result: its operands x, their derivatives dx, its result y.
using RegionSlope = double (*)(const double *x, const double *dx, double y);
/// Null for an op that has none where its operand depends on what is derived by. Ops on numbers
/// that are no reals, as comparisons, have 0.
RegionSlope regionSlope(const std::string &op);

} // namespace winnow
