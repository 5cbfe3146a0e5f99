// backward_places of infllm_v2: where the changes of a chunk of tokens are stored, a block of threads per pair of tiles of 64 keys.
// Dynamic shared memory: 0 bytes.
#include "winnow/sm90.cuh"

constexpr int kSelections = 2;  // selections per token
constexpr int kBlock = 64;  // keys of one selectable block
constexpr int kPairKeys = 128;  // keys of the two tiles of a pair
constexpr int kRangeTokens = 4032;  // tokens of a range, of which chunks have some
constexpr int kWarps = 4;  // warps of one block of threads

extern "C" __global__ void __launch_bounds__(128, 1)
backward_places(const __grid_constant__ Params params) {
  const auto pair = find_key_block<kPairKeys>(params.cu_q, params.cu_k, params.batch, params.total_k, blockIdx.x);
  if (pair.keys != 0) {
    const auto places = change_places<kSelections>(params.buffer[7], params);
    place_changes<kBlock, kRangeTokens, kWarps>(places, params.buffer[1], params, blockIdx.y, pair, false);
  }
}
