// backward_rows of infllm_v2: log-sum-exp and sum of dO * out of each query row, 2 of a warp.
// Dynamic shared memory: 0 bytes.
#include "winnow/sm80.cuh"

constexpr int kHeads = 32;  // query heads
constexpr int kGroup = 16;  // query heads whose statistics lie side by side
constexpr int kValueDim = 128;  // elements of one value or output row
constexpr int kRows = 16;  // rows of one block of threads
constexpr int kWarpRows = 2;  // rows of one warp

extern "C" __global__ void __launch_bounds__(256, 1)
backward_rows(const __grid_constant__ Params params) {
  const int warp = warp_index();
  const int first_row = blockIdx.x * kRows + warp * kWarpRows;
  store_statistics<kHeads, kGroup, kValueDim, bf16>(params.buffer[0], params.out, params.dout, params.lse, first_row, params.total_q);
}
