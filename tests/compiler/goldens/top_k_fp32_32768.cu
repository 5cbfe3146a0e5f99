// top_k of nsa_select: the 16 best blocks of each token, forced ones included, for rows of up to 32768 blocks; ascending ids, -1 behind the last.
// Dynamic shared memory: 64 bytes.
#include "winnow/sm80.cuh"

constexpr int kBlock = 64;  // keys of one selectable block
constexpr int kTopK = 16;  // selected blocks per token, at most
constexpr int kInit = 1;  // first blocks, always selected
constexpr int kLocal = 2;  // blocks up to the query's own that are always selected
constexpr int kDenseLength = -1;  // shorter sequences are not selected from
constexpr int kRowsPerBlock = 4;  // summaries per block
constexpr int kPad = 1;  // summaries that reach into a block from the one before
constexpr int kBlocksPerEdge = 8;  // blocks from one edge to the next
constexpr int kTokens = 1;  // rows of one block of threads
constexpr int kWarps = 16;  // warps of one row
constexpr int kRanksPerLane = 64;  // block scores that a lane keeps in registers

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
  if (tile.k_length < kDenseLength) {
    if (warp == 0) {
      pad_ids<kTopK>(ids, 0);
    }
  } else {
    const int first_block = warp * 2048;
    const int forced_from = first_forced<kTopK, kLocal>(own);
    const auto scores = score_row<float>(params.buffer[1], select_head, tile.row - params.token_begin, params.token_end - params.token_begin, params.score_stride);
    const auto edges = edge_row<kPad>(scores, padded_blocks<kBlock, kRowsPerBlock>(params.max_k));
    BlockRanks<kRanksPerLane> ranks;
    load_ranks<Overlap, kInit, kBlocksPerEdge>(ranks, scores, edges, first_block, forced_from, own);
    ThresholdSearch search;
    start_search<kTopK>(search, own);
    for (int step = 0; step < 32; ++step) {
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
    const bool leaves = leaves_order<kTopK>(search, own);
    if (leaves && warp == 0) {
      mark_unordered(ids);
    }
    if (leaves) return;
    const int above = count_above(ranks, search.threshold);
    sync_threads();
    store_count(counts, warp, above);
    sync_threads();
    const int total_above = total_count(counts);
    const int above_before = count_before(counts, warp);
    const int reached = count_at_least(ranks, search.threshold);
    sync_threads();
    store_count(counts, warp, reached - above);
    sync_threads();
    const int equal_before = count_before(counts, warp);
    store_ids(ids, ranks, search.threshold, first_block, above_before, equal_before, search.wanted - total_above);
    if (warp == 0) {
      pad_ids<kTopK>(ids, search.wanted);
    }
  }
}
