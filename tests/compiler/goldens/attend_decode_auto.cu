// attend_decode of infllm_v2: softmax attention of one token over a part of the keys of its selected blocks; 16 query heads.
// Dynamic shared memory: 66000 bytes.
#include "winnow/sm90.cuh"

constexpr int kHeads = 32;  // query heads
constexpr int kKvHeads = 2;  // key/value heads
constexpr int kTileHeads = 16;  // query heads of one block of threads
constexpr int kDim = 128;  // elements of one query or key row
constexpr int kValueDim = 128;  // elements of one value or output row
constexpr int kTopK = 96;  // selected blocks per token, at most
constexpr int kBlock = 64;  // keys of one selectable block
constexpr int kInit = 1;  // first blocks, always selected
constexpr int kLocal = 33;  // blocks up to the query's own that are always selected
constexpr int kSelectedParts = 64;  // parts of a token's selected blocks, at most
constexpr int kTilesPerBlock = 2;  // key tiles of one selectable block
constexpr int kKeys = 32;  // keys of one tile
constexpr float kScale = 0.127517432f;  // softmax scale times log2 e: weights are powers of 2
constexpr int kStages = 4;  // stages of the ring
constexpr int kConsumerWarps = 1;  // warps that compute
constexpr int kProducerWarps = 2;  // warps that load, a tile each in turn
constexpr int kProducerThreads = 32;  // threads that load a tile

extern "C" __global__ void __launch_bounds__(96, 3)
attend_decode(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  start_later_kernels();
  const Ring<kStages, SharedTile<kKeys, kDim, bf16>> key_ring{shared + 0};
  static_assert(Ring<kStages, SharedTile<kKeys, kDim, bf16>>::kBytes == 32768);
  const Ring<kStages, SharedTile<kKeys, kValueDim, bf16>> value_ring{shared + 32768};
  static_assert(Ring<kStages, SharedTile<kKeys, kValueDim, bf16>>::kBytes == 32768);
  const RingBarriers<kStages> barriers{shared + 65936};
  static_assert(RingBarriers<kStages>::kBytes == 64);
  const BlockList<kTopK> list{shared + 65536};
  static_assert(BlockList<kTopK>::kBytes == 400);
  const int part = blockIdx.x % params.parts;
  const auto tile = find_token(params.cu_q, key_lengths(params), params.batch, blockIdx.x / params.parts);
  const bool is_dense = tile.k_length < params.dense_length;
  const int own_parts = is_dense ? params.parts : min(params.parts, kSelectedParts);
  const bool idle = part >= own_parts;
  if (idle) {
    wait_earlier_kernels();
  }
  if (idle) return;
  const int warp = warp_index();
  const int head_tile = blockIdx.y;
  const int first_head = head_tile * kTileHeads;
  const int kv_head = first_head / (kHeads / kKvHeads);
  const auto keys = read_once(paged_rows<bf16>(params, params.k, params.k_stride, tile, kv_head));
  const auto values = read_once(paged_rows<bf16>(params, params.v, params.v_stride, tile, kv_head));
  LeftOperand<16, kDim, bf16> query;
  Accumulator<16, kValueDim> output;
  SoftmaxState state;
  const auto rows = query_rows<kTileHeads>(tile, 0);
  if (warp < kConsumerWarps) {
    load_query<kHeads>(query, strided_heads(params.q, params.q_stride), rows, first_head);
    clear(output);
  }
  const int own = tile.position / kBlock;
  const bool has_forced = own >= kTopK && tile.k_length >= params.dense_length && tile.tokens != 0 && params.selects != 0;
  const int forced_from = own - kLocal + 1;
  const int forced = has_forced ? (kInit + kLocal) * kTilesPerBlock : 0;
  const int from = forced * part / own_parts;
  const int to = forced * (part + 1) / own_parts;
  Cursor<kStages> cursor;
  if (thread_index() == 0) {
    init_ring(barriers, kProducerThreads, kConsumerWarps);
  }
  sync_threads();
  if (warp < kConsumerWarps) {
    for (int entry = from; entry < to; ++entry) {
      const int first_key = forced_key<kInit, kTilesPerBlock, kKeys>(entry, forced_from);
      Accumulator<16, kKeys> logits;
      clear(logits);
      wait_full(barriers, cursor);
      const auto key_tile = stage(key_ring, cursor);
      const auto value_tile = stage(value_ring, cursor);
      mma_abt(logits, query, key_tile);
      if (first_key + kKeys - 1 > rows.first_position) {
        mask_causal(logits, rows, first_key);
      }
      if (raise_maximum(state, logits, kScale)) {
        rescale_rows(output, state);
      }
      exponentiate(logits, state, kScale);
      LeftOperand<16, kKeys, bf16> weights;
      round_to_operand(weights, logits);
      mma_ab(output, weights, value_tile);
      arrive_empty(barriers, cursor);
      advance(cursor);
    }
  } else {
    const int producer = thread_index() - 32;
    Cursor<kStages> place;
    follow(place, cursor);
    const int turn = producer / 32;
    const int lane = producer % 32;
    advance_by(place, turn);
    for (int entry = from + turn; entry < to; entry += kProducerWarps) {
      const int first_key = forced_key<kInit, kTilesPerBlock, kKeys>(entry, forced_from);
      const int page = find_page(keys, first_key, tile.k_length, lane);
      const int page_2 = find_page(values, first_key, tile.k_length, lane);
      wait_empty(barriers, place);
      const auto key_tile = stage(key_ring, place);
      load_found_rows(key_tile, keys, page, first_key, tile.k_length, lane);
      const auto value_tile = stage(value_ring, place);
      load_found_rows(value_tile, values, page_2, first_key, tile.k_length, lane);
      arrive_full(barriers, place);
      advance_by(place, kProducerWarps);
    }
    advance_by(cursor, max(to - from, 0));
  }
  wait_earlier_kernels();
  if (tile.tokens == 0) return;
  const int key_tiles = last_position(tile) / kKeys + 1;
  const auto ids = id_row<kTopK>(params.ids, head_tile, params.total_q, tile.row);
  int listed;
  if (has_forced) {
    listed = kTilesPerBlock * 62;
  } else {
    if (warp == 0) {
      list_blocks<kBlock>(list, params.ids, head_tile, params.total_q, tile, 0, 2147483647);
    }
    sync_threads();
    listed = count_blocks(list) * kTilesPerBlock;
  }
  const int entries = is_dense ? key_tiles : listed;
  const int from_2 = entries * part / own_parts;
  const int to_2 = entries * (part + 1) / own_parts;
  sync_threads();
  if (warp < kConsumerWarps) {
    for (int entry = from_2; entry < to_2; ++entry) {
      const int first_key = chosen_key<kInit, kTilesPerBlock, kKeys>(list, ids, entry, is_dense, has_forced);
      Accumulator<16, kKeys> logits;
      clear(logits);
      wait_full(barriers, cursor);
      const auto key_tile = stage(key_ring, cursor);
      const auto value_tile = stage(value_ring, cursor);
      mma_abt(logits, query, key_tile);
      if (first_key + kKeys - 1 > rows.first_position) {
        mask_causal(logits, rows, first_key);
      }
      if (raise_maximum(state, logits, kScale)) {
        rescale_rows(output, state);
      }
      exponentiate(logits, state, kScale);
      LeftOperand<16, kKeys, bf16> weights;
      round_to_operand(weights, logits);
      mma_ab(output, weights, value_tile);
      arrive_empty(barriers, cursor);
      advance(cursor);
    }
    reduce_sum(state);
    store_part<kHeads>(params.buffer[6], params.buffer[7], output, state, rows, first_head, part, params.total_q, kScale);
  } else {
    const int producer = thread_index() - 32;
    Cursor<kStages> place;
    follow(place, cursor);
    const int turn = producer / 32;
    const int lane = producer % 32;
    advance_by(place, turn);
    for (int entry = from_2 + turn; entry < to_2; entry += kProducerWarps) {
      const int first_key = chosen_key<kInit, kTilesPerBlock, kKeys>(list, ids, entry, is_dense, has_forced);
      const int page = find_page(keys, first_key, tile.k_length, lane);
      const int page_2 = find_page(values, first_key, tile.k_length, lane);
      wait_empty(barriers, place);
      const auto key_tile = stage(key_ring, place);
      load_found_rows(key_tile, keys, page, first_key, tile.k_length, lane);
      const auto value_tile = stage(value_ring, place);
      load_found_rows(value_tile, values, page_2, first_key, tile.k_length, lane);
      arrive_full(barriers, place);
      advance_by(place, kProducerWarps);
    }
  }
}
