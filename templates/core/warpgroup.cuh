// Tiles for wgmma and the products of a warpgroup: 64 rows at a time, asynchronous, destination
// first. Serves kernels whose target has warpgroup products and bulk copies. A panel tile is what
// the copy engine writes and both wgmma and ldmatrix read: panels of 64 columns, one behind the
// other, each row of a panel 128 bytes with its 16-byte chunks swizzled by the row. Fragments
// (Accumulator, LeftOperand) are those of mma.sync: each warp holds 16 of the 64 rows, so the same
// accumulators can also be fed by one warp alone.
#pragma once
#include "winnow/tile.cuh"

// kRows x kColumns elements at a multiple of 1024 bytes; columns are padded to whole panels.
template <int kRows, int kColumns, class T> struct PanelTile {
  static constexpr int kPanels = (kColumns + 63) / 64;
  static constexpr int kPanelBytes = kRows * 128;
  static constexpr int kBytes = kPanels * kPanelBytes;
  unsigned base;

  explicit __device__ __forceinline__ PanelTile(unsigned address) : base(address) {}
  explicit __device__ __forceinline__ PanelTile(const unsigned char *bytes)
      : base(shared_address(bytes)) {}
  __device__ __forceinline__ unsigned address(int row, int chunk) const {
    return base + offset(row, chunk);
  }
  // Bytes from the tile's begin to 16-byte chunk `chunk` of row `row`.
  static __host__ __device__ constexpr unsigned offset(int row, int chunk) {
    return chunk / 8 * kPanelBytes + row * 128 + (((chunk ^ row) & 7) << 4);
  }
};

// The warpgroup's index in its block, uniform over the warp.
__device__ __forceinline__ int warpgroup_index() {
  return __shfl_sync(kFullWarp, threadIdx.x >> 7, 0);
}

//===-- Copies --------------------------------------------------------------------------------===//

// Starts copying rows [first_row, first_row + kRows) of head `head` into rows [tile_row, tile_row +
// kRows) of the tile; rows outside the tensor arrive as zero. The map's box is 64 columns x 1 head
// x kRows rows. By one thread. tile_row is a multiple of 8.
template <int kRows, int kTileRows, int kColumns, class T>
__device__ __forceinline__ void copy_rows(const PanelTile<kTileRows, kColumns, T> &tile,
                                          int tile_row, const TensorMap &map, unsigned barrier,
                                          int head, int first_row) {
#pragma unroll
  for (int panel = 0; panel < tile.kPanels; ++panel)
    copy_box(tile.base + panel * tile.kPanelBytes + tile_row * 128, map, barrier, 64 * panel, head,
             first_row);
}

// The rows of a tile that one lane's bulk copy brings: from row `row` of the tile on, where token
// `token` of page `page` goes. -1: the lane copies nothing.
struct RowBox {
  int row, token, page;
};

// Lane n's box of the tile that holds rows [first_row, first_row + kRows): box_rows rows from row n
// box_rows on, all of one page. Boxes that begin behind row_limit have no page.
template <int kRows, class T>
__device__ __forceinline__ RowBox row_box(const PagedRows<T> &source, int box_rows, int first_row,
                                          int row_limit) {
  const int row = lane_index() * box_rows, index = first_row + row;
  if (row >= kRows || index >= row_limit)
    return {-1, 0, 0};
  return {row, source.place_in_page(index), source.look_up(index)};
}

// How many rows all boxes of such a tile have together.
template <int kRows>
__device__ __forceinline__ int rows_in_boxes(int box_rows, int first_row, int row_limit) {
  const int valid = max(0, row_limit - first_row);
  return min(kRows, (valid + box_rows - 1) / box_rows * box_rows);
}

// Starts copying each lane's box into the rows of the tile from tile_row on. The map's dimensions
// are elements, heads, tokens of a page and pages, its box 64 columns x 1 head x box_rows tokens x
// 1 page. By a warp. box_rows and tile_row are multiples of 8.
template <int kTileRows, int kColumns, class T>
__device__ __forceinline__ void copy_row_boxes(const PanelTile<kTileRows, kColumns, T> &tile,
                                               int tile_row, const TensorMap &map, unsigned barrier,
                                               int head, const RowBox &box) {
  if (box.row < 0)
    return;
#pragma unroll
  for (int panel = 0; panel < tile.kPanels; ++panel)
    copy_box(tile.base + panel * tile.kPanelBytes + (tile_row + box.row) * 128, map, barrier,
             64 * panel, head, box.token, box.page);
}

// Starts copying a warp's query rows [16 warp, 16 warp + kTileHeads * kWarpTokens): kTileHeads
// heads from first_head on of kWarpTokens tokens from `row` on. The map's box is 64 columns x
// kTileHeads heads x kWarpTokens tokens. By one thread.
template <int kTileHeads, int kWarpTokens, int kColumns, class T>
__device__ __forceinline__ void copy_queries(const PanelTile<64, kColumns, T> &queries,
                                             const TensorMap &map, unsigned barrier, int first_head,
                                             int row) {
#pragma unroll
  for (int panel = 0; panel < queries.kPanels; ++panel)
#pragma unroll
    for (int warp = 0; warp < 4; ++warp)
      copy_box(queries.base + panel * queries.kPanelBytes + warp * 2048, map, barrier, 64 * panel,
               first_head, row + warp * kWarpTokens);
}

// Sets rows [first_row, end_row) to zero, by kThreads threads, and makes that visible to wgmma.
template <int kThreads, int kRows, int kColumns, class T>
__device__ __forceinline__ void clear_rows(const PanelTile<kRows, kColumns, T> &tile, int first_row,
                                           int end_row) {
  for (int i = first_row * 8 + threadIdx.x % kThreads; i < end_row * 8; i += kThreads)
#pragma unroll
    for (int panel = 0; panel < tile.kPanels; ++panel)
      store_zeros(tile.base + panel * tile.kPanelBytes + i * 16);
  fence_shared_stores();
}

//===-- Products of a warpgroup ---------------------------------------------------------------===//

// Starts sums[64, kColumns] = left[64, kDepth] right[kColumns, kDepth]^T, both in shared memory.
template <int kColumns, int kDepth, class T>
__device__ __forceinline__ void start_abt(Accumulator<16, kColumns> &sums,
                                          const PanelTile<64, kDepth, T> &left,
                                          const PanelTile<kColumns, kDepth, T> &right) {
  const unsigned a = descriptor_start(left.base, 16), b = descriptor_start(right.base, 16);
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step)
    wgmma_shared<T>(sums.value, matrix_descriptor(a, step / 4 * left.kPanelBytes + step % 4 * 32),
                    matrix_descriptor(b, step / 4 * right.kPanelBytes + step % 4 * 32), step > 0);
  wgmma_commit();
}

// Starts sums[64, kColumns] += left[64, kDepth] right[kDepth, kColumns], left factor in registers.
template <int kColumns, int kDepth, class T>
__device__ __forceinline__ void start_ab(Accumulator<16, kColumns> &sums,
                                         const LeftOperand<16, kDepth, T> &left,
                                         const PanelTile<kDepth, kColumns, T> &right) {
  const unsigned b = descriptor_start(right.base, right.kPanelBytes);
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step)
    wgmma_registers<T>(sums.value, left.word[step], matrix_descriptor(b, step * 2048));
  wgmma_commit();
}

// Waits until at most kPending of the started products are unfinished; `sums`, the fragment of a
// finished one, may be read afterwards.
template <int kPending, int kColumns>
__device__ __forceinline__ void wait_products(Accumulator<16, kColumns> &sums) {
  wgmma_wait<kPending>();
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      renew(sums.value[j][e]); // no read of the sums moves above the wait
}

//===-- Products of one warp on the same tiles ------------------------------------------------===//

// sums[16, kColumns] = left[16, kDepth] right[kColumns, kDepth]^T; left = rows [first_row,
// first_row
// + 16) of its tile. kUnroll steps of the depth at a time.
template <int kUnroll, int kColumns, int kDepth, class T>
__device__ __forceinline__ void warp_abt(Accumulator<16, kColumns> &sums,
                                         const PanelTile<64, kDepth, T> &left, int first_row,
                                         const PanelTile<kColumns, kDepth, T> &right) {
  const int lane = lane_index(), row = (lane & 7) + (lane >> 4) * 8;
  clear(sums);
#pragma unroll kUnroll
  for (int step = 0; step < kDepth / 16; ++step) {
    unsigned a[4];
    load_matrices(a, left.address(first_row + (lane & 15), 2 * step + (lane >> 4)));
#pragma unroll
    for (int n = 0; n < kColumns / 8; n += 2) {
      unsigned b[4];
      load_matrices(b, right.address(row + n * 8, 2 * step + ((lane >> 3) & 1)));
      mma_16x8x16<T>(sums.value[n], a, b[0], b[1]);
      mma_16x8x16<T>(sums.value[n + 1], a, b[2], b[3]);
    }
  }
}

// sums[16, kColumns] += left[16, kDepth] right[kDepth, kColumns].
template <int kColumns, int kDepth, class T>
__device__ __forceinline__ void warp_ab(Accumulator<16, kColumns> &sums,
                                        const LeftOperand<16, kDepth, T> &left,
                                        const PanelTile<kDepth, kColumns, T> &right) {
  const int lane = lane_index();
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step)
#pragma unroll
    for (int n = 0; n < kColumns / 8; n += 2) {
      unsigned b[4];
      load_matrices_transposed(b, right.address(step * 16 + (lane & 15), n + (lane >> 4)));
      mma_16x8x16<T>(sums.value[n], left.word[step], b[0], b[1]);
      mma_16x8x16<T>(sums.value[n + 1], left.word[step], b[2], b[3]);
    }
}
