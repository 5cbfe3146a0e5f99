// The compiled tile functions and the host-side views that the CPU drivers share.
#pragma once
#include "compiler/cpu/CpuCode.h"
#include "compiler/cpu/CpuModule.h"
#include "compiler/cpu/CpuProgram.h"
#include <atomic>
#include <vector>

namespace winnow::cpu {

using AttendFunction = void (*)(const float *q, const float *kT, const float *v, float *scratch,
                                float *acc, float *max, float *sum, const int32_t *limit,
                                const int32_t *position, const int32_t *firstKey);
using LogitsFunction = void (*)(const float *q, const float *kT, float *out);
using AddLseFunction = void (*)(const float *logits, float *max, float *sum, const int32_t *limit);
using ScoresFunction = void (*)(const float *logits, const float *lse, const int32_t *limit,
                                const int32_t *position, const int32_t *firstRow, float *out);

using WeighFunction = void (*)(const float *q, const float *kT, const float *dout, const float *vT,
                               const float *lse, const float *delta, const int32_t *limit,
                               const int32_t *position, const int32_t *firstKey, float *p,
                               float *ds);
using AddQueriesFunction = void (*)(const float *ds, const float *k, float *dq);
using AddKeysFunction = void (*)(const float *p, const float *ds, const float *q, const float *dout,
                                 float *pT, float *dsT, float *dk, float *dv);

struct TileFunctions {
  AttendFunction attendOne = nullptr, attendMany = nullptr;
  LogitsFunction logits = nullptr;
  AddLseFunction addLse = nullptr;
  ScoresFunction scores = nullptr;
  WeighFunction weighOne = nullptr, weighMany = nullptr;
  AddQueriesFunction addQueriesOne = nullptr, addQueriesMany = nullptr;
  AddKeysFunction addKeys = nullptr;
};

/// One sequence of a ragged batch.
struct Segment {
  int qBegin, qCount, kBegin, kCount; ///< rows in q, and in k where there is no page table
  const int32_t *pages = nullptr;     ///< the sequence's page table
  int skipped = 0;                    ///< tokens before its first key
  bool isDense = false;               ///< attends to every key, whatever the method selects
  int position(int index) const {
    return kCount - qCount + index;
  } ///< absolute position of query `index`
};

/// Rows of keys (or summaries) as tiles of kKeys: transposed [dim, kKeys] each, zero beyond the
/// end.
struct TransposedTiles {
  std::vector<float> values;
  int dim = 0;
  const float *tile(int index) const {
    return values.data() + static_cast<size_t>(index) * dim * kKeys;
  }
};

/// Elements before row `key` of a key/value head in k or v, whose `stride` is given.
inline size_t keyOffset(const CpuTensors &tensors, const Segment &segment, const int64_t *stride,
                        int key, int kvHead) {
  int64_t slot = segment.skipped + int64_t(key), page = 0;
  if (segment.pages) {
    page = segment.pages[slot / tensors.layout.pageSize];
    slot %= tensors.layout.pageSize;
  } else {
    slot += segment.kBegin;
  }
  return static_cast<size_t>(page * stride[0] + slot * stride[1] + kvHead * stride[2]);
}

/// The `count` elements of a row of k or v that begins at element `offset` of `tensor`, as they are
/// stored.
void readKey(const KernelPlan &plan, const void *tensor, size_t offset, int count, float *elements);
/// What turns them into true ones; `scales`: CpuTensors::kScale or vScale.
inline float headFactor(const float *scales, int kvHead) { return scales ? scales[kvHead] : 1.f; }

float toFloat(uint16_t word, bool isBf16);
uint16_t fromFloat(float value, bool isBf16); ///< round to nearest even

/// Runs body(i) for i in [0, count) on `threads` threads, in order of i per thread.
void parallelFor(size_t count, int threads, const std::function<void(size_t)> &body);

/// Queries of `tokens` consecutive tokens from index `first` of the segment, heads [firstHead,
/// firstHead + group), as rows token-major; rows beyond the segment are zero.
void gatherQueries(const KernelPlan &plan, const CpuTensors &tensors, const Segment &segment,
                   int first, int tokens, int firstHead, float *rows);

/// Row `row` of a summary, `dim` elements: the mean of its window's keys, added in their order.
void summaryRow(const SelectionPlan &plan, const CpuTensors &tensors, const Segment &segment,
                const SelectionPlan::Summary &summary, int row, int kvHead, uint16_t *elements);
/// Whole windows in `length` keys.
inline int summaryRows(const SelectionPlan::Summary &summary, int length) {
  return length < summary.window ? 0 : (length - summary.window) / summary.stride + 1;
}
/// Writes the rows of segment `sequence` whose last key is new to those that the host keeps.
void appendSegment(const SelectionPlan &plan, const CpuTensors &tensors, const Segment &segment,
                   int sequence, int threads);
/// Selection of one segment: writes ids rows. `progress` is advanced by the number of finished
/// (head, token) pairs.
void selectSegment(const SelectionPlan &plan, const TileFunctions &functions,
                   const CpuTensors &tensors, const Segment &segment, int totalQ, int threads,
                   const std::function<void(size_t)> &progress);
/// The blocks that a token attends to: valid, in its past, each once, ascending.
void wantedBlocks(const AttendPlan &plan, const int32_t *ids, int position,
                  std::vector<int32_t> &blocks);
/// Attention of one segment over ids (or densely).
void attendSegment(const AttendPlan &plan, const TileFunctions &functions,
                   const CpuTensors &tensors, const Segment &segment, int totalQ, int threads,
                   const std::function<void(size_t)> &progress);
/// Its gradients. Every row of dq, dk and dv that belongs to the segment is written.
void backwardSegment(const BackwardPlan &plan, const TileFunctions &functions,
                     const CpuTensors &tensors, const CpuGradients &gradients,
                     const Segment &segment, int totalQ, int threads);

} // namespace winnow::cpu
