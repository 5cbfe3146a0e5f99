// decode_step of infllm_v2: the 96 best blocks of every token, forced ones included, and softmax attention to them; blocks of threads that all run at the same time.
// Dynamic shared memory: 216848 bytes.
#include "winnow/sm90.cuh"

constexpr int kHeads = 32;  // query heads
constexpr int kKvHeads = 2;  // key/value heads
constexpr int kGroup = 16;  // query heads that share one selection
constexpr int kSelectHeads = 2;  // selections per token
constexpr int kDim = 128;  // elements of one query or summary row
constexpr int kBlock = 64;  // keys of one selectable block
constexpr int kTopK = 96;  // selected blocks per token, at most
constexpr int kLocal = 33;  // blocks up to the query's own that are always selected
constexpr int kValueDim = 128;  // elements of one value or output row
constexpr int kWindow = 32;  // keys of one summary
constexpr int kStride = 16;  // keys from one summary to the next
constexpr int kCoarseWindow = 128;  // the same for the normaliser's summaries
constexpr int kCoarseStride = 64;
constexpr int kRowsPerBlock = 4;  // summaries per block
constexpr int kPad = 1;  // summaries that reach into a block from the one before
constexpr int kTileHeads = 16;  // heads of one mma tile
constexpr int kTileKeys = 512;  // keys from one tile of 32 summaries to the next
constexpr int kRows = 32;  // summaries of one tile
constexpr int kMeans = 4;  // scored summaries whose mean is one of the normaliser's
constexpr int kMeanStep = 2;  // from one of these to the next
constexpr int kMeanStride = 4;  // from the first one of a normaliser's summary to that of the next
constexpr int kKeys = 32;  // keys of one tile
constexpr int kTilesPerBlock = 2;  // key tiles of one selectable block
constexpr int kTokens = 128;  // tokens of a launch, at most
constexpr int kForced = 34;  // blocks that are not searched for
constexpr int kForcedTiles = 68;  // their key tiles
constexpr int kChoiceTiles = 192;  // key tiles of all blocks of a choice
constexpr int kChunkTiles = 16;  // tiles of a chunk of summaries, at most
constexpr int kScores = 3;  // chunks whose weights wait
constexpr int kThreads = 128;  // threads that select; that normalise
constexpr int kComputers = 4;  // warps that multiply
constexpr int kStages = 8;  // stages of the ring
constexpr int kInit = 1;  // first blocks, always selected
constexpr int kSearched = 62;  // blocks that are selected by their scores
constexpr int kBlocksPerEdge = 8;  // blocks from one edge to the next
constexpr int kWarps = 4;  // warps of one row
constexpr int kChunkBlocks = 256;  // blocks of a warp in 4 registers of each lane
constexpr float kScale = 0.127517432f;  // softmax scale times log2 e
constexpr float kFactor = 1.0f;  // the host's rows are plain means

extern "C" __global__ void __launch_bounds__(512, 1)
decode_step(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const Ring<kStages, SharedTile<kKeys, kDim, bf16>> key_ring{shared + 0};
  static_assert(Ring<kStages, SharedTile<kKeys, kDim, bf16>>::kBytes == 65536);
  const Ring<kStages, SharedTile<kKeys, kValueDim, bf16>> value_ring{shared + 65536};
  static_assert(Ring<kStages, SharedTile<kKeys, kValueDim, bf16>>::kBytes == 65536);
  const Overlay<TileWeights<kTileHeads, kScores * kChunkTiles>, JoinedSums<kComputers, kValueDim>> weights_or_sums{shared + 131072};
  static_assert(Overlay<TileWeights<kTileHeads, kScores * kChunkTiles>, JoinedSums<kComputers, kValueDim>>::kBytes == 52224);
  const auto weights = first_of(weights_or_sums);
  const auto joined = second_of(weights_or_sums);
  const OpenSums<kTileHeads, 1, kScores * kChunkTiles> open_sums{shared + 200704};
  static_assert(OpenSums<kTileHeads, 1, kScores * kChunkTiles>::kBytes == 6144);
  const WarpShares<kScores * kComputers, kTileHeads> warp_shares{shared + 212992};
  static_assert(WarpShares<kScores * kComputers, kTileHeads>::kBytes == 1536);
  const RankRow<2048, 4> rank_row{shared + 206848};
  static_assert(RankRow<2048, 4>::kBytes == 6144);
  const StepTable<kTokens> table{shared + 183296};
  static_assert(StepTable<kTokens>::kBytes == 8752);
  const ChunkList<512> chunk_list{shared + 215040};
  static_assert(ChunkList<512>::kBytes == 1040);
  const IdLists<kTopK> lists{shared + 216080};
  static_assert(IdLists<kTopK>::kBytes == 768);
  const NormalizerTable<kScores * kTableRows> normalizers{shared + 192048};
  static_assert(NormalizerTable<kScores * kTableRows>::kBytes == 192);
  const RingBarriers<kStages> barriers{shared + 192240};
  static_assert(RingBarriers<kStages>::kBytes == 128);
  const RingBarriers<kScores> score_barriers{shared + 192432};
  static_assert(RingBarriers<kScores>::kBytes == 48);
  const RingBarriers<kScores> table_barriers{shared + 214528};
  static_assert(RingBarriers<kScores>::kBytes == 48);
  const RingBarriers<2> list_barriers{shared + 192480};
  static_assert(RingBarriers<2>::kBytes == 32);
  const RingBarriers<1> cleared_barriers{shared + 214608};
  static_assert(RingBarriers<1>::kBytes == 16);
  const RingBarriers<1> piece_barriers{shared + 214624};
  static_assert(RingBarriers<1>::kBytes == 16);
  const WarpCounts<2 * kWarps> counts{shared + 214576};
  static_assert(WarpCounts<2 * kWarps>::kBytes == 32);
  const HeadQueries<kGroup, kDim> queries{shared + 192512};
  static_assert(HeadQueries<kGroup, kDim>::kBytes == 8192);
  const HeadNormalizers<kGroup> normalizers_2{shared + 192368};
  static_assert(HeadNormalizers<kGroup>::kBytes == 64);
  const WarpCounts<kWarps> counts_2{shared + 192368};
  static_assert(WarpCounts<kWarps>::kBytes == 16);
  const int thread = thread_index();
  const int warp = warp_index();
  const int block = blockIdx.x;
  if (thread == 511) {
    init_ring(barriers, 32, 1);
    init_barriers(score_barriers, 128, 128);
    init_barriers(cleared_barriers, 1, 1);
    init_barriers(piece_barriers, 128, 1);
    init_barriers(table_barriers, 128, 1);
    init_barriers(list_barriers, 128, 256);
  }
  if (thread < kTokens) {
    const auto token_tile = find_step_token(params.cu_q, key_lengths(params), params.batch, params.total_q, thread);
    const int own = token_tile.position / kBlock;
    const bool x = token_tile.tokens != 0 && own >= kTopK;
    const int rows = summary_rows<kWindow, kStride>(token_tile.k_length);
    const int visible = visible_absolute<kWindow, kStride>(token_tile.position, rows);
    const int fine_end = (own - kLocal + 1) * kRowsPerBlock;
    const int normalizer_visible = visible_absolute<kCoarseWindow, kCoarseStride>(token_tile.position, summary_rows<kCoarseWindow, kCoarseStride>(token_tile.k_length));
    const int tiles = max((min(max(max(fine_end, visible), normalizer_visible * kMeanStride + 3), rows) + (kRows - 1)) / kRows, (fine_end + 31) / kRows);
    const int chunks_of_it = (tiles + (params.step - 1)) / params.step;
    const int all_tiles = token_tile.tokens != 0 ? last_position(token_tile) / kKeys + 1 : 0;
    put_step_token(table, thread, token_tile, rows, visible, normalizer_visible, fine_end, tiles, x ? chunks_of_it : 0, x ? kChoiceTiles : all_tiles);
  }
  sync_threads();
  sum_step_tokens(table);
  sync_threads();
  fill_chunk_list<kSelectHeads>(chunk_list, table, params.total_q, block, gridDim.x);
  sync_threads();
  const int selections = kSelectHeads * params.total_q;
  const int row_tiles = (params.max_k + (kTileKeys - 1)) / kTileKeys;
  const int most_chunks = (row_tiles + (params.step - 1)) / params.step;
  const auto exchange = exchange_of(params.buffer[5], selections, kTileHeads, most_chunks, row_tiles);
  const int item_tiles = params.step >= 8 ? 2 : 1;
  if (warp < 4) {
    release_registers<128>();
    Cursor<kScores> released;
    Cursor<2> list_cursor;
    cut_step_keys<kThreads, kSelectHeads>(table, gridDim.x, params.step / 2);
    Cursor<1> once;
    report_full(piece_barriers, once);
    Cursor<1> once_2;
    wait_full(piece_barriers, once_2);
    sync_some(1, 128);
    const auto parts = step_parts<kSelectHeads>(table, params.total_q, block);
    Cursor<1> once_3;
    wait_full(cleared_barriers, once_3);
    for (int index = 0; index < count_chunks(chunk_list); ++index) {
      const int chunk = block + index * gridDim.x;
      const auto item = listed_chunk<kSelectHeads>(chunk_list, table, index, chunk);
      const int begin = item.begin * params.step;
      const int end = min(begin + params.step, item.tiles);
      wait_full(table_barriers, released);
      RangeVote vote;
      const int scored = scored_tile(params.step);
      const int row_tile = begin + scored;
      const int first_row = row_tile * kRows;
      const bool x = row_tile < end && item.scored_end > first_row;
      RowScores scores;
      clear_scores<Sum>(scores);
      add_step_heads<Sum>(scores, vote, weights, normalizers, released.stage * kTableRows, released.stage * kChunkTiles + scored, params.step, x && first_row < item.rows);
      if (min(first_row + 32, item.scored_end) > item.visible) {
        mask_scores<Max>(scores, first_row, item.visible, item.rows, 0.0f);
      }
      tell_ranks<Max, kRowsPerBlock, kPad, 32>(exchange, scores, vote, item.selection, first_row, item.rows, x && speaks_for_tile(params.step));
      arrive_empty(score_barriers, released);
      advance(released);
    }
    for (int index = 0; index < count_step_parts(parts); ++index) {
      const auto item = step_part<kSelectHeads>(table, parts, index);
      const int first_head = item.select_head * kGroup;
      const int own = item.tile.position / kBlock;
      const int forced_from = own - kLocal + 1;
      const int count = max(item.end - item.begin, 0);
      const int x = item.begin * kForcedTiles / kChoiceTiles;
      const int early = own >= kTopK ? item.end * kForcedTiles / kChoiceTiles - x : count;
      const int first_chosen = item.begin - x;
      const bool needs_ids = count > 0 && count > early;
      if (needs_ids) {
        wait_empty(list_barriers, list_cursor);
        const auto ids = id_list(lists, list_cursor.stage);
        const int fine_end = forced_from * kRowsPerBlock;
        const int padded_blocks_value = padded_blocks<kBlock, kRowsPerBlock>(params.max_k);
        const bool hears = hear_ranks<kThreads, kRowsPerBlock, kPad, 32>(rank_row, exchange, item.selection, fine_end, padded_blocks_value);
        const bool leaves = sync_any(1, kThreads, hears);
        if (warp == 0) {
          store_range(ids, 0, 0, kInit);
          store_range(ids, kTopK - kLocal, forced_from, kLocal);
        }
        const auto rank_row_2 = ranks_of(rank_row);
        RankPairs<2> ranks;
        const int first_block = warp * 512;
        const auto edges = edge_words<kPad>(rank_row_2, padded_blocks_value);
        load_rank_pairs<kInit, kBlocksPerEdge>(ranks, rank_row_2, edges, first_block, forced_from);
        select_by_warps<kSearched, kInit, kWarps>(ids, ranks, counts, own, first_block, 1);
        sync_some(1, 128);
        if (leaves || is_unordered(ids)) {
          const int units = params.total_q * kKvHeads * 2;
          for (int unit = warp; unit < units; unit += kWarps) {
            const int part = unit % 2;
            const auto row_tile = step_token(table, unit / 2 / kKvHeads);
            const int kv_head = unit / 2 % kKvHeads;
            const auto keys = paged_rows<bf16>(params, params.k, params.k_stride, row_tile, kv_head);
            const int kv_head_2 = first_head / (kHeads / kKvHeads);
            const bool x_2 = row_tile.sequence == item.tile.sequence && kv_head == kv_head_2;
            if (row_tile.tokens != 0 && (row_tile.position - 31 >= 0 && (row_tile.position - 31) % 16 == 0) && x_2) {
              const int row = (row_tile.position - 31) / 16;
              const auto kept = kept_rows<bf16, 32, 16>(params, 0, row_tile, kv_head);
              keep_mean<32, 16, kDim>(kept, keys, row, part, kFactor);
            }
            if (row_tile.tokens != 0 && (row_tile.position - 127 >= 0 && (row_tile.position - 127) % 64 == 0) && x_2) {
              const int row = (row_tile.position - 127) / 64;
              const auto kept = kept_rows<bf16, 128, 64>(params, 1, row_tile, kv_head);
              keep_mean<128, 64, kDim>(kept, keys, row, part, kFactor);
            }
          }
          sync_some(1, 128);
          const auto octaves = score_row<float>(params.buffer[3], 0, block, 0, (params.max_k + kBlock - 1) / kBlock);
          load_head_queries<bf16, kThreads, kHeads>(queries, strided_heads(params.q, params.q_stride), item.tile.row, first_head);
          const int normalizer_rows = summary_rows<kCoarseWindow, kCoarseStride>(item.tile.k_length);
          const int x_2 = first_head / (kHeads / kKvHeads);
          const auto normalizing = kept_rows<bf16, kCoarseWindow, kCoarseStride>(params, 1, item.tile, x_2);
          sync_some(1, 128);
          make_head_normalizers<kThreads>(normalizers_2, queries, normalizing, visible_absolute<kCoarseWindow, kCoarseStride>(item.tile.position, normalizer_rows), kScale);
          const int fine_rows = summary_rows<kWindow, kStride>(item.tile.k_length);
          const auto fine = kept_rows<bf16, kWindow, kStride>(params, 0, item.tile, x_2);
          sync_some(1, 128);
          store_octaves<Sum, Max, kThreads, kRowsPerBlock, kPad>(octaves, normalizers_2, queries, fine, kInit, forced_from, fine_rows, visible_absolute<kWindow, kStride>(item.tile.position, fine_rows), kScale);
          sync_some(1, 128);
          ThresholdSearch search;
          start_search<kSearched>(search, kSearched);
          for (int step = 0; step < 32; ++step) {
            if (is_open(search)) {
              const int threshold = next_threshold(search, step);
              const int count_octaves_value = count_octaves<kThreads>(octaves, kInit, forced_from, threshold);
              sync_some(1, 128);
              store_count(counts_2, warp, count_octaves_value);
              sync_some(1, 128);
              const int total = total_count(counts_2);
              narrow(search, threshold, total);
            }
          }
          const int above = count_octaves<kThreads>(octaves, kInit, forced_from, search.threshold + 1);
          sync_some(1, 128);
          store_count(counts_2, warp, above);
          sync_some(1, 128);
          const int total_above = total_count(counts_2);
          const int ties = kSearched - total_above;
          if (warp == 0) {
            store_range(ids, 0, 0, kInit);
            store_octave_ids(ids, octaves, kInit, kInit, forced_from, search.threshold, ties);
            store_range(ids, kTopK - kLocal, forced_from, kLocal);
          }
        }
        sync_some(1, 128);
        if (first_chosen == 0) {
          const auto host_ids = id_row<kTopK>(params.ids, item.select_head, params.total_q, item.tile.row);
          copy_ids<kThreads, kTopK>(host_ids, ids);
        }
        report_full(list_barriers, list_cursor);
        advance(list_cursor);
      } else {
        if (count > 0 && item.begin == 0 && warp == 0 && own < kTopK) {
          const auto host_ids = id_row<kTopK>(params.ids, item.select_head, params.total_q, item.tile.row);
          const int count_2 = own + 1;
          store_range(host_ids, 0, 0, count_2);
          pad_ids<kTopK>(host_ids, count_2);
        }
      }
    }
  } else {
    if (thread < 256) {
      release_registers<104>();
      Cursor<kScores> score_cursor;
      Cursor<kScores> heard_cursor;
      const int in_grid = block * 128 + (thread - 128);
      const int threads = gridDim.x * 128;
      const int x = (gridDim.x + selections) * kTileHeads;
      clear_exchange(params.buffer[5], selections * (most_chunks * kTileHeads + row_tiles * 2), in_grid, threads);
      clear_exchange(params.buffer[7], (x + 1) / 2, in_grid, threads);
      clear_exchange(params.buffer[6], x * 32, in_grid, threads);
      sync_some(3, 128);
      if (thread - 128 == 0) {
        meet_grid(block, gridDim.x);
        Cursor<1> once;
        report_full(cleared_barriers, once);
      }
      Cursor<1> once;
      wait_full(cleared_barriers, once);
      const int chunks = count_chunks(chunk_list);
      Cursor<513> told;
      for (int turn = 0; turn < chunks * 2; ++turn) {
        const int heard = turn - told.stage;
        const int next = min(heard, chunks - 1);
        const int chunk = block + next * gridDim.x;
        const auto item = listed_chunk<kSelectHeads>(chunk_list, table, next, chunk);
        const int first_row = heard_cursor.stage * kTableRows;
        sync_some(3, 128);
        const bool tells = tells_next<kThreads, kMeans, kMeanStep, kMeanStride, 1, kTileHeads>(normalizers, first_row, score_barriers, score_cursor, exchange, told.stage < chunks, heard < told.stage, item.selection, item.all, params.step, item.normalizer_visible, kScale, 3);
        if (tells) {
          wait_full(score_barriers, score_cursor);
          const int chunk_2 = block + told.stage * gridDim.x;
          const auto item_2 = listed_chunk<kSelectHeads>(chunk_list, table, told.stage, chunk_2);
          const int begin = item_2.begin * params.step;
          const int end = min(begin + params.step, item_2.tiles);
          tell_share<kThreads, kComputers, kMeans, kMeanStep, kMeanStride>(exchange, warp_shares, open_sums, item_2.selection, item_2.begin, score_cursor.stage * kComputers, score_cursor.stage * kChunkTiles, end - begin, begin * kRows, item_2.normalizer_visible, kScale);
          advance(score_cursor);
          advance(told);
        } else {
          report_full(table_barriers, heard_cursor);
          advance(heard_cursor);
        }
      }
      const int place = warp - 4;
      const int units = params.total_q * kKvHeads * 2;
      for (int unit = place * gridDim.x + block; unit < units; unit += gridDim.x * 4) {
        const int part = unit % 2;
        const auto row_tile = step_token(table, unit / 2 / kKvHeads);
        const int kv_head = unit / 2 % kKvHeads;
        const auto keys = paged_rows<bf16>(params, params.k, params.k_stride, row_tile, kv_head);
        if (row_tile.tokens != 0 && (row_tile.position - 31 >= 0 && (row_tile.position - 31) % 16 == 0)) {
          const int row = (row_tile.position - 31) / 16;
          const auto kept = kept_rows<bf16, 32, 16>(params, 0, row_tile, kv_head);
          keep_mean<32, 16, kDim>(kept, keys, row, part, kFactor);
        }
        if (row_tile.tokens != 0 && (row_tile.position - 127 >= 0 && (row_tile.position - 127) % 64 == 0)) {
          const int row = (row_tile.position - 127) / 64;
          const auto kept = kept_rows<bf16, 128, 64>(params, 1, row_tile, kv_head);
          keep_mean<128, 64, kDim>(kept, keys, row, part, kFactor);
        }
      }
    } else {
      if (warp < 12) {
        claim_registers<208>();
        Cursor<kStages> cursor;
        Cursor<kStages> place;
        Cursor<kScores> score_cursor;
        Cursor<2> list_cursor;
        const int turn = warp - 8;
        LeftOperand<16, kDim, bf16> query;
        for (int index = 0; index < count_chunks(chunk_list); ++index) {
          const int chunk = block + index * gridDim.x;
          const auto item = listed_chunk<kSelectHeads>(chunk_list, table, index, chunk);
          const int first_head = item.select_head * kGroup;
          const int begin = item.begin * params.step;
          const int end = min(begin + params.step, item.tiles);
          const auto rows = query_rows<kTileHeads>(item.tile, 0);
          load_query<kHeads>(query, strided_heads(params.q, params.q_stride), rows, first_head);
          NormalizerSums<1> sums;
          const int count = item_tiles > 1 ? (end - begin + 1) / 2 : end - begin;
          const int old_rows = summary_rows<kWindow, kStride>(item.tile.position - item.tile.first);
          const int new_tile = old_rows / kRows;
          const bool x = item.rows > old_rows && (cursor.stage + (item_tiles > 1 ? (new_tile - begin) / 2 : new_tile - begin) - turn & 3) == 0 && (new_tile >= begin && new_tile < end);
          NewRow new_row;
          if (x) {
            const int kv_head = first_head / (kHeads / kKvHeads);
            const auto keys = paged_rows<bf16>(params, params.k, params.k_stride, item.tile, kv_head);
            make_new_row<bf16, kWindow, kStride, kDim>(new_row, keys, old_rows, kFactor);
          }
          wait_empty(score_barriers, score_cursor);
          follow(place, cursor);
          const int first = turn - cursor.stage & 3;
          advance_by(place, first);
          for (int index_2 = first; index_2 < count; index_2 += 4) {
            const int entry = begin + index_2 * item_tiles;
            wait_full(barriers, place);
            const int first_row = entry * kRows;
            if (x && entry == new_tile) {
              put_new_row(stage(key_ring, place), new_row, old_rows - first_row);
            }
            Accumulator<16, kRows> logits;
            clear(logits);
            mma_abt(logits, query, stage(key_ring, place));
            const int tile_place = score_cursor.stage * kChunkTiles + index_2 * item_tiles;
            add_tile_normalizers<kMeans, kMeanStep, kMeanStride>(sums, open_sums, logits, tile_place, first_row, item.normalizer_visible, kScale);
            store_tile_weights(weights, logits, tile_place, first_row, item.visible, kScale);
            const int second = entry + 1;
            if (item_tiles > 1 && second < end) {
              const int first_row_2 = second * kRows;
              if (x && second == new_tile) {
                put_new_row(stage(value_ring, place), new_row, old_rows - first_row_2);
              }
              Accumulator<16, kRows> logits_2;
              clear(logits_2);
              mma_abt(logits_2, query, stage(value_ring, place));
              const int tile_place_2 = score_cursor.stage * kChunkTiles + (second - begin);
              add_tile_normalizers<kMeans, kMeanStep, kMeanStride>(sums, open_sums, logits_2, tile_place_2, first_row_2, item.normalizer_visible, kScale);
              store_tile_weights(weights, logits_2, tile_place_2, first_row_2, item.visible, kScale);
            }
            arrive_empty(barriers, place);
            advance_by(place, 4);
          }
          advance_by(cursor, count);
          store_step_share(warp_shares, sums, score_cursor.stage * kComputers + turn);
          report_full(score_barriers, score_cursor);
          advance(score_cursor);
        }
        Cursor<1> once;
        wait_full(piece_barriers, once);
        const auto parts = step_parts<kSelectHeads>(table, params.total_q, block);
        Accumulator<16, kValueDim> output;
        SoftmaxState state;
        Cursor<1> once_2;
        wait_full(cleared_barriers, once_2);
        for (int index = 0; index < count_step_parts(parts); ++index) {
          const auto item = step_part<kSelectHeads>(table, parts, index);
          const int first_head = item.select_head * kGroup;
          const int own = item.tile.position / kBlock;
          const int forced_from = own - kLocal + 1;
          const int count = max(item.end - item.begin, 0);
          const int x = item.begin * kForcedTiles / kChoiceTiles;
          const int early = own >= kTopK ? item.end * kForcedTiles / kChoiceTiles - x : count;
          const int first_forced = own >= kTopK ? x : item.begin;
          const int first_chosen = item.begin - x;
          const bool needs_ids = count > 0 && count > early;
          const auto rows = query_rows<kTileHeads>(item.tile, 0);
          load_query<kHeads>(query, strided_heads(params.q, params.q_stride), rows, first_head);
          restart_sums(output, state);
          follow(place, cursor);
          const int first = turn - cursor.stage & 3;
          advance_by(place, first);
          for (int index_2 = first; index_2 < count; index_2 += 4) {
            const bool is_early = index_2 < early;
            if (index_2 >= early) {
              wait_full(list_barriers, list_cursor);
            }
            const int entry = is_early ? first_forced + index_2 : kForcedTiles + (first_chosen + (index_2 - early));
            const auto ids = id_list(lists, list_cursor.stage);
            const int first_key = step_key<kInit, kForced, kTilesPerBlock, kKeys>(ids, entry, own >= kTopK, forced_from);
            Accumulator<16, kKeys> logits;
            clear(logits);
            wait_full(barriers, place);
            mma_abt(logits, query, stage(key_ring, place));
            if (first_key + kKeys - 1 > rows.first_position) {
              mask_causal(logits, rows, first_key);
            }
            if (raise_maximum(state, logits, kScale)) {
              rescale_rows(output, state);
            }
            exponentiate(logits, state, kScale);
            LeftOperand<16, kKeys, bf16> weights_2;
            round_to_operand(weights_2, logits);
            mma_ab(output, weights_2, stage(value_ring, place));
            arrive_empty(barriers, place);
            advance_by(place, 4);
          }
          advance_by(cursor, count);
          if (needs_ids) {
            wait_full(list_barriers, list_cursor);
            arrive_empty(list_barriers, list_cursor);
            advance(list_cursor);
          }
          const int slot = part_slot(item, block);
          if (count > 0) {
            wait_all_empty(score_barriers, score_cursor);
            reduce_sum(state);
            join_sums<kTileHeads>(params.buffer[6], params.buffer[7], joined, output, state, slot, 256, 2, kScale);
          } else {
            store_no_part<kTileHeads>(params.buffer[7], slot, thread - 256);
          }
        }
        wait_all_empty(score_barriers, score_cursor);
        merge_parts<kHeads, kTileHeads, kSelectHeads, bf16>(strided_heads(params.out, params.out_stride), params.lse, joined, table, params.buffer[6], params.buffer[7], params.total_q, block, gridDim.x, 256, 2);
      } else {
        release_registers<72>();
        Cursor<kStages> cursor;
        Cursor<kStages> place;
        Cursor<2> list_cursor;
        const int turn = warp - 12;
        for (int index = 0; index < count_chunks(chunk_list); ++index) {
          const int chunk = block + index * gridDim.x;
          const auto item = listed_chunk<kSelectHeads>(chunk_list, table, index, chunk);
          const int first_head = item.select_head * kGroup;
          const int begin = item.begin * params.step;
          const int end = min(begin + params.step, item.tiles);
          const int count = item_tiles > 1 ? (end - begin + 1) / 2 : end - begin;
          const int old_rows = summary_rows<kWindow, kStride>(item.tile.position - item.tile.first);
          const int row_limit = min(old_rows, end * kRows);
          const int kv_head = first_head / (kHeads / kKvHeads);
          const auto source = in_summary_order(read_once(kept_rows<bf16, kWindow, kStride>(params, 0, item.tile, kv_head)));
          const int lane = lane_index();
          follow(place, cursor);
          const int first = turn - cursor.stage & 3;
          advance_by(place, first);
          for (int index_2 = first; index_2 < count; index_2 += 4) {
            const int first_row = (begin + index_2 * item_tiles) * kRows;
            const int second_row = first_row + kRows;
            const int page = find_page(source, first_row, row_limit, lane);
            const int second_page = find_page(source, second_row, row_limit, lane);
            wait_empty(barriers, place);
            load_found_rows(stage(key_ring, place), source, page, first_row, row_limit, lane);
            if (item_tiles > 1) {
              load_found_rows(stage(value_ring, place), source, second_page, second_row, row_limit, lane);
            }
            arrive_full(barriers, place);
            advance_by(place, 4);
          }
          advance_by(cursor, count);
        }
        Cursor<1> once;
        wait_full(piece_barriers, once);
        const auto parts = step_parts<kSelectHeads>(table, params.total_q, block);
        for (int index = 0; index < count_step_parts(parts); ++index) {
          const auto item = step_part<kSelectHeads>(table, parts, index);
          const int first_head = item.select_head * kGroup;
          const int own = item.tile.position / kBlock;
          const int forced_from = own - kLocal + 1;
          const int count = max(item.end - item.begin, 0);
          const int x = item.begin * kForcedTiles / kChoiceTiles;
          const int early = own >= kTopK ? item.end * kForcedTiles / kChoiceTiles - x : count;
          const int first_forced = own >= kTopK ? x : item.begin;
          const int first_chosen = item.begin - x;
          const bool needs_ids = count > 0 && count > early;
          const int kv_head = first_head / (kHeads / kKvHeads);
          const auto keys = read_once(paged_rows<bf16>(params, params.k, params.k_stride, item.tile, kv_head));
          const auto values = read_once(paged_rows<bf16>(params, params.v, params.v_stride, item.tile, kv_head));
          const int lane = lane_index();
          follow(place, cursor);
          const int first = turn - cursor.stage & 3;
          advance_by(place, first);
          for (int index_2 = first; index_2 < count; index_2 += 4) {
            const bool is_early = index_2 < early;
            if (index_2 >= early) {
              wait_full(list_barriers, list_cursor);
            }
            const int entry = is_early ? first_forced + index_2 : kForcedTiles + (first_chosen + (index_2 - early));
            const auto ids = id_list(lists, list_cursor.stage);
            const int first_key = step_key<kInit, kForced, kTilesPerBlock, kKeys>(ids, entry, own >= kTopK, forced_from);
            const int page = find_page(keys, first_key, item.tile.k_length, lane);
            const int value_page = find_page(values, first_key, item.tile.k_length, lane);
            wait_empty(barriers, place);
            wait_copies();
            load_found_rows(stage(key_ring, place), keys, page, first_key, item.tile.k_length, lane);
            load_found_rows(stage(value_ring, place), values, value_page, first_key, item.tile.k_length, lane);
            arrive_full(barriers, place);
            advance_by(place, 4);
          }
          advance_by(cursor, count);
          if (needs_ids) {
            wait_full(list_barriers, list_cursor);
            arrive_empty(list_barriers, list_cursor);
            advance(list_cursor);
          }
        }
      }
    }
  }
}
