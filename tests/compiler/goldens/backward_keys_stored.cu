// backward_keys of infllm_v2: the gradients of keys and values, from all tokens that attend to them; blocks of threads stay and take one pair of tiles of 64 keys and one range of tokens after the other.
// Dynamic shared memory: 232448 bytes.
#include "winnow/sm90.cuh"

constexpr int kHeads = 32;  // query heads
constexpr int kKvHeads = 2;  // key/value heads
constexpr int kTileHeads = 16;  // query heads of one token in a stage
constexpr int kDim = 128;  // elements of one query or key row
constexpr int kValueDim = 128;  // elements of one value or output row
constexpr int kKeys = 64;  // keys of one tile, those of a warpgroup
constexpr int kPairKeys = 128;  // keys of the two tiles of an item
constexpr int kRows = 64;  // query rows of one stage
constexpr int kTokens = 4;  // tokens of one stage
constexpr int kTokenRows = 16;  // query rows of one token in a stage
constexpr int kStages = 5;  // stages of the ring of query rows
constexpr int kItems = 2;  // items: the one in work and the next one
constexpr int kWarpgroups = 2;  // warpgroups that compute
constexpr int kKeyBytes = 32768;  // bytes of a tile's keys and values
constexpr int kRowBytes = 33280;  // bytes of a stage's query rows, their output gradients and statistics
constexpr int kBlock = 64;  // keys of one selectable block
constexpr int kRangeTokens = 4032;  // tokens of a range, of which chunks have some
constexpr float kSoftmaxScale = 0.0883883461f;  // what a logit has been multiplied by
constexpr float kScale = 0.127517432f;  // softmax scale times log2 e: weights are powers of 2

extern "C" __global__ void __launch_bounds__(384, 1)
backward_keys(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const Ring<kWarpgroups, PanelTile<kKeys, kDim, bf16>> key_ring{shared + 163840};
  static_assert(Ring<kWarpgroups, PanelTile<kKeys, kDim, bf16>>::kBytes == 32768);
  const Ring<kWarpgroups, PanelTile<kKeys, kValueDim, bf16>> value_ring{shared + 196608};
  static_assert(Ring<kWarpgroups, PanelTile<kKeys, kValueDim, bf16>>::kBytes == 32768);
  const Ring<kStages, PanelTile<kRows, kDim, bf16>> query_ring{shared + 0};
  static_assert(Ring<kStages, PanelTile<kRows, kDim, bf16>>::kBytes == 81920);
  const Ring<kStages, PanelTile<kRows, kValueDim, bf16>> gradient_ring{shared + 81920};
  static_assert(Ring<kStages, PanelTile<kRows, kValueDim, bf16>>::kBytes == 81920);
  const RowHeaders<kStages, kRows, kTokens> headers{shared + 229376};
  static_assert(RowHeaders<kStages, kRows, kTokens>::kBytes == 2720);
  const ItemRing<kItems> items{shared + 232096};
  static_assert(ItemRing<kItems>::kBytes == 192);
  const ProductHints hints{shared + 232432};
  static_assert(ProductHints::kBytes == 16);
  const RingBarriers<kStages> row_barriers{shared + 232288};
  static_assert(RingBarriers<kStages>::kBytes == 80);
  const RingBarriers<kWarpgroups> key_barriers{shared + 232368};
  static_assert(RingBarriers<kWarpgroups>::kBytes == 32);
  const RingBarriers<kItems> item_barriers{shared + 232400};
  static_assert(RingBarriers<kItems>::kBytes == 32);
  if (thread_index() == 0) {
    init_barriers(row_barriers, kTokens, 256);
    init_barriers(key_barriers, 1, 128);
    init_barriers(item_barriers, 32, 352);
    open_hints(hints);
    fence_barriers();
  }
  const int warp = warp_index();
  const int warpgroup = warp / 4;
  sync_threads();
  const auto places = change_places<kKvHeads>(params.buffer[7], params);
  if (warpgroup < kWarpgroups) {
    claim_registers<232>();
    Cursor<kStages> cursor;
    Cursor<kStages> pending;
    Cursor<kWarpgroups> key_cursor;
    move_to(key_cursor, warpgroup);
    const int warp_row = warp % 4 * 16;
    Accumulator<16, kRows> weights;
    Accumulator<16, kRows> changes;
    LeftOperand<16, kRows, bf16> weight_factor;
    LeftOperand<16, kRows, bf16> change_factor;
    Accumulator<16, kDim> key_gradient;
    Accumulator<16, kValueDim> value_gradient;
    StageColumns<kTokenRows> columns;
    Cursor<kItems> turn;
    while (true) {
      wait_full(item_barriers, turn);
      if (!has_item(items, turn)) break;
      const auto key_tile = stage(key_ring, key_cursor);
      const auto value_tile = stage(value_ring, key_cursor);
      const auto own = tile_of_item(items, turn, warpgroup);
      const int first_key = own.block.first + warp_row;
      wait_full(key_barriers, key_cursor);
      clear(key_gradient);
      clear(value_gradient);
      while (true) {
        while (true) {
          wait_full(row_barriers, cursor);
          if (!(rows_wanted(headers, cursor, warpgroup) == 0)) break;
          arrive_empty(row_barriers, cursor);
          advance(cursor);
        }
        if (!(rows_wanted(headers, cursor, warpgroup) == 1)) break;
        claim_products(hints, warpgroup);
        const auto query_tile = stage(query_ring, cursor);
        start_abt(weights, key_tile, query_tile);
        const auto gradient_tile = stage(gradient_ring, cursor);
        start_abt(changes, value_tile, gradient_tile);
        wait_products<1>(weights);
        yield_products(hints, warpgroup);
        wait_products<0>(changes);
        while (true) {
          find_columns<kTokenRows>(columns, headers, cursor, warpgroup);
          subtract_column_deltas(changes, columns);
          weigh_columns(weights, changes, columns, first_key, kScale);
          round_to_operand(weight_factor, weights);
          round_to_operand(change_factor, changes);
          store_changes(places, change_factor, headers, cursor, warpgroup);
          follow(pending, cursor);
          advance(cursor);
          int ahead = 1;
          while (true) {
            bool skips;
            if (ahead < kStages) {
              wait_full(row_barriers, cursor);
              skips = rows_wanted(headers, cursor, warpgroup) == 0;
            } else {
              skips = false;
            }
            if (!skips) break;
            arrive_empty(row_barriers, cursor);
            advance(cursor);
            ahead = ahead + 1;
          }
          bool found;
          if (ahead < kStages) {
            found = rows_wanted(headers, cursor, warpgroup) == 1;
          } else {
            found = false;
          }
          claim_products(hints, warpgroup);
          const auto pending_rows = stage(gradient_ring, pending);
          start_ab(value_gradient, weight_factor, pending_rows);
          const auto pending_rows_2 = stage(query_ring, pending);
          start_ab(key_gradient, change_factor, pending_rows_2);
          if (!found) break;
          const auto query_tile_2 = stage(query_ring, cursor);
          start_abt(weights, key_tile, query_tile_2);
          wait_products<1>(value_gradient);
          wait_products<1>(key_gradient);
          arrive_empty(row_barriers, pending);
          const auto gradient_tile_2 = stage(gradient_ring, cursor);
          start_abt(changes, value_tile, gradient_tile_2);
          wait_products<1>(weights);
          yield_products(hints, warpgroup);
          wait_products<0>(changes);
        }
        wait_products<0>(value_gradient);
        wait_products<0>(key_gradient);
        arrive_empty(row_barriers, pending);
        yield_products(hints, warpgroup);
      }
      arrive_empty(row_barriers, cursor);
      advance(cursor);
      arrive_empty(key_barriers, key_cursor);
      next_turn(key_cursor);
      const auto done = tile_of_item(items, turn, warpgroup);
      if (done.works) {
        if (done.continues) {
          wait_turn(params.buffer[6], done.place, done.range);
          add_key_sums(key_gradient, params.buffer[4], done.place);
          add_key_sums(value_gradient, params.buffer[5], done.place);
        }
        if (done.closes) {
          store_key_gradient<kKvHeads, bf16>(params.dk, key_gradient, done.block, warp_row, done.kv_head, kSoftmaxScale, true);
          store_key_gradient<kKvHeads, bf16>(params.dv, value_gradient, done.block, warp_row, done.kv_head, 1.0f, true);
        } else {
          store_key_sums(params.buffer[4], key_gradient, done.place);
          store_key_sums(params.buffer[5], value_gradient, done.place);
          pass_turn(params.buffer[6], done.place, done.range + 1, warpgroup);
        }
      }
      arrive_empty(item_barriers, turn);
      advance(turn);
    }
  } else {
    release_registers<40>();
    const int role = warp - kWarpgroups * 4;
    if (role < kWarpgroups) {
      Cursor<kWarpgroups> key_cursor;
      move_to(key_cursor, role);
      Cursor<kItems> turn;
      while (true) {
        wait_full(item_barriers, turn);
        if (!has_item(items, turn)) break;
        const auto item = key_item(items, turn);
        const int row = item.row + role * kKeys;
        if (lane_index() == 0) {
          wait_empty(key_barriers, key_cursor);
          const int barrier = full_barrier(key_barriers, key_cursor);
          arrive_expecting(barrier, kKeyBytes);
          const auto key_tile = stage(key_ring, key_cursor);
          copy_rows<kKeys>(key_tile, 0, params.map[2], barrier, item.kv_head, row);
          const auto value_tile = stage(value_ring, key_cursor);
          copy_rows<kKeys>(value_tile, 0, params.map[3], barrier, item.kv_head, row);
        }
        next_turn(key_cursor);
        arrive_empty(item_barriers, turn);
        advance(turn);
      }
    }
    if (role == 2) {
      Cursor<kStages> cursor;
      Cursor<kItems> turn;
      while (true) {
        wait_full(item_barriers, turn);
        if (!has_item(items, turn)) break;
        TokenFeed<kTokens> feed;
        open_feed(feed, params.buffer[3], key_item(items, turn));
        while (true) {
          const auto rows = next_rows(feed, params.buffer[3]);
          if (!(rows.kind != 0)) break;
          const auto item = key_item(items, turn);
          wait_empty(row_barriers, cursor);
          describe_rows(headers, cursor, rows, item);
          place_rows(headers, cursor, feed, rows, item);
          announce_rows<kTokens>(row_barriers, cursor, kRowBytes);
          const int first_head = item.kv_head * kTileHeads;
          const int barrier = full_barrier(row_barriers, cursor);
          if (rows.run) {
            const auto query_tile = stage(query_ring, cursor);
            copy_row_run(query_tile, params.map[4], barrier, rows, item.q_row, first_head);
            const auto gradient_tile = stage(gradient_ring, cursor);
            copy_row_run(gradient_tile, params.map[5], barrier, rows, item.q_row, first_head);
            copy_statistics_run<kTileHeads>(headers, cursor, params.buffer[0], barrier, rows, item.q_row, first_head, params.total_q);
          } else {
            const auto query_tile = stage(query_ring, cursor);
            copy_token_rows<kTokens>(query_tile, params.map[0], barrier, rows, item.q_row, first_head);
            const auto gradient_tile = stage(gradient_ring, cursor);
            copy_token_rows<kTokens>(gradient_tile, params.map[1], barrier, rows, item.q_row, first_head);
            copy_statistics<kTileHeads>(headers, cursor, params.buffer[0], barrier, rows, item.q_row, first_head, params.total_q);
          }
          advance(cursor);
        }
        wait_empty(row_barriers, cursor);
        end_rows(headers, cursor);
        announce_rows<kTokens>(row_barriers, cursor, 0);
        advance(cursor);
        arrive_empty(item_barriers, turn);
        advance(turn);
      }
    }
    if (role == 3) {
      Cursor<kItems> turn;
      const int slots = params.total_k / kPairKeys + params.batch;
      const int per_range = slots * kKvHeads;
      const int first_range = params.token_begin / kRangeTokens;
      const int count = (params.token_end - params.token_begin + 4031) / kRangeTokens * per_range;
      while (true) {
        const int taken = take_chunk_item(places, first_range);
        if (!(taken < count)) break;
        const int nth = taken % slots;
        const int slot = nth == 0 ? 0 : slots - nth;
        const int range = taken / per_range;
        const int range_2 = first_range + range;
        const int kv_head = taken % per_range / slots;
        const auto pair = find_key_block<kPairKeys>(params.cu_q, params.cu_k, params.batch, params.total_k, slot);
        if (sees_range(tile_of_pair(pair, 0), range_2, kRangeTokens)) {
          const int begin = range_2 * kRangeTokens;
          const int end = begin + kRangeTokens;
          const auto tokens = listed_pair(params.buffer[3], params.buffer[2], params, kv_head, pair, false, begin, end);
          const int first_place = (kv_head * slots + slot) * kWarpgroups;
          wait_empty(item_barriers, turn);
          describe_item(items, turn, pair, first_place, kv_head, range_2, kRangeTokens, tokens);
          place_item(items, turn, places, params, kv_head, pair, begin);
          report_full(item_barriers, turn);
          advance(turn);
        }
      }
      wait_empty(item_barriers, turn);
      end_items(items, turn);
      report_full(item_barriers, turn);
    }
  }
}
