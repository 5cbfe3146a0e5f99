// The best blocks of one token by 16-bit ranks (score_row.cuh), two to a register. Serves top_k
// where scores are kept as ranks. As in top_k.cuh the threshold is found bit by bit, from the top:
// the largest one that at least as many ranks reach as are wanted; ties at it go to the smaller
// ids. The candidates are the blocks that are neither forced nor in the future; all other ranks are
// 0, which no candidate has, so that forced blocks can be written beside the search. Ranks are
// first folded to 15 bits: the packed comparison needs the sign. Lane i of a warp holds the 8
// kChunks blocks from first_block + 8 kChunks i on, so that the lanes' ids follow each other.
#pragma once
#include "winnow/score_row.cuh"
#include "winnow/top_k.cuh"

template <int kChunks> struct RankPairs {
  unsigned value[4 * kChunks]; // blocks 2i (low half) and 2i + 1 of the lane
};

// Which of the lane's blocks lie above the threshold and which at it. Of word w, bit r stands for
// block 32 w + 2 r of the lane and bit 16 + r for the one behind it.
template <int kChunks> struct BlockMarks {
  static constexpr int kWords = (4 * kChunks + 15) / 16;
  unsigned above[kWords], at[kWords];
};

// The larger of the low half of `pair` and `rank`, beside its high half.
__device__ __forceinline__ unsigned max_low(unsigned pair, unsigned rank) {
  return (pair & 0xffff0000u) | max(pair & 0xffffu, rank);
}

// The pairs of the 8 blocks from `block` on, of those in front of `end`.
template <int kChunks>
__device__ __forceinline__ void load_pairs(RankPairs<kChunks> &ranks, int chunk,
                                           const ScoreRank *row, int block, int end) {
  uint4 words = make_uint4(0, 0, 0, 0);
  if (block < end)
    words = *reinterpret_cast<const uint4 *>(row + block);
  ranks.value[4 * chunk] = words.x;
  ranks.value[4 * chunk + 1] = words.y;
  ranks.value[4 * chunk + 2] = words.z;
  ranks.value[4 * chunk + 3] = words.w;
}

// Those of them that are no candidates, [kInit, end), have rank 0.
template <int kInit>
__device__ __forceinline__ void hide_pairs(unsigned *pairs, int block, int end) {
  if (block < kInit || (block < end && block + 8 > end))
#pragma unroll
    for (int j = 0; j < 8; ++j)
      if (block + j < kInit || block + j >= end)
        pairs[j / 2] &= j % 2 == 0 ? 0xffff0000u : 0x0000ffffu;
}

// ranks = the candidates [kInit, end) of a token's row, edges pooled in by maximum, which are ranks
// or words with one; `edges` may be null. first_block is a multiple of 8.
template <int kInit, int kBlocksPerEdge, int kChunks, class Edge>
__device__ __forceinline__ void load_rank_pairs(RankPairs<kChunks> &ranks, const ScoreRank *row,
                                                const Edge *edges, int first_block, int end) {
  static_assert(kBlocksPerEdge % 4 == 0, "an edge belongs to a pair's low half");
  const int first = first_block + lane_index() * 8 * kChunks;
#pragma unroll
  for (int chunk = 0; chunk < kChunks; ++chunk) // all loads first: they are in flight together
    load_pairs(ranks, chunk, row, first + 8 * chunk, end);
#pragma unroll
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    unsigned *pairs = ranks.value + 4 * chunk;
    const int block = first + 8 * chunk;
    if (edges != nullptr)
#pragma unroll
      for (int j = 0; j < 8; j += 4)
        if ((kBlocksPerEdge == 4 || j == 0) && (block + j) % kBlocksPerEdge == 0 && block + j > 0 &&
            block + j < end)
          pairs[j / 2] = max_low(pairs[j / 2], edges[(block + j) / kBlocksPerEdge - 1]);
    hide_pairs<kInit>(pairs, block, end);
  }
}

// ranks = all candidates [kInit, end) of a token's row, of up to 256 kChunks blocks, as above but
// that the lanes' blocks lie 256 apart, 8 by 8: for counts alone, and without bank conflicts where
// the row lies in shared memory.
template <int kInit, int kBlocksPerEdge, int kChunks, class Edge>
__device__ __forceinline__ void load_all_rank_pairs(RankPairs<kChunks> &ranks, const ScoreRank *row,
                                                    const Edge *edges, int end) {
  static_assert(kBlocksPerEdge % 4 == 0, "an edge belongs to a pair's low half");
  constexpr int kEdges = kBlocksPerEdge == 4 ? 2 : 1; // of 8 blocks
  const int first = 8 * lane_index();
  unsigned edge[kChunks][kEdges];
#pragma unroll
  for (int chunk = 0; chunk < kChunks; ++chunk) { // all loads first: they are in flight together
    const int block = first + 256 * chunk;
    load_pairs(ranks, chunk, row, block, end);
#pragma unroll
    for (int i = 0; i < kEdges; ++i) {
      const int b = block + 4 * i;
      edge[chunk][i] = 0;
      if (edges != nullptr && b % kBlocksPerEdge == 0 && b > 0 && b < end)
        edge[chunk][i] = edges[b / kBlocksPerEdge - 1];
    }
  }
#pragma unroll
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    unsigned *pairs = ranks.value + 4 * chunk;
    const int block = first + 256 * chunk;
#pragma unroll
    for (int i = 0; i < kEdges; ++i)
      pairs[2 * i] = max_low(pairs[2 * i], edge[chunk][i]);
    hide_pairs<kInit>(pairs, block, end);
  }
}

// Both halves added up, over the warp.
__device__ __forceinline__ int sum_pairs(unsigned pairs) {
  return warp_sum((pairs & 0xffffu) + (pairs >> 16));
}

// Ranks of the warp in the upper half of their range.
template <int kChunks> __device__ __forceinline__ int count_upper(const RankPairs<kChunks> &ranks) {
  unsigned counts = 0;
#pragma unroll
  for (int i = 0; i < 4 * kChunks; ++i)
    counts += ranks.value[i] >> 15 & 0x00010001u;
  return sum_pairs(counts);
}

// Folds the ranks to 15 bits, around a threshold in the upper or the lower half of the range.
// Upper: lower ranks become 0, which no upper rank becomes, since 0x8000 is none. Lower: upper
// ranks become 0x7fff, which is no rank either.
template <int kChunks>
__device__ __forceinline__ void fold_ranks(RankPairs<kChunks> &ranks, bool upper) {
#pragma unroll
  for (int i = 0; i < 4 * kChunks; ++i) {
    const unsigned is_upper = (ranks.value[i] >> 15 & 0x00010001u) * 0xffffu;
    ranks.value[i] = (upper ? ranks.value[i] & is_upper : ranks.value[i] | is_upper) & 0x7fff7fffu;
  }
}

// Ranks of the warp at or above the threshold, which is not 0; known to every lane.
template <int kChunks>
__device__ __forceinline__ int count_at_least(const RankPairs<kChunks> &ranks, unsigned threshold) {
  unsigned even = 0, odd = 0;
#pragma unroll
  for (int i = 0; i < 4 * kChunks; i += 2) {
    even += at_least_pair(ranks.value[i], threshold);
    odd += at_least_pair(ranks.value[i + 1], threshold);
  }
  return sum_pairs(even + odd);
}

template <int kChunks>
__device__ __forceinline__ void mark_blocks(BlockMarks<kChunks> &marks,
                                            const RankPairs<kChunks> &ranks, unsigned threshold) {
  const unsigned all = threshold == 0 ? 0x00010001u : 0u; // every rank reaches 0
#pragma unroll
  for (int word = 0; word < marks.kWords; ++word) {
    unsigned above = 0, reached = 0;
#pragma unroll
    for (int r = 0; r < 16 && 16 * word + r < 4 * kChunks; ++r) {
      const unsigned pair = ranks.value[16 * word + r];
      above |= at_least_pair(pair, threshold + 1) << r;
      reached |= (at_least_pair(pair, threshold) | all) << r;
    }
    marks.above[word] = above;
    marks.at[word] = reached & ~above;
  }
}

template <int kWords> __device__ __forceinline__ int count_bits(const unsigned (&words)[kWords]) {
  int count = 0;
#pragma unroll
  for (int word = 0; word < kWords; ++word)
    count += __popc(words[word]);
  return count;
}

// Blocks of the warp above the threshold, and at it; known to every lane.
template <int kChunks>
__device__ __forceinline__ int marked_above(const BlockMarks<kChunks> &marks) {
  return warp_sum(count_bits(marks.above));
}
template <int kChunks> __device__ __forceinline__ int marked_at(const BlockMarks<kChunks> &marks) {
  return warp_sum(count_bits(marks.at));
}

// ids = the blocks above the threshold and the first of those at it, ascending. `above` and
// `equal`: ids in front of the warp's, of either kind (`above` counts forced ones as well); `ties`:
// how many at the threshold may be selected in all.
template <int kChunks>
__device__ __forceinline__ void store_marked(int *ids, const BlockMarks<kChunks> &marks,
                                             int first_block, int above, int equal, int ties) {
  const unsigned mine = count_bits(marks.above) | count_bits(marks.at) << 16;
  unsigned before = mine; // inclusive sums over the lanes, two counts at a time
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const unsigned other = __shfl_up_sync(kFullWarp, before, distance);
    before += lane_index() >= distance ? other : 0;
  }
  before -= mine;
  equal += before >> 16;
  int at = above + (before & 0xffffu) + min(equal, ties), left = ties - equal;
  const int first = first_block + lane_index() * 8 * kChunks;
#pragma unroll
  for (int word = 0; word < marks.kWords; ++word) {
    unsigned either = marks.above[word] | marks.at[word];
    while (either != 0) {
      const int r = __ffs((either | either >> 16) & 0xffffu) - 1;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const unsigned bit = 1u << (r + 16 * half);
        if ((either & bit) != 0 && ((marks.above[word] & bit) != 0 || left-- > 0))
          ids[at++] = first + 32 * word + 2 * r + half;
      }
      either &= ~(0x00010001u << r);
    }
  }
}

// ids[at, at + count) = block, block + 1, ...; by one warp.
__device__ __forceinline__ void store_range(int *ids, int at, int block, int count) {
  for (int i = lane_index(); i < count; i += 32)
    ids[at + i] = block + i;
}
