// Means over windows of keys on the CPU: those of a selection, and those that the host keeps. Sums
// run in fp32 in the order of the keys, as in templates/select/summarize.cuh: a row is the same bit
// for bit however and wherever it is made.
#include "compiler/cpu/CpuKernels.h"

namespace winnow::cpu {

void summaryRow(const SelectionPlan &plan, const CpuTensors &tensors, const Segment &segment,
                const SelectionPlan::Summary &summary, int row, int kvHead, uint16_t *elements) {
  std::vector<float> sums(plan.headDim, 0.f), key(plan.headDim);
  const float factor = headFactor(tensors.kScale, kvHead);
  for (int i = 0; i < summary.window; ++i) {
    const size_t offset =
        keyOffset(tensors, segment, tensors.layout.kStride, row * summary.stride + i, kvHead);
    readKey(plan, tensors.k, offset, plan.headDim, key.data());
    for (int d = 0; d < plan.headDim; ++d)
      sums[d] += key[d];
  }
  for (int d = 0; d < plan.headDim; ++d)
    elements[d] = fromFloat(sums[d] / static_cast<float>(summary.window) * factor, plan.isBf16);
}

void appendSegment(const SelectionPlan &plan, const CpuTensors &tensors, const Segment &segment,
                   int sequence, int threads) {
  const TensorLayout &layout = tensors.layout;
  const int *table = layout.rowsTable   ? layout.rowsTable + sequence * layout.rowsTableStride
                     : layout.pageTable ? layout.pageTable + sequence * layout.pageTableStride
                                        : nullptr;
  for (size_t i = 0; i < plan.summaries.size(); ++i) {
    const SelectionPlan::Summary &summary = plan.summaries[i];
    const int first = summaryRows(summary, segment.kCount - segment.qCount),
              end = summaryRows(summary, segment.kCount),
              unused = (summary.window - 1) / summary.stride;
    const int slots = layout.rowsPage({summary.window, summary.stride}, 0);
    const int64_t *stride = layout.rowsStride[i];
    parallelFor(static_cast<size_t>(end - first) * plan.kvHeads, threads, [&](size_t index) {
      const int row = first + static_cast<int>(index) / plan.kvHeads,
                kvHead = static_cast<int>(index) % plan.kvHeads, slot = row + unused;
      const int64_t page = table ? table[slot / slots] : sequence,
                    place = table ? slot % slots : slot;
      summaryRow(plan, tensors, segment, summary, row, kvHead,
                 tensors.rows[i] + page * stride[0] + place * stride[1] + kvHead * stride[2]);
    });
  }
}

} // namespace winnow::cpu
