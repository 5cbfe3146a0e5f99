// Scores of tokens for consecutive summaries, from the heads' logits to the row of block scores:
// what both forms of score do alike, on warps with 8 summaries of a lane and on warpgroups with 32.
// Serves score. On entry a lane's logits belong to one token, or to one in each half; it owns
// kRows consecutive summaries of the 4 kRows of its quad.
#pragma once
#include "winnow/pooling.cuh"
#include "winnow/powers.cuh"
#include "winnow/score_row.cuh"
#include "winnow/tile.cuh"

//===-- Logits --------------------------------------------------------------------------------===//

// The lane's logit of row half `half` and summary j of its kColumns / 4.
template <int kColumns>
__device__ __forceinline__ float logit_of(const Accumulator<16, kColumns> &logits, int half,
                                          int j) {
  return logits.value[j / 2][2 * half + j % 2];
}

//===-- Scores --------------------------------------------------------------------------------===//

// Scores of the lane's token for its kRows consecutive summaries, heads combined so far: 8 on
// warps, 32 on warpgroups.
template <int kRows> struct SummaryScores {
  float value[kRows];
};
using RowScores = SummaryScores<8>;
using TokenScores = SummaryScores<32>;

// No head yet: the identity of the combination.
template <class Combine, int kRows>
__device__ __forceinline__ void clear_scores(SummaryScores<kRows> &scores) {
#pragma unroll
  for (int j = 0; j < kRows; ++j)
    scores.value[j] = Combine::kIdentity;
}

// 2^x of column j: by the cubic in every kCubicEvery-th column (0: in none). Which one depends on
// the summary's place in its block only, so equal blocks have equal scores.
template <int kCubicEvery> __device__ __forceinline__ float exp2_of_column(float x, int j) {
  if constexpr (kCubicEvery > 0)
    return j % kCubicEvery == 0 ? exp2_cubic(x) : exp2_fast(x);
  else
    return exp2_fast(x);
}

// Combines in kHalves heads of an mma tile from half kFirstHalf on: score = 2^(scale logit -
// offset), the softmax weight.
template <class Combine, int kFirstHalf, int kHalves, int kRows>
__device__ __forceinline__ void add_offset_heads(SummaryScores<kRows> &scores,
                                                 const Accumulator<16, 4 * kRows> &logits,
                                                 const float (&offset)[2], float scale) {
#pragma unroll
  for (int j = 0; j < kRows; ++j)
#pragma unroll
    for (int half = kFirstHalf; half < kFirstHalf + kHalves; ++half)
      scores.value[j] = Combine::combine(
          scores.value[j], exp2_fast(fmaf(logit_of(logits, half, j), scale, -offset[half])));
}

// The same where logits are exponents of 2: score = 2^logit * weight, two instructions per logit
// where heads are summed.
template <class Combine, int kCubicEvery, int kFirstHalf, int kHalves, int kRows>
__device__ __forceinline__ void weigh_heads(SummaryScores<kRows> &scores,
                                            const Accumulator<16, 4 * kRows> &logits,
                                            const float (&weight)[2]) {
#pragma unroll
  for (int j = 0; j < kRows; ++j)
#pragma unroll
    for (int half = kFirstHalf; half < kFirstHalf + kHalves; ++half) {
      const float logit = logit_of(logits, half, j);
      const float power = half == 0 ? exp2_of_column<kCubicEvery>(logit, j) : exp2_fast(logit);
      scores.value[j] = is_same<Combine, Sum>
                            ? fmaf(power, weight[half], scores.value[j])
                            : Combine::combine(scores.value[j], power * weight[half]);
    }
}

// The same without softmax: score = hook(scale logit, query position, summary row).
template <class Combine, int kFirstHalf, int kHalves, int kRows, class Hook>
__device__ __forceinline__ void
add_hooked_scores(SummaryScores<kRows> &scores, const Accumulator<16, 4 * kRows> &logits,
                  int position, int first_row, float scale, const Hook &hook) {
  const int row = first_row + kRows * (lane_index() & 3);
#pragma unroll
  for (int j = 0; j < kRows; ++j)
#pragma unroll
    for (int half = kFirstHalf; half < kFirstHalf + kHalves; ++half)
      scores.value[j] = Combine::combine(
          scores.value[j], hook(logit_of(logits, half, j) * scale, position, row + j));
}

// Summaries from `visible` on score `hidden` (0 after softmax, -inf raw); from `rows` on there is
// none: the identity of pooling.
template <class Pool, int kRows>
__device__ __forceinline__ void mask_scores(SummaryScores<kRows> &scores, int first_row,
                                            int visible, int rows, float hidden) {
  const int row = first_row + kRows * (lane_index() & 3);
#pragma unroll
  for (int j = 0; j < kRows; ++j) {
    scores.value[j] = row + j < visible ? scores.value[j] : hidden;
    scores.value[j] = row + j < rows ? scores.value[j] : Pool::kIdentity;
  }
}

//===-- Blocks --------------------------------------------------------------------------------===//

// Pools the quad's 4 kRows summaries, which begin at `first_row`, and stores block scores and edge
// into the token's row, whose edges begin at `padded`. All lanes take part; `valid` says whether
// the lane's token exists.
template <class Pool, int kRowsPerBlock, int kPad, class Element, int kRows>
__device__ __forceinline__ void
store_block_scores(Element *row_scores, const SummaryScores<kRows> &scores, int first_row, int rows,
                   int padded, bool valid) {
  const float (&score)[kRows] = scores.value;
  constexpr int kBlocks = kRows / kRowsPerBlock; // of this lane
  const int c = lane_index() & 3;
  const float edge = pool_edge<Pool, kRowsPerBlock, kPad>(score);
  const float before = __shfl_up_sync(kFullWarp, edge, 1);
  float block[kBlocks];
  pool_blocks<Pool, kRowsPerBlock, kPad>(block, score, c > 0 ? before : Pool::kIdentity,
                                         first_row + kRows * c, rows);
  if (!valid)
    return;
  store_scores(row_scores + first_row / kRowsPerBlock + c * kBlocks, block);
  if (kPad > 0 && c == 3)
    store_scores(row_scores + padded + first_row / (4 * kRows), {edge});
}
