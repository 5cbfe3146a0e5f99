// Well-typed elementwise regions, drawn at random from the table of region ops: the same seed gives
// the same text.
#pragma once
#include <cstdint>
#include <string>

namespace winnow {

struct RandomRegion {
  std::string text;   ///< from "^bb0" to the yield, as it stands between the braces of 'rewrite'
  bool exact = false; ///< every back end must give the same number, bit for bit
};

/// A region over its three arguments. What jumps (comparisons, roundings, conversions to integers)
/// is applied only to values that every back end has to agree on, so that results differ by the
/// rounding of the last operation at most.
RandomRegion drawRegion(uint64_t seed);
/// A region that adds up to 2 to the logit or takes it away, by the two positions: what attention's
/// check can see through its own rounding.
RandomRegion drawBias(uint64_t seed);
/// A method whose attention has this region.
std::string methodWith(const std::string &region);

} // namespace winnow
