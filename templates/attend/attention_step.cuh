// One step of attention on warpgroups: the logits of kParts key tiles side by side, whose keys need
// not be neighbours. Serves attend. As in attention.cuh, but every row knows itself whether its
// token selected each part, and a row that did not gets weight 0 without a branch; and after the
// first step no maximum is taken: weights are relative to an old one, and only where their sum
// leaves the range that fp32 and 16-bit weights hold well is the step repeated with a new maximum.
#pragma once
#include "winnow/attention.cuh"
#include "winnow/powers.cuh"
#include "winnow/work_list.cuh"

// Where the keys of a step lie, and who wants them.
template <int kParts> struct StepKeys {
  int first[kParts];      // absolute position of each part's first key
  unsigned wants[kParts]; // one bit per token of the warp
};

// Row sums of one step's weights, this lane's part.
struct StepSums {
  float value[2];
};

// The kParts entries from `entry` on, for one warp. A part has kKeys keys.
template <int kKeys, int kWarpTokens, int kParts, int kEntries, int kTokens>
__device__ __forceinline__ void
read_step(StepKeys<kParts> &step, const WorkList<kEntries, kTokens> &list, int entry, int warp) {
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    step.first[part] = work_tile(list, entry + part) * kKeys;
    step.wants[part] = work_mask<kWarpTokens>(list, entry + part, warp * kWarpTokens);
  }
}

// True where any token of the warp wants any part.
template <int kParts> __device__ __forceinline__ bool is_wanted(const StepKeys<kParts> &step) {
  unsigned any = 0;
#pragma unroll
  for (int part = 0; part < kParts; ++part)
    any |= step.wants[part];
  return any != 0;
}

// Hides keys behind each row's position. Parts that every row sees whole cost one comparison.
template <int kKeys, int kParts>
__device__ __forceinline__ void mask_step(Accumulator<16, kKeys> &logits, const QueryRows &rows,
                                          const StepKeys<kParts> &step) {
  constexpr int kPartKeys = kKeys / kParts;
#pragma unroll
  for (int part = 0; part < kParts; ++part)
    if (step.first[part] + kPartKeys - 1 > rows.first_position)
      mask_causal(logits, rows, step.first[part], part * kPartKeys, kPartKeys);
}

// logit = hook(scale * logit, query position, key position): softcap, bias by distance.
template <int kKeys, int kParts, class Hook>
__device__ __forceinline__ void map_step(Accumulator<16, kKeys> &logits, const QueryRows &rows,
                                         const StepKeys<kParts> &step, float scale,
                                         const Hook &hook) {
  constexpr int kPartKeys = kKeys / kParts;
#pragma unroll
  for (int part = 0; part < kParts; ++part)
    map_logits(logits, rows, step.first[part], scale, hook, part * kPartKeys, kPartKeys);
}

// Raises the rows' maxima where a wanted logit exceeds them by more than 2^8. True, for the whole
// warp, if any row's was: then the output has to be rescaled (rescale_rows).
template <int kKeys, int kParts>
__device__ __forceinline__ bool
raise_step_maximum(SoftmaxState &state, const Accumulator<16, kKeys> &logits, const QueryRows &rows,
                   const StepKeys<kParts> &step, float scale) {
  constexpr int kPartKeys = kKeys / kParts;
  float top[2] = {-kInfinity, -kInfinity};
#pragma unroll
  for (int part = 0; part < kParts; ++part)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = -kInfinity;
#pragma unroll
      for (int j = part * kPartKeys / 8; j < (part + 1) * kPartKeys / 8; ++j)
        most = fmaxf(most, fmaxf(logits.value[j][2 * half], logits.value[j][2 * half + 1]));
      if (step.wants[part] >> rows.token[half] & 1)
        top[half] = fmaxf(top[half], most);
    }
#pragma unroll
  for (int half = 0; half < 2; ++half)
    top[half] = quad_maximum(top[half]);
  return raise_to(state, top, scale);
}

// logits become weights 2^(scale * (logit - maximum)), 0 where the row's token does not want the
// part (an exponent of -inf); sums = their row sums. kFmaColumns of every 4 columns go to the FMA
// units: where a method's region keeps the special-function units busy.
template <int kFmaColumns, int kKeys, int kParts>
__device__ __forceinline__ void exponentiate_step(StepSums &sums, Accumulator<16, kKeys> &logits,
                                                  const SoftmaxState &state, const QueryRows &rows,
                                                  const StepKeys<kParts> &step, float scale) {
  constexpr int kPartKeys = kKeys / kParts;
  float even[2] = {0.f, 0.f}, odd[2] = {0.f, 0.f};
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    float shift[2];
#pragma unroll
    for (int half = 0; half < 2; ++half)
      shift[half] =
          step.wants[part] >> rows.token[half] & 1 ? state.maximum[half] * scale : kInfinity;
#pragma unroll
    for (int j = part * kPartKeys / 8; j < (part + 1) * kPartKeys / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float exponent = fmaf(logits.value[j][e], scale, -shift[e >> 1]);
        const bool by_fma = (2 * j + (e & 1)) % 4 < kFmaColumns;
        logits.value[j][e] = by_fma ? exp2_by_fma(exponent) : exp2_fast(exponent);
      }
  }
#pragma unroll
  for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      even[half] += logits.value[j][2 * half];
      odd[half] += logits.value[j][2 * half + 1];
    }
  sums.value[0] = even[0] + odd[0];
  sums.value[1] = even[1] + odd[1];
}

// True, for the whole warp, if a row's weights have left the range that T holds well or are no
// number: its maximum is too old, or it has none yet.
template <class T> __device__ __forceinline__ bool leaves_range(const StepSums &sums) {
  constexpr float kMost = is_same<T, bf16> ? 1.1e12f : 32768.f; // fp16 ends at 65504
  return __any_sync(kFullWarp, !(sums.value[0] <= kMost && sums.value[1] <= kMost));
}

// The step's sums join the rows' sums.
__device__ __forceinline__ void add_step(SoftmaxState &state, const StepSums &sums) {
  state.sum[0] += sums.value[0];
  state.sum[1] += sums.value[1];
}

// The state before the first key.
__device__ __forceinline__ void clear(SoftmaxState &state) { state = SoftmaxState(); }
