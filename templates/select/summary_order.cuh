// In which order the rows of a tile of summaries are multiplied: columns 8i + 2c + e of the sums
// lie in the lanes with c = lane % 4 (mma.sync and wgmma alike), and a lane shall own consecutive
// summaries, whole blocks. Serves summarize and score; without CUDA, so that a host test can check
// it.
#pragma once

// On warps: the summary that lies in row n of a tile. Within each 32, row 8i + 2c + e holds summary
// 8c + 2i + e: a lane owns 8. Permutes the bits of n.
__host__ __device__ constexpr int summary_order(int n) {
  return n / 32 * 32 + n / 2 % 4 * 8 + n / 8 % 4 * 2 + n % 2;
}

// On warpgroups: the row in which summary 32c + 2i + e of 128 lies, 8i + 2c + e: a lane owns 32.
__host__ __device__ constexpr int image_row(int summary) {
  return summary / 2 % 16 * 8 + summary / 32 * 2 + summary % 2;
}
