// top_k of infllm_v2: the 96 best blocks of each token, forced ones included, for rows of up to 4096 blocks; ascending ids, -1 behind the last.
// Dynamic shared memory: 8256 bytes.
#include "winnow/sm80.cuh"

constexpr int kBlock = 64;  // keys of one selectable block
constexpr int kTopK = 96;  // selected blocks per token, at most
constexpr int kLocal = 33;  // blocks up to the query's own that are always selected
constexpr int kHeads = 32;  // query heads
constexpr int kGroup = 16;  // query heads that share one selection
constexpr int kWindow = 32;  // keys of one summary
constexpr int kStride = 16;  // keys from one summary to the next
constexpr int kCoarseWindow = 128;  // the same for the normaliser's summaries
constexpr int kCoarseStride = 64;
constexpr int kRowsPerBlock = 4;  // summaries per block
constexpr int kPad = 1;  // summaries that reach into a block from the one before
constexpr int kTileHeads = 16;  // heads of one mma tile
constexpr int kTileKeys = 512;  // keys from one tile of 32 summaries to the next
constexpr int kThreads = 512;
constexpr int kTokens = 1;  // rows of one block of threads
constexpr int kInit = 1;  // first blocks, always selected
constexpr int kSearched = 62;  // blocks that are selected by their scores
constexpr int kBlocksPerEdge = 8;  // blocks from one edge to the next
constexpr int kWarps = 16;  // warps of one row
constexpr int kChunkBlocks = 256;  // blocks of a warp in 4 registers of each lane
constexpr int kKvHeads = 2;  // key/value heads
constexpr int kDim = 128;  // elements of one query or summary row
constexpr float kScale = 0.127517432f;  // softmax scale times log2 e

extern "C" __global__ void __launch_bounds__(512, 1)
top_k_decode_16x1(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const WarpCounts<kWarps> counts{shared + 0};
  static_assert(WarpCounts<kWarps>::kBytes == 64);
  const NormalizerTable<16> normalizers{shared + 0};
  static_assert(NormalizerTable<16>::kBytes == 64);
  const HeadQueries<kGroup, kDim> queries{shared + 0};
  static_assert(HeadQueries<kGroup, kDim>::kBytes == 8192);
  const HeadNormalizers<kGroup> normalizers_2{shared + 8192};
  static_assert(HeadNormalizers<kGroup>::kBytes == 64);
  const WarpCounts<kWarps> counts_2{shared + 0};
  static_assert(WarpCounts<kWarps>::kBytes == 64);
  start_later_kernels();
  const auto tile = find_token_tile<kTokens>(params.cu_q, key_lengths(params), params.batch, params.token_begin, params.token_end, blockIdx.x);
  wait_earlier_kernels();
  const int warp = warp_index();
  if (tile.tokens <= 0) return;
  const int select_head = blockIdx.y;
  const int own = tile.position / kBlock;
  const auto ids = id_row<kTopK>(params.ids, select_head, params.total_q, tile.row);
  const int token = tile.row - params.token_begin;
  const int tokens = params.token_end - params.token_begin;
  const auto rank_row = score_row<ScoreRank>(params.buffer[2], select_head, token, tokens, params.score_stride);
  const bool scored = own >= kTopK;
  bool leaves;
  if (scored) {
    const int first_head = select_head * kGroup;
    const int row_tiles = (params.max_k + (kTileKeys - 1)) / kTileKeys;
    const int parts = min(min(params.parts * 2, 128), max(row_tiles / 2, 1));
    merge_part_sums<kThreads, kHeads, kGroup>(normalizers, params.buffer[4], parts, token, tokens, first_head);
    const int rows = summary_rows<kWindow, kStride>(tile.k_length);
    const int visible = visible_absolute<kWindow, kStride>(tile.position, rows);
    const int fine_end = (own - kLocal + 1) * kRowsPerBlock;
    const int column = token * 2 + select_head;
    RangeVote vote;
    const int quad = thread_index() / 4;
    for (int first = 0; first < fine_end; first += kThreads * 8) {
      const int row_tile = first / 32 + quad;
      const int first_row = row_tile * 32;
      const bool exists = fine_end > first_row;
      RowScores scores;
      clear_scores<Sum>(scores);
      sync_threads();
      add_stored_heads<Sum, kGroup, kTileHeads>(scores, vote, params.buffer[5], normalizers, column, row_tiles, row_tile, exists && first_row < rows);
      if (min(first_row + 32, fine_end) > visible) {
        mask_scores<Max>(scores, first_row, visible, rows, 0.0f);
      }
      store_thread_scores<Max, kRowsPerBlock, kPad, 32>(rank_row, scores, first_row, rows, padded_blocks<kBlock, kRowsPerBlock>(params.max_k), exists);
    }
    leaves = any_leaves(vote);
  } else {
    leaves = false;
  }
  if (own < kTopK) {
    if (warp == 0) {
      const int count = own + 1;
      store_range(ids, 0, 0, count);
      pad_ids<kTopK>(ids, count);
    }
  } else {
    const int forced_from = own - kLocal + 1;
    if (warp == 0) {
      store_range(ids, 0, 0, kInit);
      store_range(ids, kTopK - kLocal, forced_from, kLocal);
    }
    const auto edges = edge_row<kPad>(rank_row, padded_blocks<kBlock, kRowsPerBlock>(params.max_k));
    const int first_block = warp * 256;
    RankPairs<1> ranks;
    load_rank_pairs<kInit, kBlocksPerEdge>(ranks, rank_row, edges, first_block, forced_from);
    const int upper = count_upper(ranks);
    sync_threads();
    store_count(counts, warp, upper);
    sync_threads();
    const int total_upper = total_count(counts);
    const bool is_upper = total_upper >= kSearched;
    fold_ranks(ranks, is_upper);
    ThresholdSearch search;
    start_search<kSearched>(search, own);
    for (int step = 17; step < 32; ++step) {
      if (is_open(search)) {
        const int threshold = next_threshold(search, step);
        const int count = count_at_least(ranks, threshold);
        sync_threads();
        store_count(counts, warp, count);
        sync_threads();
        const int total = total_count(counts);
        narrow(search, threshold, total);
      }
    }
    BlockMarks<1> marks;
    mark_blocks(marks, ranks, search.threshold);
    const int above = marked_above(marks);
    sync_threads();
    store_count(counts, warp, above);
    sync_threads();
    const int total_above = total_count(counts);
    const int above_before = count_before(counts, warp);
    const int marked_at_value = marked_at(marks);
    sync_threads();
    store_count(counts, warp, marked_at_value);
    sync_threads();
    const int equal_before = count_before(counts, warp);
    if (folded_leaves_order(search, is_upper)) {
      if (warp == 0) {
        mark_unordered(ids);
      }
    } else {
      store_marked(ids, marks, first_block, kInit + above_before, equal_before, kSearched - total_above);
    }
  }
  sync_threads();
  if (leaves || is_unordered(ids)) {
    const auto octaves = score_row<float>(params.buffer[3], 0, select_head * tokens + token, 0, (params.max_k + kBlock - 1) / kBlock);
    const int forced_from = own - kLocal + 1;
    const int first_head = select_head * kGroup;
    load_head_queries<bf16, kThreads, kHeads>(queries, strided_heads(params.q, params.q_stride), tile.row, first_head);
    const int normalizer_rows = summary_rows<kCoarseWindow, kCoarseStride>(tile.k_length);
    const int x = first_head / (kHeads / kKvHeads);
    const auto normalizing = kept_rows<bf16, kCoarseWindow, kCoarseStride>(params, 1, tile, x);
    sync_threads();
    make_head_normalizers<kThreads>(normalizers_2, queries, normalizing, visible_absolute<kCoarseWindow, kCoarseStride>(tile.position, normalizer_rows), kScale);
    const int fine_rows = summary_rows<kWindow, kStride>(tile.k_length);
    const auto fine = kept_rows<bf16, kWindow, kStride>(params, 0, tile, x);
    sync_threads();
    store_octaves<Sum, Max, kThreads, kRowsPerBlock, kPad>(octaves, normalizers_2, queries, fine, kInit, forced_from, fine_rows, visible_absolute<kWindow, kStride>(tile.position, fine_rows), kScale);
    sync_threads();
    ThresholdSearch search;
    start_search<kSearched>(search, kSearched);
    for (int step = 0; step < 32; ++step) {
      if (is_open(search)) {
        const int threshold = next_threshold(search, step);
        const int count_octaves_value = count_octaves<kThreads>(octaves, kInit, forced_from, threshold);
        sync_threads();
        store_count(counts_2, warp, count_octaves_value);
        sync_threads();
        const int total = total_count(counts_2);
        narrow(search, threshold, total);
      }
    }
    const int above = count_octaves<kThreads>(octaves, kInit, forced_from, search.threshold + 1);
    sync_threads();
    store_count(counts_2, warp, above);
    sync_threads();
    const int total_above = total_count(counts_2);
    const int ties = kSearched - total_above;
    if (warp == 0) {
      store_range(ids, 0, 0, kInit);
      store_octave_ids(ids, octaves, kInit, kInit, forced_from, search.threshold, ties);
      store_range(ids, kTopK - kLocal, forced_from, kLocal);
    }
  }
}
