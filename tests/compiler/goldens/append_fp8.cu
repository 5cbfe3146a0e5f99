// append of infllm_v2: means over windows of 32 keys at stride 16, and of 128 keys at stride 64, those that new keys finish; 16 threads add one row up.
// Dynamic shared memory: 16384 bytes.
#include "winnow/sm90.cuh"

constexpr int kWindow0 = 32;  // keys of one summary
constexpr int kStride0 = 16;  // keys from one summary to the next
constexpr int kKeys0 = 32;  // keys that are fetched together
constexpr int kWindow1 = 128;  // keys of one summary
constexpr int kStride1 = 64;  // keys from one summary to the next
constexpr int kKeys1 = 128;  // keys that are fetched together
constexpr int kChunks = 16;  // threads of one row, 8 channels each
constexpr float kFactor = 1.0f;  // the host's rows are plain means
constexpr int kDim = 128;  // elements of one key
constexpr int kKvHeads = 2;  // key/value heads
constexpr int kThreads = 128;
constexpr int kTokens = 128;  // new tokens of a block of threads

extern "C" __global__ void __launch_bounds__(128, 4)
append(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  start_later_kernels();
  const SharedTile<kKeys0, kDim, e4m3> key_tile0{shared + 0};
  static_assert(SharedTile<kKeys0, kDim, e4m3>::kBytes == 4096);
  const SharedTile<kKeys1, kDim, e4m3> key_tile1{shared + 0};
  static_assert(SharedTile<kKeys1, kDim, e4m3>::kBytes == 16384);
  const auto tile = find_token_tile<kTokens>(params.cu_q, key_lengths(params), params.batch, 0, params.total_q, blockIdx.x);
  wait_earlier_kernels();
  if (tile.tokens == 0) return;
  const int kv_head = blockIdx.y % kKvHeads;
  const int thread = thread_index();
  const auto keys = paged_rows<e4m3>(params, params.k, params.k_stride, tile, kv_head);
  const float factor = head_factor(params.k_scale, kv_head, kFactor);
  if (blockIdx.y < kKvHeads) {
    const int first_row = summary_rows<kWindow0, kStride0>(tile.position);
    const int row_end = summary_rows<kWindow0, kStride0>(tile.position + tile.tokens);
    const auto kept = kept_rows<bf16, kWindow0, kStride0>(params, 0, tile, kv_head);
    for (int row = first_row; row < row_end; ++row) {
      ChannelSums sums;
      for (int key = 0; key < kWindow0; key += kKeys0) {
        sync_threads();
        load_rows<kThreads>(key_tile0, keys, row * kStride0 + key, tile.k_length, thread);
        wait_copies();
        sync_threads();
        if (thread < kChunks) {
          add_tile_rows(sums, key_tile0, thread);
        }
      }
      if (thread < kChunks) {
        store_mean(kept, row, thread, sums, 32.0f, factor);
      }
    }
  } else {
    const int first_row = summary_rows<kWindow1, kStride1>(tile.position);
    const int row_end = summary_rows<kWindow1, kStride1>(tile.position + tile.tokens);
    const auto kept = kept_rows<bf16, kWindow1, kStride1>(params, 1, tile, kv_head);
    for (int row = first_row; row < row_end; ++row) {
      ChannelSums sums;
      for (int key = 0; key < kWindow1; key += kKeys1) {
        sync_threads();
        load_rows<kThreads>(key_tile1, keys, row * kStride1 + key, tile.k_length, thread);
        wait_copies();
        sync_threads();
        if (thread < kChunks) {
          add_tile_rows(sums, key_tile1, thread);
        }
      }
      if (thread < kChunks) {
        store_mean(kept, row, thread, sums, 128.0f, factor);
      }
    }
  }
}
