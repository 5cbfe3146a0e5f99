// clear_step of infllm_v2: what the blocks of threads of decode_step tell each other has not been told yet.
// Dynamic shared memory: 0 bytes.
#include "winnow/sm90.cuh"

constexpr int kThreads = 256;

extern "C" __global__ void __launch_bounds__(256, 4)
clear_step(const __grid_constant__ Params params) {
  start_later_kernels();
  wait_earlier_kernels();
  const int thread = blockIdx.x * kThreads + thread_index();
  const int threads = gridDim.x * kThreads;
  const int selections = params.total_q * 2;
  const int x = (params.max_k + 511) / 512;
  clear_exchange(params.buffer[5], selections * ((x + (params.step - 1)) / params.step * 16 + x * 2), thread, threads);
  clear_exchange(params.buffer[7], ((gridDim.x + selections) * 16 + 1) / 2, thread, threads);
}
