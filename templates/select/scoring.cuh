// Scores of queries against summary rows, reduced to one score per key block without leaving the
// thread. Serves score. A warp owns up to 8 mma tiles of 16 query rows = 8 tokens x 2 heads, and 32
// summary rows. Both are stored in an order that makes every reduction local:
//  - queries: tile row g (and g + 8) is token g with head 2p (and 2p + 1), so a lane meets all
//  heads of its token;
//  - summaries: row n = 8i + 2c + e of 32 holds summary 8c + 2i + e, so a lane (c = lane % 4) owns
//  8 consecutive ones.
// Notation: kGroup heads share a selection, head_pairs(kGroup) mma tiles of one token set; a token
// set is 8 tokens, and a warp has kSets of them; warps with the same tokens are a token group. kPad
// = window / stride - 1 summaries reach from the block before into a block; kRowsPerBlock = block /
// stride.
#pragma once
#include "winnow/head_scores.cuh"
#include "winnow/sequence.cuh"
#include "winnow/summarize.cuh"
#include "winnow/summary_order.cuh"
#include "winnow/tile.cuh"

//===-- Loading -------------------------------------------------------------------------------===//

// Mma tiles of one token set: pairs of heads (a group of one head leaves half of its tile empty).
__host__ __device__ constexpr int head_pairs(int group) { return (group + 1) / 2; }

// queries[kRows, kDim] = the tile's tokens of q [total_q, kHeads, kDim], heads [first_head,
// first_head + kGroup), in the order above: row = ((token group * kSets + set) * pairs + pair) * 16
// + (head % 2) * 8 + token % 8. Tokens behind the tile's end are zero.
template <int kThreads, int kHeads, int kGroup, int kSets, int kRows, int kDim, class T,
          class Heads>
__device__ __forceinline__ void load_queries(const SharedTile<kRows, kDim, T> &queries,
                                             const Heads &q, const TokenTile &tile,
                                             int first_head) {
  constexpr int kPairs = head_pairs(kGroup);
  constexpr int kRowChunks = SharedTile<kRows, kDim, T>::kRowChunks;
  static_assert(kRows % (kSets * kPairs * 16) == 0, "whole token groups");
#pragma unroll 4
  for (int i = thread_index(); i < kRows * kRowChunks; i += kThreads) {
    const int row = i / kRowChunks, chunk = i % kRowChunks;
    const int mma_tile = row / 16, half = row / 8 % 2;
    const int token = mma_tile / kPairs * 8 + row % 8;
    const int head = mma_tile % kPairs * 2 + half;
    const bool valid = token < tile.tokens && head < kGroup;
    const T *from = head_row<kHeads, kDim, T>(q, tile.row + (valid ? token : 0),
                                              first_head + (valid ? head : 0));
    copy_async(queries.address(row, chunk), from + chunk * 8, valid ? 16 : 0);
  }
}

// summaries[kRows, kDim] = summary rows [first_row, first_row + kRows), each 32 in the order above;
// rows from row_limit on become zero and are not read.
template <int kThreads, int kRows, int kDim, class T>
__device__ __forceinline__ void load_summaries(const SharedTile<kRows, kDim, T> &summaries,
                                               const GlobalRows<T, kDim> &source, int first_row,
                                               int row_limit) {
  constexpr int kRowChunks = SharedTile<kRows, kDim, T>::kRowChunks;
  constexpr int kRowThreads = threads_per_row(kRowChunks);
  constexpr int kRowsAtOnce =
      kThreads / kRowThreads; // a power of two: its rows and the passes use different bits of n
  static_assert((kRowsAtOnce & (kRowsAtOnce - 1)) == 0 && kRows % kRowsAtOnce == 0,
                "threads must tile the rows");
  const int n = thread_index() / kRowThreads, chunk = thread_index() % kRowThreads;
  const int row = first_row + summary_order(n);
  const T *from = source.first + static_cast<long long>(row) * kDim + chunk * 8;
#pragma unroll 16
  for (int pass = 0; pass < kRows / kRowsAtOnce; ++pass) {
    const int offset = summary_order(pass * kRowsAtOnce);
#pragma unroll
    for (int part = 0; part < kRowChunks / kRowThreads; ++part)
      copy_async(summaries.address(n + pass * kRowsAtOnce, chunk + part * kRowThreads),
                 from + offset * kDim + part * kRowThreads * 8, row + offset < row_limit ? 16 : 0);
  }
}

// The same from rows that need not follow each other: a page and an address per row. Pages
// before copies, a few at a time: a look-up between copies would wait for each.
template <int kThreads, int kRows, int kDim, class T, class Copy>
__device__ __forceinline__ void copy_paged_summaries(const SharedTile<kRows, kDim, T> &summaries,
                                                     const PagedRows<T> &source, int first_row,
                                                     int row_limit, const Copy &copy) {
  constexpr int kRowChunks = SharedTile<kRows, kDim, T>::kRowChunks;
  constexpr int kRowThreads = threads_per_row(kRowChunks);
  constexpr int kRowsAtOnce = kThreads / kRowThreads;
  static_assert(kThreads % kRowThreads == 0 && kRows % kRowsAtOnce == 0,
                "threads must tile the rows");
  constexpr int kPasses = kRows / kRowsAtOnce;
  constexpr int kBatch = kPasses < 8 ? kPasses : 8;
  static_assert(kPasses % kBatch == 0, "whole batches");
  const int chunk = thread_index() % kRowThreads, own = thread_index() / kRowThreads;
#pragma unroll
  for (int batch = 0; batch < kPasses; batch += kBatch) {
    int pages[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int row = first_row + summary_order((batch + i) * kRowsAtOnce + own);
      pages[i] = row < row_limit ? source.look_up(row) : 0; // no other row has a page
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int n = (batch + i) * kRowsAtOnce + own;
      const int row = first_row + summary_order(n);
      const bool valid = row < row_limit;
      const T *from = valid ? source.row_in(pages[i], row) : source.first;
#pragma unroll
      for (int part = 0; part < kRowChunks / kRowThreads; ++part)
        copy(summaries.address(n, chunk + part * kRowThreads),
             from + (chunk + part * kRowThreads) * 8, valid ? 16 : 0);
    }
  }
}

template <int kThreads, int kRows, int kDim, class T>
__device__ __forceinline__ void load_summaries(const SharedTile<kRows, kDim, T> &summaries,
                                               const StreamedRows<T> &source, int first_row,
                                               int row_limit) {
  copy_paged_summaries<kThreads>(summaries, static_cast<const PagedRows<T> &>(source), first_row,
                                 row_limit, CopyStreamed{source.policy});
}

// The same into a tile that few threads fill: rows in the order above, by load_rows.
template <class T> struct OrderedRows {
  using Element = T;
  StreamedRows<T> rows;
};
template <class T>
__device__ __forceinline__ OrderedRows<T> in_summary_order(const StreamedRows<T> &rows) {
  return {rows};
}
struct SummaryOrder {
  __device__ __forceinline__ int operator()(int n) const { return summary_order(n); }
};
template <int kThreads, int kRows, int kColumns, class T>
__device__ __forceinline__ void load_rows(const SharedTile<kRows, kColumns, T> &tile,
                                          const OrderedRows<T> &source, int first_row,
                                          int row_limit, int thread) {
  copy_paged_rows<kThreads>(tile, static_cast<const PagedRows<T> &>(source.rows), first_row,
                            row_limit, thread, CopyStreamed{source.rows.policy}, SummaryOrder());
}

template <class T>
__device__ __forceinline__ int find_page(const OrderedRows<T> &source, int first_row, int row_limit,
                                         int lane) {
  const int row = first_row + summary_order(lane);
  return row < row_limit ? source.rows.look_up(row) : 0;
}
template <int kColumns, class T>
__device__ __forceinline__ void load_found_rows(const SharedTile<32, kColumns, T> &tile,
                                                const OrderedRows<T> &source, int page,
                                                int first_row, int row_limit, int lane) {
  copy_found_rows(tile, 0, static_cast<const PagedRows<T> &>(source.rows), page, first_row,
                  row_limit, lane, CopyStreamed{source.rows.policy}, SummaryOrder());
}

// The lane's token of token set `set`: index in the tile.
template <int kSets> __device__ __forceinline__ int set_token(int token_group, int set) {
  return (token_group * kSets + set) * 8 + lane_index() / 4;
}

//===-- Visibility ----------------------------------------------------------------------------===//

// Summary rows that a query at `position` may see: those whose window ends at or before it. At most
// `rows`.
template <int kWindow, int kStride>
__device__ __forceinline__ int visible_absolute(int position, int rows) {
  return position + 1 < kWindow ? 0 : min(rows, (position + 1 - kWindow) / kStride + 1);
}

// The same by the rule of infllmv2_cuda_impl, for comparison with it: counts from the query's index
// in its segment.
template <int kStride>
__device__ __forceinline__ int visible_by_segment(int index, int q_length, int rows) {
  return min(rows, max(0, (index + 1) / kStride - 1 + rows - (q_length - kStride + 1) / kStride));
}

//===-- Normaliser: log-sum-exp over summary rows ---------------------------------------------===//

// Per mma tile of the warp and half: running maximum and sum, base 2, of the lane's row over the
// summaries that the lane has seen.
template <int kTiles> struct LogSumExp {
  float maximum[kTiles][2];
  float sum[kTiles][2];
};

// Normalisers of the block's query rows in shared memory: log2 of the sum over all summaries of
// 2^(scale logit).
template <int kRows> struct NormalizerTable {
  static constexpr int kBytes = kRows * 4;
  float *values;
  explicit __device__ __forceinline__ NormalizerTable(unsigned char *bytes)
      : values(reinterpret_cast<float *>(bytes)) {}
};

// No summary yet; `maximum` where none was seen.
template <int kTiles>
__device__ __forceinline__ void start_sums(LogSumExp<kTiles> &state, float maximum) {
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      state.maximum[m][half] = maximum;
      state.sum[m][half] = 0.f;
    }
}

template <int kTiles> __device__ __forceinline__ void clear(LogSumExp<kTiles> &state) {
  start_sums(state, -1e30f);
}

// Hides the summaries from `visible` on: logit = -inf, in kHalves halves from kFirstHalf on.
// `first_row`: the first summary of the tile's, or the warp's, kColumns.
template <int kFirstHalf, int kHalves, int kColumns>
__device__ __forceinline__ void mask_tile(Accumulator<16, kColumns> &logits, int first_row,
                                          int visible) {
  const int limit = visible - first_row - kColumns / 4 * (lane_index() & 3);
#pragma unroll
  for (int j = 0; j < kColumns / 4; ++j)
#pragma unroll
    for (int half = kFirstHalf; half < kFirstHalf + kHalves; ++half)
      if (j >= limit)
        logits.value[j / 2][2 * half + j % 2] = -kInfinity;
}

__device__ __forceinline__ void mask_summaries(Accumulator<16, 32> &logits, int first_row,
                                               int visible) {
  mask_tile<0, 2>(logits, first_row, visible);
}

// Raises the maximum of one half of mma tile m to that of its logits.
template <int kTiles, int kColumns>
__device__ __forceinline__ void raise_maximum(LogSumExp<kTiles> &state, int m, int half,
                                              const Accumulator<16, kColumns> &logits,
                                              float scale) {
  float top = logit_of(logits, half, 0);
#pragma unroll
  for (int j = 1; j < kColumns / 4; ++j)
    top = fmaxf(top, logit_of(logits, half, j));
  const float maximum = fmaxf(state.maximum[m][half], top * scale);
  state.sum[m][half] *= exp2_fast(state.maximum[m][half] - maximum);
  state.maximum[m][half] = maximum;
}

// Adds the lane's 8 summaries of mma tile m to its running sums.
template <int kTiles>
__device__ __forceinline__ void add_exponentials(LogSumExp<kTiles> &state, int m,
                                                 const Accumulator<16, 32> &logits, float scale) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    raise_maximum(state, m, half, logits, scale);
#pragma unroll
    for (int j = 0; j < 8; ++j)
      state.sum[m][half] +=
          exp2_fast(fmaf(logit_of(logits, half, j), scale, -state.maximum[m][half]));
  }
}

// Sums of logits that already hold the factor start at minus the rows' references, which `maximum`
// holds then: the product makes logits less references, without an instruction for it.
template <int kTiles>
__device__ __forceinline__ void start_below(Accumulator<16, 32> &logits,
                                            const LogSumExp<kTiles> &state, int m) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      logits.value[i][e] = -state.maximum[m][e / 2];
}

// Adds the lane's 8 summaries of mma tile m, logits less references, to its running sums. A
// reference moves only when the sum shows that it must: to look for a maximum each time would cost
// a comparison per logit. A sum is 0 as long as nothing is visible, and at least 2^-60 from then
// on.
template <int kTiles>
__device__ __forceinline__ void add_powers(LogSumExp<kTiles> &state, int m,
                                           const Accumulator<16, 32> &logits) {
  constexpr float kSmallest = 8.6736174e-19f; // 2^-60: what fp32 lost beside it is far smaller
  constexpr float kLargest = 1.2676506e30f;   // 2^100
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float even = 0.f, odd = 0.f;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      even += exp2_fast(logits.value[i][2 * half]);
      odd += exp2_fast(logits.value[i][2 * half + 1]);
    }
    float sum = state.sum[m][half] + (even + odd);
    if (!(sum >= kSmallest && sum < kLargest)) {
      float top = -kInfinity;
#pragma unroll
      for (int i = 0; i < 4; ++i)
        top = fmaxf(top, fmaxf(logits.value[i][2 * half], logits.value[i][2 * half + 1]));
      if (top > -kInfinity) {
        // The first visible logits may lie far below: 0 times a power that overflows is no sum.
        const float before = state.sum[m][half];
        sum = before > 0.f ? before * exp2_fast(-top) : 0.f;
#pragma unroll
        for (int i = 0; i < 4; ++i)
          sum += exp2_fast(logits.value[i][2 * half] - top) +
                 exp2_fast(logits.value[i][2 * half + 1] - top);
        state.maximum[m][half] += top;
      }
    }
    state.sum[m][half] = sum;
  }
}

// log2(2^a + 2^b) without overflow; -inf for two of them.
__device__ __forceinline__ float add_log2(float a, float b) {
  const float top = fmaxf(fmaxf(a, b), -1e30f);
  return top + log2_fast(exp2_fast(a - top) + exp2_fast(b - top));
}

// Completes the sums over the four lanes of a quad and adds them to the block's table in shared
// memory, in the order of the query rows: called by one of the warps of a token group after the
// other; the first one writes.
template <int kRows, int kTiles>
__device__ __forceinline__ void merge_normalizers(NormalizerTable<kRows> table,
                                                  const LogSumExp<kTiles> &state, int token_group,
                                                  bool is_first) {
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float value = state.maximum[m][half] + log2_fast(state.sum[m][half]);
      value = add_log2(value, __shfl_xor_sync(kFullWarp, value, 1));
      value = add_log2(value, __shfl_xor_sync(kFullWarp, value, 2));
      float *entry = table.values + (token_group * kTiles + m) * 16 + half * 8 + lane_index() / 4;
      if ((lane_index() & 3) == 0)
        *entry = is_first ? value : add_log2(*entry, value);
    }
}

// Normaliser of the lane's row in half `half` of the mma tile that begins at query row `row`; +inf
// where no summary is visible: every score becomes 0.
template <int kRows>
__device__ __forceinline__ float normalizer(NormalizerTable<kRows> table, int row, int half) {
  const float value = table.values[row + half * 8 + lane_index() / 4];
  return value == -kInfinity ? kInfinity : value;
}

// The largest normaliser, of either sign, that a weight may stand for. A score is then a sum of
// 2^logit times 2^-normaliser. What fp32 loses of a sum of 64 heads where powers fade out, below
// 2^-126, is less than 2^(6 - 126 + 48) = 2^-72, and a power that overflows belongs to a score of
// at least 2^80: all scores from 2^-62 to 2^80 are right within a step of bf16, and no other one
// gets among them. Outside, rescore decides (rescore.cuh).
constexpr float kLargestWeight = 48.f;

// Whether a normaliser of the thread's entries is too large or too small for a weight, or there is
// none, which no weight can stand for: 0 times a power that overflows is no score.
template <int kThreads, int kRows>
__device__ __forceinline__ bool table_leaves_weights(NormalizerTable<kRows> table) {
  bool leaves = false;
  for (int row = thread_index(); row < kRows; row += kThreads)
    leaves |= !(fabsf(table.values[row]) <= kLargestWeight);
  return leaves;
}

// Turns the table's normalisers into weights 2^-normaliser: each thread the entries that it looked
// at.
template <int kThreads, int kRows>
__device__ __forceinline__ void weigh_normalizers(NormalizerTable<kRows> table) {
  for (int row = thread_index(); row < kRows; row += kThreads)
    table.values[row] = exp2_fast(-table.values[row]);
}

//===-- Scores --------------------------------------------------------------------------------===//

// Halves of an mma tile of warps that hold heads.
__host__ __device__ constexpr int halves_of(int group) { return group == 1 ? 1 : 2; }

// The three of them for the mma tile of warps that begins at query row `row`: its normalisers, or
// weights, are in the table.
template <class Combine, int kGroup, int kRows>
__device__ __forceinline__ void
add_softmax_scores(RowScores &scores, const Accumulator<16, 32> &logits,
                   NormalizerTable<kRows> table, int row, float scale) {
  const float offset[2] = {normalizer(table, row, 0), normalizer(table, row, 1)};
  add_offset_heads<Combine, 0, halves_of(kGroup)>(scores, logits, offset, scale);
}

template <int kGroup, int kRows>
__device__ __forceinline__ void add_weighted_heads(RowScores &scores,
                                                   const Accumulator<16, 32> &logits,
                                                   NormalizerTable<kRows> table, int row) {
  const float *entry = table.values + row + lane_index() / 4;
  const float weight[2] = {entry[0], entry[8]};
  weigh_heads<Sum, 0, 0, halves_of(kGroup)>(scores, logits, weight);
}

template <class Combine, int kGroup, class Hook>
__device__ __forceinline__ void add_raw_scores(RowScores &scores, const Accumulator<16, 32> &logits,
                                               int position, int first_row, float scale,
                                               const Hook &hook) {
  add_hooked_scores<Combine, 0, halves_of(kGroup)>(scores, logits, position, first_row, scale,
                                                   hook);
}
