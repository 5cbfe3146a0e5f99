// append_0 of infllm_v2: means over windows of 32 keys at stride 16, those that new keys finish; 16 threads make one row.
// Dynamic shared memory: 0 bytes.
#include "winnow/sm80.cuh"

constexpr int kWindow = 32;  // keys of one summary
constexpr int kStride = 16;  // keys from one summary to the next
constexpr int kChunks = 16;  // threads of one row, 8 channels each
constexpr int kTokens = 128;  // new tokens of a block of threads, one row per stride
constexpr float kFactor = 1.0f;  // the host's rows are plain means

extern "C" __global__ void __launch_bounds__(128, 8)
append_0(const __grid_constant__ Params params) {
  const auto tile = find_token_tile<kTokens>(params.cu_q, key_lengths(params), params.batch, 0, params.total_q, blockIdx.x);
  if (tile.tokens == 0) return;
  const int first_row = summary_rows<kWindow, kStride>(tile.position);
  const int row_end = summary_rows<kWindow, kStride>(tile.position + tile.tokens);
  const int thread = thread_index();
  const int row = first_row + thread / kChunks;
  const int chunk = thread % kChunks;
  if (row < row_end) {
    const int kv_head = blockIdx.y;
    const auto keys = paged_rows<bf16>(params, params.k, params.k_stride, tile, kv_head);
    const auto kept = kept_rows<bf16, kWindow, kStride>(params, 0, tile, kv_head);
    ChannelSums sums;
    #pragma unroll 8
    for (int i = 0; i < kWindow; ++i) {
      add_row(sums, keys, row * kStride + i, chunk);
    }
    store_mean(kept, row, chunk, sums, 32.0f, kFactor);
  }
}
