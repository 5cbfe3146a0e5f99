// The kTopK best blocks of one token, by bisection over 32-bit ranks that stay in registers.
// Serves top_k. Ranks order like scores: forced blocks have the largest rank, blocks that may not
// be selected rank 0. The search fixes one bit of the threshold after the other, from the top: the
// largest threshold that at least k ranks reach. Ties at the threshold go to the smaller ids. The
// result does not depend on tile sizes: deterministic. A warp holds 32 * kRanksPerLane consecutive
// blocks; lane i's rank j is block first_block + 32 j + i.
#pragma once

template <int kRanksPerLane> struct BlockRanks {
  static_assert(kRanksPerLane % 8 == 0, "ranks are skipped by groups of 8");
  unsigned value[kRanksPerLane];
  int used; // ranks from `used` on (a multiple of 8) lie behind the token's own block
};

// The bisection: the threshold's bits so far, how many ranks reach it, and how many are wanted.
struct ThresholdSearch {
  unsigned threshold = 0;
  int reached = -1; // not counted yet
  int wanted;
};

// Begins the search for the selection of a token in block `own`: at most kTopK blocks, at most all
// up to its own.
template <int kTopK>
__device__ __forceinline__ void start_search(ThresholdSearch &search, int own) {
  search.wanted = max(0, min(kTopK, own + 1));
}

// The first of the blocks up to `own` that are forced: all of them where all can be selected, else
// the last kLocal.
template <int kTopK, int kLocal> __device__ __forceinline__ int first_forced(int own) {
  return own < kTopK ? 0 : own - kLocal + 1;
}

// Ids of one token: [select_heads, total_q, kTopK].
template <int kTopK>
__device__ __forceinline__ int *id_row(int *ids, int select_head, int total_q, int row) {
  return ids + (static_cast<long long>(select_head) * total_q + row) * kTopK;
}

// An fp32 score as an unsigned rank of the same order, in [1, 2^32 - 2]; NaN of either sign has a
// fixed place as well.
__device__ __forceinline__ unsigned order_rank(float score) {
  const unsigned bits = __float_as_uint(score + 0.f); // -0 and +0 are equal scores
  const unsigned rank = bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
  return min(max(rank, 1u), 0xfffffffeu);
}

// ranks = the row's block scores, edges pooled in. Blocks below kInit and in [forced_from, own] are
// forced; blocks behind `own` are excluded. Scores are read only below forced_from. kBlocksPerEdge
// = 32 / kRowsPerBlock; `edges`: the row's edges, or null where windows do not reach over blocks.
template <class Pool, int kInit, int kBlocksPerEdge, int kRanksPerLane>
__device__ __forceinline__ void load_ranks(BlockRanks<kRanksPerLane> &ranks, const float *blocks,
                                           const float *edges, int first_block, int forced_from,
                                           int own) {
  ranks.used = max(0, own + 1 - first_block + 255) / 256 * 8;
  const int block = first_block + lane_index();
#pragma unroll
  for (int j = 0; j < kRanksPerLane; ++j) { // all loads first: they are in flight together
    const int b = block + 32 * j;
    ranks.value[j] = __float_as_uint(load_if(b < forced_from, blocks + b, 0.f));
  }
  constexpr int kLaneEdge =
      kBlocksPerEdge < 32 ? kBlocksPerEdge : 32; // of a lane's blocks, 32 apart
  const bool has_edge = edges != nullptr && block % kLaneEdge == 0;
#pragma unroll
  for (int group = 0; group < kRanksPerLane; group += 8) {
    float edge[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int b = block + 32 * (group + j);
      edge[j] = load_if(has_edge && b % kBlocksPerEdge == 0 && b > 0 && b < forced_from,
                        edges + b / kBlocksPerEdge - 1, Pool::kIdentity);
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int b = block + 32 * (group + j);
      const float score = Pool::combine(__uint_as_float(ranks.value[group + j]), edge[j]);
      const bool forced = b < kInit || b >= forced_from;
      ranks.value[group + j] = b > own ? 0u : forced ? 0xffffffffu : order_rank(score);
    }
  }
}

// True while the threshold is not yet exact: more ranks than wanted reach it.
__device__ __forceinline__ bool is_open(const ThresholdSearch &search) {
  return search.reached != search.wanted;
}

// The threshold with bit 31 - step set as well.
__device__ __forceinline__ unsigned next_threshold(const ThresholdSearch &search, int step) {
  return search.threshold | 0x80000000u >> step;
}

// Ranks of the warp at or above the threshold, known to every lane.
template <int kRanksPerLane>
__device__ __forceinline__ int count_at_least(const BlockRanks<kRanksPerLane> &ranks,
                                              unsigned threshold) {
  int count = 0;
#pragma unroll
  for (int group = 0; group < kRanksPerLane; group += 8)
    if (group < ranks.used)
#pragma unroll
      for (int j = group; j < group + 8; ++j)
        count += ranks.value[j] >= threshold;
  return warp_sum(count);
}

// Ranks of the warp above the threshold, known to every lane.
template <int kRanksPerLane>
__device__ __forceinline__ int count_above(const BlockRanks<kRanksPerLane> &ranks,
                                           unsigned threshold) {
  int count = 0;
#pragma unroll
  for (int group = 0; group < kRanksPerLane; group += 8)
    if (group < ranks.used)
#pragma unroll
      for (int j = group; j < group + 8; ++j)
        count += ranks.value[j] > threshold;
  return warp_sum(count);
}

// Keeps the threshold if enough ranks reach it.
__device__ __forceinline__ void narrow(ThresholdSearch &search, unsigned threshold, int count) {
  if (count >= search.wanted) {
    search.threshold = threshold;
    search.reached = count;
  }
}

// ids[0, kTopK) of one row = the selected blocks, ascending, then -1. `above` and `equal`: how many
// ranks of warps with smaller blocks lie above and at the threshold; `ties`: how many ranks at the
// threshold may be selected in all.
template <int kRanksPerLane>
__device__ __forceinline__ void store_ids(int *ids, const BlockRanks<kRanksPerLane> &ranks,
                                          unsigned threshold, int first_block, int above, int equal,
                                          int ties) {
  const unsigned before = (1u << lane_index()) - 1;
#pragma unroll
  for (int group = 0; group < kRanksPerLane; group += 8)
    if (group < ranks.used)
#pragma unroll
      for (int j = group; j < group + 8; ++j) {
        const unsigned rank = ranks.value[j];
        const unsigned is_above = __ballot_sync(kFullWarp, rank > threshold);
        const unsigned is_equal = __ballot_sync(kFullWarp, rank == threshold);
        const int my_above = above + __popc(is_above & before),
                  my_equal = equal + __popc(is_equal & before);
        if (rank > threshold || (rank == threshold && my_equal < ties))
          ids[my_above + min(my_equal, ties)] = first_block + 32 * j + lane_index();
        above += __popc(is_above);
        equal += __popc(is_equal);
      }
}

// ids[from, kTopK) of one row = -1, by one warp.
template <int kTopK> __device__ __forceinline__ void pad_ids(int *ids, int from) {
  for (int i = from + lane_index(); i < kTopK; i += 32)
    ids[i] = -1;
}

//===-- Rows that several warps share ---------------------------------------------------------===//

// One number per warp in shared memory: 4 * kWarps bytes. A sync_threads lies between stores and
// reads.
template <int kWarps> struct WarpCounts {
  static constexpr int kBytes = 4 * kWarps;
  int *values;
  explicit __device__ __forceinline__ WarpCounts(unsigned char *bytes)
      : values(reinterpret_cast<int *>(bytes)) {}
};

template <int kWarps>
__device__ __forceinline__ void store_count(const WarpCounts<kWarps> &counts, int warp, int count) {
  if (lane_index() == 0)
    counts.values[warp] = count;
}

// Sum over all warps.
template <int kWarps> __device__ __forceinline__ int total_count(const WarpCounts<kWarps> &counts) {
  static_assert(kWarps <= 32, "one lane per warp");
  return warp_sum(lane_index() < kWarps ? counts.values[lane_index()] : 0);
}

// Of a search by digits, in which each warp counts all ranks of a row for a threshold of its own:
// the one whose next digit, from bit `shift` on, is `warp` + 1. Of ranks below 2^15.
__device__ __forceinline__ unsigned threshold_of_warp(const ThresholdSearch &search, int shift,
                                                      int warp) {
  return min(search.threshold + (static_cast<unsigned>(warp + 1) << shift), 0x8000u);
}

// Sets that digit to the largest one that enough ranks reach. Counts fall from warp to warp.
template <int kWarps>
__device__ __forceinline__ void narrow_digit(ThresholdSearch &search,
                                             const WarpCounts<kWarps> &counts, int shift) {
  static_assert(kWarps <= 32, "one lane per warp");
  const int count = lane_index() < kWarps ? counts.values[lane_index()] : -1;
  const int digit = __popc(__ballot_sync(kFullWarp, count >= search.wanted));
  if (digit > 0) {
    search.threshold += static_cast<unsigned>(digit) << shift;
    search.reached = counts.values[digit - 1];
  }
}

// Sum over the warps before `warp`.
template <int kWarps>
__device__ __forceinline__ int count_before(const WarpCounts<kWarps> &counts, int warp) {
  return warp_sum(lane_index() < warp ? counts.values[lane_index()] : 0);
}
