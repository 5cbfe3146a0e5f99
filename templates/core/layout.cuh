// Where a host keeps its tensors: rows of heads packed or by strides, keys of a sequence in one
// piece or in pages. Serves every kernel that reads q, k or v or writes out. Programs of packed
// tensors pass plain pointers; those of paged ones (Spec::paged) the objects here, whose strides
// and tables come with the launch (Params.h).
#pragma once
#include "winnow/sequence.cuh"

//===-- Queries and output --------------------------------------------------------------------===//

// A tensor [tokens, heads, elements] with strides, in elements.
struct StridedHeads {
  const void *first;
  long long token, head;
};

// `stride`: of a token and of a head.
__device__ __forceinline__ StridedHeads strided_heads(const void *tensor, const long long *stride) {
  return {tensor, stride[0], stride[1]};
}

// Row `row`, head `head` of a tensor [tokens, kHeads, kDim].
template <int kHeads, int kDim, class T>
__device__ __forceinline__ const T *head_row(const void *tensor, long long row, int head) {
  return static_cast<const T *>(tensor) + (row * kHeads + head) * kDim;
}
template <int kHeads, int kDim, class T>
__device__ __forceinline__ const T *head_row(const StridedHeads &tensor, long long row, int head) {
  return static_cast<const T *>(tensor.first) + row * tensor.token + head * tensor.head;
}
__device__ __forceinline__ bool is_null(const void *tensor) { return tensor == nullptr; }
__device__ __forceinline__ bool is_null(const StridedHeads &tensor) {
  return tensor.first == nullptr;
}

//===-- Lengths -------------------------------------------------------------------------------===//

__device__ __forceinline__ KeyLengths key_lengths(const Params &params) {
  return {params.cu_k, params.seq_k, params.max_k};
}

//===-- Keys and values -----------------------------------------------------------------------===//

// The rows of one sequence and one key/value head, wherever its pages lie. Row r is the slot
// begin + r: of the tensor itself where there is no table, else slot % page_size of the page that
// the table names for slot / page_size.
template <class T> struct PagedRows {
  using Element = T;
  const T *first;
  const int *table;
  long long page_stride, token_stride;
  int begin, page_size;
  unsigned page_magic; // n / page_size = n * page_magic >> page_shift
  int page_shift;

  __device__ __forceinline__ int page_of(int index) const {
    return static_cast<unsigned long long>(begin + static_cast<long long>(index)) * page_magic >>
           page_shift;
  }
  // Whether rows [index, last] are token_stride apart.
  __device__ __forceinline__ bool together(int index, int last) const {
    return table == nullptr || page_of(index) == page_of(last);
  }
  // Where a row lies in its page; without a table, in the tensor.
  __device__ __forceinline__ int place_in_page(int index) const {
    const int slot = begin + index;
    return table == nullptr ? slot : slot - page_of(index) * page_size;
  }
  // What the table says of a row: for row_in, which needs nothing else from memory.
  __device__ __forceinline__ int look_up(int index) const {
    return table == nullptr ? 0 : table[page_of(index)];
  }
  __device__ __forceinline__ const T *row_in(int page, int index) const {
    const long long slot = begin + static_cast<long long>(index);
    if (table == nullptr)
      return first + slot * token_stride;
    return first + static_cast<long long>(page) * page_stride +
           (slot - static_cast<long long>(page_of(index)) * page_size) * token_stride;
  }
  __device__ __forceinline__ const T *row(int index) const { return row_in(look_up(index), index); }
};

// `tensor`, k or v; `stride`: of a page, a token and a head.
template <class T>
__device__ __forceinline__ PagedRows<T> paged_rows(const Params &params, const void *tensor,
                                                   const long long *stride, const TokenTile &tile,
                                                   int head) {
  PagedRows<T> rows;
  rows.first = static_cast<const T *>(tensor) + head * stride[2];
  rows.page_stride = stride[0];
  rows.token_stride = stride[1];
  rows.begin = params.k_begin == nullptr ? 0 : params.k_begin[tile.sequence];
  if (params.page_table == nullptr) {
    rows.table = nullptr;
    rows.begin += params.cu_k[tile.sequence];
  } else {
    rows.table = params.page_table + tile.sequence * params.page_table_stride;
  }
  rows.page_size = params.page_size;
  rows.page_magic = params.page_magic;
  rows.page_shift = params.page_shift;
  return rows;
}

// `factor` times the number of `head` in `scales` [kv_heads], which turns stored elements into true
// ones; null: times 1.
__device__ __forceinline__ float head_factor(const float *scales, int head, float factor) {
  return scales == nullptr ? factor : scales[head] * factor;
}

// Rows that a launch reads once: others stay in the L2 cache in their place.
template <class T> struct StreamedRows : PagedRows<T> {
  unsigned long long policy;
};
template <class T> __device__ __forceinline__ StreamedRows<T> read_once(const PagedRows<T> &rows) {
  return {rows, streamed_policy()};
}

// The rows that the host keeps of summary `index`, one sequence's and one key/value head's: row j
// of windows of kWindow keys at stride kStride.
template <class T, int kWindow, int kStride>
__device__ __forceinline__ PagedRows<T> kept_rows(const Params &params, int index,
                                                  const TokenTile &tile, int head) {
  const long long *stride = params.rows_stride[index];
  PagedRows<T> rows;
  rows.first = static_cast<const T *>(params.rows[index]) + head * stride[2];
  rows.page_stride = stride[0];
  rows.token_stride = stride[1];
  rows.begin = (kWindow - 1) / kStride;
  rows.table = nullptr;
  if (params.rows_table != nullptr)
    rows.table = params.rows_table + tile.sequence * params.rows_table_stride;
  else if (params.page_table != nullptr)
    rows.table = params.page_table + tile.sequence * params.page_table_stride;
  else
    rows.first += tile.sequence * stride[0];
  rows.page_size = params.rows_page[index];
  rows.page_magic = params.rows_magic[index];
  rows.page_shift = params.rows_shift[index];
  return rows;
}
