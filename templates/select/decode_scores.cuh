// Scores of one query token against the summaries that the host keeps: at decode, where a block of
// threads has one token and one selection. Serves score_decode. The 16 rows of an mma tile are
// heads of the token, not tokens: row g of a head tile is head g of 16, rows behind the group's
// last head are zero. A tile of summaries is shared by the block's warps, 32 rows each, in
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

//===-- Scores --------------------------------------------------------------------------------===//

// Combines in the lane's heads of the head tile that begins at row `row`: score = hook(scale
// logit, query position, summary row). Rows behind the last head are left out.
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
