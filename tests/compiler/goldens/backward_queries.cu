// backward_queries of infllm_v2: the gradient of the queries of 4 tokens of 16 query heads, a block of threads each.
// Dynamic shared memory: 166352 bytes.
#include "winnow/sm80.cuh"

constexpr int kHeads = 32;  // query heads
constexpr int kKvHeads = 2;  // key/value heads
constexpr int kTileHeads = 16;  // query heads of one block of threads
constexpr int kDim = 128;  // elements of one query or key row
constexpr int kValueDim = 128;  // elements of one value or output row
constexpr int kTopK = 96;  // selected blocks per token, at most
constexpr int kTilesPerBlock = 2;  // key tiles of one selectable block
constexpr int kKeys = 32;  // keys of one tile
constexpr int kRowTokens = 1;  // tokens of a row tile: 16 rows of queries
constexpr int kTokens = 4;  // tokens of one block of threads
constexpr int kBitmapTiles = 16384;  // key tiles that the bitmap covers at a time
constexpr int kEntries = 768;  // wanted key tiles at a time
constexpr float kSoftmaxScale = 0.0883883461f;  // what a logit has been multiplied by
constexpr float kScale = 0.127517432f;  // softmax scale times log2 e: weights are powers of 2
constexpr int kStages = 10;  // stages of the ring
constexpr int kConsumerWarps = 4;  // warps that compute
constexpr int kProducerThreads = 128;  // threads that load

extern "C" __global__ void __launch_bounds__(256, 1)
backward_queries(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const Ring<kStages, SharedTile<kKeys, kDim, bf16>> key_ring{shared + 0};
  static_assert(Ring<kStages, SharedTile<kKeys, kDim, bf16>>::kBytes == 81920);
  const Ring<kStages, SharedTile<kKeys, kValueDim, bf16>> value_ring{shared + 81920};
  static_assert(Ring<kStages, SharedTile<kKeys, kValueDim, bf16>>::kBytes == 81920);
  const RingBarriers<kStages> barriers{shared + 166160};
  static_assert(RingBarriers<kStages>::kBytes == 160);
  const WantedBitmap<kBitmapTiles, kTokens> wanted{shared + 0};
  static_assert(WantedBitmap<kBitmapTiles, kTokens>::kBytes == 16384);
  const WantedList<kEntries, kTokens> list{shared + 163840};
  static_assert(WantedList<kEntries, kTokens>::kBytes == 2320);
  const auto tile = find_token_tile<kTokens>(params.cu_q, params.cu_k, params.batch, 0, params.total_q, blockIdx.x);
  if (tile.tokens == 0) return;
  const int warp = warp_index();
  const int select_head = blockIdx.y;
  const int first_head = select_head * kTileHeads;
  const TileSlot slot{shared + 166320};
  static_assert(TileSlot::kBytes == 32);
  if (thread_index() == 0) {
    park(slot, tile);
  }
  LeftOperand<16, kDim, bf16> query;
  LeftOperand<16, kValueDim, bf16> output_gradient;
  Accumulator<16, kDim> query_gradient;
  RowStatistics statistics;
  if (warp < kConsumerWarps) {
    const auto rows = query_rows<kTileHeads>(tile, warp);
    load_query<kHeads>(query, params.q, rows, first_head);
    load_query<kHeads>(output_gradient, params.dout, rows, first_head);
    load_statistics<kTileHeads>(statistics, params.buffer[0], rows, first_head, params.total_q);
    clear(query_gradient);
  }
  const int key_tiles = last_position(tile) / kKeys + 1;
  Cursor<kStages> cursor;
  if (thread_index() == 0) {
    init_ring(barriers, kProducerThreads, kConsumerWarps);
  }
  for (int from_tile = 0; from_tile < key_tiles; from_tile += kBitmapTiles) {
    sync_threads();
    const auto here = parked(slot);
    const int kv_head = first_head / (kHeads / kKvHeads);
    const int tiles = min(key_tiles - from_tile, kBitmapTiles);
    clear_wanted(wanted, tiles);
    sync_threads();
    mark_wanted<kTopK, kTilesPerBlock, kKeys>(wanted, params.ids, select_head, params.total_q, here, from_tile);
    sync_threads();
    if (warp == 0) {
      compact_list(list, wanted, tiles);
    }
    sync_threads();
    const int entries = list_length(list);
    if (warp < kConsumerWarps) {
      const auto rows = query_rows<kTileHeads>(here, warp);
      for (int entry = 0; entry < entries; ++entry) {
        const int wants = list_wants<kRowTokens>(list, entry, warp);
        const int first_key = (from_tile + list_tile(list, entry)) * kKeys;
        wait_full(barriers, cursor);
        const auto key_tile = stage(key_ring, cursor);
        const auto value_tile = stage(value_ring, cursor);
        if (wants != 0) {
          Accumulator<16, kKeys> logits;
          clear(logits);
          mma_abt(logits, query, key_tile);
          Accumulator<16, kKeys> changes;
          clear(changes);
          mma_abt(changes, output_gradient, value_tile);
          subtract_deltas(changes, statistics);
          if (first_key + kKeys - 1 > rows.first_position) {
            mask_causal(logits, rows, first_key);
          }
          weigh_changes(logits, changes, statistics, rows, wants, kScale);
          LeftOperand<16, kKeys, bf16> factor;
          round_to_operand(factor, changes);
          mma_ab(query_gradient, factor, key_tile);
        }
        arrive_empty(barriers, cursor);
        advance(cursor);
      }
    } else {
      const auto keys = global_rows<bf16, kKvHeads * kDim>(params.k, here.k_row, kv_head * kDim);
      const auto values = global_rows<bf16, kKvHeads * kValueDim>(params.v, here.k_row, kv_head * kValueDim);
      const int producer = thread_index() - 128;
      for (int entry = 0; entry < entries; ++entry) {
        const int first_key = (from_tile + list_tile(list, entry)) * kKeys;
        wait_empty(barriers, cursor);
        const auto key_tile = stage(key_ring, cursor);
        load_rows<kProducerThreads>(key_tile, keys, first_key, here.k_length, producer);
        const auto value_tile = stage(value_ring, cursor);
        load_rows<kProducerThreads>(value_tile, values, first_key, here.k_length, producer);
        arrive_full(barriers, cursor);
        advance(cursor);
      }
    }
  }
  sync_threads();
  if (warp < kConsumerWarps) {
    const auto done = parked(slot);
    const auto rows = query_rows<kTileHeads>(done, warp);
    store_query_gradient<kHeads, bf16>(params.dq, query_gradient, rows, first_head, kSoftmaxScale);
  }
}
