// backward_marks of infllm_v2: a bit for each key block and token that selected it; a block of threads has 256 tokens.
// Dynamic shared memory: 16384 bytes.
#include "winnow/sm80.cuh"

constexpr int kTopK = 96;  // selected blocks per token, at most
constexpr int kBlock = 64;  // keys of one selectable block
constexpr int kTokens = 256;  // tokens of one block of threads
constexpr int kBlocks = 512;  // key blocks that are marked at a time

extern "C" __global__ void __launch_bounds__(256, 1)
backward_marks(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const TokenMarks<kBlocks> marks{shared + 0};
  static_assert(TokenMarks<kBlocks>::kBytes == 16384);
  const int select_head = blockIdx.y;
  const int slot = blockIdx.x;
  if (slot + select_head + thread_index() == 0) {
    open_lists(params.buffer[2]);
  }
  const auto tile = find_token_tile<kTokens>(params.cu_q, params.cu_k, params.batch, 0, params.total_q, slot);
  if (tile.tokens == 0) return;
  const int end = last_position(tile) / kBlock + 1;
  for (int from_block = 0; from_block < end; from_block += kBlocks) {
    sync_threads();
    clear_marks(marks);
    sync_threads();
    mark_tokens<kTopK, kBlock>(marks, params.ids, select_head, params.total_q, tile, from_block);
    sync_threads();
    store_marks<kBlock>(params.buffer[1], marks, params, select_head, tile, from_block, end);
  }
}
