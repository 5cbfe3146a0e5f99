// merge of infllm_v2: joins the parts of attend_decode, a row of the output per block of threads or, where parts are few, per warp.
// Dynamic shared memory: 4160 bytes.
#include "winnow/sm90.cuh"

constexpr int kHeads = 32;  // query heads
constexpr int kValueDim = 128;  // elements of one output row
constexpr int kWarps = 8;  // warps of a block of threads
constexpr int kFewParts = 16;  // parts that one warp joins
constexpr int kSelectedParts = 64;  // parts of a token's selected blocks, at most

extern "C" __global__ void __launch_bounds__(256, 1)
merge(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  start_later_kernels();
  const WarpValues<kWarps, kValueDim> sums{shared + 0};
  static_assert(WarpValues<kWarps, kValueDim>::kBytes == 4160);
  const int warp = warp_index();
  const int warps = params.parts > kFewParts ? kWarps : 1;
  const int slot = blockIdx.x * (kWarps / warps) + warp / warps;
  const int head = slot % kHeads;
  const auto tile = find_token(params.cu_q, key_lengths(params), params.batch, slot / kHeads);
  wait_earlier_kernels();
  const bool is_dense = tile.k_length < params.dense_length;
  const int own_parts = is_dense ? params.parts : min(params.parts, kSelectedParts);
  const int there = tile.tokens != 0 ? own_parts : 0;
  const int turn = warp % warps;
  add_parts<kHeads>(sums, params.buffer[6], params.buffer[7], turn, warps, there, params.total_q, tile.row, head);
  sync_threads();
  if (tile.tokens != 0 && turn == 0) {
    store_merged<kHeads, bf16>(strided_heads(params.out, params.out_stride), params.lse, sums, warp, warps, params.total_q, tile.row, head);
  }
}
