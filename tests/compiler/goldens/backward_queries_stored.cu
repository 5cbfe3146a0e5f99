// backward_queries of infllm_v2: the gradient of the queries of 12 tokens of 16 query heads, from stored changes, one tile after the other by blocks of threads that stay.
// Dynamic shared memory: 226816 bytes.
#include "winnow/sm90.cuh"

constexpr int kHeads = 32;  // query heads
constexpr int kKvHeads = 2;  // key/value heads
constexpr int kTileHeads = 16;  // query heads that share a tile
constexpr int kDim = 128;  // elements of one query or key row
constexpr int kValueDim = 128;  // elements of one value or output row
constexpr int kTopK = 96;  // selected blocks per token, at most
constexpr int kTilesPerBlock = 1;  // key tiles of one selectable block
constexpr int kPartKeys = 64;  // keys of one key tile
constexpr int kParts = 1;  // key tiles of one step
constexpr int kKeys = 64;  // keys of one step, and of one ring stage
constexpr int kKeyStageBytes = 16384;  // bytes of one ring stage
constexpr int kWarpgroups = 3;  // warpgroups that compute, 64 rows of queries each
constexpr int kWarpTokens = 1;  // tokens of one warp: 16 rows of queries
constexpr int kTokens = 12;  // tokens of one tile
constexpr int kBlock = 64;  // keys of one selectable block
constexpr int kBitmapTiles = 4096;  // key tiles that the bitmap covers at a time
constexpr int kEntries = 1153;  // entries of one list
constexpr int kKeyStages = 5;  // stages of the ring of keys
constexpr int kChangeStages = 5;  // stages of the ring of changes
constexpr int kWorkStages = 2;  // lists: the one in work and the next one
constexpr float kSoftmaxScale = 0.0883883461f;  // what a logit has been multiplied by

extern "C" __global__ void __launch_bounds__(512, 1)
backward_queries(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const Ring<kKeyStages, PanelTile<kKeys, kDim, bf16>> key_ring{shared + 122880};
  static_assert(Ring<kKeyStages, PanelTile<kKeys, kDim, bf16>>::kBytes == 81920);
  const Ring<kChangeStages, ChangeTile<kTokens>> change_ring{shared + 0};
  static_assert(Ring<kChangeStages, ChangeTile<kTokens>>::kBytes == 122880);
  const ChangeTable<kTokens> change_table{shared + 223232};
  static_assert(ChangeTable<kTokens>::kBytes == 1536);
  const ChangeTable<kTokens> change_table_2{shared + 225280};
  static_assert(ChangeTable<kTokens>::kBytes == 1536);
  const WorkRing<kWorkStages, kEntries, kTokens> work{shared + 204800};
  static_assert(WorkRing<kWorkStages, kEntries, kTokens>::kBytes == 9352);
  const WantedBitmap<kBitmapTiles, kTokens> wanted{shared + 215040};
  static_assert(WantedBitmap<kBitmapTiles, kTokens>::kBytes == 8192);
  const RingBarriers<kKeyStages> key_barriers{shared + 214160};
  static_assert(RingBarriers<kKeyStages>::kBytes == 80);
  const RingBarriers<1> key_landing{shared + 214352};
  static_assert(RingBarriers<1>::kBytes == 16);
  const RingBarriers<kChangeStages> change_barriers{shared + 214240};
  static_assert(RingBarriers<kChangeStages>::kBytes == 80);
  const RingBarriers<kWorkStages> work_barriers{shared + 214320};
  static_assert(RingBarriers<kWorkStages>::kBytes == 32);
  if (thread_index() == 0) {
    init_barriers(key_barriers, 32, 384);
    init_barriers(key_landing, 32, 1);
    init_barriers(change_barriers, 32, 384);
    init_barriers(work_barriers, 32, 480);
    fence_barriers();
  }
  clear_bitmap(wanted);
  const int warp = warp_index();
  const int warpgroup = warp / 4;
  sync_threads();
  if (warpgroup < kWarpgroups) {
    claim_registers<152>();
    Cursor<kKeyStages> key_cursor;
    Cursor<kChangeStages> change_cursor;
    Cursor<kKeyStages> held;
    Accumulator<16, kDim> query_gradient;
    LeftOperand<16, kKeys, bf16> factor;
    LeftOperand<16, kKeys, bf16> factor_2;
    Cursor<kWorkStages> turn;
    while (true) {
      wait_full(work_barriers, turn);
      const auto list = stage(work, turn);
      if (!has_work(list)) break;
      const auto header = work_header(list);
      if (header.opens) {
        clear(query_gradient);
      }
      const int length = warp_uniform(header.length);
      int entry = 0;
      while (entry < length) {
        int after;
        if (warpgroup_wants<kParts, kWarpTokens>(list, entry, warpgroup)) {
          wait_full(change_barriers, change_cursor);
          const auto change_tile = stage(change_ring, change_cursor);
          load_changes(factor, change_tile, list, entry, warp);
          arrive_empty(change_barriers, change_cursor);
          advance(change_cursor);
          wait_full(key_barriers, key_cursor);
          const auto key_tile = stage(key_ring, key_cursor);
          start_ab(query_gradient, factor, key_tile);
          follow(held, key_cursor);
          advance(key_cursor);
          int following = entry + kParts;
          while (true) {
            bool found;
            if (following < length) {
              found = warpgroup_wants<kParts, kWarpTokens>(list, following, warpgroup);
            } else {
              found = false;
            }
            if (!found) break;
            wait_full(change_barriers, change_cursor);
            const auto change_tile_2 = stage(change_ring, change_cursor);
            load_changes(factor_2, change_tile_2, list, following, warp);
            arrive_empty(change_barriers, change_cursor);
            advance(change_cursor);
            wait_products<0>(query_gradient);
            arrive_empty(key_barriers, held);
            wait_full(key_barriers, key_cursor);
            const auto key_tile_2 = stage(key_ring, key_cursor);
            start_ab(query_gradient, factor_2, key_tile_2);
            follow(held, key_cursor);
            advance(key_cursor);
            bool found_2;
            if (following + kParts < length) {
              found_2 = warpgroup_wants<kParts, kWarpTokens>(list, following + kParts, warpgroup);
            } else {
              found_2 = false;
            }
            int after_both;
            if (found_2) {
              wait_full(change_barriers, change_cursor);
              const auto change_tile_3 = stage(change_ring, change_cursor);
              load_changes(factor, change_tile_3, list, following + kParts, warp);
              arrive_empty(change_barriers, change_cursor);
              advance(change_cursor);
              wait_products<0>(query_gradient);
              arrive_empty(key_barriers, held);
              wait_full(key_barriers, key_cursor);
              const auto key_tile_3 = stage(key_ring, key_cursor);
              start_ab(query_gradient, factor, key_tile_3);
              follow(held, key_cursor);
              advance(key_cursor);
              after_both = following + kParts + kParts;
            } else {
              after_both = following + kParts;
            }
            following = after_both;
          }
          wait_products<0>(query_gradient);
          arrive_empty(key_barriers, held);
          after = following;
        } else {
          wait_full(key_barriers, key_cursor);
          arrive_empty(key_barriers, key_cursor);
          advance(key_cursor);
          wait_full(change_barriers, change_cursor);
          arrive_empty(change_barriers, change_cursor);
          advance(change_cursor);
          after = entry + kParts;
        }
        entry = after;
      }
      if (header.closes) {
        const auto rows = query_rows<kTileHeads>(header.tile, warp);
        const int first_head = header.select_head * kTileHeads;
        store_query_gradient<kHeads, bf16>(params.dq, query_gradient, rows, first_head, kSoftmaxScale);
      }
      arrive_empty(work_barriers, turn);
      advance(turn);
    }
  } else {
    release_registers<56>();
    const int role = warp - kWarpgroups * 4;
    if (role == 0) {
      Cursor<kKeyStages> cursor;
      Cursor<1> landed;
      Cursor<kWorkStages> turn;
      while (true) {
        wait_full(work_barriers, turn);
        const auto list = stage(work, turn);
        if (!has_work(list)) break;
        const auto header = work_header(list);
        const int kv_head = header.select_head * kTileHeads / (kHeads / kKvHeads);
        const int row_limit = header.tile.k_row + header.tile.k_length == params.total_k ? 2147483647 : header.tile.k_length;
        for (int entry = 0; entry < header.length; entry += kParts) {
          const int work_tile_value = work_tile(list, entry);
          const int first_key = work_tile_value * kPartKeys;
          const bool overruns = first_key + kPartKeys > row_limit;
          wait_empty(key_barriers, cursor);
          const auto key_tile = stage(key_ring, cursor);
          if (lane_index() == 0) {
            const int barrier = overruns ? full_barrier(key_landing, landed) : full_barrier(key_barriers, cursor);
            arrive_expecting(barrier, kKeyStageBytes);
            const int from = header.tile.k_row + first_key;
            copy_rows<kPartKeys>(key_tile, 0, params.map[6], barrier, kv_head, from);
          }
          const bool other_lane = lane_index() > 0;
          if (overruns) {
            if (other_lane) {
              report_full(key_landing, landed);
            }
            wait_full(key_landing, landed);
            next_turn(landed);
            clear_rows<32>(key_tile, min(max(header.tile.k_length - first_key, 0), kPartKeys), kPartKeys);
          }
          if (overruns || other_lane) {
            report_full(key_barriers, cursor);
          }
          advance(cursor);
        }
        arrive_empty(work_barriers, turn);
        advance(turn);
      }
    }
    if (role == 1) {
      Cursor<kWorkStages> turn;
      const int tiles = (params.token_end - params.token_begin + 11) / kTokens;
      const int slots = tiles * params.batch;
      const int items = slots * 2;
      for (int item = blockIdx.x; item < items; item += gridDim.x) {
        const int slot = slots - 1 - item % slots;
        const auto tile = find_segment_tile<kTokens>(params.cu_q, params.cu_k, slot / tiles, params.token_begin + slot % tiles * kTokens);
        if (tile.tokens > 0) {
          const int select_head = item / slots;
          const int key_tiles = max(last_position(tile) / kPartKeys + 1, 1);
          for (int from_tile = 0; from_tile < key_tiles; from_tile += kBitmapTiles) {
            const int tiles_2 = min(key_tiles - from_tile, kBitmapTiles);
            mark_selected<kTopK, kTilesPerBlock, kPartKeys>(wanted, params.ids, select_head, params.total_q, tile, from_tile);
            int from = 0;
            while (from < tiles_2) {
              wait_empty(work_barriers, turn);
              const auto list = stage(work, turn);
              const int rest = fill_list<false, true, kParts, kWarpTokens>(list, wanted, from_tile, from, tiles_2);
              describe_work(list, tile, select_head, from_tile + from == 0, from_tile + rest >= key_tiles);
              report_full(work_barriers, turn);
              advance(turn);
              from = rest;
            }
          }
        }
      }
      wait_empty(work_barriers, turn);
      const auto last = stage(work, turn);
      end_work(last);
      report_full(work_barriers, turn);
    }
    if (role == 2) {
      Cursor<kChangeStages> cursor;
      const auto places = change_places<kKvHeads>(params.buffer[7], params);
      Cursor<kWorkStages> turn;
      while (true) {
        wait_full(work_barriers, turn);
        const auto list = stage(work, turn);
        if (!has_work(list)) break;
        const auto header = work_header(list);
        const int length = warp_uniform(header.length);
        find_changes<kBlock>(change_table, places, params.buffer[1], params, list, header.select_head, 0, false);
        for (int from = 0; from < length; from += 32) {
          const int next = from + 32;
          const int end = min(next, length);
          if (from / 32 % 2 == 0) {
            for (int entry = from; entry < end; ++entry) {
              wait_empty(change_barriers, cursor);
              const int barrier = full_barrier(change_barriers, cursor);
              const auto change_tile = stage(change_ring, cursor);
              copy_changes(change_tile, barrier, change_table, places, list, entry);
              advance(cursor);
            }
            if (next < length) {
              sync_some(1, 64);
            }
          } else {
            find_changes<kBlock>(change_table, places, params.buffer[1], params, list, header.select_head, next, false);
            advance_by(cursor, end - from);
            sync_some(2, 64);
          }
        }
        arrive_empty(work_barriers, turn);
        advance(turn);
      }
    }
    if (role == 3) {
      Cursor<kChangeStages> cursor;
      const auto places = change_places<kKvHeads>(params.buffer[7], params);
      Cursor<kWorkStages> turn;
      while (true) {
        wait_full(work_barriers, turn);
        const auto list = stage(work, turn);
        if (!has_work(list)) break;
        const auto header = work_header(list);
        const int length = warp_uniform(header.length);
        for (int from = 0; from < length; from += 32) {
          const int next = from + 32;
          const int end = min(next, length);
          if (from / 32 % 2 == 1) {
            sync_some(1, 64);
            for (int entry = from; entry < end; ++entry) {
              wait_empty(change_barriers, cursor);
              const int barrier = full_barrier(change_barriers, cursor);
              const auto change_tile = stage(change_ring, cursor);
              copy_changes(change_tile, barrier, change_table_2, places, list, entry);
              advance(cursor);
            }
            sync_some(2, 64);
          } else {
            find_changes<kBlock>(change_table_2, places, params.buffer[1], params, list, header.select_head, next, false);
            advance_by(cursor, end - from);
          }
        }
        arrive_empty(work_barriers, turn);
        advance(turn);
      }
    }
  }
}
