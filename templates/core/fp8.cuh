// Products with keys and values of fp8 (e4m3), whose other factor is fp16: every e4m3 number is one
// of fp16 too, and one instruction converts two of them as they come out of shared memory. Serves
// attend and attend_decode. ldmatrix moves pairs of bytes here, so that a lane gets other elements
// than of 16-bit tiles. Of keys these are other channels, which the query's have to follow
// (load_query_fp16); of values other columns of the sums, put in order once, at the end
// (order_columns). What turns stored numbers into true ones is a factor per key/value head, in the
// softmax scale and in the sums.
#pragma once
#include "winnow/attention.cuh"

//===-- Queries -------------------------------------------------------------------------------===//

// What turns the logits of a row tile into exponents of 2, or into those that a method rewrites.
struct LogitScale {
  float value = 1.f;
};

__device__ __forceinline__ float scale_of(const LogitScale &scale) { return scale.value; }

// The largest finite magnitude of the warp's bf16 elements, as bits.
template <int kDim>
__device__ __forceinline__ int largest_bf16(const LeftOperand<16, kDim, fp16> &words) {
  constexpr int kMagnitude = 0x7fff, kInfinite = 0x7f80;
  int largest = 0;
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const unsigned word = words.word[step][i];
      const int low = word & kMagnitude, high = word >> 16 & kMagnitude;
      largest = max(largest, low < kInfinite ? low : 0);
      largest = max(largest, high < kInfinite ? high : 0);
    }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    largest = max(largest, __shfl_xor_sync(kFullWarp, largest, distance));
  return largest;
}

// words = the bf16 elements that they hold as fp16, divided by a power of 2 that brings the largest
// to [2^14, 2^15): elements down to 2^-31 of it stay exact. Returns the power.
template <int kDim> __device__ __forceinline__ float to_fp16(LeftOperand<16, kDim, fp16> &words) {
  constexpr int kTop = 14, kBias = 127;
  // The least and the largest exponent for which both powers are normal fp32 numbers.
  const int exponent = min(max(largest_bf16(words) >> 7, kTop + 1), 2 * kBias);
  const float inverse = __uint_as_float(static_cast<unsigned>(2 * kBias + kTop - exponent) << 23);
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = unpack<bf16>(words.word[step][i]);
      words.word[step][i] = pack<fp16>(pair.x * inverse, pair.y * inverse);
    }
  return __uint_as_float(static_cast<unsigned>(exponent - kTop) << 23);
}

// query[16, kDim] = these rows of q [total_q, kHeads, kDim] of T in fp16, for mma_abt over fp8
// keys; rows without a token are zero. Where T is bf16, divided by a power of 2, by which `scale`,
// else `factor`, is multiplied. Of 16 channels lane c of a quad has 4c to 4c + 3, as of a row of
// keys.
template <int kHeads, class T, int kDim, class Heads>
__device__ __forceinline__ void
load_query_fp16(LeftOperand<16, kDim, fp16> &query, LogitScale &scale, const Heads &q,
                const QueryRows &rows, int first_head, float factor) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const T *from =
        head_row<kHeads, kDim, T>(q, max(rows.row[half], 0), first_head + rows.head[half]) +
        4 * (lane_index() & 3);
#pragma unroll
    for (int step = 0; step < kDim / 16; ++step) {
      const uint2 words = rows.row[half] >= 0 ? *reinterpret_cast<const uint2 *>(from + 16 * step)
                                              : make_uint2(0, 0);
      query.word[step][half] = words.x;
      query.word[step][half + 2] = words.y;
    }
  }
  scale.value = factor;
  if constexpr (is_same<T, bf16>)
    scale.value *= to_fp16(query);
}

//===-- Products ------------------------------------------------------------------------------===//

// sums[i] += left[i] right^T, of kLefts left factors that share what is loaded of the right one.
template <int kLefts, int kColumns, int kDepth>
__device__ __forceinline__ void
multiply_keys(Accumulator<16, kColumns> *const (&sums)[kLefts],
              const LeftOperand<16, kDepth, fp16> *const (&left)[kLefts],
              const SharedTile<kColumns, kDepth, e4m3> &right) {
  const int lane = lane_index();
  const unsigned start = right.address((lane & 7) + (lane >> 4) * 8, (lane >> 3) & 1);
#pragma unroll
  for (int step = 0; step < kDepth / 16; step += 2) // 32 channels: two chunks of a row
#pragma unroll
    for (int n = 0; n < kColumns / 8; n += 2) {
      unsigned words[4]; // two chunks of 8 rows, then of the next 8
      load_matrices(words, right.skip_chunks(start, step) + n * 8 * right.kRowBytes);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const uint2 pairs = unpack_e4m3(words[j]);
#pragma unroll
        for (int i = 0; i < kLefts; ++i)
          mma_16x8x16<fp16>(sums[i]->value[n + j / 2], left[i]->word[step + j % 2], pairs.x,
                            pairs.y);
      }
    }
}

// sums[i] += left[i] right, with the columns of sums in the order that order_columns ends: of 16
// columns the even ones, then the odd ones.
template <int kLefts, int kColumns, int kDepth>
__device__ __forceinline__ void
multiply_values(Accumulator<16, kColumns> *const (&sums)[kLefts],
                const LeftOperand<16, kDepth, fp16> *const (&left)[kLefts],
                const SharedTile<kDepth, kColumns, e4m3> &right) {
  const int lane = lane_index();
  const unsigned start = right.address(lane & 15, lane >> 4);
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step)
#pragma unroll
    for (int chunk = 0; chunk < kColumns / 16; chunk += 2) {
      unsigned
          words[4]; // of each chunk rows 0 to 7 and 8 to 15: two rows of an even and an odd column
      load_matrices_transposed(words,
                               right.skip_chunks(start, chunk) + step * 16 * right.kRowBytes);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const uint2 low = unpack_e4m3(swap_middle_bytes(words[2 * j]));
        const uint2 high = unpack_e4m3(swap_middle_bytes(words[2 * j + 1]));
#pragma unroll
        for (int i = 0; i < kLefts; ++i) {
          float (*value)[4] = sums[i]->value + 2 * (chunk + j);
          mma_16x8x16<fp16>(value[0], left[i]->word[step], low.x, high.x);
          mma_16x8x16<fp16>(value[1], left[i]->word[step], low.y, high.y);
        }
      }
    }
}

// As of 16-bit tiles (tile.cuh).
template <int kColumns, int kDepth>
__device__ __forceinline__ void mma_abt(Accumulator<16, kColumns> &sums,
                                        const LeftOperand<16, kDepth, fp16> &left,
                                        const SharedTile<kColumns, kDepth, e4m3> &right) {
  multiply_keys<1>({&sums}, {&left}, right);
}
template <int kColumns, int kDepth>
__device__ __forceinline__ void
mma_abt_pair(Accumulator<16, kColumns> &sums0, Accumulator<16, kColumns> &sums1,
             const LeftOperand<16, kDepth, fp16> &left0, const LeftOperand<16, kDepth, fp16> &left1,
             const SharedTile<kColumns, kDepth, e4m3> &right) {
  multiply_keys<2>({&sums0, &sums1}, {&left0, &left1}, right);
}
template <int kColumns, int kDepth>
__device__ __forceinline__ void mma_ab(Accumulator<16, kColumns> &sums,
                                       const LeftOperand<16, kDepth, fp16> &left,
                                       const SharedTile<kDepth, kColumns, e4m3> &right) {
  multiply_values<1>({&sums}, {&left}, right);
}
template <int kColumns, int kDepth>
__device__ __forceinline__ void
mma_ab_pair(Accumulator<16, kColumns> &sums0, Accumulator<16, kColumns> &sums1,
            const LeftOperand<16, kDepth, fp16> &left0, const LeftOperand<16, kDepth, fp16> &left1,
            const SharedTile<kDepth, kColumns, e4m3> &right) {
  multiply_values<2>({&sums0, &sums1}, {&left0, &left1}, right);
}

//===-- Results -------------------------------------------------------------------------------===//

// Puts the columns of sums over fp8 values into the order of an Accumulator, times `factor`: after
// the last product, before the stores. Of 16 columns lane c of a quad has 4c to 4c + 3 and gets 2c,
// 2c + 1, 2c + 8, 2c + 9. A pair of neighbouring columns is a number of three bits; the upper two,
// then the lower two say which lane has it, and two exchanges turn the one into the other.
template <int kColumns>
__device__ __forceinline__ void order_columns(Accumulator<16, kColumns> &sums, float factor) {
  const int c = lane_index() & 3;
#pragma unroll
  for (int tile = 0; tile < kColumns / 8; tile += 2)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float (&even)[4] = sums.value[tile], (&odd)[4] = sums.value[tile + 1];
      float pair[2][2] = {{even[2 * half], odd[2 * half]}, {even[2 * half + 1], odd[2 * half + 1]}};
#pragma unroll
      for (int step = 1; step < 4; step *= 2) {
        const bool upper = c & step;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const float other = __shfl_xor_sync(kFullWarp, upper ? pair[0][i] : pair[1][i], step);
          (upper ? pair[0][i] : pair[1][i]) = other;
        }
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        even[2 * half + i] = pair[0][i] * factor;
        odd[2 * half + i] = pair[1][i] * factor;
      }
    }
}
