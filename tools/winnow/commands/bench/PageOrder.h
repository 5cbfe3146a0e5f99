// Where the pages of `winnow bench decode` lie in their pool.
#pragma once
#include "reference/conformance/Random.h"
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace winnow {

/// The places 0 to pages - 1 in random order, but for runs of `run` of them (the pool's last one
/// may be shorter), which stay as they are: page i of all sequences, one behind the other, lies at
/// element i.
inline std::vector<int32_t> pageOrder(int pages, int run, uint64_t seed) {
  std::vector<int32_t> runs((pages + run - 1) / run);
  std::iota(runs.begin(), runs.end(), 0);
  for (size_t i = runs.size(); i > 1; --i)
    std::swap(runs[i - 1], runs[randomBits(seed, i) % i]);
  std::vector<int32_t> places;
  places.reserve(pages);
  for (const int64_t which : runs)
    for (int64_t place = which * run; place < std::min<int64_t>((which + 1) * run, pages); ++place)
      places.push_back(static_cast<int32_t>(place));
  return places;
}

} // namespace winnow
