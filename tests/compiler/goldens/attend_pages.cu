// attend of infllm_v2: softmax attention of each token over the keys of its selected blocks; blocks of threads stay and take one tile of 12 tokens of 16 query heads after the other.
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
constexpr int kRowBytes = 512;  // bytes of a key and its value in the ring
constexpr int kWarpgroups = 3;  // warpgroups that compute, 64 rows of queries each
constexpr int kWarpTokens = 1;  // tokens of one warp: 16 rows of queries
constexpr int kTokens = 12;  // tokens of one tile
constexpr int kQueryBytes = 16384;  // bytes of a warpgroup's queries
constexpr int kBitmapTiles = 4096;  // key tiles that the bitmap covers at a time
constexpr int kEntries = 1153;  // entries of one list
constexpr int kStages = 5;  // stages of the ring of keys and values
constexpr int kWorkStages = 2;  // lists: the one in work and the next one
constexpr float kScale = 0.127517432f;  // softmax scale times log2 e: weights are powers of 2

extern "C" __global__ void __launch_bounds__(512, 1)
attend(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const Ring<kWarpgroups, PanelTile<64, kDim, bf16>> query_ring{shared + 163840};
  static_assert(Ring<kWarpgroups, PanelTile<64, kDim, bf16>>::kBytes == 49152);
  const Ring<kStages, PanelTile<kKeys, kDim, bf16>> key_ring{shared + 0};
  static_assert(Ring<kStages, PanelTile<kKeys, kDim, bf16>>::kBytes == 81920);
  const Ring<kStages, PanelTile<kKeys, kValueDim, bf16>> value_ring{shared + 81920};
  static_assert(Ring<kStages, PanelTile<kKeys, kValueDim, bf16>>::kBytes == 81920);
  const WorkRing<kWorkStages, kEntries, kTokens> work{shared + 212992};
  static_assert(WorkRing<kWorkStages, kEntries, kTokens>::kBytes == 9352);
  const WantedBitmap<kBitmapTiles, kTokens> wanted{shared + 223232};
  static_assert(WantedBitmap<kBitmapTiles, kTokens>::kBytes == 8192);
  const RingBarriers<kStages> barriers{shared + 222352};
  static_assert(RingBarriers<kStages>::kBytes == 80);
  const RingBarriers<1> landing{shared + 222512};
  static_assert(RingBarriers<1>::kBytes == 16);
  const RingBarriers<kWorkStages> work_barriers{shared + 222480};
  static_assert(RingBarriers<kWorkStages>::kBytes == 32);
  const RingBarriers<kWarpgroups> query_barriers{shared + 222432};
  static_assert(RingBarriers<kWarpgroups>::kBytes == 48);
  if (thread_index() == 0) {
    init_barriers(barriers, 32, 384);
    init_barriers(landing, 32, 1);
    init_barriers(work_barriers, 32, 448);
    init_barriers(query_barriers, 1, 128);
    fence_barriers();
  }
  clear_bitmap(wanted);
  const int warp = warp_index();
  const int warpgroup = warp / 4;
  sync_threads();
  if (warpgroup < kWarpgroups) {
    claim_registers<160>();
    Cursor<kStages> cursor;
    Cursor<kStages> pending;
    Cursor<kWarpgroups> query_cursor;
    move_to(query_cursor, warpgroup);
    const int warp_of_warpgroup = warp % 4;
    Accumulator<16, kValueDim> output;
    LeftOperand<16, kKeys, bf16> weights;
    SoftmaxState state;
    Cursor<kWorkStages> turn;
    while (true) {
      wait_full(work_barriers, turn);
      const auto list = stage(work, turn);
      if (!has_work(list)) break;
      const auto header = work_header(list);
      const auto rows = query_rows<kTileHeads>(header.tile, warp);
      const auto queries = stage(query_ring, query_cursor);
      if (header.opens) {
        wait_full(query_barriers, query_cursor);
        clear(output);
        clear(state);
      }
      int entry = 0;
      while (true) {
        const int wanted_entry = next_wanted<kParts, kWarpTokens>(list, entry, header.shared, warpgroup);
        for (int skipped = entry; skipped < wanted_entry; skipped += kParts) {
          wait_full(barriers, cursor);
          arrive_empty(barriers, cursor);
          advance(cursor);
        }
        if (!(wanted_entry < header.shared)) break;
        StepKeys<kParts> step;
        read_step<kPartKeys, kWarpTokens>(step, list, wanted_entry, warp);
        Accumulator<16, kKeys> logits;
        StepSums sums;
        wait_full(barriers, cursor);
        const auto key_tile = stage(key_ring, cursor);
        start_abt(logits, queries, key_tile);
        wait_products<0>(logits);
        mask_step(logits, rows, step);
        const bool raised = raise_step_maximum(state, logits, rows, step, kScale);
        if (raised) {
          rescale_rows(output, state);
        }
        exponentiate_step<0>(sums, logits, state, rows, step, kScale);
        add_step(state, sums);
        round_to_operand(weights, logits);
        follow(pending, cursor);
        advance(cursor);
        int following = wanted_entry + kParts;
        while (true) {
          const int limit = min(header.shared, following + (kStages - 2) * kParts);
          const int wanted_entry_2 = next_wanted<kParts, kWarpTokens>(list, following, limit, warpgroup);
          if (!(wanted_entry_2 < limit)) break;
          for (int skipped = following; skipped < wanted_entry_2; skipped += kParts) {
            wait_full(barriers, cursor);
            arrive_empty(barriers, cursor);
            advance(cursor);
          }
          StepKeys<kParts> step_2;
          read_step<kPartKeys, kWarpTokens>(step_2, list, wanted_entry_2, warp);
          Accumulator<16, kKeys> logits_2;
          StepSums sums_2;
          wait_full(barriers, cursor);
          const auto key_tile_2 = stage(key_ring, cursor);
          const auto pending_values = stage(value_ring, pending);
          start_abt(logits_2, queries, key_tile_2);
          start_ab(output, weights, pending_values);
          wait_products<1>(logits_2);
          mask_step(logits_2, rows, step_2);
          exponentiate_step<0>(sums_2, logits_2, state, rows, step_2, kScale);
          bool raised_2;
          if (leaves_range<bf16>(sums_2)) {
            warp_abt<1>(logits_2, queries, warp_of_warpgroup * 16, key_tile_2);
            mask_step(logits_2, rows, step_2);
            const bool raised_3 = raise_step_maximum(state, logits_2, rows, step_2, kScale);
            exponentiate_step<0>(sums_2, logits_2, state, rows, step_2, kScale);
            raised_2 = raised_3;
          } else {
            raised_2 = false;
          }
          add_step(state, sums_2);
          wait_products<0>(output);
          arrive_empty(barriers, pending);
          if (raised_2) {
            rescale_rows(output, state);
          }
          round_to_operand(weights, logits_2);
          follow(pending, cursor);
          advance(cursor);
          following = wanted_entry_2 + kParts;
        }
        const auto pending_values = stage(value_ring, pending);
        start_ab(output, weights, pending_values);
        wait_products<0>(output);
        arrive_empty(barriers, pending);
        entry = following;
      }
      for (int single = header.shared; single < header.length; single += kParts) {
        StepKeys<kParts> step;
        read_step<kPartKeys, kWarpTokens>(step, list, single, warp);
        Accumulator<16, kKeys> logits;
        StepSums sums;
        wait_full(barriers, cursor);
        const auto key_tile = stage(key_ring, cursor);
        const auto value_tile = stage(value_ring, cursor);
        if (is_wanted(step)) {
          warp_abt<kDim / 16>(logits, queries, warp_of_warpgroup * 16, key_tile);
          mask_step(logits, rows, step);
          const bool raised = raise_step_maximum(state, logits, rows, step, kScale);
          if (raised) {
            rescale_rows(output, state);
          }
          exponentiate_step<0>(sums, logits, state, rows, step, kScale);
          add_step(state, sums);
          round_to_operand(weights, logits);
          warp_ab(output, weights, value_tile);
        }
        arrive_empty(barriers, cursor);
        advance(cursor);
      }
      if (header.closes) {
        arrive_empty(query_barriers, query_cursor);
        next_turn(query_cursor);
        const auto done = work_header(list);
        const auto result_rows = query_rows<kTileHeads>(done.tile, warp);
        const int first_head = done.select_head * kTileHeads;
        reduce_sum(state);
        store_output<kHeads, bf16>(strided_heads(params.out, params.out_stride), output, state, result_rows, first_head);
        store_lse(params.lse, state, result_rows, first_head, params.total_q, kScale);
      }
      arrive_empty(work_barriers, turn);
      advance(turn);
    }
  } else {
    release_registers<32>();
    const int role = warp - kWarpgroups * 4;
    if (role == 0) {
      Cursor<kStages> cursor;
      Cursor<1> landed;
      Cursor<kWorkStages> turn;
      while (true) {
        wait_full(work_barriers, turn);
        const auto list = stage(work, turn);
        if (!has_work(list)) break;
        const auto header = work_header(list);
        const int kv_head = header.select_head * kTileHeads / (kHeads / kKvHeads);
        const auto keys = paged_rows<bf16>(params, params.k, params.k_stride, header.tile, kv_head);
        for (int entry = 0; entry < header.length; entry += kParts) {
          const int work_tile_value = work_tile(list, entry);
          const int first_key = work_tile_value * kPartKeys;
          const bool overruns = first_key + kPartKeys > header.tile.k_length;
          const auto box = row_box<kPartKeys>(keys, params.box_rows, first_key, header.tile.k_length);
          wait_empty(barriers, cursor);
          const auto key_tile = stage(key_ring, cursor);
          const auto value_tile = stage(value_ring, cursor);
          const int barrier = overruns ? full_barrier(landing, landed) : full_barrier(barriers, cursor);
          if (lane_index() == 0) {
            arrive_expecting(barrier, rows_in_boxes<kPartKeys>(params.box_rows, first_key, header.tile.k_length) * kRowBytes);
          }
          copy_row_boxes(key_tile, 0, params.map[2], barrier, kv_head, box);
          copy_row_boxes(value_tile, 0, params.map[3], barrier, kv_head, box);
          const bool other_lane = lane_index() > 0;
          if (overruns) {
            if (other_lane) {
              report_full(landing, landed);
            }
            wait_full(landing, landed);
            next_turn(landed);
            const int x = min(max(header.tile.k_length - first_key, 0), kPartKeys);
            clear_rows<32>(value_tile, x, kPartKeys);
            clear_rows<32>(key_tile, x, kPartKeys);
          }
          if (overruns || other_lane) {
            report_full(barriers, cursor);
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
        const auto tile = find_token_tile<kTokens>(params.cu_q, key_lengths(params), params.batch, 0, params.total_q, slot);
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
              const int rest = fill_list<true, true, kParts, kWarpTokens>(list, wanted, from_tile, from, tiles);
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
              const int barrier = full_barrier(query_barriers, query_cursor);
              arrive_expecting(barrier, kQueryBytes);
              copy_queries<kTileHeads, kWarpTokens>(query_tile, params.map[1], barrier, first_head, header.tile.row + receiver * 4 * kWarpTokens);
            }
            advance(query_cursor);
          }
        }
        arrive_empty(work_barriers, turn);
        advance(turn);
      }
    }
  }
}
