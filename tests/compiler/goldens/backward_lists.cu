// backward_lists of infllm_v2: the tokens that selected a key block, ascending, a warp per block.
// Dynamic shared memory: 0 bytes.
#include "winnow/sm80.cuh"

constexpr int kBlock = 64;  // keys of one selectable block
constexpr int kLists = 8;  // key blocks of one block of threads

extern "C" __global__ void __launch_bounds__(256, 1)
backward_lists(const __grid_constant__ Params params) {
  const int warp = warp_index();
  const int slot = blockIdx.x * kLists + warp;
  if (slot >= params.total_k / kBlock + params.batch) return;
  const auto block = find_key_block<kBlock>(params.cu_q, params.cu_k, params.batch, params.total_k, slot);
  if (block.keys != 0) {
    list_tokens<kBlock>(params.buffer[3], params.buffer[2], params.buffer[1], params, blockIdx.y, block);
  }
}
