// Scores on warpgroups: 64 query rows against 128 summaries at a time, reduced to block scores in
// the thread. Serves score on targets with warpgroup products. An mma tile is 32 tokens x 2 heads:
// its row 16w + 8h + g is token 8w + g with head 2p + h (pair p of the group's heads), so that a
// thread meets one token and, over the mma tiles of a token set, all its heads; the summaries'
// order (summary_order.cuh) gives it 32 consecutive ones. A group of one head has 64 tokens in an
// mma tile instead, h being the upper bit of the token. Logits are exponents of 2 once they are
// multiplied by `scale`, which is 1 where the summaries already hold the factor.
#pragma once
#include "winnow/scoring.cuh"
#include "winnow/summary_images.cuh"

// The thread's token of half `half` of an mma tile: index in the token tile.
template <int kGroup> __device__ __forceinline__ int tile_token(int mma_tile, int half) {
  const int in_tile = thread_index() % 128 / 4;
  return kGroup == 1 ? mma_tile * 64 + half * 32 + in_tile
                     : mma_tile / head_pairs(kGroup) * 32 + in_tile;
}

// Starts copying an mma tile of queries: heads [head, head + 2) of tokens [row, row + 32), or one
// head of 64. Tokens behind the last one arrive as zero. The map's box is 64 columns x 8 tokens x 2
// heads (1 for a group of one). By one thread.
template <int kGroup, int kDim, class T>
__device__ __forceinline__ void copy_query_tile(const PanelTile<64, kDim, T> &tile,
                                                const TensorMap &map, unsigned barrier, int head,
                                                int row) {
#pragma unroll
  for (int panel = 0; panel < tile.kPanels; ++panel)
#pragma unroll
    for (int warp = 0; warp < 4; ++warp)
#pragma unroll
      for (int half = 0; half < (kGroup == 1 ? 2 : 1); ++half)
        copy_box(tile.base + panel * tile.kPanelBytes + warp * 2048 + half * 1024, map, barrier,
                 64 * panel, row + 8 * warp + 32 * half, head);
}

//===-- Order ---------------------------------------------------------------------------------===//

// Which consumer takes the next tile: tiles are dealt in turn, over all items of the block of
// threads, so that odd counts even out.
template <int kConsumers> struct Deal {
  int next = 0; // the consumer whose turn it is
};

// The first of the coming tiles that `consumer` gets.
template <int kConsumers>
__device__ __forceinline__ int first_dealt(const Deal<kConsumers> &deal, int consumer) {
  const int turns = consumer - deal.next;
  return turns < 0 ? turns + kConsumers : turns;
}

template <int kConsumers>
__device__ __forceinline__ void deal_out(Deal<kConsumers> &deal, int tiles) {
  deal.next = (deal.next + tiles) % kConsumers;
}

// Moves the cursor over `stages` stages, at most a whole turn.
template <int kStages> __device__ __forceinline__ void skip(Cursor<kStages> &cursor, int stages) {
  cursor.stage += stages;
  const bool wraps = cursor.stage >= kStages;
  cursor.stage -= wraps ? kStages : 0;
  cursor.phase ^= wraps;
}

// `times` arrivals on the empty barrier for the warp, after all its lanes' earlier accesses.
template <int kStages>
__device__ __forceinline__ void release_times(const RingBarriers<kStages> &barriers,
                                              const Cursor<kStages> &cursor, int times) {
  __syncwarp();
  if (lane_index() == 0)
    arrive_times(barriers.empty(cursor.stage), times);
}

//===-- Normaliser ----------------------------------------------------------------------------===//

// Raises the maxima of both halves of mma tile m: at the first tile, whose maximum serves for all
// later ones as well.
template <int kTiles>
__device__ __forceinline__ void raise_maxima(LogSumExp<kTiles> &state, int m,
                                             const Accumulator<16, 128> &logits, float scale) {
#pragma unroll
  for (int half = 0; half < 2; ++half)
    raise_maximum(state, m, half, logits, scale);
}

template <int kCubicEvery>
__device__ __forceinline__ float sum_exponentials(const Accumulator<16, 128> &logits, int half,
                                                  float scale, float maximum) {
  float even = 0.f, odd = 0.f;
#pragma unroll
  for (int j = 0; j < 32; j += 2) {
    even += exp2_of_column<kCubicEvery>(fmaf(logit_of(logits, half, j), scale, -maximum), j);
    odd += exp2_of_column<kCubicEvery>(fmaf(logit_of(logits, half, j + 1), scale, -maximum), j + 1);
  }
  return even + odd;
}

// Adds the thread's 32 summaries of mma tile m to its running sums. A maximum that a later logit
// exceeds by far is raised: when the sum shows it, which is rare, while to look for a maximum each
// time would cost a comparison per logit.
template <int kCubicEvery, int kTiles>
__device__ __forceinline__ void add_tile_exponentials(LogSumExp<kTiles> &state, int m,
                                                      const Accumulator<16, 128> &logits,
                                                      float scale) {
  constexpr float kLargest = 1.2676506e30f; // 2^100: hundreds of tiles of this size stay finite
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = sum_exponentials<kCubicEvery>(logits, half, scale, state.maximum[m][half]);
    if (!(sum < kLargest)) {
      raise_maximum(state, m, half, logits, scale);
      sum = sum_exponentials<0>(logits, half, scale, state.maximum[m][half]);
    }
    state.sum[m][half] += sum;
  }
}

// Completes the sums over the lanes of a quad. Afterwards `maximum` holds the normaliser, log2 of
// the sum over all summaries of 2^(scale logit); +inf where no summary is visible, so that every
// score becomes 0.
template <int kTiles> __device__ __forceinline__ void finish_normalizers(LogSumExp<kTiles> &state) {
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float maximum = state.maximum[m][half];
      maximum = fmaxf(maximum, __shfl_xor_sync(kFullWarp, maximum, 1));
      maximum = fmaxf(maximum, __shfl_xor_sync(kFullWarp, maximum, 2));
      float sum = state.sum[m][half] * exp2_fast(state.maximum[m][half] - maximum);
      sum += __shfl_xor_sync(kFullWarp, sum, 1);
      sum += __shfl_xor_sync(kFullWarp, sum, 2);
      state.maximum[m][half] = maximum > -1e29f ? maximum + log2_fast(sum) : kInfinity;
    }
}

// Whether a normaliser of the thread's rows is too large or too small for weights
// (kLargestWeight). A row without a normaliser is too large as well (a weight of 0 times an
// infinite power is NaN); rows behind the last token do not count. `first_tile`: the first of the
// warpgroup's mma tiles.
template <int kGroup, int kMmaTiles, int kTiles>
__device__ __forceinline__ bool leaves_weights(const LogSumExp<kTiles> &state, int first_tile,
                                               int tokens) {
  bool leaves = false;
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float value = state.maximum[m][half];
      const int head = (first_tile + m) % head_pairs(kGroup) * 2 + half;
      leaves |= fabsf(value) > kLargestWeight && first_tile + m < kMmaTiles &&
                (kGroup == 1 || kGroup % 2 == 0 || head < kGroup) && // a half may have no head
                tile_token<kGroup>(first_tile + m, half) < tokens;
    }
  return leaves;
}

// The thread's rows of mma tile `mma_tile` in the table: 64 rows per mma tile, as [half][32].
template <int kRows>
__device__ __forceinline__ float *normalizer_entry(const NormalizerTable<kRows> &table,
                                                   int mma_tile) {
  return table.values + mma_tile * 64 + thread_index() % 128 / 4;
}

// Puts the warpgroup's normalisers into the block's table: as offsets, as they are, or as weights
// 2^-normaliser.
template <int kRows, int kTiles>
__device__ __forceinline__ void store_normalizers(const NormalizerTable<kRows> &table,
                                                  const LogSumExp<kTiles> &state, int first_tile,
                                                  bool as_offsets) {
  if ((lane_index() & 3) != 0)
    return;
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
    if (first_tile + m < kRows / 64)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float value = state.maximum[m][half];
        normalizer_entry(table, first_tile + m)[32 * half] = as_offsets ? value : exp2_fast(-value);
      }
}

//===-- Scores --------------------------------------------------------------------------------===//

// entry[half] = the table's entries of the thread's rows of mma tile `mma_tile`.
template <int kFirstHalf, int kHalves, int kRows>
__device__ __forceinline__ void load_entries(float (&entry)[2], const NormalizerTable<kRows> &table,
                                             int mma_tile) {
  const float *entries = normalizer_entry(table, mma_tile);
#pragma unroll
  for (int half = kFirstHalf; half < kFirstHalf + kHalves; ++half)
    entry[half] = entries[32 * half];
}

// The heads in kHalves halves of an mma tile from kFirstHalf on, by weights or normalisers of the
// table.
template <class Combine, int kCubicEvery, int kFirstHalf, int kHalves, int kRows>
__device__ __forceinline__ void
add_weighted_scores(TokenScores &scores, const Accumulator<16, 128> &logits,
                    const NormalizerTable<kRows> &table, int mma_tile) {
  float weight[2];
  load_entries<kFirstHalf, kHalves>(weight, table, mma_tile);
  weigh_heads<Combine, kCubicEvery, kFirstHalf, kHalves>(scores, logits, weight);
}

template <class Combine, int kFirstHalf, int kHalves, int kRows>
__device__ __forceinline__ void
add_offset_scores(TokenScores &scores, const Accumulator<16, 128> &logits,
                  const NormalizerTable<kRows> &table, int mma_tile, float scale) {
  float offset[2];
  load_entries<kFirstHalf, kHalves>(offset, table, mma_tile);
  add_offset_heads<Combine, kFirstHalf, kHalves>(scores, logits, offset, scale);
}
