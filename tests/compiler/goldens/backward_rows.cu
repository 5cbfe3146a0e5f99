// backward_rows of infllm_v2: log-sum-exp and sum of dO * out of each query row, a warp each.
// Dynamic shared memory: 0 bytes.
#include "winnow/sm80.cuh"

constexpr int kHeads = 32;  // query heads
constexpr int kValueDim = 128;  // elements of one value or output row
constexpr int kRows = 8;  // rows of one block of threads

extern "C" __global__ void __launch_bounds__(256, 1)
backward_rows(const __grid_constant__ Params params) {
  const int warp = warp_index();
  const int row = blockIdx.x * kRows + warp;
  store_statistics<kHeads, kValueDim, bf16>(params.buffer[0], params.out, params.dout, params.lse, row, params.total_q);
}
