// summarize_0 of infllm_v2: means over windows of 32 keys at stride 16; 16 threads make one row.
// Dynamic shared memory: 0 bytes.
#include "winnow/sm90.cuh"

constexpr int kKvHeads = 2;  // key/value heads
constexpr int kDim = 128;  // elements of one key
constexpr int kWindow = 32;  // keys of one summary
constexpr int kStride = 16;  // keys from one summary to the next
constexpr int kChunks = 16;  // threads of one row, 8 channels each
constexpr int kRows = 16;  // summaries of one block of threads
constexpr float kFactor = 0.127517432f;  // softmax scale times log2 e: logits become exponents of 2
constexpr int kTokens = 256;  // keys at which a block of threads begins summaries

extern "C" __global__ void __launch_bounds__(256, 4)
summarize_0(const __grid_constant__ Params params) {
  const auto tile = find_token_tile<kTokens>(params.cu_k, params.cu_k, params.batch, 0, params.total_k, blockIdx.x);
  if (tile.tokens == 0) return;
  const int kv_head = blockIdx.y;
  const int thread = thread_index();
  const int row = tile.first / kStride + thread / kChunks;
  const int chunk = thread % kChunks;
  const auto keys = global_rows<bf16, kKvHeads * kDim>(params.k, tile.k_row, kv_head * kDim);
  const auto images = images_of<bf16, kDim, kStride>(params.buffer[0], kv_head, params.total_k, params.batch, tile);
  ChannelSums sums;
  if (row < summary_rows<kWindow, kStride>(tile.k_length)) {
    #pragma unroll 8
    for (int i = 0; i < kWindow; ++i) {
      add_row(sums, keys, row * kStride + i, chunk);
    }
  }
  store_image_row(images, row, chunk, sums, 32.0f, kFactor);
  if (tile.first + tile.tokens == tile.k_length) {
    const int image_end = (row / 128 + 1) * 128;
    ChannelSums none;
    for (int spare = row + kRows; spare < image_end; spare += kRows) {
      store_image_row(images, spare, chunk, none, 1.0f, 0.0f);
    }
  }
}
