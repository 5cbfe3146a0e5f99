// score of infllm_v2: block scores of every token, heads combined and summaries pooled in registers.
// Dynamic shared memory: 99328 bytes.
#include "winnow/sm80.cuh"

constexpr int kHeads = 32;  // query heads
constexpr int kKvHeads = 2;  // key/value heads
constexpr int kGroup = 16;  // query heads that share one selection
constexpr int kDim = 128;  // elements of one query or summary row
constexpr int kBlock = 64;  // keys of one selectable block
constexpr int kTopK = 96;  // selected blocks per token, at most
constexpr int kLocal = 33;  // blocks up to the query's own that are always selected
constexpr int kDenseLength = 8192;  // shorter sequences are not selected from
constexpr int kWindow = 32;  // keys of one summary
constexpr int kStride = 16;  // keys from one summary to the next
constexpr int kCoarseWindow = 128;  // the same for the normaliser's summaries
constexpr int kCoarseStride = 64;
constexpr int kRowsPerBlock = 4;  // summaries per block
constexpr int kPad = 1;  // summaries that reach into a block from the one before
constexpr int kSets = 1;  // sets of 8 tokens of one warp
constexpr int kPairs = 8;  // pairs of heads of one token
constexpr int kThreads = 256;
constexpr int kTokens = 16;  // tokens of one block of threads
constexpr int kQueryRows = 256;  // rows of queries: tokens x heads
constexpr int kRows = 128;  // summaries of one tile
constexpr float kScale = 1.0f;  // summaries hold the softmax scale times log2 e

extern "C" __global__ void __launch_bounds__(256, 1)
score(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const SharedTile<kQueryRows, kDim, bf16> queries{shared + 0};
  static_assert(SharedTile<kQueryRows, kDim, bf16>::kBytes == 65536);
  const SharedTile<kRows, kDim, bf16> summaries{shared + 65536};
  static_assert(SharedTile<kRows, kDim, bf16>::kBytes == 32768);
  const int slot = gridDim.x - 1 - blockIdx.x;
  const auto tile = find_token_tile<kTokens>(params.cu_q, params.cu_k, params.batch, params.token_begin, params.token_end, slot);
  if (tile.tokens == 0) return;
  const int own = last_position(tile) / kBlock;
  if (own < kTopK || tile.k_length < kDenseLength) return;
  const int select_head = blockIdx.y;
  const int first_head = select_head * kGroup;
  const int kv_head = first_head / (kHeads / kKvHeads);
  const int warp = warp_index();
  const int token_group = warp % 2;
  const int part = warp / 2;
  const int fine_rows = summary_rows<kWindow, kStride>(tile.k_length);
  RightOperand<32, kDim, bf16> operand;
  load_queries<kThreads, kHeads, kGroup, kSets>(queries, params.q, tile, first_head);
  const int coarse_rows = summary_rows<kCoarseWindow, kCoarseStride>(tile.k_length);
  const int coarse_end = max(visible_by_segment<kCoarseStride>(tile.first + tile.tokens - 1, tile.q_length, coarse_rows), 1);
  const auto coarse = summary_of<bf16, kDim, kCoarseStride>(params.buffer[1], kv_head, params.total_k, tile.k_row);
  const int coarse_all = visible_by_segment<kCoarseStride>(tile.first, tile.q_length, coarse_rows);
  const NormalizerTable<kQueryRows> table{shared + 98304};
  static_assert(NormalizerTable<kQueryRows>::kBytes == 1024);
  LogSumExp<8> sums;
  start_sums(sums, 0.0f);
  load_summaries<kThreads>(summaries, coarse, 0, coarse_rows);
  const auto fine = summary_of<bf16, kDim, kStride>(params.buffer[0], kv_head, params.total_k, tile.k_row);
  for (int row = 0; row < coarse_end; row += kRows) {
    wait_copies();
    sync_threads();
    load_operand(operand, summaries, part * 32);
    const int next = row + kRows;
    sync_threads();
    if (next < coarse_end) {
      load_summaries<kThreads>(summaries, coarse, next, coarse_rows);
    } else {
      load_summaries<kThreads>(summaries, fine, 0, fine_rows);
    }
    const int first_row = row + part * 32;
    const int token = set_token<kSets>(token_group, 0);
    const int visible = visible_by_segment<kCoarseStride>(tile.first + token, tile.q_length, coarse_rows);
    if (first_row + 32 > coarse_all) {
      #pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        Accumulator<16, 32> logits;
        start_below(logits, sums, pair);
        const int query_row = token_group * 128 + pair * 16;
        mma_abt(logits, queries, query_row, operand);
        mask_summaries(logits, first_row, visible);
        add_powers(sums, pair, logits);
      }
    } else {
      #pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        Accumulator<16, 32> logits;
        start_below(logits, sums, pair);
        const int query_row = token_group * 128 + pair * 16;
        mma_abt(logits, queries, query_row, operand);
        add_powers(sums, pair, logits);
      }
    }
  }
  for (int turn = 0; turn < 4; ++turn) {
    sync_threads();
    if (part == turn) {
      merge_normalizers(table, sums, token_group, turn == 0);
    }
  }
  sync_threads();
  const bool leaves = table_leaves_weights<kThreads>(table);
  const bool large = sync_threads_any(leaves);
  sync_threads();
  if (large == false) {
    weigh_normalizers<kThreads>(table);
  }
  const int fine_end = (own - kLocal + 1) * kRowsPerBlock;
  const int fine_all = visible_by_segment<kStride>(tile.first, tile.q_length, fine_rows);
  for (int row = 0; row < fine_end; row += kRows) {
    wait_copies();
    sync_threads();
    load_operand(operand, summaries, part * 32);
    const int next = row + kRows;
    sync_threads();
    if (next < fine_end) {
      load_summaries<kThreads>(summaries, fine, next, fine_rows);
    }
    const int first_row = row + part * 32;
    const int token = set_token<kSets>(token_group, 0);
    const int visible = visible_by_segment<kStride>(tile.first + token, tile.q_length, fine_rows);
    RowScores scores;
    clear_scores<Sum>(scores);
    if (large) {
      #pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        Accumulator<16, 32> logits;
        clear(logits);
        const int query_row = token_group * 128 + pair * 16;
        mma_abt(logits, queries, query_row, operand);
        add_softmax_scores<Sum, kGroup>(scores, logits, table, query_row, kScale);
      }
    } else {
      #pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        Accumulator<16, 32> logits;
        clear(logits);
        const int query_row = token_group * 128 + pair * 16;
        mma_abt(logits, queries, query_row, operand);
        add_weighted_heads<kGroup>(scores, logits, table, query_row);
      }
    }
    if (min(first_row + 32, fine_end) > fine_all) {
      mask_scores<Max>(scores, first_row, visible, fine_rows, 0.0f);
    }
    const auto block_scores = score_row<ScoreRank>(params.buffer[2], select_head, tile.row + token - params.token_begin, params.token_end - params.token_begin, params.score_stride);
    store_block_scores<Max, kRowsPerBlock, kPad>(block_scores, scores, first_row, fine_rows, padded_blocks<kBlock, kRowsPerBlock>(params.max_k), token < tile.tokens);
  }
}
