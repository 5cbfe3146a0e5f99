// backward_join of infllm_v2: gradients of keys and values from the sums over ranges of tokens; a thread has four elements of each.
// Dynamic shared memory: 0 bytes.
#include "winnow/sm80.cuh"

constexpr int kKeyWidth = 256;  // elements of a key, all heads
constexpr int kValueWidth = 256;  // elements of a value, all heads
constexpr int kThreads = 256;
constexpr float kSoftmaxScale = 0.0883883461f;  // what a logit has been multiplied by

extern "C" __global__ void __launch_bounds__(256, 1)
backward_join(const __grid_constant__ Params params) {
  const int index = blockIdx.x * kThreads + thread_index();
  join_key_parts<bf16, kKeyWidth>(params.dk, params.buffer[4], params.parts, params.total_k, index, kSoftmaxScale);
  join_key_parts<bf16, kValueWidth>(params.dv, params.buffer[5], params.parts, params.total_k, index, 1.0f);
}
