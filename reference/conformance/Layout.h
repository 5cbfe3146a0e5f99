// Where a host keeps queries, keys, values and output: the layouts of the engines that Winnow runs
// in. A case's packed tensors are copied into one of them, among memory that nobody may read.
#pragma once
#include "reference/Reference.h"
#include "runtime/Error.h"
#include "runtime/program/TensorLayout.h"
#include <string>
#include <vector>

namespace winnow {

/// Of keys and values; d = head_dim + value_dim where both lie together.
enum class Layout {
  Packed, ///< [total_k, kv_heads, d], ragged by cu_k; no pages
  Halves, ///< [pages, kv_heads, page, d]: K and V are halves of one row (vLLM 0.33)
  Pages,  ///< [pages, page, kv_heads, d] (FlashAttention-3; SGLang's token pools with page 1)
  Rows,   ///< [batch, kv_heads, tokens, d]: a page is a row of the batch, keys at its end
          ///< (transformers with left padding)
  Pairs   ///< [pages, 2, page, kv_heads, d]: K and V of a page one behind the other (FlashInfer)
};
/// "packed", "halves", "pages", "rows", "pairs". Error: Usage with the known ones.
Result<Layout> parseLayout(const std::string &name);

/// How the rows of a page lie, whatever is in them.
struct PagePool {
  TensorLayout layout;   ///< strides of keys and values, and the page size; no lists
  bool together = false; ///< values lie in the pages of the keys, from `valueOffset` on
  int64_t valueOffset = 0;
  int64_t keyElements = 0, valueElements = 0; ///< of a page; the former holds both where together
};
/// Packed counts as one page of `pageSize` tokens, and so does a row of a batch. `gap`: elements
/// between one page and the next that belong to neither.
PagePool pagePool(const reference::Problem &problem, Layout layout, int pageSize, int64_t gap = 0);

/// Tensors of one call in a layout. Elements that belong to nothing are NaN or infinity, table
/// entries that nobody may follow point outside of memory.
struct StoredTensors {
  std::vector<uint16_t> keyValues; ///< k and v, of fp8 an element in a word
  size_t k = 0, v = 0;             ///< element at which each begins
  std::vector<uint16_t> q;
  size_t outElements = 0;
  std::vector<int32_t> seqK, table, kBegin; ///< the latter two may be empty
  /// The summaries that the host keeps, as the call finds them; empty: it keeps none.
  std::vector<uint16_t> rows[kMostRows];
  std::vector<int32_t> rowsTable; ///< may be empty
  TensorLayout layout;            ///< without the lists: whoever has put them somewhere says where
};

/// `pageSize`: tokens, for the layouts that have pages; others ignore it. The same seed gives the
/// same places. `gap`: as of pagePool.
StoredTensors storeTensors(const reference::Problem &problem, Layout layout, int pageSize,
                           uint64_t seed, int64_t gap = 0);
/// Words of keys and values as they lie in memory.
std::vector<uint8_t> bytesOfKeys(const reference::Problem &problem,
                                 const std::vector<uint16_t> &words);
/// Adds room for rows of these summaries, all NaN: beside the pages of keys where these hold whole
/// strides, by a table of their own for other pages, and a page per sequence for packed keys.
/// Layouts whose keys are head-major get head-major rows.
void storeRows(const std::vector<SummaryShape> &summaries, Layout layout,
               const reference::Problem &problem, uint64_t seed, StoredTensors &stored);
/// Where element 0 of row `row` of summary `index` lies in stored.rows[index].
size_t placeOfRow(const StoredTensors &stored, const SummaryShape &summary, int index, int sequence,
                  int row, int head);
/// The packed output [total_q, heads, value_dim] of a stored one; Error: Usage naming an element
/// behind or between rows that was written (it no longer holds `untouched`).
Result<std::vector<uint16_t>> packOutput(const reference::Problem &problem,
                                         const StoredTensors &stored,
                                         const std::vector<uint16_t> &out, uint16_t untouched);

} // namespace winnow
