// Summaries of keys: the mean over windows of consecutive keys, per key/value head and channel.
// Serves summarize and append. A summary row j of a sequence covers the keys [j kStride, j kStride
// + kWindow); only whole windows count. Sums run in fp32 in the order of the keys, so a row
// computed later, alone, is equal bit for bit. In the workspace summaries of sequence s begin at
// row cu_k[s] / kStride of a buffer [kv_heads, total_k / kStride, head_dim]: floor is
// super-additive, so sequences never overlap.
#pragma once
#include "winnow/tile.cuh"

// Eight consecutive channels in fp32.
struct ChannelSums {
  float value[8] = {0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f};
};

// Whole windows in `length` keys.
template <int kWindow, int kStride> __device__ __forceinline__ int summary_rows(int length) {
  return length < kWindow ? 0 : (length - kWindow) / kStride + 1;
}

// The sequence's summaries of one key/value head.
template <class T, int kDim, int kStride>
__device__ __forceinline__ GlobalRows<T, kDim> summary_of(const void *buffer, int kv_head,
                                                          int total_k, int k_row) {
  const long long row = static_cast<long long>(kv_head) * (total_k / kStride) + k_row / kStride;
  return {static_cast<const T *>(buffer) + row * kDim};
}

// sums += the eight elements of four words.
template <class T> __device__ __forceinline__ void add_words(ChannelSums &sums, const uint4 &word) {
  const unsigned words[4] = {word.x, word.y, word.z, word.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = unpack<T>(words[i]);
    sums.value[2 * i] += pair.x;
    sums.value[2 * i + 1] += pair.y;
  }
}

// The same of eight e4m3 elements in two words.
__device__ __forceinline__ void add_bytes(ChannelSums &sums, unsigned low, unsigned high) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint2 pairs = unpack_e4m3(i == 0 ? low : high);
    const float2 first = unpack<fp16>(pairs.x), last = unpack<fp16>(pairs.y);
    sums.value[4 * i] += first.x;
    sums.value[4 * i + 1] += first.y;
    sums.value[4 * i + 2] += last.x;
    sums.value[4 * i + 3] += last.y;
  }
}

// sums += elements [8 chunk, 8 chunk + 8) of row `row`: one load of 16 bytes, of e4m3 of 8.
template <class KeyRows>
__device__ __forceinline__ void add_row(ChannelSums &sums, const KeyRows &rows, int row,
                                        int chunk) {
  using T = typename KeyRows::Element;
  if constexpr (is_same<T, e4m3>) {
    const uint2 words = *reinterpret_cast<const uint2 *>(rows.row(row) + 8 * chunk);
    add_bytes(sums, words.x, words.y);
  } else {
    add_words<T>(sums, *reinterpret_cast<const uint4 *>(rows.row(row) + 8 * chunk));
  }
}

// sums += elements [8 chunk, 8 chunk + 8) of every row of a tile, in the rows' order.
template <int kRows, int kDim, class T>
__device__ __forceinline__ void add_tile_rows(ChannelSums &sums,
                                              const SharedTile<kRows, kDim, T> &tile, int chunk) {
#pragma unroll 16
  for (int row = 0; row < kRows; ++row) {
    if constexpr (is_same<T, e4m3>) {
      const uint4 words = load_words(tile.address(row, chunk / 2));
      add_bytes(sums, chunk % 2 == 0 ? words.x : words.z, chunk % 2 == 0 ? words.y : words.w);
    } else {
      add_words<T>(sums, load_words(tile.address(row, chunk)));
    }
  }
}

// Four words of sums / count * factor, rounded to T.
template <class T>
__device__ __forceinline__ uint4 mean_words(const ChannelSums &sums, float count, float factor) {
  unsigned words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i)
    words[i] = pack<T>(sums.value[2 * i] / count * factor, sums.value[2 * i + 1] / count * factor);
  return make_uint4(words[0], words[1], words[2], words[3]);
}

// Elements [8 chunk, 8 chunk + 8) of summary row `row` = sums / count * factor: one 16-byte store.
template <class KeyRows>
__device__ __forceinline__ void store_mean(const KeyRows &rows, int row, int chunk,
                                           const ChannelSums &sums, float count, float factor) {
  using T = typename KeyRows::Element;
  *reinterpret_cast<uint4 *>(const_cast<T *>(rows.row(row)) + 8 * chunk) =
      mean_words<T>(sums, count, factor);
}
