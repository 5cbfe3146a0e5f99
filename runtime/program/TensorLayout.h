// Where the tensors of one call lie in memory, for programs whose spec is paged: what the launcher,
// the CPU target and the tests of layouts agree on.
#pragma once
#include "runtime/program/Spec.h"

namespace winnow {

/// The fields of winnow_launch_args that say where rows lie; the lists are in the memory of whoever
/// reads them.
struct TensorLayout {
  /// In elements, multiples of 8; 0 = packed. Of a token and a head.
  int64_t qStride[2] = {}, outStride[2] = {};
  int64_t kStride[3] = {}, vStride[3] = {}; ///< of a page, a token and a head
  const int *seqK = nullptr;                ///< [batch] keys of each sequence; null: from cu_k
  const int *pageTable = nullptr; ///< [batch, pageTableStride]; null: sequences begin at cu_k
  int64_t pageTableStride = 0;
  const int *kBegin = nullptr; ///< [batch] tokens before the first key; null: none
  int pageSize = 0;            ///< tokens

  /// The same with the strides that 0 stands for: q and out [token, head, element], k and v [page,
  /// token, head, element].
  TensorLayout withStrides(const Spec &spec) const;
};

} // namespace winnow
