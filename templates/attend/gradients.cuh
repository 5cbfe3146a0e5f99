// Gradients of attention, from its log-sum-exp: P = 2^(logit - lse), dS = P (dO . v - delta), where
// delta is the row's sum of dO * out and everything is base 2 (FlashAttention, arXiv 2205.14135,
// algorithm 4). Two ways to hold a tile of P and dS in registers: as in attention.cuh 16 query rows
// by kKeys keys, where a warp owns queries and makes dQ = dS K; and turned round, 16 keys by kRows
// query rows, where it owns keys and makes dV = P^T dO and dK = dS^T Q. Serves the kernels of
// gradients on warps. A row without keys has an lse of +inf here, so that its weights are exactly
// 0.
#pragma once
#include "winnow/attention.cuh"
#include "winnow/token_lists.cuh"

//===-- Statistics of rows --------------------------------------------------------------------===//

// Statistics are kept [kHeads / kGroup, total_q, kGroup]: those of a tile of heads lie side by side
// for one token after the other. The place of those of row `row` of q and of the tile that `head`
// is in.
template <int kGroup>
__device__ __forceinline__ long long place_of_statistics(int head, int row, int total_q) {
  return (static_cast<long long>(head / kGroup) * total_q + row) * kGroup;
}

// Rows whose statistics one warp makes at a time: a lane reads 8 elements at a time of one.
template <int kValueDim> __device__ __forceinline__ constexpr int statistics_rows() {
  return 32 / threads_per_row(kValueDim / 8);
}

// By one warp: lse and delta of statistics_rows rows from `first_row` on, of the total_q * kHeads
// rows [total_q, kHeads] of out.
template <int kHeads, int kGroup, int kValueDim, class T>
__device__ __forceinline__ void store_statistics(void *statistics, const void *out,
                                                 const void *dout, const float *lse, int first_row,
                                                 int total_q) {
  constexpr int kChunks = kValueDim / 8, kLanes = 32 / statistics_rows<kValueDim>();
  const int row = first_row + lane_index() / kLanes, token = row / kHeads, head = row % kHeads;
  const bool valid = row < total_q * kHeads;
  float delta = 0.f;
  if (valid)
#pragma unroll
    for (int i = 0; i < kChunks / kLanes; ++i) {
      const long long chunk =
          row * static_cast<long long>(kChunks) + i * kLanes + lane_index() % kLanes;
      const uint4 a = static_cast<const uint4 *>(out)[chunk],
                  b = static_cast<const uint4 *>(dout)[chunk];
      const unsigned x[4] = {a.x, a.y, a.z, a.w}, y[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float2 u = unpack<T>(x[j]), v = unpack<T>(y[j]);
        delta = fmaf(u.x, v.x, fmaf(u.y, v.y, delta));
      }
    }
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    delta += __shfl_xor_sync(kFullWarp, delta, distance);
  if (!valid || lane_index() % kLanes != 0)
    return;
  const float natural = lse[static_cast<long long>(head) * total_q + token];
  static_cast<float2 *>(
      statistics)[place_of_statistics<kGroup>(head, token, total_q) + head % kGroup] =
      make_float2(natural == -kInfinity ? kInfinity : natural * kLog2E, delta);
}

//===-- Queries own the tile ------------------------------------------------------------------===//

// Of a lane's two rows.
struct RowStatistics {
  float lse[2];
  float delta[2];
};

template <int kGroup>
__device__ __forceinline__ void load_statistics(RowStatistics &own, const void *statistics,
                                                const QueryRows &rows, int first_head,
                                                int total_q) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    own.lse[half] = kInfinity;
    own.delta[half] = 0.f;
    if (rows.row[half] < 0)
      continue;
    const float2 found = static_cast<const float2 *>(
        statistics)[place_of_statistics<kGroup>(first_head, rows.row[half], total_q) +
                    rows.head[half]];
    own.lse[half] = found.x;
    own.delta[half] = found.y;
  }
}

// changes -= delta: from dO . v to what P makes dS of.
template <int kKeys>
__device__ __forceinline__ void subtract_deltas(Accumulator<16, kKeys> &changes,
                                                const RowStatistics &own) {
#pragma unroll
  for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      changes.value[j][e] -= own.delta[e >> 1];
}

// changes *= slope(scale * logit, query position, key position): the derivative of what map_logits
// will make of the logits. In columns as of mask_causal.
template <int kKeys, class Hook>
__device__ __forceinline__ void
multiply_slopes(Accumulator<16, kKeys> &changes, const Accumulator<16, kKeys> &logits,
                const QueryRows &rows, int first_key, float scale, const Hook &slope,
                int first_column = 0, int columns = kKeys) {
  const int key = first_key + 2 * (lane_index() & 3);
#pragma unroll
  for (int j = 0; j < columns / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int place = first_column / 8 + j;
      changes.value[place][e] *=
          slope(logits.value[place][e] * scale, rows.position[e >> 1], key + 8 * j + (e & 1));
    }
}

// One weight and its change: what is hidden or not wanted has exactly 0 of both, whatever its
// change was.
__device__ __forceinline__ void weigh_change(float &logit, float &change, float scale, float lse) {
  logit = exp2_fast(fmaf(logit, scale, -lse));
  change = logit > 0.f ? logit * change : 0.f;
}

// In place: logits become weights, changes become dS. Rows whose token does not want the key tile
// get 0: bit i of `wants` = token i.
template <int kKeys>
__device__ __forceinline__ void
weigh_changes(Accumulator<16, kKeys> &logits, Accumulator<16, kKeys> &changes,
              const RowStatistics &own, const QueryRows &rows, unsigned wants, float scale) {
  float lse[2];
#pragma unroll
  for (int half = 0; half < 2; ++half)
    lse[half] = wants >> rows.token[half] & 1 ? own.lse[half] : kInfinity;
#pragma unroll
  for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      weigh_change(logits.value[j][e], changes.value[j][e], scale, lse[e >> 1]);
}

// Stores a lane's part of row `half` of the sums, times a factor, to a row of the gradient.
template <class T, int kColumns>
__device__ __forceinline__ void store_row(T *to, const Accumulator<16, kColumns> &sums, int half,
                                          float factor) {
  auto *words = reinterpret_cast<unsigned *>(to) + (lane_index() & 3);
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j)
    words[4 * j] = pack<T>(sums.value[j][2 * half] * factor, sums.value[j][2 * half + 1] * factor);
}

// gradient [total_q, kHeads, kDim] of the row tile's queries = factor * sums.
template <int kHeads, class T, int kDim>
__device__ __forceinline__ void
store_query_gradient(void *gradient, const Accumulator<16, kDim> &sums, const QueryRows &rows,
                     int first_head, float factor) {
#pragma unroll
  for (int half = 0; half < 2; ++half)
    if (rows.row[half] >= 0)
      store_row(static_cast<T *>(gradient) + (static_cast<long long>(rows.row[half]) * kHeads +
                                              first_head + rows.head[half]) *
                                                 kDim,
                sums, half, factor);
}

//===-- Keys own the tile ---------------------------------------------------------------------===//

// Query rows of the tokens of a list, kGroup heads of each: row r of a tile that begins at entry i
// is head r % kGroup of entry i + r / kGroup, for kTokens entries; further rows of the tile are 0.
template <class T, int kHeads, int kGroup, int kTokens> struct TokenRows {
  using Element = T;
  const T *first; // the first head's row of the segment's first token
  TokenList list;
};

// `tensor` [total_q, kHeads, dim].
template <class T, int kHeads, int kGroup, int kTokens>
__device__ __forceinline__ TokenRows<T, kHeads, kGroup, kTokens>
token_rows(const void *tensor, const TokenList &list, const KeyBlock &block, int first_head,
           int dim) {
  return {static_cast<const T *>(tensor) +
              (static_cast<long long>(block.q_row) * kHeads + first_head) * dim,
          list};
}

// Starts copying the rows of the entries from `first_entry` on, of those in front of `end`.
template <int kThreads, int kRows, int kColumns, class T, int kHeads, int kGroup, int kTokens>
__device__ __forceinline__ void load_rows(const SharedTile<kRows, kColumns, T> &tile,
                                          const TokenRows<T, kHeads, kGroup, kTokens> &source,
                                          int first_entry, int end, int thread) {
  constexpr int kRowChunks = SharedTile<kRows, kColumns, T>::kRowChunks;
  constexpr int kRowThreads = threads_per_row(kRowChunks);
  constexpr int kRowsAtOnce = kThreads / kRowThreads;
  static_assert(kThreads % kRowThreads == 0, "whole rows at once");
  const int chunk = thread % kRowThreads;
#pragma unroll
  for (int pass = 0; pass < (kRows + kRowsAtOnce - 1) / kRowsAtOnce; ++pass) {
    const int row = pass * kRowsAtOnce + thread / kRowThreads;
    if (kRows % kRowsAtOnce != 0 && row >= kRows)
      break;
    const int entry = first_entry + row / kGroup;
    const bool valid = row < kTokens * kGroup && entry < end;
    const T *from = source.first;
    if (valid)
      from += (static_cast<long long>(source.list.token(entry)) * kHeads + row % kGroup) * kColumns;
#pragma unroll
    for (int part = 0; part < kRowChunks / kRowThreads; ++part)
      copy_async(tile.address(row, chunk + part * kRowThreads),
                 from + (chunk + part * kRowThreads) * 8, valid ? 16 : 0);
  }
}

// Of the query rows that are columns of a lane's part of a tile of kRows: 8j + 2c + {0, 1}.
template <int kRows> struct QueryColumns {
  int position[kRows / 8][2];
  float lse[kRows / 8][2];
  float delta[kRows / 8][2];
};

// The columns of a tile that load_rows has filled from `first_entry` on. Those of no row have no
// weight.
template <int kGroup, int kTokens, int kRows>
__device__ __forceinline__ void load_columns(QueryColumns<kRows> &columns, const void *statistics,
                                             const TokenList &list, const KeyBlock &block,
                                             int first_entry, int first_head, int total_q) {
#pragma unroll
  for (int j = 0; j < kRows / 8; ++j)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int row = 8 * j + 2 * (lane_index() & 3) + e, entry = first_entry + row / kGroup;
      columns.position[j][e] = -1;
      columns.lse[j][e] = kInfinity;
      columns.delta[j][e] = 0.f;
      if (row >= kTokens * kGroup || entry >= list.count)
        continue;
      const int token = list.token(entry);
      const float2 found = static_cast<const float2 *>(
          statistics)[place_of_statistics<kGroup>(first_head, block.q_row + token, total_q) +
                      row % kGroup];
      columns.position[j][e] = block.history + token;
      columns.lse[j][e] = found.x;
      columns.delta[j][e] = found.y;
    }
}

// subtract_deltas, multiply_slopes and map_logits of a tile that is turned round; `first_key`: of
// the warp's 16.
template <int kRows>
__device__ __forceinline__ void subtract_column_deltas(Accumulator<16, kRows> &changes,
                                                       const QueryColumns<kRows> &columns) {
#pragma unroll
  for (int j = 0; j < kRows / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      changes.value[j][e] -= columns.delta[j][e & 1];
}
template <int kRows, class Hook>
__device__ __forceinline__ void
multiply_column_slopes(Accumulator<16, kRows> &changes, const Accumulator<16, kRows> &logits,
                       const QueryColumns<kRows> &columns, int first_key, float scale,
                       const Hook &slope) {
  const int key = first_key + lane_index() / 4;
#pragma unroll
  for (int j = 0; j < kRows / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      changes.value[j][e] *=
          slope(logits.value[j][e] * scale, columns.position[j][e & 1], key + 8 * (e >> 1));
}
template <int kRows, class Hook>
__device__ __forceinline__ void map_column_logits(Accumulator<16, kRows> &logits,
                                                  const QueryColumns<kRows> &columns, int first_key,
                                                  float scale, const Hook &hook) {
  const int key = first_key + lane_index() / 4;
#pragma unroll
  for (int j = 0; j < kRows / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      logits.value[j][e] =
          hook(logits.value[j][e] * scale, columns.position[j][e & 1], key + 8 * (e >> 1));
}

// weigh_changes of such a tile; keys behind a row's position have no weight.
template <int kRows>
__device__ __forceinline__ void
weigh_columns(Accumulator<16, kRows> &logits, Accumulator<16, kRows> &changes,
              const QueryColumns<kRows> &columns, int first_key, float scale) {
  const int key = first_key + lane_index() / 4;
#pragma unroll
  for (int j = 0; j < kRows / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const bool sees = key + 8 * (e >> 1) <= columns.position[j][e & 1];
      weigh_change(logits.value[j][e], changes.value[j][e], scale,
                   sees ? columns.lse[j][e & 1] : kInfinity);
    }
}

// gradient [total_k, kKvHeads, kDim] of the block's keys from `first_row` on = factor * sums, where
// these are `whole`.
template <int kKvHeads, class T, int kDim>
__device__ __forceinline__ void
store_key_gradient(void *gradient, const Accumulator<16, kDim> &sums, const KeyBlock &block,
                   int first_row, int kv_head, float factor, bool whole) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + lane_index() / 4 + 8 * half;
    if (whole && row < block.keys)
      store_row(static_cast<T *>(gradient) +
                    (static_cast<long long>(block.row + row) * kKvHeads + kv_head) * kDim,
                sums, half, factor);
  }
}

// Else the sums in fp32, as one of several parts [parts, total_k, kKvHeads, kDim].
template <int kKvHeads, int kDim>
__device__ __forceinline__ void store_key_part(void *parts, const Accumulator<16, kDim> &sums,
                                               const KeyBlock &block, int first_row, int kv_head,
                                               int part, int total_k, bool whole) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + lane_index() / 4 + 8 * half;
    if (whole || row >= block.keys)
      continue;
    const long long place =
        (static_cast<long long>(part) * total_k + block.row + row) * kKvHeads + kv_head;
    auto *pairs =
        reinterpret_cast<float2 *>(static_cast<float *>(parts) + place * kDim) + (lane_index() & 3);
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j)
      pairs[4 * j] = make_float2(sums.value[j][2 * half], sums.value[j][2 * half + 1]);
  }
}

// Elements 4 index and the three behind it of a gradient of kWidth elements a key = factor times
// the sum of their parts, in their order; index counts over total_k keys.
template <class T, int kWidth>
__device__ __forceinline__ void join_key_parts(void *gradient, const void *parts, int count,
                                               int total_k, int index, float factor) {
  const long long quads = static_cast<long long>(total_k) * (kWidth / 4);
  if (index >= quads)
    return;
  float4 sum = {0.f, 0.f, 0.f, 0.f};
  for (int part = 0; part < count; ++part) {
    const float4 x = static_cast<const float4 *>(parts)[part * quads + index];
    sum.x += x.x;
    sum.y += x.y;
    sum.z += x.z;
    sum.w += x.w;
  }
  static_cast<uint2 *>(gradient)[index] =
      make_uint2(pack<T>(sum.x * factor, sum.y * factor), pack<T>(sum.z * factor, sum.w * factor));
}
