// Softmax weights of one query token's heads against the summaries that the host keeps, before
// their normalisers are known: so rows are read once, by many blocks of threads that do not wait
// for each other. Serves weigh, which writes weights and each part's share of the normalisers, and
// top_k at decode, which adds the shares up and the weights of a group's heads. The normaliser's
// summaries are not read where they are means of scored ones: a mean's logit is the mean of their
// logits.
//
// A weight is 2^(scale logit) less a reference, a whole number above all logits of a head and 32
// summaries, so it is below 1: an fp32 without its sign and upper exponent bit, rounded to 16 bits,
// which leaves 7 bits of exponent and 9 of mantissa: at most 2^-10 off. Equal logits have equal
// mantissas wherever they lie, since logits are rounded to 2^-12 before references are taken away
// (coarser from 1024 on; logits up to 2^22 are held).
//
// In device memory: for each token and tile of kTileHeads heads weights [kTileHeads][tiles][32],
// then references [kTileHeads][tiles] in fp32; `tiles` of 32 summaries each, of the longest
// sequence. So neighbouring threads read neighbouring summaries of one head.
#pragma once
#include "winnow/attention.cuh"
#include "winnow/scoring.cuh"

//===-- Shares of the normalisers -------------------------------------------------------------===//

// sum = sum + other, each 2^x times y; a sum of nothing has y = 0. Without a branch, so that lanes
// stay together.
__device__ __forceinline__ void add_scaled(float2 &sum, const float2 &other) {
  const float top = fmaxf(sum.y == 0.f ? other.x : sum.x, other.y == 0.f ? sum.x : other.x);
  const float before = sum.y == 0.f ? 0.f : exp2_fast(sum.x - top);
  const float factor = other.y == 0.f ? 0.f : exp2_fast(other.x - top);
  sum = make_float2(top, fmaf(other.y, factor, sum.y * before));
}

// Of a lane's two heads (rows g = lane / 4 and g + 8 of the head tile): maximum and sum of
// exponentials over the normaliser's summaries that the lane has met; and of each that begins
// before the lane's 8 scored ones, the sum of its logits there, kept from tile to tile.
template <int kOpen> struct NormalizerSums {
  float maximum[2] = {-1e30f, -1e30f};
  float sum[2] = {0.f, 0.f};
  float open[2][kOpen > 0 ? kOpen : 1] = {};
};

// The normaliser's summaries that begin before the 8 scored ones with whose end they end.
__host__ __device__ constexpr int open_summaries(int count, int step, int stride) {
  int open = 0;
  for (int last = 0; last < 8; ++last)
    open += last < step * (count - 1) && (last + 8 - step * (count - 1)) % stride == 0;
  return open;
}

// Where the `open`-th of them begins, before a tile.
template <int kCount, int kStep, int kStride>
__host__ __device__ constexpr int open_first(int open) {
  constexpr int kReach = kStep * (kCount - 1);
  for (int i = 0; i < 8 / kStride; ++i) {
    const int first = (kReach + i * kStride) % 8 - kReach;
    if (first < 0 && open-- == 0)
      return first;
  }
  return 0;
}

// Adds the normaliser's summaries that end in the lane's 8 of tile [first_row, first_row + 32):
// every kStride-th begins one, a mean of kCount scored ones that lie kStep apart. Those from
// `visible` on are hidden. `open` holds the sums of those that begin in a lane's 8 and end in the
// next one's: join(mine, half, i) takes the lane's own and gives that of the lane before;
// is_whole(sum, half, i) says whether a sum is all of it.
template <int kCount, int kStep, int kStride, int kOpen, class Open>
__device__ __forceinline__ void add_means(NormalizerSums<kOpen> &state,
                                          const Accumulator<16, 32> &logits, int first_row,
                                          int visible, float scale, const Open &open) {
  constexpr int kReach = kStep * (kCount - 1);
  static_assert(kReach <= 8 && 8 % kStride == 0, "no more than the 8 before");
  static_assert(kOpen == open_summaries(kCount, kStep, kStride), "a place for each");
  const int row = first_row + 8 * (lane_index() & 3);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float mean[8 / kStride];
    float top = -kInfinity;
    int index = 0;
#pragma unroll
    for (int i = 0; i < 8 / kStride; ++i) {
      const int last = (kReach + i * kStride) % 8, first = last - kReach;
      float sum = 0.f;
      if (first < 0) {
        float mine = 0.f; // of the one that ends behind this lane's 8
#pragma unroll
        for (int part = 0; part < kCount; ++part)
          if (first + kStep * part < 0)
            mine += logit_of(logits, half, first + kStep * part + 8);
        sum = open.join(mine, half, index);
      }
#pragma unroll
      for (int part = 0; part < kCount; ++part)
        if (first + kStep * part >= 0)
          sum += logit_of(logits, half, first + kStep * part);
      const bool whole = first >= 0 || open.is_whole(sum, half, index++);
      const bool sees = whole && row + first >= 0 && (row + first) / kStride < visible;
      mean[i] = sees ? sum * (scale / kCount) : -kInfinity;
      top = fmaxf(top, mean[i]);
    }
    const float maximum = fmaxf(state.maximum[half], top);
    float sum = state.sum[half] * exp2_fast(state.maximum[half] - maximum);
#pragma unroll
    for (int i = 0; i < 8 / kStride; ++i)
      sum += exp2_fast(mean[i] - maximum);
    state.maximum[half] = maximum;
    state.sum[half] = sum;
  }
}

// Sums of open summaries that a warp carries from tile to tile.
template <int kOpen> struct CarriedOpenSums {
  NormalizerSums<kOpen> &state;
  __device__ __forceinline__ float join(float mine, int half, int open) const {
    const int c = lane_index() & 3, before = (lane_index() & ~3) | ((c + 3) & 3);
    // The last lane's goes to the first lane of the next tile.
    const float sum = __shfl_sync(kFullWarp, c == 3 ? state.open[half][open] : mine, before);
    state.open[half][open] = mine;
    return sum;
  }
  __device__ __forceinline__ bool is_whole(float, int, int) const { return true; }
};

// Adds the normaliser's summaries that end in tile [first_row, first_row + 32). Tiles follow each
// other; one that counts not, in front of a part, says what the next one needs of it.
template <int kCount, int kStep, int kStride, int kOpen>
__device__ __forceinline__ void
add_normalizer_rows(NormalizerSums<kOpen> &state, const Accumulator<16, 32> &logits, int first_row,
                    int visible, bool counts, float scale) {
  add_means<kCount, kStep, kStride>(state, logits, first_row, counts ? visible : 0, scale,
                                    CarriedOpenSums<kOpen>{state});
}

// The share of a quad's lanes in one of their two heads, known to all four.
template <int kOpen>
__device__ __forceinline__ float2 share_of_quad(const NormalizerSums<kOpen> &state, int half) {
  float2 sum = make_float2(state.maximum[half], state.sum[half]);
#pragma unroll
  for (int distance = 1; distance < 4; distance *= 2)
    add_scaled(sum, make_float2(__shfl_xor_sync(kFullWarp, sum.x, distance),
                                __shfl_xor_sync(kFullWarp, sum.y, distance)));
  return sum;
}

// The part's share, of the warp's lanes, to a buffer [parts, tokens, kHeads] of {maximum, sum}.
template <int kHeads, int kTileHeads, int kOpen>
__device__ __forceinline__ void store_normalizer_share(void *buffer,
                                                       const NormalizerSums<kOpen> &state, int part,
                                                       int token, int tokens, int first_head) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float2 sum = share_of_quad(state, half);
    const int head = 8 * half + lane_index() / 4;
    if ((lane_index() & 3) == 0 && head < kTileHeads)
      static_cast<float2 *>(
          buffer)[(static_cast<long long>(part) * tokens + token) * kHeads + first_head + head] =
          sum;
  }
}

// table = the normalisers of heads [first_head, first_head + kGroup): the parts' sums, added up by
// some lanes per head. -inf where no part has seen a summary, and for the rows behind the last
// head.
template <int kThreads, int kHeads, int kGroup, int kRows>
__device__ __forceinline__ void merge_part_sums(const NormalizerTable<kRows> &table,
                                                const void *buffer, int parts, int token,
                                                int tokens, int first_head) {
  constexpr int kLanes = kThreads >= 32 * kRows ? 32 : 8; // per head
  static_assert(kRows * kLanes % 32 == 0, "whole warps");
  const int lane = thread_index() % kLanes;
#pragma unroll 1
  for (int row = thread_index() / kLanes; row < kRows; row += kThreads / kLanes) {
    const float2 *from = static_cast<const float2 *>(buffer) +
                         static_cast<long long>(token) * kHeads + first_head + row;
    float2 sum = make_float2(0.f, 0.f);
    constexpr int kTogether = 8; // loads that do not wait for each other
    if (row < kGroup)
      for (int first = lane; first < parts; first += kLanes * kTogether) {
        float2 share[kTogether];
#pragma unroll
        for (int i = 0; i < kTogether; ++i)
          share[i] = first + i * kLanes < parts
                         ? from[static_cast<long long>(first + i * kLanes) * tokens * kHeads]
                         : make_float2(0.f, 0.f);
#pragma unroll
        for (int i = 0; i < kTogether; ++i)
          add_scaled(sum, share[i]);
      }
#pragma unroll
    for (int distance = kLanes / 2; distance > 0; distance /= 2)
      add_scaled(sum, make_float2(__shfl_xor_sync(kFullWarp, sum.x, distance),
                                  __shfl_xor_sync(kFullWarp, sum.y, distance)));
    if (lane == 0)
      table.values[row] = sum.y > 0.f ? sum.x + log2_fast(sum.y) : -kInfinity;
  }
}

//===-- Weights -------------------------------------------------------------------------------===//

// The weights of head tile `column`, in units of 16 bytes; its references lie behind them.
template <int kTileHeads>
__device__ __forceinline__ long long weights_place(int column, int tiles) {
  constexpr int kFours = 4 * kTileHeads; // of 32 summaries
  return column * (static_cast<long long>(kFours) * tiles + (kTileHeads * tiles + 3) / 4);
}

// Rounds to multiples of 2^-12 what is added to it (up to 1024; coarser above).
constexpr float kLogitGrid = 3072.f;

// Two fp32 below 1 as weights.
__device__ __forceinline__ unsigned pack_weights(float first, float second) {
  // Rounded, with the 16 bits that stay on top.
  const unsigned low = __float_as_uint(first) * 4 + 0x8000u;
  const unsigned high = __float_as_uint(second) * 4 + 0x8000u;
  return low >> 16 | (high & 0xffff0000u);
}
// The first (index 0) or second of a pair.
__device__ __forceinline__ float weight_of(unsigned pair, int index) {
  return __uint_as_float((index == 0 ? pair << 16 : pair & 0xffff0000u) >> 2);
}

// Writes the weights of the tile at `first_row` of head tile `column`, to the place of tile `tile`:
// 0 for summaries from `visible` on.
template <int kTileHeads>
__device__ __forceinline__ void store_weights(void *weights, Accumulator<16, 32> &logits,
                                              int column, int tiles, int tile, int first_row,
                                              int visible, float scale) {
  if (first_row + 32 > visible)
    mask_summaries(logits, first_row, visible);
  const int c = lane_index() & 3;
  uint4 *to = static_cast<uint4 *>(weights) + weights_place<kTileHeads>(column, tiles);
  float *references = reinterpret_cast<float *>(to + 4ll * kTileHeads * tiles);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (8 * half >= kTileHeads)
      break;
    const int head = 8 * half + lane_index() / 4;
    float top = logit_of(logits, half, 0);
#pragma unroll
    for (int j = 1; j < 8; ++j)
      top = fmaxf(top, logit_of(logits, half, j));
    top = quad_maximum(top) * scale;
    const float reference = top > -kInfinity ? floorf(top) + 2.f : 0.f;
    float weight[8];
#pragma unroll
    for (int j = 0; j < 8; ++j)
      weight[j] =
          exp2_fast(fmaf(logit_of(logits, half, j), scale, kLogitGrid) - (kLogitGrid + reference));
    if (head >= kTileHeads)
      continue;
    to[(static_cast<long long>(head) * tiles + tile) * 4 + c] =
        make_uint4(pack_weights(weight[0], weight[1]), pack_weights(weight[2], weight[3]),
                   pack_weights(weight[4], weight[5]), pack_weights(weight[6], weight[7]));
    if (c == 0)
      references[head * tiles + tile] = reference;
  }
}

// The same of tile `tile` of all.
template <int kTileHeads>
__device__ __forceinline__ void store_head_weights(void *weights, Accumulator<16, 32> &logits,
                                                   int column, int tiles, int tile, int visible,
                                                   float scale) {
  store_weights<kTileHeads>(weights, logits, column, tiles, tile, 32 * tile, visible, scale);
}

// Whether a thread has met a tile so far above its normaliser that fp32 does not hold what else is
// in it: its row is to be selected for by octaves (rescore.cuh). That takes a logit far above those
// around it, of which the normaliser knows the mean alone.
struct RangeVote {
  bool leaves = false;
};
// In any thread of the block; a barrier of all of them.
__device__ __forceinline__ bool any_leaves(const RangeVote &vote) {
  return sync_threads_any(vote.leaves);
}

// What turns stored weights of a reference into scores; votes where fp32 may not hold them.
__device__ __forceinline__ float weight_factor(RangeVote &vote, float reference, float normalizer) {
  // Whole octaves first: a power of 2 rounds nothing, so equal weights stay equal.
  const float octave = floorf(normalizer);
  const float above = reference - octave;
  vote.leaves |= above > 60.f && normalizer > -kInfinity;
  const float power = exp2_fast(fminf(above, 127.f));
  return normalizer > -kInfinity ? power * exp2_fast(octave - normalizer) : 0.f;
}

// Combines in the weights of kGroup heads for the thread's 8 summaries, those of quarter lane % 4
// of row tile `tile`, where it `exists`. `column`: the first head tile. Score = 2^(scale logit -
// normaliser).
template <class Combine, int kGroup, int kTileHeads, int kRows>
__device__ __forceinline__ void add_stored_heads(RowScores &scores, RangeVote &vote,
                                                 const void *weights,
                                                 const NormalizerTable<kRows> &table, int column,
                                                 int tiles, int tile, bool exists) {
  if (!exists)
    return;
#pragma unroll 1
  for (int first = 0; first < kGroup; first += kTileHeads) {
    const uint4 *from = static_cast<const uint4 *>(weights) +
                        weights_place<kTileHeads>(column + first / kTileHeads, tiles);
    const float *references = reinterpret_cast<const float *>(from + 4ll * kTileHeads * tiles);
    float reference[kTileHeads];
    uint4 codes[kTileHeads]; // loads first: they are in flight together
#pragma unroll
    for (int head = 0; head < kTileHeads; ++head) {
      reference[head] = references[head * tiles + tile];
      codes[head] = from[(static_cast<long long>(head) * tiles + tile) * 4 + (lane_index() & 3)];
    }
#pragma unroll
    for (int head = 0; head < kTileHeads; ++head) {
      const unsigned words[4] = {codes[head].x, codes[head].y, codes[head].z, codes[head].w};
      const float factor = weight_factor(vote, reference[head], table.values[first + head]);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float weight = weight_of(words[j / 2], j % 2);
        scores.value[j] = is_same<Combine, Sum>
                              ? fmaf(weight, factor, scores.value[j])
                              : Combine::combine(scores.value[j], weight * factor);
      }
    }
  }
}

// block = the pools of the thread's 8 summaries from `row` on, whose neighbours lie in the lanes
// beside it; returns what reaches into the block behind. Edges lie kEdgeRows summaries apart. All
// lanes take part.
template <class Pool, int kRowsPerBlock, int kPad, int kEdgeRows>
__device__ __forceinline__ float pool_thread_scores(float (&block)[8 / kRowsPerBlock],
                                                    const RowScores &scores, int row, int rows) {
  const float edge = pool_edge<Pool, kRowsPerBlock, kPad>(scores.value);
  const float before = __shfl_up_sync(kFullWarp, edge, 1);
  pool_blocks<Pool, kRowsPerBlock, kPad>(
      block, scores.value, row % kEdgeRows != 0 ? before : Pool::kIdentity, row, rows);
  return edge;
}

// Pools the thread's 8 summaries, those of quarter lane % 4 of the tile at `first_row`, to blocks,
// and stores block scores and edges, which lie kEdgeRows summaries apart; threads follow each other
// in rows. All lanes take part; `valid`: whether the thread's summaries are wanted.
template <class Pool, int kRowsPerBlock, int kPad, int kEdgeRows, class Element>
__device__ __forceinline__ void store_thread_scores(Element *row_scores, const RowScores &scores,
                                                    int first_row, int rows, int padded,
                                                    bool valid) {
  const int row = first_row + 8 * (lane_index() & 3);
  float block[8 / kRowsPerBlock];
  const float edge =
      pool_thread_scores<Pool, kRowsPerBlock, kPad, kEdgeRows>(block, scores, row, rows);
  if (!valid)
    return;
  store_scores(row_scores + row / kRowsPerBlock, block);
  if (kPad > 0 && row % kEdgeRows == kEdgeRows - 8)
    store_scores(row_scores + padded + row / kEdgeRows, {edge});
}
