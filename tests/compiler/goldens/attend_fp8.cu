// attend of infllm_v2: softmax attention of each token over the keys of its selected blocks; a block of threads owns 8 tokens of 16 query heads.
// Dynamic shared memory: 166352 bytes.
#include "winnow/sm90.cuh"

constexpr int kHeads = 32;  // query heads
constexpr int kKvHeads = 2;  // key/value heads
constexpr int kTileHeads = 16;  // query heads of one block of threads
constexpr int kDim = 128;  // elements of one query or key row
constexpr int kValueDim = 128;  // elements of one value or output row
constexpr int kTopK = 96;  // selected blocks per token, at most
constexpr int kTilesPerBlock = 1;  // key tiles of one selectable block
constexpr int kKeys = 64;  // keys of one tile
constexpr int kRowTokens = 1;  // tokens of a row tile: 16 rows of queries
constexpr int kTokens = 8;  // tokens of one block of threads
constexpr int kBitmapTiles = 16384;  // key tiles that the bitmap covers at a time
constexpr int kEntries = 768;  // wanted key tiles at a time
constexpr float kScale = 0.127517432f;  // softmax scale times log2 e: weights are powers of 2
constexpr int kStages = 10;  // stages of the ring
constexpr int kConsumerWarps = 8;  // warps that compute
constexpr int kProducerWarps = 4;  // warps that load, a tile each in turn
constexpr int kProducerThreads = 32;  // threads that load a tile

extern "C" __global__ void __launch_bounds__(384, 1)
attend(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const Ring<kStages, SharedTile<kKeys, kDim, e4m3>> key_ring{shared + 0};
  static_assert(Ring<kStages, SharedTile<kKeys, kDim, e4m3>>::kBytes == 81920);
  const Ring<kStages, SharedTile<kKeys, kValueDim, e4m3>> value_ring{shared + 81920};
  static_assert(Ring<kStages, SharedTile<kKeys, kValueDim, e4m3>>::kBytes == 81920);
  const RingBarriers<kStages> barriers{shared + 166160};
  static_assert(RingBarriers<kStages>::kBytes == 160);
  const WantedBitmap<kBitmapTiles, kTokens> wanted{shared + 0};
  static_assert(WantedBitmap<kBitmapTiles, kTokens>::kBytes == 16384);
  const WantedList<kEntries, kTokens> list{shared + 163840};
  static_assert(WantedList<kEntries, kTokens>::kBytes == 2320);
  const auto tile = find_token_tile<kTokens>(params.cu_q, key_lengths(params), params.batch, 0, params.total_q, blockIdx.x);
  if (tile.tokens == 0) return;
  const int warp = warp_index();
  const int select_head = blockIdx.y;
  const int first_head = select_head * kTileHeads;
  const TileSlot slot{shared + 166320};
  static_assert(TileSlot::kBytes == 32);
  if (thread_index() == 0) {
    park(slot, tile);
  }
  LeftOperand<16, kDim, fp16> query;
  LogitScale logit_scale;
  Accumulator<16, kValueDim> output;
  SoftmaxState state;
  const int kv_head = first_head / (kHeads / kKvHeads);
  if (warp < kConsumerWarps) {
    const auto rows = query_rows<kTileHeads>(tile, warp);
    load_query_fp16<kHeads, bf16>(query, logit_scale, strided_heads(params.q, params.q_stride), rows, first_head, head_factor(params.k_scale, kv_head, kScale));
    clear(output);
  }
  const int key_tiles = last_position(tile) / kKeys + 1;
  Cursor<kStages> cursor;
  if (thread_index() == 0) {
    init_ring(barriers, kProducerThreads, kConsumerWarps);
  }
  for (int from_tile = 0; from_tile < key_tiles; from_tile += kBitmapTiles) {
    sync_threads();
    const auto here = parked(slot);
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
          if (first_key + kKeys - 1 > rows.first_position) {
            mask_causal(logits, rows, first_key);
          }
          if (raise_maximum(state, logits, scale_of(logit_scale))) {
            rescale_rows(output, state);
          }
          exponentiate(logits, state, scale_of(logit_scale));
          LeftOperand<16, kKeys, fp16> weights;
          round_to_operand(weights, logits);
          mma_ab(output, weights, value_tile);
        }
        arrive_empty(barriers, cursor);
        advance(cursor);
      }
    } else {
      const auto keys = paged_rows<e4m3>(params, params.k, params.k_stride, here, kv_head);
      const auto values = paged_rows<e4m3>(params, params.v, params.v_stride, here, kv_head);
      const int producer = thread_index() - 256;
      Cursor<kStages> place;
      follow(place, cursor);
      const int turn = producer / 32;
      const int lane = producer % 32;
      advance_by(place, turn);
      for (int entry = turn; entry < entries; entry += kProducerWarps) {
        const int first_key = (from_tile + list_tile(list, entry)) * kKeys;
        wait_empty(barriers, place);
        const auto key_tile = stage(key_ring, place);
        load_rows<kProducerThreads>(key_tile, keys, first_key, here.k_length, lane);
        const auto value_tile = stage(value_ring, place);
        load_rows<kProducerThreads>(value_tile, values, first_key, here.k_length, lane);
        arrive_full(barriers, place);
        advance_by(place, kProducerWarps);
      }
    }
  }
  if (warp < kConsumerWarps) {
    reduce_sum(state);
  }
  sync_threads();
  if (warp < kConsumerWarps) {
    const auto done = parked(slot);
    const auto rows = query_rows<kTileHeads>(done, warp);
    order_columns(output, head_factor(params.v_scale, kv_head, 1.0f));
    store_output<kHeads, bf16>(strided_heads(params.out, params.out_stride), output, state, rows, first_head);
    store_lse(params.lse, state, rows, first_head, params.total_q, scale_of(logit_scale));
  }
}
