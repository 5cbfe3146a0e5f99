// Between which scores fp32 surely orders as real numbers do: where a row's threshold lies outside,
// overflow and underflow may have decided, and rescore selects again. Serves top_k; simple enough
// for a host test. Included after top_k.cuh.
#pragma once

// Whether a row's threshold of 32-bit ranks (order_rank) lies outside 2^-63 to 2^60. Rows of up to
// kTopK blocks have no threshold, and 0xffffffff stands for forced blocks.
template <int kTopK>
__device__ __forceinline__ bool leaves_order(const ThresholdSearch &search, int own) {
  constexpr unsigned kLowest = 0xa0000000u, kHighest = 0xdd800000u;
  return own >= kTopK && search.threshold != 0xffffffffu &&
         (search.threshold < kLowest || search.threshold > kHighest);
}

// The same for 16-bit ranks that were folded to 15 bits (fold_ranks): those of 2^-60 and 2^60.
__device__ __forceinline__ bool folded_leaves_order(const ThresholdSearch &search, bool upper) {
  constexpr unsigned kLowest = 12147, kHighest = 52869 - 0x8000;
  return upper ? search.threshold > kHighest : search.threshold < kLowest;
}
