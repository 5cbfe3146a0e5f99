// Rows of block scores: what score writes and top_k reads. Serves both. A row holds the scores of
// one token for the blocks of whole tiles of 128 summaries, then the edges: where a window reaches
// over the end of 128 or 32 summaries (as the score kernel holds them), the pool of the last kPad
// of them, which top_k adds to the block behind. An element is an fp32 score or, where scores
// cannot be negative, a 16-bit rank of the same order.
#pragma once

using ScoreRank = unsigned short;

// Row of a token: [select_heads, tokens, stride] elements; rows begin at multiples of 16 bytes.
template <class Element>
__device__ __forceinline__ Element *score_row(void *buffer, int select_head, int token, int tokens,
                                              int stride) {
  return static_cast<Element *>(buffer) +
         (static_cast<long long>(select_head) * tokens + token) * stride;
}

// Blocks in front of the edges: those of all whole tiles of the longest sequence.
template <int kBlock, int kRowsPerBlock> __device__ __forceinline__ int padded_blocks(int max_k) {
  constexpr int kBlocks = 128 / kRowsPerBlock;
  return max(1, (max_k + kBlocks * kBlock - 1) / (kBlocks * kBlock)) * kBlocks;
}

// The edges of a row, or null where no window reaches over a block's end.
template <int kPad, class Element>
__device__ __forceinline__ const Element *edge_row(const Element *row, int padded) {
  return kPad > 0 ? row + padded : nullptr;
}

//===-- Ranks ---------------------------------------------------------------------------------===//

// The place of a score >= 0 in 16 bits. Logarithmic: 2048 steps per octave from 2^-12 to 2^-2,
// where the k-th best of many similar blocks lies (1024 would cost recall on such data), 184
// outside, so that the whole range of fp32 has a place (peaked rows differ by many orders of
// magnitude); a step is 0.38 % there, the step of bf16. 0 is left to blocks that may not be
// selected, 1 is -inf (a block without summaries), 2 is 0 and what fades into it. 0x7fff and 0x8000
// are left out, so that top_k can fold ranks to 15 bits.
__device__ __forceinline__ unsigned score_rank(float score) {
  const float octave = log2_fast(score);
  const float place = fmaf(octave, 184.f, fmaf(fminf(fmaxf(octave, -12.f), -2.f), 1864.f, 45555.f));
  const int rank = min(max(__float2int_rn(place), 2), 65533);
  return score < 0.f ? 1 : rank + (rank >= 0x7fff ? 2 : 0);
}

// to[0, kCount) = the scores, as elements. `to` is aligned to all of them or to 16 bytes.
template <int kCount>
__device__ __forceinline__ void store_scores(float *to, const float (&score)[kCount]) {
  if constexpr (kCount == 1)
    *to = score[0];
  else if constexpr (kCount == 2)
    *reinterpret_cast<float2 *>(to) = make_float2(score[0], score[1]);
  else
#pragma unroll
    for (int i = 0; i < kCount; i += 4)
      *reinterpret_cast<float4 *>(to + i) =
          make_float4(score[i], score[i + 1], score[i + 2], score[i + 3]);
}
template <int kCount>
__device__ __forceinline__ void store_scores(ScoreRank *to, const float (&score)[kCount]) {
  if constexpr (kCount == 1) {
    *to = score_rank(score[0]);
  } else {
    unsigned words[kCount / 2];
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i)
      words[i] = score_rank(score[2 * i]) | score_rank(score[2 * i + 1]) << 16;
    if constexpr (kCount == 2)
      *reinterpret_cast<unsigned *>(to) = words[0];
    else if constexpr (kCount == 4)
      *reinterpret_cast<uint2 *>(to) = make_uint2(words[0], words[1]);
    else
#pragma unroll
      for (int i = 0; i < kCount / 2; i += 4)
        *reinterpret_cast<uint4 *>(to + 2 * i) =
            make_uint4(words[i], words[i + 1], words[i + 2], words[i + 3]);
  }
}
