// The one summary that a decode step's new key finishes, made by the warp that will multiply it, so
// that the selection need not wait for append, which makes and keeps the same one. Serves
// select_decode and decode_step. Sums run in the order of the keys, as everywhere (summarize.cuh):
// equal bit for bit.
#pragma once
#include "winnow/scoring.cuh"
#include "winnow/summarize.cuh"

// A summary in a warp's registers: lane i has elements [8 i, 8 i + 8).
struct NewRow {
  uint4 words;
};

// make_new_row, whatever the dimension and the keys' elements. Lanes read chunks of 8 channels of
// kBeside keys side by side, which they find for each other; each adds up its chunk of all keys,
// one key after the other.
template <class T, int kWindow, int kStride, int kDim, class Key>
__device__ __forceinline__ void make_any_new_row(NewRow &row, const PagedRows<Key> &keys, int index,
                                                 float factor) {
  constexpr int kChunks = kDim / 8, kBeside = kWindow % (32 / kChunks) == 0 ? 32 / kChunks : 1;
  constexpr int kLaneKeys = kWindow / kBeside;
  constexpr int kBatch = kLaneKeys % 16 == 0 && 16 * kBeside <= 32 ? 16
                         : kLaneKeys % 8 == 0                      ? 8
                                                                   : 1;
  constexpr int kWords = sizeof(Key) == 1 ? 2 : 4; // of 8 channels
  const int lane = lane_index(), chunk = lane % kChunks, beside = min(lane / kChunks, kBeside - 1);
  ChannelSums sums;
#pragma unroll 1
  for (int first = 0; first < kLaneKeys; first += kBatch) {
    const int key = kStride * index + first * kBeside;
    const int found = key + min(lane, kBatch * kBeside - 1);
    const auto address =
        reinterpret_cast<unsigned long long>(keys.row_in(keys.look_up(found), found));
    unsigned words[kBatch][kWords];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) { // all loads first: they are in flight together
      const Key *from =
          reinterpret_cast<const Key *>(__shfl_sync(kFullWarp, address, i * kBeside + beside)) +
          8 * chunk;
      if constexpr (kWords == 2) {
        const uint2 two = *reinterpret_cast<const uint2 *>(from);
        words[i][0] = two.x, words[i][1] = two.y;
      } else {
        const uint4 four = *reinterpret_cast<const uint4 *>(from);
        words[i][0] = four.x, words[i][1] = four.y, words[i][2] = four.z, words[i][3] = four.w;
      }
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i)
#pragma unroll
      for (int side = 0; side < kBeside; ++side) {
        unsigned theirs[kWords];
#pragma unroll
        for (int word = 0; word < kWords; ++word)
          theirs[word] = __shfl_sync(kFullWarp, words[i][word], side * kChunks + chunk);
        if constexpr (kWords == 2)
          add_bytes(sums, theirs[0], theirs[1]);
        else
          add_words<Key>(sums, make_uint4(theirs[0], theirs[1], theirs[2], theirs[3]));
      }
  }
  row.words = mean_words<T>(sums, kWindow, factor);
}

// The same where a lane has kDim / 32 channels of each key, two or four of 16 bits: half of the
// instructions.
template <class T, int kWindow, int kStride, int kDim, class Key>
__device__ __forceinline__ void make_even_new_row(NewRow &row, const PagedRows<Key> &keys,
                                                  int index, float factor) {
  constexpr int kBatch = kWindow % 32 == 0 ? 32 : kWindow % 8 == 0 ? 8 : 1;
  constexpr int kWords = kDim / 64; // of a lane
  float sums[2 * kWords] = {};
#pragma unroll 1
  for (int first = 0; first < kWindow; first += kBatch) {
    const int found = kStride * index + first + min(lane_index(), kBatch - 1);
    const auto address =
        reinterpret_cast<unsigned long long>(keys.row_in(keys.look_up(found), found));
    unsigned words[kBatch][kWords];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) { // all loads first: they are in flight together
      const auto *from = reinterpret_cast<const unsigned *>(__shfl_sync(kFullWarp, address, i)) +
                         kWords * lane_index();
      if constexpr (kWords == 2) {
        const uint2 two = *reinterpret_cast<const uint2 *>(from);
        words[i][0] = two.x, words[i][1] = two.y;
      } else {
        words[i][0] = *from;
      }
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i)
#pragma unroll
      for (int word = 0; word < kWords; ++word) {
        const float2 key = unpack<Key>(words[i][word]);
        sums[2 * word] += key.x;
        sums[2 * word + 1] += key.y;
      }
  }
  unsigned own[kWords], all[4];
  constexpr float kCount = kWindow;
#pragma unroll
  for (int word = 0; word < kWords; ++word)
    own[word] = pack<T>(sums[2 * word] / kCount * factor, sums[2 * word + 1] / kCount * factor);
#pragma unroll
  for (int i = 0; i < 4; ++i)
    all[i] = __shfl_sync(kFullWarp, own[i % kWords], (4 * lane_index() + i) / kWords & 31);
  row.words = make_uint4(all[0], all[1], all[2], all[3]);
}

// By one warp: row = the mean of keys [kStride index, kStride index + kWindow) times `factor`, in
// elements T.
template <class T, int kWindow, int kStride, int kDim, class Key>
__device__ __forceinline__ void make_new_row(NewRow &row, const PagedRows<Key> &keys, int index,
                                             float factor) {
  if constexpr (sizeof(Key) == 2 && (kDim == 64 || kDim == 128))
    make_even_new_row<T, kWindow, kStride, kDim>(row, keys, index, factor);
  else
    make_any_new_row<T, kWindow, kStride, kDim>(row, keys, index, factor);
}

// By one warp: elements [64 part, 64 part + 64) of the host's summary `index`: the mean of keys as
// of make_new_row. A lane adds up two channels, one key after the other; it looks up rows for all.
template <int kWindow, int kStride, int kDim, class T>
__device__ __forceinline__ void keep_mean(const PagedRows<T> &rows, const PagedRows<T> &keys,
                                          int index, int part, float factor) {
  constexpr int kBatch = kWindow % 32 == 0 ? 32 : kWindow % 8 == 0 ? 8 : 1;
  const int pair = 32 * part + lane_index();
  const bool has = 2 * pair < kDim;
  float2 sum = make_float2(0.f, 0.f);
#pragma unroll 1
  for (int first = 0; first < kWindow; first += kBatch) {
    const int found = kStride * index + first + min(lane_index(), kBatch - 1);
    const auto address =
        reinterpret_cast<unsigned long long>(keys.row_in(keys.look_up(found), found));
    unsigned words[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) { // all loads first: they are in flight together
      const auto *from = reinterpret_cast<const unsigned *>(__shfl_sync(kFullWarp, address, i));
      words[i] = has ? from[pair] : 0u;
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const float2 key = unpack<T>(words[i]);
      sum = make_float2(sum.x + key.x, sum.y + key.y);
    }
  }
  constexpr float kCount = kWindow;
  if (has)
    reinterpret_cast<unsigned *>(const_cast<T *>(rows.row(index)))[pair] =
        pack<T>(sum.x / kCount * factor, sum.y / kCount * factor);
}

// By one warp: the tile's summary `place`, of 32 in the order of in_summary_order, = row.
template <int kDim, class T>
__device__ __forceinline__ void put_new_row(const SharedTile<32, kDim, T> &tile, const NewRow &row,
                                            int place) {
  if (lane_index() < kDim / 8)
    store_words(tile.address(place / 2 % 4 * 8 + place / 8 * 2 + place % 2, lane_index()),
                row.words);
  __syncwarp();
}
