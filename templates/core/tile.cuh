// Tiles in shared memory, fragments in registers, and the products between them: destination first.
// Serves every kernel that multiplies matrices. Shared tiles are row-major with 16-byte chunks
// swizzled, so that ldmatrix and 16-byte copies meet no bank conflict; fragments have the layout of
// mma.sync.m16n8k16. On entry of every leaf: all lanes of the warp are converged and, for shared
// operands, the data has arrived.
#pragma once
#include "winnow/layout.cuh"
#include "winnow/swizzle.cuh"

//===-- Objects -------------------------------------------------------------------------------===//

// kRows x kColumns elements in shared memory, at a multiple of 1024 bytes, swizzled. kColumns: 64,
// 96, 128, 192 or 256; of e4m3 not 96.
template <int kRows, int kColumns, class T> struct SharedTile {
  static constexpr int kRowBytes = kColumns * sizeof(T);
  static constexpr int kRowChunks = kRowBytes / 16;
  static constexpr int kBytes = kRows * kRowBytes;
  unsigned base;

  explicit __device__ __forceinline__ SharedTile(unsigned address) : base(address) {}
  explicit __device__ __forceinline__ SharedTile(const unsigned char *bytes)
      : base(shared_address(bytes)) {}
  __device__ __forceinline__ unsigned address(int row, int chunk) const {
    return base + Swizzle<kRowChunks>::offset(row, chunk);
  }
  // The address `chunks` chunks behind one that was made for chunk 0 or 1: see Swizzle::skip.
  static __device__ __forceinline__ unsigned skip_chunks(unsigned address, int chunks) {
    return Swizzle<kRowChunks>::skip(address, chunks);
  }
};

// fp32 sums in registers of one warp, 16 rows. With g = lane / 4, c = lane % 4: value[j][0..1] is
// row g, columns 8j + 2c + {0, 1}; value[j][2..3] the same columns of row g + 8.
template <int kRows, int kColumns> struct Accumulator {
  static_assert(kRows == 16, "one mma tile of rows per warp");
  float value[kColumns / 8][4];
};

// The left factor of a product, kRows x kDepth, in registers of one warp (A fragments of m16n8k16).
template <int kRows, int kDepth, class T> struct LeftOperand {
  static_assert(kRows == 16, "one mma tile of rows per warp");
  unsigned word[kDepth / 16][4];
};

// The transposed right factor, kRows x kDepth, in registers of one warp (B fragments; kRows columns
// of the product).
template <int kRows, int kDepth, class T> struct RightOperand {
  unsigned word[kDepth / 16][kRows / 8][2];
};

// Rows of a matrix in global memory, kStride elements apart.
template <class T, int kStride> struct GlobalRows {
  using Element = T;
  const T *first;
  __device__ __forceinline__ const T *row(int index) const {
    return first + static_cast<long long>(index) * kStride;
  }
};

//===-- Global to shared memory ---------------------------------------------------------------===//

// Rows that begin at element `column` of row `row` of a matrix with kStride elements per row.
template <class T, int kStride>
__device__ __forceinline__ GlobalRows<T, kStride> global_rows(const void *matrix, long long row,
                                                              int column) {
  return {static_cast<const T *>(matrix) + row * kStride + column};
}

// Starts copying rows [first_row, first_row + kRows) into the tile; rows from row_limit on become
// zero and are not read. Shared by kThreads threads; `thread` in [0, kThreads).
template <int kThreads, int kRows, int kColumns, class T, int kStride>
__device__ __forceinline__ void load_rows(const SharedTile<kRows, kColumns, T> &tile,
                                          const GlobalRows<T, kStride> &source, int first_row,
                                          int row_limit, int thread) {
  constexpr int kRowChunks = SharedTile<kRows, kColumns, T>::kRowChunks;
  constexpr int kRowThreads = threads_per_row(kRowChunks);
  constexpr int kRowsAtOnce = kThreads / kRowThreads;
  static_assert(kThreads % kRowThreads == 0, "whole rows at once");
  const int chunk = thread % kRowThreads;
  const T *from =
      source.first + static_cast<long long>(first_row + thread / kRowThreads) * kStride + chunk * 8;
#pragma unroll
  for (int pass = 0; pass < (kRows + kRowsAtOnce - 1) / kRowsAtOnce; ++pass) {
    const int row = pass * kRowsAtOnce + thread / kRowThreads;
    if (kRows % kRowsAtOnce != 0 && row >= kRows) // more threads than the tile has chunks
      break;
#pragma unroll
    for (int part = 0; part < kRowChunks / kRowThreads; ++part)
      copy_async(tile.address(row, chunk + part * kRowThreads),
                 from + static_cast<long long>(pass) * kRowsAtOnce * kStride +
                     part * kRowThreads * 8,
                 first_row + row < row_limit ? 16 : 0);
  }
}

// How a row is copied: as data that others may read again, or once.
struct CopyAsync {
  __device__ __forceinline__ void operator()(unsigned to, const void *from, int bytes) const {
    copy_async(to, from, bytes);
  }
};
struct CopyStreamed {
  unsigned long long policy;
  __device__ __forceinline__ void operator()(unsigned to, const void *from, int bytes) const {
    copy_streamed(to, from, bytes, policy);
  }
};

// Which row of the source lies in row n of the tile.
struct AsTheyCome {
  __device__ __forceinline__ int operator()(int n) const { return n; }
};

// By a warp, of 32 rows of the tile from `begin` on: each lane has the page of one row, and tells
// the others where the row lies. Rows from `end` on become zero.
template <int kRows, int kColumns, class T, class Copy, class Order = AsTheyCome>
__device__ __forceinline__ void copy_found_rows(const SharedTile<kRows, kColumns, T> &tile,
                                                int begin, const PagedRows<T> &source, int page,
                                                int first_row, int end, int lane, const Copy &copy,
                                                const Order &order = Order()) {
  constexpr int kRowChunks = SharedTile<kRows, kColumns, T>::kRowChunks;
  constexpr int kRowThreads = threads_per_row(kRowChunks), kChunkElements = 16 / sizeof(T);
  constexpr int kRowsAtOnce = 32 / kRowThreads;
  const int chunk = lane % kRowThreads, own = lane / kRowThreads; // of kRowsAtOnce rows
  const int found = first_row + order(begin + lane);
  const auto address =
      reinterpret_cast<unsigned long long>(found < end ? source.row_in(page, found) : source.first);
#pragma unroll 8 // few addresses at a time, which the consumers' registers would pay for
  for (int pass = 0; pass < 32 / kRowsAtOnce; ++pass) {
    const int row = begin + pass * kRowsAtOnce + own;
    const unsigned long long from = __shfl_sync(kFullWarp, address, row - begin);
    const int bytes = first_row + order(row) < end ? 16 : 0;
#pragma unroll
    for (int part = 0; part < kRowChunks / kRowThreads; ++part)
      copy(tile.address(row, chunk + part * kRowThreads),
           reinterpret_cast<const T *>(from) + (chunk + part * kRowThreads) * kChunkElements,
           bytes);
  }
}

// The same from rows that need not follow each other: an address per row, where the other has one
// in all and constant distances. Row order(n) of the source goes to row n of the tile.
template <int kThreads, int kRows, int kColumns, class T, class Copy, class Order = AsTheyCome>
__device__ __forceinline__ void copy_paged_rows(const SharedTile<kRows, kColumns, T> &tile,
                                                const PagedRows<T> &source, int first_row,
                                                int row_limit, int thread, const Copy &copy,
                                                const Order &order = Order()) {
  constexpr int kRowChunks = SharedTile<kRows, kColumns, T>::kRowChunks;
  constexpr int kRowThreads = threads_per_row(kRowChunks), kChunkElements = 16 / sizeof(T);
  constexpr int kRowsAtOnce = kThreads / kRowThreads;
  static_assert(kThreads % kRowThreads == 0, "whole rows at once");
  constexpr int kPasses = (kRows + kRowsAtOnce - 1) / kRowsAtOnce;
  const int chunk = thread % kRowThreads, own = thread / kRowThreads; // of kRowsAtOnce rows
  const int last = min(first_row + kRows, row_limit) - 1;             // no row behind it has a page
  if constexpr (kThreads == 32 && kRows % 32 == 0) {
#pragma unroll
    for (int begin = 0; begin < kRows; begin += 32) {
      const int row = first_row + order(begin + thread);
      copy_found_rows(tile, begin, source, row <= last ? source.look_up(row) : 0, first_row,
                      last + 1, thread, copy, order);
    }
    return;
  }
  // Where all rows lie in one page, one look-up finds them.
  const bool together = last >= first_row && source.together(first_row, last);
  const T *base = together ? source.row(first_row) : source.first;
  // Addresses before copies, a few at a time: a look-up between copies would wait for each.
  constexpr int kBatch = kPasses < 8 ? kPasses : 8;
#pragma unroll
  for (int batch = 0; batch < kPasses; batch += kBatch) {
    const T *from[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int row = order((batch + i) * kRowsAtOnce + own);
      if (together)
        from[i] = base + row * source.token_stride;
      else
        from[i] = first_row + row <= last ? source.row(first_row + row) : source.first;
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int row = (batch + i) * kRowsAtOnce + own;
      if (batch + i >= kPasses || (kRows % kRowsAtOnce != 0 && row >= kRows))
        break;
      const bool valid = first_row + order(row) <= last;
#pragma unroll
      for (int part = 0; part < kRowChunks / kRowThreads; ++part)
        copy(tile.address(row, chunk + part * kRowThreads),
             (valid ? from[i] : source.first) + (chunk + part * kRowThreads) * kChunkElements,
             valid ? 16 : 0);
    }
  }
}

template <int kThreads, int kRows, int kColumns, class T>
__device__ __forceinline__ void load_rows(const SharedTile<kRows, kColumns, T> &tile,
                                          const PagedRows<T> &source, int first_row, int row_limit,
                                          int thread) {
  copy_paged_rows<kThreads>(tile, source, first_row, row_limit, thread, CopyAsync());
}

template <int kThreads, int kRows, int kColumns, class T>
__device__ __forceinline__ void load_rows(const SharedTile<kRows, kColumns, T> &tile,
                                          const StreamedRows<T> &source, int first_row,
                                          int row_limit, int thread) {
  copy_paged_rows<kThreads>(tile, static_cast<const PagedRows<T> &>(source), first_row, row_limit,
                            thread, CopyStreamed{source.policy});
}

// load_rows by a warp, for a tile of 32 rows, in two steps: what the page table says of the lane's
// row, which may be asked for while the tile is still in use; and the copies.
template <class T>
__device__ __forceinline__ int find_page(const PagedRows<T> &source, int first_row, int row_limit,
                                         int lane) {
  return first_row + lane < row_limit ? source.look_up(first_row + lane) : 0;
}
template <int kColumns, class T>
__device__ __forceinline__ void load_found_rows(const SharedTile<32, kColumns, T> &tile,
                                                const PagedRows<T> &source, int page, int first_row,
                                                int row_limit, int lane) {
  copy_found_rows(tile, 0, source, page, first_row, row_limit, lane, CopyAsync());
}
template <int kColumns, class T>
__device__ __forceinline__ void load_found_rows(const SharedTile<32, kColumns, T> &tile,
                                                const StreamedRows<T> &source, int page,
                                                int first_row, int row_limit, int lane) {
  copy_found_rows(tile, 0, static_cast<const PagedRows<T> &>(source), page, first_row, row_limit,
                  lane, CopyStreamed{source.policy});
}

//===-- Shared memory to registers ------------------------------------------------------------===//

// operand = rows [first_row, first_row + kRows) of the tile, as the transposed right factor
// (ldmatrix).
template <int kRows, int kTileRows, int kDepth, class T>
__device__ __forceinline__ void load_operand(RightOperand<kRows, kDepth, T> &operand,
                                             const SharedTile<kTileRows, kDepth, T> &tile,
                                             int first_row) {
  const int lane = lane_index();
  const int row = first_row + (lane & 7) + (lane >> 4) * 8;
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step)
#pragma unroll
    for (int n = 0; n < kRows / 8; n += 2) {
      unsigned words[4];
      load_matrices(words, tile.address(row + n * 8, 2 * step + ((lane >> 3) & 1)));
      operand.word[step][n][0] = words[0];
      operand.word[step][n][1] = words[1];
      operand.word[step][n + 1][0] = words[2];
      operand.word[step][n + 1][1] = words[3];
    }
}

//===-- Arithmetic in registers ---------------------------------------------------------------===//

template <int kRows, int kColumns>
__device__ __forceinline__ void clear(Accumulator<kRows, kColumns> &sums) {
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      sums.value[j][e] = 0.f;
}

// operand = sums rounded to T: the accumulator's layout is the left operand's, so nothing moves
// between lanes.
template <int kRows, int kDepth, class T>
__device__ __forceinline__ void round_to_operand(LeftOperand<kRows, kDepth, T> &operand,
                                                 const Accumulator<kRows, kDepth> &sums) {
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float (&v)[4] = sums.value[2 * step + half];
      operand.word[step][2 * half] = pack<T>(v[0], v[1]);
      operand.word[step][2 * half + 1] = pack<T>(v[2], v[3]);
    }
}

// sums[16, kColumns] += left[16, kDepth] right[kColumns, kDepth]^T, right factor in shared memory.
template <int kColumns, int kDepth, class T>
__device__ __forceinline__ void mma_abt(Accumulator<16, kColumns> &sums,
                                        const LeftOperand<16, kDepth, T> &left,
                                        const SharedTile<kColumns, kDepth, T> &right) {
  const int lane = lane_index();
  const unsigned start = right.address((lane & 7) + (lane >> 4) * 8, (lane >> 3) & 1);
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step)
#pragma unroll
    for (int n = 0; n < kColumns / 8; n += 2) {
      unsigned words[4];
      load_matrices(words, right.skip_chunks(start, 2 * step) + n * 8 * right.kRowBytes);
      mma_16x8x16<T>(sums.value[n], left.word[step], words[0], words[1]);
      mma_16x8x16<T>(sums.value[n + 1], left.word[step], words[2], words[3]);
    }
}

// The same for two left factors at once: each part of the right one is loaded once for both, which
// halves what is read of shared memory.
template <int kColumns, int kDepth, class T>
__device__ __forceinline__ void
mma_abt_pair(Accumulator<16, kColumns> &sums0, Accumulator<16, kColumns> &sums1,
             const LeftOperand<16, kDepth, T> &left0, const LeftOperand<16, kDepth, T> &left1,
             const SharedTile<kColumns, kDepth, T> &right) {
  const int lane = lane_index();
  const unsigned start = right.address((lane & 7) + (lane >> 4) * 8, (lane >> 3) & 1);
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step)
#pragma unroll
    for (int n = 0; n < kColumns / 8; n += 2) {
      unsigned words[4];
      load_matrices(words, right.skip_chunks(start, 2 * step) + n * 8 * right.kRowBytes);
      mma_16x8x16<T>(sums0.value[n], left0.word[step], words[0], words[1]);
      mma_16x8x16<T>(sums1.value[n], left1.word[step], words[0], words[1]);
      mma_16x8x16<T>(sums0.value[n + 1], left0.word[step], words[2], words[3]);
      mma_16x8x16<T>(sums1.value[n + 1], left1.word[step], words[2], words[3]);
    }
}

// sums[16, kColumns] += left[16, kDepth] right[kColumns, kDepth]^T; left = rows [first_row,
// first_row + 16) of a tile.
template <int kTileRows, int kColumns, int kDepth, class T>
__device__ __forceinline__ void mma_abt(Accumulator<16, kColumns> &sums,
                                        const SharedTile<kTileRows, kDepth, T> &left, int first_row,
                                        const RightOperand<kColumns, kDepth, T> &right) {
  const int lane = lane_index();
  const int row = first_row + (lane & 15);
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step) {
    unsigned words[4];
    load_matrices(words, left.address(row, 2 * step + (lane >> 4)));
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n)
      mma_16x8x16<T>(sums.value[n], words, right.word[step][n][0], right.word[step][n][1]);
  }
}

// The same with both factors in shared memory: rows [right_row, right_row + kColumns) of another
// tile. Few registers, where few products share a factor.
template <int kTileRows, int kRightRows, int kColumns, int kDepth, class T>
__device__ __forceinline__ void
mma_abt_rows(Accumulator<16, kColumns> &sums, const SharedTile<kTileRows, kDepth, T> &left,
             int left_row, const SharedTile<kRightRows, kDepth, T> &right, int right_row) {
  const int lane = lane_index();
  const unsigned left_start = left.address(left_row + (lane & 15), lane >> 4);
  const unsigned start = right.address(right_row + (lane & 7) + (lane >> 4) * 8, (lane >> 3) & 1);
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step) {
    unsigned factor[4];
    load_matrices(factor, left.skip_chunks(left_start, 2 * step));
#pragma unroll
    for (int n = 0; n < kColumns / 8; n += 2) {
      unsigned words[4];
      load_matrices(words, right.skip_chunks(start, 2 * step) + n * 8 * right.kRowBytes);
      mma_16x8x16<T>(sums.value[n], factor, words[0], words[1]);
      mma_16x8x16<T>(sums.value[n + 1], factor, words[2], words[3]);
    }
  }
}

// sums[16, kColumns] += left[16, kDepth] right[kDepth, kColumns], right factor in shared memory
// (ldmatrix.trans).
template <int kColumns, int kDepth, class T>
__device__ __forceinline__ void mma_ab(Accumulator<16, kColumns> &sums,
                                       const LeftOperand<16, kDepth, T> &left,
                                       const SharedTile<kDepth, kColumns, T> &right) {
  const int lane = lane_index();
  const unsigned start = right.address(lane & 15, lane >> 4);
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step)
#pragma unroll
    for (int n = 0; n < kColumns / 8; n += 2) {
      unsigned words[4];
      load_matrices_transposed(words, right.skip_chunks(start, n) + step * 16 * right.kRowBytes);
      mma_16x8x16<T>(sums.value[n], left.word[step], words[0], words[1]);
      mma_16x8x16<T>(sums.value[n + 1], left.word[step], words[2], words[3]);
    }
}

// The same for two left factors at once, as mma_abt_pair.
template <int kColumns, int kDepth, class T>
__device__ __forceinline__ void
mma_ab_pair(Accumulator<16, kColumns> &sums0, Accumulator<16, kColumns> &sums1,
            const LeftOperand<16, kDepth, T> &left0, const LeftOperand<16, kDepth, T> &left1,
            const SharedTile<kDepth, kColumns, T> &right) {
  const int lane = lane_index();
  const unsigned start = right.address(lane & 15, lane >> 4);
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step)
#pragma unroll
    for (int n = 0; n < kColumns / 8; n += 2) {
      unsigned words[4];
      load_matrices_transposed(words, right.skip_chunks(start, n) + step * 16 * right.kRowBytes);
      mma_16x8x16<T>(sums0.value[n], left0.word[step], words[0], words[1]);
      mma_16x8x16<T>(sums1.value[n], left1.word[step], words[0], words[1]);
      mma_16x8x16<T>(sums0.value[n + 1], left0.word[step], words[2], words[3]);
      mma_16x8x16<T>(sums1.value[n + 1], left1.word[step], words[2], words[3]);
    }
}
