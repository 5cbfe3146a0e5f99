// Where the 16-byte chunks of a row-major tile lie in shared memory, so that ldmatrix and 16-byte
// copies meet no bank conflict: eight rows of one column of chunks touch all 32 banks once, and so
// do eight chunks of one row. Serves SharedTile; arithmetic only, so that a test on the host can
// try every address. Rows of whole 128 bytes all begin at the same bank and need eight places for a
// chunk; rows of 192 bytes begin at two banks in turn, so four places do.
#pragma once

// Threads that load one row together: the largest power of two that divides its chunks.
__host__ __device__ constexpr int threads_per_row(int row_chunks) {
  return row_chunks & -row_chunks;
}

template <int kRowChunks> struct Swizzle {
  static_assert(kRowChunks % 8 == 0 || kRowChunks % 8 == 4, "rows of whole 64 bytes");

  // Row r's chunk n lies at chunk n ^ of(r) of the row.
  static __host__ __device__ __forceinline__ constexpr int of(int row) {
    return kRowChunks % 8 == 0 ? row & 7 : row >> 1 & 3;
  }
  // Byte of a chunk, counted from the tile's first.
  static __host__ __device__ __forceinline__ constexpr unsigned offset(int row, int chunk) {
    return row * kRowChunks * 16 + ((chunk ^ of(row)) << 4);
  }
  // The address `chunks` chunks behind one that was made for chunk 0 or 1, in a tile at a multiple
  // of 1024 bytes; `chunks` is even and known at compile time. A row begins at a multiple of
  // threads_per_row chunks, so below that number chunks that share no bit add like exclusive or;
  // what lies above adds as it is, which costs no register.
  static __host__ __device__ __forceinline__ constexpr unsigned skip(unsigned address, int chunks) {
    constexpr int kBelow = (threads_per_row(kRowChunks) - 1) & 15;
    return (address ^ (chunks & kBelow) << 4) + ((chunks & ~kBelow) << 4);
  }
};
