// top_k of infllm_v2: the 96 best blocks of each token, forced ones included, for rows of up to 2048 blocks; ascending ids, -1 behind the last.
// Dynamic shared memory: 0 bytes.
#include "winnow/sm80.cuh"

constexpr int kBlock = 64;  // keys of one selectable block
constexpr int kTopK = 96;  // selected blocks per token, at most
constexpr int kInit = 1;  // first blocks, always selected
constexpr int kLocal = 33;  // blocks up to the query's own that are always selected
constexpr int kDenseLength = -1;  // shorter sequences are not selected from
constexpr int kRowsPerBlock = 4;  // summaries per block
constexpr int kPad = 1;  // summaries that reach into a block from the one before
constexpr int kBlocksPerEdge = 8;
constexpr int kTokens = 8;  // rows of one block of threads
constexpr int kKeysPerLane = 64;  // block scores that a lane keeps in registers

extern "C" __global__ void __launch_bounds__(256, 2)
top_k_2048(const __grid_constant__ Params params) {
  const auto tile = find_token_tile<kTokens>(params.cu_q, params.cu_k, params.batch, params.token_begin, params.token_end, blockIdx.x);
  const int warp = warp_index();
  if (warp >= tile.tokens) return;
  const int select_head = blockIdx.y;
  const int own = (tile.position + warp) / kBlock;
  const int row = tile.row + warp;
  const auto ids = id_row<kTopK>(params.ids, select_head, params.total_q, row);
  if (tile.k_length < kDenseLength) {
    pad_ids<kTopK>(ids, 0);
  } else {
    const int forced_from = first_forced<kTopK, kLocal>(own);
    const auto scores = score_row(params.buffer[2], select_head, row - params.token_begin, params.token_end - params.token_begin, params.score_stride);
    const auto edges = edge_row<kRowsPerBlock, kPad>(scores, params.score_stride);
    BlockKeys<kKeysPerLane> keys;
    load_keys<Max, kInit, kBlocksPerEdge>(keys, scores, edges, 0, forced_from, own);
    ThresholdSearch search;
    start_search<kTopK>(search, own);
    for (int step = 0; step < 32; ++step) {
      if (is_open(search)) {
        const int threshold = next_threshold(search, step);
        const int count = count_at_least(keys, threshold);
        narrow(search, threshold, count);
      }
    }
    const int above = count_above(keys, search.threshold);
    store_ids(ids, keys, search.threshold, 0, 0, 0, search.wanted - above);
    pad_ids<kTopK>(ids, search.wanted);
  }
}
