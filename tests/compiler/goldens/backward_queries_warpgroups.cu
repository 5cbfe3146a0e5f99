// backward_queries of infllm_v2: the gradient of the queries of 12 tokens of 16 query heads, one tile after the other by blocks of threads that stay.
// Dynamic shared memory: 231424 bytes.
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
constexpr int kValueStageBytes = 16384;  // bytes of one ring stage
constexpr int kWarpgroups = 3;  // warpgroups that compute, 64 rows of queries each
constexpr int kWarpTokens = 1;  // tokens of one warp: 16 rows of queries
constexpr int kTokens = 12;  // tokens of one tile
constexpr int kQueryBytes = 32768;  // bytes of a warpgroup's queries and of the gradients of their output
constexpr int kBitmapTiles = 4096;  // key tiles that the bitmap covers at a time
constexpr int kEntries = 1153;  // entries of one list
constexpr int kKeyStages = 4;  // stages of the ring of keys
constexpr int kValueStages = 3;  // stages of the ring of values
constexpr int kWorkStages = 2;  // lists: the one in work and the next one
constexpr float kSoftmaxScale = 0.0883883461f;  // what a logit has been multiplied by
constexpr float kScale = 0.127517432f;  // softmax scale times log2 e: weights are powers of 2

extern "C" __global__ void __launch_bounds__(512, 1)
backward_queries(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const Ring<kWarpgroups, PanelTile<64, kDim, bf16>> query_ring{shared + 65536};
  static_assert(Ring<kWarpgroups, PanelTile<64, kDim, bf16>>::kBytes == 49152);
  const Ring<kWarpgroups, PanelTile<64, kValueDim, bf16>> gradient_ring{shared + 114688};
  static_assert(Ring<kWarpgroups, PanelTile<64, kValueDim, bf16>>::kBytes == 49152);
  const Ring<kKeyStages, PanelTile<kKeys, kDim, bf16>> key_ring{shared + 0};
  static_assert(Ring<kKeyStages, PanelTile<kKeys, kDim, bf16>>::kBytes == 65536);
  const Ring<kValueStages, PanelTile<kKeys, kValueDim, bf16>> value_ring{shared + 163840};
  static_assert(Ring<kValueStages, PanelTile<kKeys, kValueDim, bf16>>::kBytes == 49152);
  const WorkRing<kWorkStages, kEntries, kTokens> work{shared + 212992};
  static_assert(WorkRing<kWorkStages, kEntries, kTokens>::kBytes == 9352);
  const WantedBitmap<kBitmapTiles, kTokens> wanted{shared + 223232};
  static_assert(WantedBitmap<kBitmapTiles, kTokens>::kBytes == 8192);
  const RingBarriers<kKeyStages> key_barriers{shared + 222352};
  static_assert(RingBarriers<kKeyStages>::kBytes == 64);
  const RingBarriers<1> key_landing{shared + 222544};
  static_assert(RingBarriers<1>::kBytes == 16);
  const RingBarriers<kValueStages> value_barriers{shared + 222416};
  static_assert(RingBarriers<kValueStages>::kBytes == 48);
  const RingBarriers<1> value_landing{shared + 222560};
  static_assert(RingBarriers<1>::kBytes == 16);
  const RingBarriers<kWorkStages> work_barriers{shared + 222512};
  static_assert(RingBarriers<kWorkStages>::kBytes == 32);
  const RingBarriers<kWarpgroups> query_barriers{shared + 222464};
  static_assert(RingBarriers<kWarpgroups>::kBytes == 48);
  if (thread_index() == 0) {
    init_barriers(key_barriers, 32, 384);
    init_barriers(key_landing, 32, 1);
    init_barriers(value_barriers, 32, 384);
    init_barriers(value_landing, 32, 1);
    init_barriers(work_barriers, 32, 480);
    init_barriers(query_barriers, 1, 128);
    fence_barriers();
  }
  clear_bitmap(wanted);
  const int warp = warp_index();
  const int warpgroup = warp / 4;
  sync_threads();
  if (warpgroup < kWarpgroups) {
    claim_registers<160>();
    Cursor<kKeyStages> key_cursor;
    Cursor<kValueStages> value_cursor;
    Cursor<kWarpgroups> query_cursor;
    move_to(query_cursor, warpgroup);
    Accumulator<16, kDim> query_gradient;
    RowStatistics statistics;
    Cursor<kWorkStages> turn;
    while (true) {
      wait_full(work_barriers, turn);
      const auto list = stage(work, turn);
      if (!has_work(list)) break;
      const auto header = work_header(list);
      const auto rows = query_rows<kTileHeads>(header.tile, warp);
      const auto queries = stage(query_ring, query_cursor);
      const auto output_gradients = stage(gradient_ring, query_cursor);
      if (header.opens) {
        const int first_head = header.select_head * kTileHeads;
        load_statistics<kTileHeads>(statistics, params.buffer[0], rows, first_head, params.total_q);
        wait_full(query_barriers, query_cursor);
        clear(query_gradient);
      }
      const int length = warp_uniform(header.length);
      for (int entry = 0; entry < length; entry += kParts) {
        const bool wants = warpgroup_wants<kParts, kWarpTokens>(list, entry, warpgroup);
        if (wants) {
          StepKeys<kParts> step;
          read_step<kPartKeys, kWarpTokens>(step, list, entry, warp);
          Accumulator<16, kKeys> logits;
          Accumulator<16, kKeys> changes;
          wait_full(key_barriers, key_cursor);
          const auto key_tile = stage(key_ring, key_cursor);
          start_abt(logits, queries, key_tile);
          wait_full(value_barriers, value_cursor);
          const auto value_tile = stage(value_ring, value_cursor);
          start_abt(changes, output_gradients, value_tile);
          wait_products<1>(logits);
          mask_step(logits, rows, step);
          weigh_step(logits, statistics, rows, step, kScale);
          wait_products<0>(changes);
          arrive_empty(value_barriers, value_cursor);
          subtract_deltas(changes, statistics);
          multiply_weights<false>(changes, logits);
          LeftOperand<16, kKeys, bf16> factor;
          round_to_operand(factor, changes);
          start_ab(query_gradient, factor, key_tile);
          wait_products<0>(query_gradient);
          arrive_empty(key_barriers, key_cursor);
          advance(key_cursor);
          advance(value_cursor);
        } else {
          wait_full(key_barriers, key_cursor);
          arrive_empty(key_barriers, key_cursor);
          advance(key_cursor);
          wait_full(value_barriers, value_cursor);
          arrive_empty(value_barriers, value_cursor);
          advance(value_cursor);
        }
      }
      if (header.closes) {
        arrive_empty(query_barriers, query_cursor);
        next_turn(query_cursor);
        const auto done = work_header(list);
        const auto result_rows = query_rows<kTileHeads>(done.tile, warp);
        const int first_head = done.select_head * kTileHeads;
        store_query_gradient<kHeads, bf16>(params.dq, query_gradient, result_rows, first_head, kSoftmaxScale);
      }
      arrive_empty(work_barriers, turn);
      advance(turn);
    }
  } else {
    release_registers<32>();
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
            copy_rows<kPartKeys>(key_tile, 0, params.map[2], barrier, kv_head, from);
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
      const int slots = params.total_q / kTokens + params.batch;
      const int items = slots * 2;
      for (int item = blockIdx.x; item < items; item += gridDim.x) {
        const int slot = slots - 1 - item % slots;
        const auto tile = find_token_tile<kTokens>(params.cu_q, params.cu_k, params.batch, 0, params.total_q, slot);
        if (tile.tokens > 0) {
          const int select_head = item / slots;
          const int key_tiles = max(last_position(tile) / kPartKeys + 1, 1);
          for (int from_tile = 0; from_tile < key_tiles; from_tile += kBitmapTiles) {
            const int tiles = min(key_tiles - from_tile, kBitmapTiles);
            mark_selected<kTopK, kTilesPerBlock, kPartKeys>(wanted, params.ids, select_head, params.total_q, tile, from_tile);
            int from = 0;
            while (from < tiles) {
              wait_empty(work_barriers, turn);
              const auto list = stage(work, turn);
              const int rest = fill_list<false, true, kParts, kWarpTokens>(list, wanted, from_tile, from, tiles);
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
      Cursor<kWarpgroups> query_cursor;
      Cursor<kWorkStages> turn;
      while (true) {
        wait_full(work_barriers, turn);
        const auto list = stage(work, turn);
        if (!has_work(list)) break;
        const auto header = work_header(list);
        if (header.opens) {
          const int first_head = header.select_head * kTileHeads;
          for (int receiver = 0; receiver < kWarpgroups; ++receiver) {
            if (lane_index() == 0) {
              wait_empty(query_barriers, query_cursor);
              const auto query_tile = stage(query_ring, query_cursor);
              const auto gradient_tile = stage(gradient_ring, query_cursor);
              const int barrier = full_barrier(query_barriers, query_cursor);
              arrive_expecting(barrier, kQueryBytes);
              const int x = header.tile.row + receiver * 4 * kWarpTokens;
              copy_queries<kTileHeads, kWarpTokens>(query_tile, params.map[0], barrier, first_head, x);
              copy_queries<kTileHeads, kWarpTokens>(gradient_tile, params.map[1], barrier, first_head, x);
            }
            advance(query_cursor);
          }
        }
        arrive_empty(work_barriers, turn);
        advance(turn);
      }
    }
    if (role == 3) {
      Cursor<kValueStages> cursor;
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
          wait_empty(value_barriers, cursor);
          const auto value_tile = stage(value_ring, cursor);
          if (lane_index() == 0) {
            const int barrier = overruns ? full_barrier(value_landing, landed) : full_barrier(value_barriers, cursor);
            arrive_expecting(barrier, kValueStageBytes);
            const int from = header.tile.k_row + first_key;
            copy_rows<kPartKeys>(value_tile, 0, params.map[3], barrier, kv_head, from);
          }
          const bool other_lane = lane_index() > 0;
          if (overruns) {
            if (other_lane) {
              report_full(value_landing, landed);
            }
            wait_full(value_landing, landed);
            next_turn(landed);
            clear_rows<32>(value_tile, min(max(header.tile.k_length - first_key, 0), kPartKeys), kPartKeys);
          }
          if (overruns || other_lane) {
            report_full(value_barriers, cursor);
          }
          advance(cursor);
        }
        arrive_empty(work_barriers, turn);
        advance(turn);
      }
    }
  }
}
