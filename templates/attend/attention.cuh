// Attention of a row tile: 16 rows = row_tokens(kTileHeads) tokens x kTileHeads query heads (rows
// behind them stay unused where kTileHeads is no power of two), over one key tile at a time. A warp
// has one row tile, or two that share the loads of their products (mma_abt_pair, mma_ab_pair).
// Serves attend. Online softmax in base 2: maximum and sum per row, kept in the two rows that a
// lane's quad shares. The maximum has a finite floor, so that rows without any visible key stay
// free of NaN: they end with sum 0. Logits: `scale` is what turns a logit into an exponent of 2
// (softmax scale times log2 e).
#pragma once
#include "winnow/sequence.cuh"
#include "winnow/tile.cuh"

// A lane's two rows of the 16 (row g = lane / 4, and g + 8); row = token * kTileHeads + head.
struct QueryRows {
  int first_position; // position of the first token: the smallest
  int token[2];       // token of the row, counted in the row tile
  int head[2];        // head of the row, counted in the group
  int position[2];    // absolute position of the row's token
  int row[2];         // the token's row in q and out; -1 behind the tile's end and for unused rows
};

// Tokens of a row tile: the largest power of two whose heads fit 16 rows.
__host__ __device__ constexpr int row_tokens(int heads) {
  int tokens = 1;
  while (2 * tokens * heads <= 16)
    tokens *= 2;
  return tokens;
}

// Row state of the online softmax.
struct SoftmaxState {
  float maximum[2] = {-1e30f, -1e30f}; // in units of logits
  float sum[2] = {0.f, 0.f};           // this lane's part of the row until reduce_sum
  float rescale[2] = {1.f, 1.f};       // what the last raise of the maximum did to sum and output
};

// The rows of row tile `row_tile` of the block: 16 rows of mma tiles; one or two of them per warp.
template <int kTileHeads>
__device__ __forceinline__ QueryRows query_rows(const TokenTile &tile, int row_tile) {
  constexpr int kRowTokens = row_tokens(kTileHeads);
  QueryRows rows;
  rows.first_position = tile.position + row_tile * kRowTokens;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = lane_index() / 4 + 8 * half;
    const int token = row_tile * kRowTokens + row / kTileHeads;
    rows.token[half] = row / kTileHeads;
    rows.head[half] = row % kTileHeads;
    rows.position[half] = tile.position + token;
    const bool used = kRowTokens * kTileHeads == 16 || row < kRowTokens * kTileHeads;
    rows.row[half] = used && token < tile.tokens ? tile.row + token : -1;
  }
  return rows;
}

// query[16, kDim] = these rows of q [total_q, kHeads, kDim]; rows without a token are
// zero. `first_head`: the group's first query head.
template <int kHeads, int kDim, class T, class Heads>
__device__ __forceinline__ void load_query(LeftOperand<16, kDim, T> &query, const Heads &q,
                                           const QueryRows &rows, int first_head) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const T *from =
        head_row<kHeads, kDim, T>(q, max(rows.row[half], 0), first_head + rows.head[half]) +
        2 * (lane_index() & 3);
#pragma unroll
    for (int step = 0; step < kDim / 16; ++step) {
      const bool valid = rows.row[half] >= 0;
      query.word[step][half] = valid ? *reinterpret_cast<const unsigned *>(from + 16 * step) : 0u;
      query.word[step][half + 2] =
          valid ? *reinterpret_cast<const unsigned *>(from + 16 * step + 8) : 0u;
    }
  }
}

//===-- Logits --------------------------------------------------------------------------------===//

// Hides keys behind each row's position: logit = -inf where first_key + column > position. Of
// `columns` columns from `first_column` on (multiples of 8), where key tiles stand side by side.
template <int kKeys>
__device__ __forceinline__ void mask_causal(Accumulator<16, kKeys> &logits, const QueryRows &rows,
                                            int first_key, int first_column = 0,
                                            int columns = kKeys) {
  const int key = first_key + 2 * (lane_index() & 3);
#pragma unroll
  for (int j = 0; j < columns / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (key + 8 * j + (e & 1) > rows.position[e >> 1])
        logits.value[first_column / 8 + j][e] = -kInfinity;
}

// logit = hook(scale * logit, query position, key position), in columns as of mask_causal: softcap,
// bias by distance. Before the masks; what follows takes log2 e as its scale.
template <int kKeys, class Hook>
__device__ __forceinline__ void map_logits(Accumulator<16, kKeys> &logits, const QueryRows &rows,
                                           int first_key, float scale, const Hook &hook,
                                           int first_column = 0, int columns = kKeys) {
  const int key = first_key + 2 * (lane_index() & 3);
#pragma unroll
  for (int j = 0; j < columns / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      float &logit = logits.value[first_column / 8 + j][e];
      logit = hook(logit * scale, rows.position[e >> 1], key + 8 * j + (e & 1));
    }
}

//===-- Softmax -------------------------------------------------------------------------------===//

// The largest of the quad's four lanes, which share a row.
__device__ __forceinline__ float quad_maximum(float value) {
  value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, 1));
  return fmaxf(value, __shfl_xor_sync(kFullWarp, value, 2));
}

// The largest logit of each of the lane's two rows, over its quad.
template <int kKeys>
__device__ __forceinline__ void row_maximum(float (&top)[2], const Accumulator<16, kKeys> &logits) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    top[half] = fmaxf(logits.value[0][2 * half], logits.value[0][2 * half + 1]);
#pragma unroll
    for (int j = 1; j < kKeys / 8; ++j)
      top[half] = fmaxf(top[half], fmaxf(logits.value[j][2 * half], logits.value[j][2 * half + 1]));
    top[half] = quad_maximum(top[half]);
  }
}

// Raises the maximum to `top` where that exceeds it by more than 2^8 (a smaller excess cannot
// overflow and costs no accuracy: FlashAttention-4's lazy rescale). True, for the whole warp, if
// any row's did; else the state stays as it is.
__device__ __forceinline__ bool raise_to(SoftmaxState &state, const float (&top)[2], float scale) {
  const float slack = 8.f / scale;
  if (!__any_sync(kFullWarp,
                  top[0] > state.maximum[0] + slack || top[1] > state.maximum[1] + slack))
    return false;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float raised = fmaxf(state.maximum[half], top[half]);
    state.rescale[half] = exp2_fast((state.maximum[half] - raised) * scale);
    state.maximum[half] = raised;
    state.sum[half] *= state.rescale[half];
  }
  return true;
}

// The same, with factors of 1 where nothing is raised: else the last raise's would occupy registers
// until the next one.
__device__ __forceinline__ bool raise_or_keep(SoftmaxState &state, const float (&top)[2],
                                              float scale) {
  state.rescale[0] = state.rescale[1] = 1.f;
  return raise_to(state, top, scale);
}

// Raises the maximum where the logits ask for it. True, for the whole warp, if any row's was: then
// rescale_rows must follow.
template <int kKeys>
__device__ __forceinline__ bool raise_maximum(SoftmaxState &state,
                                              const Accumulator<16, kKeys> &logits, float scale) {
  float top[2];
  row_maximum(top, logits);
  return raise_or_keep(state, top, scale);
}

// The same where only some of the row tile's tokens want the key tile: bit i of `wants` = token i.
template <int kKeys>
__device__ __forceinline__ bool
raise_wanted_maximum(SoftmaxState &state, const Accumulator<16, kKeys> &logits,
                     const QueryRows &rows, unsigned wants, float scale) {
  float top[2];
  row_maximum(top, logits);
#pragma unroll
  for (int half = 0; half < 2; ++half)
    top[half] = wants >> rows.token[half] & 1 ? top[half] : -kInfinity;
  return raise_or_keep(state, top, scale);
}

// output *= what the last raise of the maximum asks for.
template <int kValueDim>
__device__ __forceinline__ void rescale_rows(Accumulator<16, kValueDim> &output,
                                             const SoftmaxState &state) {
#pragma unroll
  for (int j = 0; j < kValueDim / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      output.value[j][e] *= state.rescale[e >> 1];
}

// weights = 2^(scale * logit - shift), in place, and their sums are added to the state.
template <int kKeys>
__device__ __forceinline__ void weigh(Accumulator<16, kKeys> &logits, SoftmaxState &state,
                                      const float (&shift)[2], float scale) {
  // By pairs: chains of one value per row and lane, which need the fewest registers.
  float sum[2];
#pragma unroll
  for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e)
      logits.value[j][e] = exp2_fast(fmaf(logits.value[j][e], scale, -shift[e >> 1]));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float pair = logits.value[j][2 * half] + logits.value[j][2 * half + 1];
      sum[half] = j == 0 ? pair : sum[half] + pair;
    }
  }
  state.sum[0] += sum[0];
  state.sum[1] += sum[1];
}

// weights = 2^(scale * (logit - maximum)), in place, and their sums are added to the state.
template <int kKeys>
__device__ __forceinline__ void exponentiate(Accumulator<16, kKeys> &logits, SoftmaxState &state,
                                             float scale) {
  const float shift[2] = {state.maximum[0] * scale, state.maximum[1] * scale};
  weigh(logits, state, shift, scale);
}

// The same where only some of the row tile's tokens want the key tile: the others' rows get an
// exponent of -inf, so a weight of exactly 0, without a branch.
template <int kKeys>
__device__ __forceinline__ void exponentiate_wanted(Accumulator<16, kKeys> &logits,
                                                    SoftmaxState &state, const QueryRows &rows,
                                                    unsigned wants, float scale) {
  float shift[2];
#pragma unroll
  for (int half = 0; half < 2; ++half)
    shift[half] = wants >> rows.token[half] & 1 ? state.maximum[half] * scale : kInfinity;
  weigh(logits, state, shift, scale);
}

// Completes the row sums over the four lanes of a quad: after the last key tile, before the stores.
__device__ __forceinline__ void reduce_sum(SoftmaxState &state) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    state.sum[half] += __shfl_xor_sync(kFullWarp, state.sum[half], 1);
    state.sum[half] += __shfl_xor_sync(kFullWarp, state.sum[half], 2);
  }
}

//===-- Results -------------------------------------------------------------------------------===//

// out [total_q, kHeads, kValueDim] = output / sum, rounded to T; rows without any key become 0. The
// lanes of a quad exchange their words (a 4x4 transpose), so that each stores 16 contiguous bytes.
// `out` may be null.
template <int kHeads, class T, int kValueDim, class Heads>
__device__ __forceinline__ void
store_output(const Heads &out, const Accumulator<16, kValueDim> &output, const SoftmaxState &state,
             const QueryRows &rows, int first_head) {
  if (is_null(out))
    return;
  const int c = lane_index() & 3;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float inverse = state.sum[half] == 0.f ? 0.f : 1.f / state.sum[half];
    T *to = const_cast<T *>(
        head_row<kHeads, kValueDim, T>(out, max(rows.row[half], 0), first_head + rows.head[half]));
#pragma unroll
    for (int group = 0; group < kValueDim / 32; ++group) {
      unsigned word[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float (&v)[4] = output.value[group * 4 + j];
        word[j] = pack<T>(v[2 * half] * inverse, v[2 * half + 1] * inverse);
      }
#pragma unroll
      for (int step = 1; step < 4; step *= 2) { // exchange across lane bit `step`
        const bool upper = c & step;
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if (!(j & step)) {
            const unsigned other =
                __shfl_xor_sync(kFullWarp, upper ? word[j] : word[j + step], step);
            (upper ? word[j] : word[j + step]) = other;
          }
      }
      if (rows.row[half] >= 0)
        *reinterpret_cast<uint4 *>(to + (group * 4 + c) * 8) =
            make_uint4(word[0], word[1], word[2], word[3]);
    }
  }
}

// lse [kHeads, total_q] = natural logarithm of the row's sum of exponentials; -inf for rows without
// any key. `lse` may be null.
__device__ __forceinline__ void store_lse(float *lse, const SoftmaxState &state,
                                          const QueryRows &rows, int first_head, int total_q,
                                          float scale) {
  if (lse == nullptr || (lane_index() & 3) != 0)
    return;
#pragma unroll
  for (int half = 0; half < 2; ++half)
    if (rows.row[half] >= 0)
      lse[static_cast<long long>(first_head + rows.head[half]) * total_q + rows.row[half]] =
          (state.maximum[half] * scale + log2_fast(state.sum[half])) * kLn2;
}
