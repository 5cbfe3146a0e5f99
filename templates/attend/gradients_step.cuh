// One step of the gradients of queries on warpgroups: weights and their changes of kParts key tiles
// side by side, whose keys need not be neighbours. Serves backward_queries. The arithmetic is that
// of gradients.cuh; weights are made while the product of changes is on its way, so that the two
// meet last.
#pragma once
#include "winnow/attention_step.cuh"
#include "winnow/gradients.cuh"

// changes *= slope(scale * logit, query position, key position): the derivative of what map_step
// will make of the logits.
template <int kKeys, int kParts, class Hook>
__device__ __forceinline__ void
multiply_step_slopes(Accumulator<16, kKeys> &changes, const Accumulator<16, kKeys> &logits,
                     const QueryRows &rows, const StepKeys<kParts> &step, float scale,
                     const Hook &slope) {
  constexpr int kPartKeys = kKeys / kParts;
#pragma unroll
  for (int part = 0; part < kParts; ++part)
    multiply_slopes(changes, logits, rows, step.first[part], scale, slope, part * kPartKeys,
                    kPartKeys);
}

// logits become weights 2^(scale * logit - lse); 0 where the row's token does not want the part, by
// an exponent of -inf and without a branch.
template <int kKeys, int kParts>
__device__ __forceinline__ void weigh_step(Accumulator<16, kKeys> &logits, const RowStatistics &own,
                                           const QueryRows &rows, const StepKeys<kParts> &step,
                                           float scale) {
  constexpr int kPartKeys = kKeys / kParts;
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    float lse[2];
#pragma unroll
    for (int half = 0; half < 2; ++half)
      lse[half] = step.wants[part] >> rows.token[half] & 1 ? own.lse[half] : kInfinity;
#pragma unroll
    for (int j = part * kPartKeys / 8; j < (part + 1) * kPartKeys / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        logits.value[j][e] = exp2_fast(fmaf(logits.value[j][e], scale, -lse[e >> 1]));
  }
}

// changes *= weights. kGuards: a weight of 0 makes 0 of any change, be it no number.
template <bool kGuards, int kKeys>
__device__ __forceinline__ void multiply_weights(Accumulator<16, kKeys> &changes,
                                                 const Accumulator<16, kKeys> &weights) {
#pragma unroll
  for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float weight = weights.value[j][e];
      changes.value[j][e] = kGuards && !(weight > 0.f) ? 0.f : weight * changes.value[j][e];
    }
}
