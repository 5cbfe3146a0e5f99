// top_k of infllm_v2: the 96 best blocks of each token, forced ones included, for rows of up to 32768 blocks; ascending ids, -1 behind the last.
// Dynamic shared memory: 64 bytes.
#include "winnow/sm80.cuh"

constexpr int kBlock = 64;  // keys of one selectable block
constexpr int kTopK = 96;  // selected blocks per token, at most
constexpr int kLocal = 33;  // blocks up to the query's own that are always selected
constexpr int kRowsPerBlock = 4;  // summaries per block
constexpr int kPad = 1;  // summaries that reach into a block from the one before
constexpr int kTokens = 1;  // rows of one block of threads
constexpr int kInit = 1;  // first blocks, always selected
constexpr int kSearched = 62;  // blocks that are selected by their scores
constexpr int kBlocksPerEdge = 8;  // blocks from one edge to the next
constexpr int kWarps = 16;  // warps of one row
constexpr int kChunkBlocks = 256;  // blocks of a warp in 4 registers of each lane

extern "C" __global__ void __launch_bounds__(512, 1)
top_k_32768(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const WarpCounts<kWarps> counts{shared + 0};
  static_assert(WarpCounts<kWarps>::kBytes == 64);
  const auto tile = find_token_tile<kTokens>(params.cu_q, params.cu_k, params.batch, params.token_begin, params.token_end, blockIdx.x);
  const int warp = warp_index();
  if (tile.tokens <= 0) return;
  const int select_head = blockIdx.y;
  const int own = tile.position / kBlock;
  const auto ids = id_row<kTopK>(params.ids, select_head, params.total_q, tile.row);
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
    const auto rank_row = score_row<ScoreRank>(params.buffer[2], select_head, tile.row - params.token_begin, params.token_end - params.token_begin, params.score_stride);
    const auto edges = edge_row<kPad>(rank_row, padded_blocks<kBlock, kRowsPerBlock>(params.max_k));
    const int first_block = warp * 2048;
    RankPairs<8> ranks;
    load_rank_pairs<kInit, kBlocksPerEdge>(ranks, rank_row, edges, first_block, forced_from);
    const int upper = count_upper(ranks);
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
    BlockMarks<8> marks;
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
}
