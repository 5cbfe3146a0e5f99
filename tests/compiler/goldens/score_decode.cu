// score_decode of relu_select: block scores of one token from a part of the summaries that the host keeps.
// Dynamic shared memory: 36864 bytes.
#include "winnow/sm80.cuh"

constexpr int kHeads = 32;  // query heads
constexpr int kKvHeads = 2;  // key/value heads
constexpr int kGroup = 16;  // query heads that share one selection
constexpr int kDim = 128;  // elements of one query or summary row
constexpr int kBlock = 64;  // keys of one selectable block
constexpr int kTopK = 96;  // selected blocks per token, at most
constexpr int kLocal = 2;  // blocks up to the query's own that are always selected
constexpr int kDenseLength = -1;  // shorter sequences are not selected from
constexpr int kWindow = 32;  // keys of one summary
constexpr int kStride = 16;  // keys from one summary to the next
constexpr int kRowsPerBlock = 4;  // summaries per block
constexpr int kPad = 1;  // summaries that reach into a block from the one before
constexpr int kThreads = 128;
constexpr int kWarps = 4;
constexpr int kRows = 128;  // summaries of one tile
constexpr int kQueryRows = 16;  // rows of queries: heads, to whole mma tiles
constexpr float kScale = 0.0883883461f;  // scale of a score

extern "C" __global__ void __launch_bounds__(128, 4)
score_decode(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const auto rewrite = [](float value, int query, int key) {
    return fmaxf(value, 0.0f);
  };
  start_later_kernels();
  const int tokens = params.token_end - params.token_begin;
  const int parts = gridDim.x / tokens;
  const int part = blockIdx.x / tokens;
  const int token = blockIdx.x % tokens;
  const int row = params.token_begin + token;
  const auto tile = find_token(params.cu_q, key_lengths(params), params.batch, row);
  wait_earlier_kernels();
  if (tile.tokens == 0) return;
  const int own = tile.position / kBlock;
  if (own < kTopK || tile.k_length < kDenseLength) return;
  const int warp = warp_index();
  const int warp_row = warp * 32;
  const int select_head = blockIdx.y;
  const int first_head = select_head * kGroup;
  const int kv_head = first_head / (kHeads / kKvHeads);
  const int rows = summary_rows<kWindow, kStride>(tile.k_length);
  const int visible = visible_absolute<kWindow, kStride>(tile.position, rows);
  const int fine_end = (own - kLocal + 1) * kRowsPerBlock;
  const auto source = read_once(kept_rows<bf16, kWindow, kStride>(params, 0, tile, kv_head));
  const int tiles = (fine_end + (kRows - 1)) / kRows;
  const int begin = tiles * part / parts * kRows;
  const int end = tiles * (part + 1) / parts * kRows;
  if (begin >= end) return;
  const SharedTile<kQueryRows, kDim, bf16> queries{shared + 32768};
  static_assert(SharedTile<kQueryRows, kDim, bf16>::kBytes == 4096);
  const SharedTile<kRows, kDim, bf16> summaries{shared + 0};
  static_assert(SharedTile<kRows, kDim, bf16>::kBytes == 32768);
  load_head_rows<kThreads, kHeads, kGroup>(queries, strided_heads(params.q, params.q_stride), row, first_head);
  load_summaries<kThreads>(summaries, source, begin, visible);
  for (int tile_row = begin; tile_row < end; tile_row += kRows) {
    RowScores scores;
    clear_scores<Sum>(scores);
    const int first_row = tile_row + warp_row;
    Accumulator<16, 32> logits;
    clear(logits);
    wait_copies();
    sync_threads();
    mma_abt_rows(logits, queries, 0, summaries, warp_row);
    const int next = tile_row + kRows;
    sync_threads();
    if (next < end) {
      load_summaries<kThreads>(summaries, source, next, visible);
    }
    add_raw_head_scores<Sum, kGroup>(scores, logits, 0, tile.position, first_row, kScale, rewrite);
    combine_lane_groups<Sum>(scores);
    if (min(first_row + 32, fine_end) > visible) {
      mask_scores<Max>(scores, first_row, visible, rows, -kInfinity);
    }
    const auto block_scores = score_row<float>(params.buffer[1], select_head, token, tokens, params.score_stride);
    store_block_scores<Max, kRowsPerBlock, kPad>(block_scores, scores, first_row, rows, padded_blocks<kBlock, kRowsPerBlock>(params.max_k), lane_index() < 4);
  }
}
