// Scores of one query token against the summaries that the host keeps: at decode, where a block of
// threads has one token and one selection. Serves normalize and score_decode. The 16 rows of an mma
// tile are heads of the token, not tokens: row g of a head tile is head g of 16, rows behind the
// group's last head are zero. A tile of summaries is shared by the block's warps, 32 rows each, in
// the order of summary_order.cuh, so that a lane owns 8 consecutive summaries of its two heads;
// heads are combined in the lane, then over the warp's 8 lane groups.
#pragma once
#include "winnow/attention.cuh"
#include "winnow/scoring.cuh"

//===-- Loading -------------------------------------------------------------------------------===//

// queries[kRows, kDim] = heads [first_head, first_head + kGroup) of the token in row `row` of q
// [total_q, kHeads, kDim]; rows behind them become zero.
template <int kThreads, int kHeads, int kGroup, int kRows, int kDim, class T, class Heads>
__device__ __forceinline__ void load_head_rows(const SharedTile<kRows, kDim, T> &queries,
                                               const Heads &q, int row, int first_head) {
  constexpr int kRowChunks = SharedTile<kRows, kDim, T>::kRowChunks;
#pragma unroll 2
  for (int i = thread_index(); i < kRows * kRowChunks; i += kThreads) {
    const int head = i / kRowChunks, chunk = i % kRowChunks;
    const bool valid = head < kGroup;
    const T *from = head_row<kHeads, kDim, T>(q, row, first_head + (valid ? head : 0));
    copy_async(queries.address(head, chunk), from + chunk * 8, valid ? 16 : 0);
  }
}

//===-- Normaliser: each block of threads has a part of the summaries -------------------------===//

// Maximum (an exponent of 2) and sum of each row of a head tile, one of each per warp, in shared
// memory.
template <int kWarps> struct RowSums {
  static constexpr int kBytes = kWarps * 16 * 8;
  float2 *values;
  explicit __device__ __forceinline__ RowSums(unsigned char *bytes)
      : values(reinterpret_cast<float2 *>(bytes)) {}
};

// The warp's own, once reduce_sum has completed them.
template <int kWarps>
__device__ __forceinline__ void put_row_sums(const RowSums<kWarps> &sums, const SoftmaxState &state,
                                             int warp, float scale) {
  if ((lane_index() & 3) != 0)
    return;
#pragma unroll
  for (int half = 0; half < 2; ++half)
    sums.values[warp * 16 + half * 8 + lane_index() / 4] =
        make_float2(state.maximum[half] * scale, state.sum[half]);
}

// sum = sum + other, each 2^x times y; a sum of nothing has y = 0.
__device__ __forceinline__ void add_scaled(float2 &sum, const float2 &other) {
  if (other.y == 0.f)
    return;
  const float top = sum.y == 0.f ? other.x : fmaxf(sum.x, other.x);
  const float before = sum.y == 0.f ? 0.f : sum.y * exp2_fast(sum.x - top);
  sum = make_float2(top, fmaf(other.y, exp2_fast(other.x - top), before));
}

// The sums of a part of the summaries for `kTileHeads` heads from first_head on, over the warps, to
// a buffer [parts, tokens, kHeads] of {maximum, sum}.
template <int kHeads, int kTileHeads, int kWarps>
__device__ __forceinline__ void store_part_sums(void *buffer, const RowSums<kWarps> &sums, int part,
                                                int token, int tokens, int first_head) {
  const int head = thread_index();
  if (head >= kTileHeads)
    return;
  float2 sum = make_float2(0.f, 0.f);
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp)
    add_scaled(sum, sums.values[warp * 16 + head]);
  static_cast<float2 *>(
      buffer)[(static_cast<long long>(part) * tokens + token) * kHeads + first_head + head] = sum;
}

// table = the normalisers of heads [first_head, first_head + kGroup): the parts' sums, added up by
// 8 lanes per head. -inf where no part has seen a summary, and for the rows behind the last head.
template <int kThreads, int kHeads, int kGroup, int kRows>
__device__ __forceinline__ void merge_part_sums(const NormalizerTable<kRows> &table,
                                                const void *buffer, int parts, int token,
                                                int tokens, int first_head) {
  constexpr int kLanes = 8;
  static_assert(kRows % (kThreads / kLanes) == 0, "whole warps");
  const int lane = thread_index() % kLanes;
#pragma unroll 1
  for (int row = thread_index() / kLanes; row < kRows; row += kThreads / kLanes) {
    const float2 *from = static_cast<const float2 *>(buffer) +
                         static_cast<long long>(token) * kHeads + first_head + row;
    float2 sum = make_float2(0.f, 0.f);
    if (row < kGroup)
      for (int part = lane; part < parts; part += kLanes)
        add_scaled(sum, from[static_cast<long long>(part) * tokens * kHeads]);
#pragma unroll
    for (int distance = kLanes / 2; distance > 0; distance /= 2)
      add_scaled(sum, make_float2(__shfl_xor_sync(kFullWarp, sum.x, distance),
                                  __shfl_xor_sync(kFullWarp, sum.y, distance)));
    if (lane == 0)
      table.values[row] = sum.y > 0.f ? sum.x + log2_fast(sum.y) : -kInfinity;
  }
}

//===-- Scores --------------------------------------------------------------------------------===//

// Combines in the lane's heads of the head tile that begins at row `row` of the table, which holds
// their normalisers: score = 2^(scale logit - normaliser). Rows behind the last head add 0.
template <class Combine, int kGroup, int kRows>
__device__ __forceinline__ void
add_head_scores(RowScores &scores, const Accumulator<16, 32> &logits,
                const NormalizerTable<kRows> &table, int row, float scale) {
  constexpr int kHalves = kGroup > 8 ? 2 : 1;
  const float offset[2] = {normalizer(table, row, 0), normalizer(table, row, kHalves - 1)};
  add_offset_heads<Combine, 0, kHalves>(scores, logits, offset, scale);
}

// The same without softmax: score = hook(scale logit, query position, summary row). Rows behind the
// last head are left out.
template <class Combine, int kGroup, class Hook>
__device__ __forceinline__ void
add_raw_head_scores(RowScores &scores, const Accumulator<16, 32> &logits, int row, int position,
                    int first_row, float scale, const Hook &hook) {
  const int head = row + lane_index() / 4;
  if (head < kGroup)
    add_hooked_scores<Combine, 0, 1>(scores, logits, position, first_row, scale, hook);
  if (head + 8 < kGroup)
    add_hooked_scores<Combine, 1, 1>(scores, logits, position, first_row, scale, hook);
}

// Combines the 8 lane groups' heads; every lane then has its quad's scores, the same in all groups.
template <class Combine, int kRows>
__device__ __forceinline__ void combine_lane_groups(SummaryScores<kRows> &scores) {
#pragma unroll
  for (int distance = 4; distance < 32; distance *= 2)
#pragma unroll
    for (int j = 0; j < kRows; ++j)
      scores.value[j] =
          Combine::combine(scores.value[j], __shfl_xor_sync(kFullWarp, scores.value[j], distance));
}

//===-- Where edges lie 128 summaries apart: one warp pools for all ---------------------------===//

// Scores of a tile of kRows summaries in shared memory.
template <int kRows> struct TileScores {
  static constexpr int kBytes = kRows * 4;
  float *values;
  explicit __device__ __forceinline__ TileScores(unsigned char *bytes)
      : values(reinterpret_cast<float *>(bytes)) {}
};

// The warp's 32, from row `first` of the tile on.
template <int kRows>
__device__ __forceinline__ void put_tile_scores(const TileScores<kRows> &tile_scores,
                                                const RowScores &scores, int first) {
  if (lane_index() < 4)
    store_scores(tile_scores.values + first + 8 * lane_index(), scores.value);
}

// The lane's 32 consecutive summaries of the tile's 128.
__device__ __forceinline__ void take_tile_scores(TokenScores &scores,
                                                 const TileScores<128> &tile_scores) {
#pragma unroll
  for (int j = 0; j < 32; j += 4) {
    const float4 four =
        *reinterpret_cast<const float4 *>(tile_scores.values + 32 * (lane_index() & 3) + j);
    scores.value[j] = four.x;
    scores.value[j + 1] = four.y;
    scores.value[j + 2] = four.z;
    scores.value[j + 3] = four.w;
  }
}
