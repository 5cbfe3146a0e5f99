// attend of infllm_v2: softmax attention of each token over the keys of its selected blocks; a block of threads owns 14 tokens of 16 query heads.
// Dynamic shared memory: 158400 bytes.
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
constexpr int kTokens = 14;  // tokens of one block of threads
constexpr int kBitmapTiles = 16384;  // key tiles that the bitmap covers at a time
constexpr int kEntries = 2688;  // wanted key tiles at a time
constexpr float kScale = 0.127517432f;  // softmax scale times log2 e: weights are powers of 2
constexpr int kStages = 9;  // stages of the ring
constexpr int kConsumerWarps = 7;  // warps that compute
constexpr int kProducerThreads = 32;  // threads that load

extern "C" __global__ void __launch_bounds__(256, 1)
attend(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const Ring<kStages, SharedTile<kKeys, kDim, bf16>> key_ring{shared + 0};
  static_assert(Ring<kStages, SharedTile<kKeys, kDim, bf16>>::kBytes == 73728);
  const Ring<kStages, SharedTile<kKeys, kValueDim, bf16>> value_ring{shared + 73728};
  static_assert(Ring<kStages, SharedTile<kKeys, kValueDim, bf16>>::kBytes == 73728);
  const RingBarriers<kStages> barriers{shared + 158224};
  static_assert(RingBarriers<kStages>::kBytes == 144);
  const WantedBitmap<kBitmapTiles, kTokens> wanted{shared + 0};
  static_assert(WantedBitmap<kBitmapTiles, kTokens>::kBytes == 32768);
  const WantedList<kEntries, kTokens> list{shared + 147456};
  static_assert(WantedList<kEntries, kTokens>::kBytes == 10768);
  const auto tile = find_token_tile<kTokens>(params.cu_q, params.cu_k, params.batch, 0, params.total_q, blockIdx.x);
  if (tile.tokens == 0) return;
  const int warp = warp_index();
  const int select_head = blockIdx.y;
  const int first_head = select_head * kTileHeads;
  const TileSlot slot{shared + 158368};
  static_assert(TileSlot::kBytes == 32);
  if (thread_index() == 0) {
    park(slot, tile);
  }
  const int row_tile0 = warp * 2;
  LeftOperand<16, kDim, bf16> query0;
  Accumulator<16, kValueDim> output0;
  SoftmaxState state0;
  const int row_tile1 = row_tile0 + 1;
  LeftOperand<16, kDim, bf16> query1;
  Accumulator<16, kValueDim> output1;
  SoftmaxState state1;
  if (warp < kConsumerWarps) {
    const auto rows0 = query_rows<kTileHeads>(tile, row_tile0);
    const auto rows1 = query_rows<kTileHeads>(tile, row_tile1);
    load_query<kHeads>(query0, params.q, rows0, first_head);
    load_query<kHeads>(query1, params.q, rows1, first_head);
    clear(output0);
    clear(output1);
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
      const auto rows0 = query_rows<kTileHeads>(here, row_tile0);
      const auto rows1 = query_rows<kTileHeads>(here, row_tile1);
      for (int entry = 0; entry < entries; ++entry) {
        const int wants0 = list_wants<kRowTokens>(list, entry, row_tile0);
        const int wants1 = list_wants<kRowTokens>(list, entry, row_tile1);
        const int first_key = (from_tile + list_tile(list, entry)) * kKeys;
        wait_full(barriers, cursor);
        const auto key_tile = stage(key_ring, cursor);
        const auto value_tile = stage(value_ring, cursor);
        if ((wants0 | wants1) != 0) {
          Accumulator<16, kKeys> logits0;
          clear(logits0);
          Accumulator<16, kKeys> logits1;
          clear(logits1);
          mma_abt_pair(logits0, logits1, query0, query1, key_tile);
          if (first_key + kKeys - 1 > rows0.first_position) {
            mask_causal(logits0, rows0, first_key);
            mask_causal(logits1, rows1, first_key);
          }
          if (raise_wanted_maximum(state0, logits0, rows0, wants0, kScale)) {
            rescale_rows(output0, state0);
          }
          exponentiate_wanted(logits0, state0, rows0, wants0, kScale);
          LeftOperand<16, kKeys, bf16> weights0;
          round_to_operand(weights0, logits0);
          if (raise_wanted_maximum(state1, logits1, rows1, wants1, kScale)) {
            rescale_rows(output1, state1);
          }
          exponentiate_wanted(logits1, state1, rows1, wants1, kScale);
          LeftOperand<16, kKeys, bf16> weights1;
          round_to_operand(weights1, logits1);
          mma_ab_pair(output0, output1, weights0, weights1, value_tile);
        }
        arrive_empty(barriers, cursor);
        advance(cursor);
      }
    } else {
      const auto keys = global_rows<bf16, kKvHeads * kDim>(params.k, here.k_row, kv_head * kDim);
      const auto values = global_rows<bf16, kKvHeads * kValueDim>(params.v, here.k_row, kv_head * kValueDim);
      const int producer = thread_index() - 224;
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
    const auto rows0 = query_rows<kTileHeads>(done, row_tile0);
    const auto rows1 = query_rows<kTileHeads>(done, row_tile1);
    reduce_sum(state0);
    store_output<kHeads, bf16>(params.out, output0, state0, rows0, first_head);
    store_lse(params.lse, state0, rows0, first_head, params.total_q, kScale);
    reduce_sum(state1);
    store_output<kHeads, bf16>(params.out, output1, state1, rows1, first_head);
    store_lse(params.lse, state1, rows1, first_head, params.total_q, kScale);
  }
}
