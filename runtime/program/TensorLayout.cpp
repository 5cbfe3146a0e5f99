// Strides that 0 stands for, and pages of rows.
#include "runtime/program/TensorLayout.h"
#include <algorithm>
#include <fmt/format.h>

namespace winnow {
namespace {

/// Strides of a token and a head of `heads` heads, where they are 0.
void fillRows(int64_t *stride, int heads, int dim) {
  if (stride[1] == 0)
    stride[1] = dim;
  if (stride[0] == 0)
    stride[0] = int64_t(heads) * dim;
}

} // namespace

Status TensorLayout::checkRows(const std::vector<SummaryShape> &summaries, int batch,
                               int maxK) const {
  for (const SummaryShape &summary : summaries) {
    const int slots = maxK / summary.stride;
    if (rowsTable && rowsTableStride < slots && batch > 1)
      return fail(ErrorKind::Usage,
                  fmt::format("launch: rows_table_stride is {}, but sequences of up to {} keys "
                              "have {} slots of {} keys",
                              rowsTableStride, maxK, slots, summary.stride));
    if (!rowsTable && pageTable && pageSize % summary.stride != 0)
      return fail(
          ErrorKind::Usage,
          fmt::format("launch: page_size is {}: rows need pages of a multiple of {} tokens, "
                      "or a rows_table",
                      pageSize, summary.stride));
  }
  return {};
}

int TensorLayout::rowsPage(const SummaryShape &summary, int maxK) const {
  if (rowsTable)
    return 1;
  if (pageTable)
    return std::max(1, pageSize / summary.stride);
  return std::max(1, static_cast<int>((int64_t(maxK) + summary.stride - 1) / summary.stride));
}

TensorLayout TensorLayout::withStrides(const Spec &spec, const std::vector<SummaryShape> &summaries,
                                       int maxK) const {
  TensorLayout filled = *this;
  fillRows(filled.qStride, spec.heads, spec.headDim);
  fillRows(filled.outStride, spec.heads, spec.valueWidth());
  fillRows(filled.kStride + 1, spec.kvHeads, spec.headDim);
  fillRows(filled.vStride + 1, spec.kvHeads, spec.valueWidth());
  // A page as large as what lies in it, whichever of rows and heads lies inside the other.
  auto fillPage = [&](int64_t *stride, int64_t rows) {
    if (stride[0] == 0)
      stride[0] = std::max(stride[1] * rows, stride[2] * spec.kvHeads);
  };
  for (int64_t *stride : {filled.kStride, filled.vStride})
    fillPage(stride, pageSize);
  for (size_t i = 0; i < summaries.size(); ++i) {
    int64_t *stride = filled.rowsStride[i];
    fillRows(stride + 1, spec.kvHeads, spec.headDim);
    fillPage(stride, rowsPage(summaries[i], maxK));
  }
  return filled;
}

} // namespace winnow
