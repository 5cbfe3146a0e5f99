// Strides that 0 stands for.
#include "runtime/program/TensorLayout.h"

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

TensorLayout TensorLayout::withStrides(const Spec &spec) const {
  TensorLayout filled = *this;
  fillRows(filled.qStride, spec.heads, spec.headDim);
  fillRows(filled.outStride, spec.heads, spec.valueWidth());
  fillRows(filled.kStride + 1, spec.kvHeads, spec.headDim);
  fillRows(filled.vStride + 1, spec.kvHeads, spec.valueWidth());
  for (int64_t *stride : {filled.kStride, filled.vStride})
    if (stride[0] == 0)
      stride[0] = stride[1] * pageSize;
  return filled;
}

} // namespace winnow
