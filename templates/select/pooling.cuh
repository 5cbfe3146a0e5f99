// How scores are combined: over the heads of a group, and over the summaries that overlap a block.
// Serves score and top_k; included after types.cuh, and simple enough for a host test. kPad =
// window / stride - 1 summaries reach from the block before into a block; kRowsPerBlock = block /
// stride.
#pragma once

// combine: two partial results. take: one more summary, whose window shares `strides` strides with
// the block.
struct Sum {
  static constexpr float kIdentity = 0.f;
  static __device__ __forceinline__ float combine(float a, float b) { return a + b; }
  static __device__ __forceinline__ float take(float a, float b, int) { return combine(a, b); }
};
struct Max {
  static constexpr float kIdentity = -kInfinity;
  static __device__ __forceinline__ float combine(float a, float b) { return fmaxf(a, b); }
  static __device__ __forceinline__ float take(float a, float b, int) { return combine(a, b); }
};
// A sum that counts a summary once per shared stride (NSA, equation 9).
struct Overlap : Sum {
  static __device__ __forceinline__ float take(float a, float b, int strides) {
    return fmaf(static_cast<float>(strides), b, a);
  }
};

// Strides that the window of summary `i`, counted from the block's first one, shares with the
// block: it covers strides [i, i + kPad] of the block's [0, kRowsPerBlock).
template <int kRowsPerBlock, int kPad> __host__ __device__ constexpr int shared_strides(int i) {
  const int begin = i > 0 ? i : 0, end = i + kPad + 1;
  return (end < kRowsPerBlock ? end : kRowsPerBlock) - begin;
}

// Pools a thread's kRows consecutive summaries from `first_row` on to whole blocks. `before`: what
// the first block takes from the summaries in front of them. Blocks without any summary in [0,
// rows) become -inf.
template <class Pool, int kRowsPerBlock, int kPad, int kRows>
__device__ __forceinline__ void pool_blocks(float (&block)[kRows / kRowsPerBlock],
                                            const float (&score)[kRows], float before,
                                            int first_row, int rows) {
  static_assert(kPad <= kRowsPerBlock && kRows % kRowsPerBlock == 0,
                "a window may reach into one block only");
#pragma unroll
  for (int b = 0; b < kRows / kRowsPerBlock; ++b) {
    // Its own summaries first, then what reaches in from the block before: the order in which top_k
    // adds an edge, so that equal summaries give equal scores wherever a block lies.
    const int first = b * kRowsPerBlock;
    block[b] = Pool::kIdentity;
#pragma unroll
    for (int i = first; i < first + kRowsPerBlock; ++i)
      block[b] = Pool::take(block[b], score[i], shared_strides<kRowsPerBlock, kPad>(i - first));
    float reaching = b == 0 ? before : Pool::kIdentity;
#pragma unroll
    for (int i = first - kPad; i < first; ++i)
      if (i >= 0)
        reaching = Pool::take(reaching, score[i], shared_strides<kRowsPerBlock, kPad>(i - first));
    block[b] = Pool::combine(block[b], reaching);
    if (first_row + first - kPad >= rows)
      block[b] = -kInfinity;
  }
}

// The pool of a thread's last kPad summaries, which the block behind them takes in as well.
template <class Pool, int kRowsPerBlock, int kPad, int kRows>
__device__ __forceinline__ float pool_edge(const float (&score)[kRows]) {
  float edge = Pool::kIdentity;
#pragma unroll
  for (int i = kRows - kPad; i < kRows; ++i)
    edge = Pool::take(edge, score[i], shared_strides<kRowsPerBlock, kPad>(i - kRows));
  return edge;
}
