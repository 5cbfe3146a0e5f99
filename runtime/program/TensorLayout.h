// Where the tensors of one call lie in memory, for programs whose spec is paged: what the launcher,
// the CPU target and the tests of layouts agree on.
#pragma once
#include "runtime/program/Spec.h"
#include <vector>

namespace winnow {

/// A summary of keys: the means of `window` keys, from each `stride`-th key on.
struct SummaryShape {
  int window = 0, stride = 0;
};

/// Summaries that a host can keep of one program (WINNOW_MAX_ROWS).
constexpr int kMostRows = 2;

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
  /// Of the summaries that the host keeps: of a page, a slot and a head.
  int64_t rowsStride[kMostRows][3] = {};
  const int *rowsTable = nullptr; ///< [batch, rowsTableStride] a page of one slot each; null: pages
                                  ///< of keys, or where there are none a page per sequence
  int64_t rowsTableStride = 0;

  /// Whether rows of `summaries` of `batch` sequences of up to `maxK` keys have a page for each
  /// slot. Error: Usage.
  Status checkRows(const std::vector<SummaryShape> &summaries, int batch, int maxK) const;
  /// Slots of a page of rows, for sequences of up to `maxK` keys.
  int rowsPage(const SummaryShape &summary, int maxK) const;
  /// The same with the strides that 0 stands for: q and out [token, head, element], k and v [page,
  /// token, head, element], rows of `summaries` [page, slot, head, element].
  TensorLayout withStrides(const Spec &spec, const std::vector<SummaryShape> &summaries,
                           int maxK) const;
};

} // namespace winnow
