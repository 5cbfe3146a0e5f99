// The search of decode_step: the best blocks of a token by ranks that several warps hold.
#pragma once
#include "winnow/block_ranks.cuh"
#include "winnow/cluster_selection.cuh"

// By kWarps warps, each of which holds the ranks of some blocks from `first_block` on, and which
// meet at barrier `barrier`: ids = the best kSearched of a token's candidates, ascending, from
// ids[kInit] on; or a mark where fp32 may have lost their order. As of block_ranks.cuh, two bits at
// a time; the counts of three thresholds go as one word.
template <int kSearched, int kInit, int kWarps, int kChunks>
__device__ __forceinline__ void select_by_warps(int *ids, RankPairs<kChunks> &ranks,
                                                const WarpCounts<2 * kWarps> &counts, int own,
                                                int first_block, int barrier) {
  static_assert(256 * kChunks < 1024, "counts of a warp in 10 bits");
  const int warp = warp_index();
  int turn = 0;
  auto told = [&](int value) { // by all warps; a barrier lies between the uses of either half
    turn = kWarps - turn;
    if (lane_index() == 0)
      counts.values[turn + warp] = value;
    sync_some(barrier, 32 * kWarps);
    return counts.values + turn;
  };
  const int *all = told(count_upper(ranks));
  int upper = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i)
    upper += all[i];
  const bool is_upper = upper >= kSearched;
  fold_ranks(ranks, is_upper);
  ThresholdSearch search;
  start_search<kSearched>(search, own);
#pragma unroll 1
  for (int shift = 14; shift >= 0 && is_open(search); shift -= 2) {
    unsigned mine = 0;
#pragma unroll
    for (int digit = 1; digit <= 3; ++digit) {
      const unsigned threshold =
          min(search.threshold + (static_cast<unsigned>(digit) << shift), 0x8000u);
      unsigned even = 0, odd = 0;
#pragma unroll
      for (int i = 0; i < 4 * kChunks; i += 2) {
        even += at_least_pair(ranks.value[i], threshold);
        odd += at_least_pair(ranks.value[i + 1], threshold);
      }
      const unsigned pairs = even + odd;
      mine |= ((pairs & 0xffffu) + (pairs >> 16)) << 10 * (digit - 1);
    }
    const int *parts = told(warp_sum(static_cast<int>(mine)));
    int count[3] = {};
#pragma unroll
    for (int i = 0; i < kWarps; ++i)
#pragma unroll
      for (int digit = 0; digit < 3; ++digit)
        count[digit] += parts[i] >> 10 * digit & 1023;
#pragma unroll
    for (int digit = 2; digit >= 0; --digit)
      if (count[digit] >= search.wanted) {
        search.threshold += static_cast<unsigned>(digit + 1) << shift;
        search.reached = count[digit];
        break;
      }
  }
  BlockMarks<kChunks> marks;
  mark_blocks(marks, ranks, search.threshold);
  const int *both = told(warp_sum(count_bits(marks.above) | count_bits(marks.at) << 16));
  int above = 0, equal = 0, above_before = 0, equal_before = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) {
    if (i == warp) {
      above_before = above;
      equal_before = equal;
    }
    above += both[i] & 0xffff;
    equal += both[i] >> 16;
  }
  if (!folded_leaves_order(search, is_upper))
    store_marked(ids, marks, first_block, kInit + above_before, equal_before, kSearched - above);
  else if (warp == 0)
    mark_list_unordered(ids);
}
