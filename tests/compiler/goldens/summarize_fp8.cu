// summarize_0 of infllm_v2: means over windows of 32 keys at stride 16; 16 threads make one row.
// Dynamic shared memory: 0 bytes.
#include "winnow/sm89.cuh"

constexpr int kKvHeads = 2;  // key/value heads
constexpr int kDim = 128;  // elements of one key
constexpr int kWindow = 32;  // keys of one summary
constexpr int kStride = 16;  // keys from one summary to the next
constexpr int kChunks = 16;  // threads of one row, 8 channels each
constexpr float kFactor = 0.127517432f;  // softmax scale times log2 e: logits become exponents of 2
constexpr int kTokens = 256;  // keys at which a block of threads begins summaries

extern "C" __global__ void __launch_bounds__(256, 4)
summarize_0(const __grid_constant__ Params params) {
  const auto tile = find_key_tile<kTokens>(key_lengths(params), params.batch, blockIdx.x);
  if (tile.tokens == 0) return;
  const int kv_head = blockIdx.y;
  const int thread = thread_index();
  const int row = tile.first / kStride + thread / kChunks;
  const int chunk = thread % kChunks;
  const auto keys = paged_rows<e4m3>(params, params.k, params.k_stride, tile, kv_head);
  const auto summary = summary_of<bf16, kDim, kStride>(params.buffer[0], kv_head, params.total_k, tile.k_row);
  ChannelSums sums;
  const float factor = head_factor(params.k_scale, kv_head, kFactor);
  if (row < summary_rows<kWindow, kStride>(tile.k_length)) {
    #pragma unroll 8
    for (int i = 0; i < kWindow; ++i) {
      add_row(sums, keys, row * kStride + i, chunk);
    }
    store_mean(summary, row, chunk, sums, 32.0f, factor);
  }
}
