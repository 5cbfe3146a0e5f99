// Attention of a token by several blocks of threads, each over its part of the token's key tiles,
// and what joins their results. Serves attend_decode and merge, where a batch has fewer tokens than
// the GPU has room for blocks of threads. A part leaves sums of weighted values, relative to its
// own maximum, and {maximum, sum of weights} per head; the maximum is an exponent of 2.
#pragma once
#include "winnow/attention.cuh"
#include "winnow/layout.cuh"

//===-- Which key tiles -----------------------------------------------------------------------===//

// The blocks that one token selected, in shared memory, each once. 16 + 4 kTopK bytes.
template <int kTopK> struct BlockList {
  static constexpr int kBytes = 16 + 4 * kTopK;
  int *length;
  int *blocks;
  explicit __device__ __forceinline__ BlockList(unsigned char *bytes)
      : length(reinterpret_cast<int *>(bytes)), blocks(reinterpret_cast<int *>(bytes + 16)) {}
};

// By one warp: list = the ids of the tile's first token, in their order. -1, ids out of range,
// blocks in the token's future, repetitions and those outside [begin, end) are left out. `ids`
// [select_heads, total_q, kTopK].
template <int kBlock, int kTopK>
__device__ __forceinline__ void list_blocks(const BlockList<kTopK> &list, const int *ids,
                                            int select_head, int total_q, const TokenTile &tile,
                                            int begin, int end) {
  const int *selected = ids + (static_cast<long long>(select_head) * total_q + tile.row) * kTopK;
  const int last = min(tile.position < 0 ? -1 : tile.position / kBlock, end - 1);
  const int lane = lane_index();
  int length = 0, largest = -1; // of the ids before
#pragma unroll
  for (int first = 0; first < kTopK; first += 32) {
    const int i = first + lane;
    const int id = i < kTopK ? selected[i] : -1;
    bool wanted = id >= begin && id <= last;
    int top = wanted ? id : -1; // the largest id up to this lane's
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const int other = __shfl_up_sync(kFullWarp, top, step);
      top = lane >= step ? max(top, other) : top;
    }
    int before = __shfl_up_sync(kFullWarp, top, 1);
    before = max(largest, lane == 0 ? -1 : before);
    // Ids ascend where top_k wrote them; those of a caller may not, and are looked for one by one.
    if (wanted && id <= before)
      for (int j = 0; j < i; ++j)
        wanted &= selected[j] != id;
    const unsigned found = __ballot_sync(kFullWarp, wanted);
    if (wanted)
      list.blocks[length + __popc(found & ((1u << lane) - 1))] = id;
    length += __popc(found);
    largest = max(largest, __shfl_sync(kFullWarp, top, 31));
  }
  if (lane == 0)
    *list.length = length;
}

// The first key of tile `entry` of the forced blocks: blocks [0, kInit), then those from
// `forced_from` on.
template <int kInit, int kTilesPerBlock, int kKeys>
__device__ __forceinline__ int forced_key(int entry, int forced_from) {
  const int index = entry / kTilesPerBlock;
  const int block = index < kInit ? index : forced_from + index - kInit;
  return (block * kTilesPerBlock + entry % kTilesPerBlock) * kKeys;
}

template <int kTopK> __device__ __forceinline__ int count_blocks(const BlockList<kTopK> &list) {
  return *list.length;
}

// The first key of tile `entry` of the listed blocks, which are kTilesPerBlock tiles of kKeys keys
// each; of the sequence, where all of its keys are wanted.
template <int kTilesPerBlock, int kKeys, int kTopK>
__device__ __forceinline__ int listed_key(const BlockList<kTopK> &list, int entry, bool all) {
  if (all)
    return entry * kKeys;
  return (list.blocks[entry / kTilesPerBlock] * kTilesPerBlock + entry % kTilesPerBlock) * kKeys;
}

// listed_key; where blocks were `chosen` by this launch, the first key of tile `entry` of those
// that the ids name behind kInit forced ones.
template <int kInit, int kTilesPerBlock, int kKeys, int kTopK>
__device__ __forceinline__ int chosen_key(const BlockList<kTopK> &list, const int *ids, int entry,
                                          bool all, bool chosen) {
  if (!chosen)
    return listed_key<kTilesPerBlock, kKeys>(list, entry, all);
  return (ids[kInit + entry / kTilesPerBlock] * kTilesPerBlock + entry % kTilesPerBlock) * kKeys;
}

//===-- Results of a part ---------------------------------------------------------------------===//

// Row of a part's results: [parts, total_q, heads].
__device__ __forceinline__ long long part_row(int part, int total_q, int row, int heads, int head) {
  return (static_cast<long long>(part) * total_q + row) * heads + head;
}

// values [parts, total_q, kHeads, kValueDim] and states [parts, total_q, kHeads] of the row tile's
// rows; of a part without keys the state alone, whose sum is 0. After reduce_sum.
template <int kHeads, int kValueDim>
__device__ __forceinline__ void store_part(void *values, void *states,
                                           const Accumulator<16, kValueDim> &output,
                                           const SoftmaxState &state, const QueryRows &rows,
                                           int first_head, int part, int total_q, float scale) {
  const int c = lane_index() & 3;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (rows.row[half] < 0)
      continue;
    const long long row =
        part_row(part, total_q, rows.row[half], kHeads, first_head + rows.head[half]);
    if (c == 0)
      static_cast<float2 *>(states)[row] =
          make_float2(state.maximum[half] * scale, state.sum[half]);
    if (state.sum[half] == 0.f)
      continue;
    float *to = static_cast<float *>(values) + row * kValueDim + 2 * c;
#pragma unroll
    for (int j = 0; j < kValueDim / 8; ++j)
      *reinterpret_cast<float2 *>(to + 8 * j) =
          make_float2(output.value[j][2 * half], output.value[j][2 * half + 1]);
  }
}

//===-- Joining parts -------------------------------------------------------------------------===//

// What each of a block's warps has added up of a row's parts, in shared memory: values relative to
// the largest maximum that it has met, that maximum, and the sum of weights relative to it; a sum
// of 0: there was no key.
template <int kWarps, int kValueDim> struct WarpValues {
  static constexpr int kBytes = 4 * kWarps * kValueDim + 8 * kWarps;
  float *value;
  explicit __device__ __forceinline__ WarpValues(unsigned char *bytes)
      : value(reinterpret_cast<float *>(bytes)) {}
  __device__ __forceinline__ float2 &state(int warp) const {
    return reinterpret_cast<float2 *>(value + kWarps * kValueDim)[warp];
  }
};

// Of the warp: every `step`-th part from `first` on of row `row` and head `head`. States and values
// are read side by side, so that a part waits for memory once. Sums of one softmax from those of
// its parts: Milakov and Gimelshein, arXiv:1805.02867.
template <int kHeads, int kWarps, int kValueDim>
__device__ __forceinline__ void add_parts(const WarpValues<kWarps, kValueDim> &sums,
                                          const void *values, const void *states, int first,
                                          int step, int parts, int total_q, int row, int head) {
  constexpr int kLaneValues = (kValueDim + 31) / 32;
  const long long own = part_row(0, total_q, row, kHeads, head);
  const long long stride = static_cast<long long>(total_q) * kHeads;
  float maximum = -kInfinity, weights = 0.f, sum[kLaneValues] = {};
  constexpr int kTogether = kLaneValues > 4 ? 4 : 8; // parts whose loads do not wait for each other
  for (int part = first; part < parts; part += kTogether * step) {
    float2 state[kTogether];
    float value[kTogether][kLaneValues];
#pragma unroll
    for (int j = 0; j < kTogether; ++j) {
      const bool is_part = part + j * step < parts;
      const long long place = own + (part + j * step) * stride;
      const float *from = static_cast<const float *>(values) + place * kValueDim + lane_index();
      state[j] = is_part ? static_cast<const float2 *>(states)[place] : make_float2(0.f, 0.f);
#pragma unroll
      for (int i = 0; i < kLaneValues; ++i)
        value[j][i] = is_part ? from[32 * i] : 0.f;
    }
    float top = maximum;
#pragma unroll
    for (int j = 0; j < kTogether; ++j)
      top = state[j].y == 0.f ? top : fmaxf(top, state[j].x);
    const float before = weights == 0.f ? 0.f : exp2_fast(maximum - top);
    weights *= before;
#pragma unroll
    for (int i = 0; i < kLaneValues; ++i)
      sum[i] *= before;
#pragma unroll
    for (int j = 0; j < kTogether; ++j) {
      const float weight = state[j].y == 0.f ? 0.f : exp2_fast(state[j].x - top);
      weights = fmaf(state[j].y, weight, weights);
#pragma unroll
      for (int i = 0; i < kLaneValues; ++i) // a part without keys left no values
        sum[i] += state[j].y == 0.f ? 0.f : weight * value[j][i];
    }
    maximum = top;
  }
  const int warp = warp_index(); // by all lanes
#pragma unroll
  for (int i = 0; i < kLaneValues; ++i)
    sums.value[warp * kValueDim + lane_index() + 32 * i] = sum[i];
  if (lane_index() == 0)
    sums.state(warp) = make_float2(maximum, weights);
}

// By one warp: out [total_q, kHeads, kValueDim] = the weighted values of `warps` warps from `first`
// on / their sum of weights, and lse [kHeads, total_q] its natural logarithm; 0 and -inf for rows
// without any key. Either may be null.
template <int kHeads, class T, int kWarps, int kValueDim, class Heads>
__device__ __forceinline__ void store_merged(const Heads &out, float *lse,
                                             const WarpValues<kWarps, kValueDim> &sums, int first,
                                             int warps, int total_q, int row, int head) {
  float top = -kInfinity, total = 0.f;
  for (int warp = first; warp < first + warps; ++warp)
    top = sums.state(warp).y == 0.f ? top : fmaxf(top, sums.state(warp).x);
  float factor[kWarps];
#pragma unroll
  for (int i = 0; i < kWarps; ++i) {
    const float2 state = i < warps ? sums.state(first + i) : make_float2(0.f, 0.f);
    factor[i] = state.y == 0.f ? 0.f : exp2_fast(state.x - top);
    total = fmaf(state.y, factor[i], total);
  }
  const float inverse = total == 0.f ? 0.f : 1.f / total;
  if (!is_null(out)) {
    T *to = const_cast<T *>(head_row<kHeads, kValueDim, T>(out, row, head));
    for (int i = 2 * lane_index(); i < kValueDim; i += 64) {
      float sum[2] = {0.f, 0.f};
#pragma unroll
      for (int warp = 0; warp < kWarps; ++warp)
        if (warp < warps) {
          sum[0] = fmaf(factor[warp], sums.value[(first + warp) * kValueDim + i], sum[0]);
          sum[1] = fmaf(factor[warp], sums.value[(first + warp) * kValueDim + i + 1], sum[1]);
        }
      *reinterpret_cast<unsigned *>(to + i) = pack<T>(sum[0] * inverse, sum[1] * inverse);
    }
  }
  if (lse != nullptr && lane_index() == 0)
    lse[static_cast<long long>(head) * total_q + row] = (top + log2_fast(total)) * kLn2;
}
