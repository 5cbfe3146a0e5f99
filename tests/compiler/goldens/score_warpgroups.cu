// score of infllm_v2: block scores of every token, heads combined and summaries pooled in registers; blocks of threads stay and take one tile of 32 tokens after the other.
// Dynamic shared memory: 231600 bytes.
#include "winnow/sm90.cuh"

constexpr int kHeads = 32;  // query heads
constexpr int kKvHeads = 2;  // key/value heads
constexpr int kGroup = 16;  // query heads that share one selection
constexpr int kSelectHeads = 2;  // selections per token
constexpr int kDim = 128;  // elements of one query or summary row
constexpr int kBlock = 64;  // keys of one selectable block
constexpr int kTopK = 96;  // selected blocks per token, at most
constexpr int kLocal = 33;  // blocks up to the query's own that are always selected
constexpr int kWindow = 32;  // keys of one summary
constexpr int kStride = 16;  // keys from one summary to the next
constexpr int kCoarseWindow = 128;  // the same for the normaliser's summaries
constexpr int kCoarseStride = 64;
constexpr int kRowsPerBlock = 4;  // summaries per block
constexpr int kPad = 1;  // summaries that reach into a block from the one before
constexpr int kConsumers = 3;  // warpgroups that compute
constexpr int kConsumerThreads = 384;
constexpr int kPairs = 8;  // pairs of heads of one token
constexpr int kMmaTiles = 8;  // mma tiles of 64 query rows: sets x pairs
constexpr int kOwnTiles = 3;  // mma tiles whose normalisers a warpgroup makes
constexpr int kTokens = 32;  // tokens of one item of work
constexpr int kRows = 128;  // summaries of one tile
constexpr int kStages = 3;  // stages of the ring of summaries; a multiple of kConsumers
constexpr int kTileBytes = 32768;  // bytes of one tile of summaries
constexpr int kQueryBytes = 16384;  // bytes of one mma tile of queries
constexpr int kCubicEvery = 4;  // of a thread's columns, every so many take 2^x by a cubic; 0: none
constexpr float kScale = 1.0f;  // summaries hold the softmax scale times log2 e

extern "C" __global__ void __launch_bounds__(512, 1)
score(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const Ring<kMmaTiles, PanelTile<64, kDim, bf16>> queries{shared + 0};
  static_assert(Ring<kMmaTiles, PanelTile<64, kDim, bf16>>::kBytes == 131072);
  const Ring<kStages, PanelTile<kRows, kDim, bf16>> summaries{shared + 131072};
  static_assert(Ring<kStages, PanelTile<kRows, kDim, bf16>>::kBytes == 98304);
  const NormalizerTable<kMmaTiles * 64> table{shared + 229376};
  static_assert(NormalizerTable<kMmaTiles * 64>::kBytes == 2048);
  const RingBarriers<kStages> barriers{shared + 231552};
  static_assert(RingBarriers<kStages>::kBytes == 48);
  const RingBarriers<kMmaTiles> query_barriers{shared + 231424};
  static_assert(RingBarriers<kMmaTiles>::kBytes == 128);
  if (thread_index() == 0) {
    const int releases = kConsumers * 4;
    init_barriers(barriers, 1, releases);
    init_barriers(query_barriers, 1, releases);
    fence_barriers();
  }
  sync_threads();
  const int warpgroup = warpgroup_index();
  const int chunk = params.token_end - params.token_begin;
  const int slots = chunk / kTokens + params.batch;
  const int items = slots * kSelectHeads;
  if (warpgroup < kConsumers) {
    claim_registers<160>();
    Cursor<kStages> cursor;
    Cursor<kMmaTiles> query_cursor;
    Deal<kConsumers> deal;
    const int rounds = (items + gridDim.x - 1) / gridDim.x;
    for (int round = 0; round < rounds; ++round) {
      const int place = round % 2 == 0 ? blockIdx.x : gridDim.x - 1 - blockIdx.x;
      const int item = round * gridDim.x + place;
      const int select_head = item % kSelectHeads;
      const int slot = max(slots - 1 - item / kSelectHeads, 0);
      const auto tile = find_token_tile<kTokens>(params.cu_q, params.cu_k, params.batch, params.token_begin, params.token_end, slot);
      const int own = last_position(tile) / kBlock;
      if (item < items && tile.tokens > 0 && own >= kTopK) {
        const int coarse_rows = summary_rows<kCoarseWindow, kCoarseStride>(tile.k_length);
        const int coarse_tiles = (max(visible_absolute<kCoarseWindow, kCoarseStride>(last_position(tile), coarse_rows), 1) + (kRows - 1)) / kRows;
        const int fine_end = (own - kLocal + 1) * kRowsPerBlock;
        const int fine_tiles = (fine_end + (kRows - 1)) / kRows;
        const int fine_rows = summary_rows<kWindow, kStride>(tile.k_length);
        for (int mma_tile = 0; mma_tile < kMmaTiles; ++mma_tile) {
          move_to(query_cursor, mma_tile);
          wait_full(query_barriers, query_cursor);
        }
        LogSumExp<kOwnTiles> sums;
        const int first_own = warpgroup * kOwnTiles;
        const int coarse_all = visible_absolute<kCoarseWindow, kCoarseStride>(tile.position, coarse_rows);
        clear(sums);
        for (int coarse_tile = 0; coarse_tile < coarse_tiles; ++coarse_tile) {
          const int first_row = coarse_tile * kRows;
          wait_full(barriers, cursor);
          #pragma unroll
          for (int own_tile = 0; own_tile < kOwnTiles; ++own_tile) {
            const int mma_tile = first_own + own_tile;
            if (mma_tile < kMmaTiles) {
              move_to(query_cursor, mma_tile);
              Accumulator<16, kRows> logits;
              start_abt(logits, stage(queries, query_cursor), stage(summaries, cursor));
              wait_products<0>(logits);
              if (own_tile == kOwnTiles - 1 || mma_tile == kMmaTiles - 1) {
                release(barriers, cursor);
              }
              if (first_row + kRows > coarse_all) {
                const int token = tile_token<kGroup>(mma_tile, 0);
                const int visible = visible_absolute<kCoarseWindow, kCoarseStride>(tile.position + token, coarse_rows);
                mask_tile<0, 2>(logits, first_row, visible);
              }
              if (coarse_tile == 0) {
                raise_maxima(sums, own_tile, logits, kScale);
              }
              add_tile_exponentials<2 * kCubicEvery>(sums, own_tile, logits, kScale);
            }
          }
          advance(cursor);
        }
        finish_normalizers(sums);
        const bool large = sync_any(1, kConsumerThreads, leaves_weights<kGroup, kMmaTiles>(sums, first_own, tile.tokens));
        store_normalizers(table, sums, first_own, large);
        sync_some(1, kConsumerThreads);
        const int first = first_dealt(deal, warpgroup);
        if (first >= fine_tiles) {
          for (int mma_tile = 0; mma_tile < kMmaTiles; ++mma_tile) {
            move_to(query_cursor, mma_tile);
            release(query_barriers, query_cursor);
          }
        }
        skip(cursor, min(first, fine_tiles));
        for (int fine_tile = first; fine_tile < fine_tiles; fine_tile += kConsumers) {
          const int first_row = fine_tile * kRows;
          wait_full(barriers, cursor);
          TokenScores scores;
          clear_scores<Sum>(scores);
          const int token = tile_token<kGroup>(0, 0);
          #pragma unroll 1
          for (int pair = 0; pair < kPairs; ++pair) {
            move_to(query_cursor, pair);
            Accumulator<16, kRows> logits;
            start_abt(logits, stage(queries, query_cursor), stage(summaries, cursor));
            wait_products<0>(logits);
            if (fine_tile + kConsumers >= fine_tiles) {
              release(query_barriers, query_cursor);
            }
            if (pair == kMmaTiles - 1) {
              release_times(barriers, cursor, kConsumers);
            }
            if (large) {
              add_offset_scores<Sum, 0, 2>(scores, logits, table, pair, kScale);
            } else {
              add_weighted_scores<Sum, kCubicEvery, 0, 2>(scores, logits, table, pair);
            }
          }
          if (min(first_row + kRows, fine_end) > visible_absolute<kWindow, kStride>(tile.position, fine_rows)) {
            const int visible = visible_absolute<kWindow, kStride>(tile.position + token, fine_rows);
            mask_scores<Max>(scores, first_row, visible, fine_rows, 0.0f);
          }
          const auto block_scores = score_row<ScoreRank>(params.buffer[2], select_head, tile.row + token - params.token_begin, chunk, params.score_stride);
          store_block_scores<Max, kRowsPerBlock, kPad>(block_scores, scores, first_row, fine_rows, padded_blocks<kBlock, kRowsPerBlock>(params.max_k), token < tile.tokens);
          skip(cursor, min(kConsumers, fine_tiles - fine_tile));
        }
        deal_out(deal, fine_tiles);
        next_turn(query_cursor);
      }
    }
  } else {
    release_registers<32>();
    const int producer = thread_index() - kConsumerThreads;
    if (producer == 0) {
      Cursor<kStages> cursor;
      const int rounds = (items + gridDim.x - 1) / gridDim.x;
      for (int round = 0; round < rounds; ++round) {
        const int place = round % 2 == 0 ? blockIdx.x : gridDim.x - 1 - blockIdx.x;
        const int item = round * gridDim.x + place;
        const int select_head = item % kSelectHeads;
        const int slot = max(slots - 1 - item / kSelectHeads, 0);
        const auto tile = find_token_tile<kTokens>(params.cu_q, params.cu_k, params.batch, params.token_begin, params.token_end, slot);
        const int own = last_position(tile) / kBlock;
        if (item < items && tile.tokens > 0 && own >= kTopK) {
          const int coarse_rows = summary_rows<kCoarseWindow, kCoarseStride>(tile.k_length);
          const int coarse_tiles = (max(visible_absolute<kCoarseWindow, kCoarseStride>(last_position(tile), coarse_rows), 1) + (kRows - 1)) / kRows;
          const int fine_end = (own - kLocal + 1) * kRowsPerBlock;
          const int fine_tiles = (fine_end + (kRows - 1)) / kRows;
          const int first_head = select_head * kGroup;
          const int kv_head = first_head / (kHeads / kKvHeads);
          const auto coarse = images_of<bf16, kDim, kCoarseStride>(params.buffer[1], kv_head, params.total_k, params.batch, tile);
          for (int index = 0; index < coarse_tiles; ++index) {
            wait_empty(barriers, cursor);
            const int landed = full_barrier(barriers, cursor);
            arrive_expecting(landed, kTileBytes);
            copy_image(stage(summaries, cursor), coarse, index, landed);
            advance(cursor);
          }
          const auto fine = images_of<bf16, kDim, kStride>(params.buffer[0], kv_head, params.total_k, params.batch, tile);
          for (int index = 0; index < fine_tiles; ++index) {
            wait_empty(barriers, cursor);
            const int landed = full_barrier(barriers, cursor);
            arrive_expecting(landed, kTileBytes);
            copy_image(stage(summaries, cursor), fine, index, landed);
            advance(cursor);
          }
        }
      }
    }
    if (producer == 32) {
      Cursor<kMmaTiles> query_cursor;
      const int rounds = (items + gridDim.x - 1) / gridDim.x;
      for (int round = 0; round < rounds; ++round) {
        const int place = round % 2 == 0 ? blockIdx.x : gridDim.x - 1 - blockIdx.x;
        const int item = round * gridDim.x + place;
        const int select_head = item % kSelectHeads;
        const int slot = max(slots - 1 - item / kSelectHeads, 0);
        const auto tile = find_token_tile<kTokens>(params.cu_q, params.cu_k, params.batch, params.token_begin, params.token_end, slot);
        const int own = last_position(tile) / kBlock;
        if (item < items && tile.tokens > 0 && own >= kTopK) {
          const int first_head = select_head * kGroup;
          for (int mma_tile = 0; mma_tile < kMmaTiles; ++mma_tile) {
            move_to(query_cursor, mma_tile);
            wait_empty(query_barriers, query_cursor);
            const int landed = full_barrier(query_barriers, query_cursor);
            arrive_expecting(landed, kQueryBytes);
            const int head = first_head + mma_tile % kPairs * 2;
            copy_query_tile<kGroup>(stage(queries, query_cursor), params.map[0], landed, head, tile.row + mma_tile / kPairs * 32);
          }
          next_turn(query_cursor);
        }
      }
    }
  }
}
