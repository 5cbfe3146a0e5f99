// append_0 of infllm_v2: means over windows of 32 keys at stride 16, those that new keys finish; 16 threads add one row up.
// Dynamic shared memory: 8192 bytes.
#include "winnow/sm80.cuh"

constexpr int kWindow = 32;  // keys of one summary
constexpr int kStride = 16;  // keys from one summary to the next
constexpr int kChunks = 16;  // threads of one row, 8 channels each
constexpr int kDim = 128;  // elements of one key
constexpr int kKeys = 32;  // keys that are fetched together
constexpr int kThreads = 128;
constexpr int kTokens = 128;  // new tokens of a block of threads
constexpr float kFactor = 1.0f;  // the host's rows are plain means

extern "C" __global__ void __launch_bounds__(128, 8)
append_0(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const auto tile = find_token_tile<kTokens>(params.cu_q, key_lengths(params), params.batch, 0, params.total_q, blockIdx.x);
  wait_earlier_kernels();
  if (tile.tokens == 0) return;
  const int first_row = summary_rows<kWindow, kStride>(tile.position);
  const int row_end = summary_rows<kWindow, kStride>(tile.position + tile.tokens);
  const int kv_head = blockIdx.y;
  const int thread = thread_index();
  const auto keys = paged_rows<bf16>(params, params.k, params.k_stride, tile, kv_head);
  const auto kept = kept_rows<bf16, kWindow, kStride>(params, 0, tile, kv_head);
  const SharedTile<kKeys, kDim, bf16> key_tile{shared + 0};
  static_assert(SharedTile<kKeys, kDim, bf16>::kBytes == 8192);
  for (int row = first_row; row < row_end; ++row) {
    ChannelSums sums;
    for (int key = 0; key < kWindow; key += kKeys) {
      sync_threads();
      load_rows<kThreads>(key_tile, keys, row * kStride + key, tile.k_length, thread);
      wait_copies();
      sync_threads();
      if (thread < kChunks) {
        add_tile_rows(sums, key_tile, thread);
      }
    }
    if (thread < kChunks) {
      store_mean(kept, row, thread, sums, 32.0f, kFactor);
    }
  }
}
