// top_k of infllm_v2: the 96 best blocks of each token, forced ones included, for rows of up to 2048 blocks; ascending ids, -1 behind the last.
// Dynamic shared memory: 0 bytes.
#include "winnow/sm80.cuh"

constexpr int kBlock = 64;  // keys of one selectable block
constexpr int kTopK = 96;  // selected blocks per token, at most
constexpr int kLocal = 33;  // blocks up to the query's own that are always selected
constexpr int kRowsPerBlock = 4;  // summaries per block
constexpr int kPad = 1;  // summaries that reach into a block from the one before
constexpr int kTokens = 8;  // rows of one block of threads
constexpr int kInit = 1;  // first blocks, always selected
constexpr int kSearched = 62;  // blocks that are selected by their scores
constexpr int kBlocksPerEdge = 8;  // blocks from one edge to the next
constexpr int kChunkBlocks = 256;  // blocks of a warp in 4 registers of each lane

extern "C" __global__ void __launch_bounds__(256, 4)
top_k_2048(const __grid_constant__ Params params) {
  const auto tile = find_token_tile<kTokens>(params.cu_q, params.cu_k, params.batch, params.token_begin, params.token_end, blockIdx.x);
  const int warp = warp_index();
  if (warp >= tile.tokens) return;
  const int select_head = blockIdx.y;
  const int own = (tile.position + warp) / kBlock;
  const int row = tile.row + warp;
  const auto ids = id_row<kTopK>(params.ids, select_head, params.total_q, row);
  if (own < kTopK) {
    const int count = own + 1;
    store_range(ids, 0, 0, count);
    pad_ids<kTopK>(ids, count);
  } else {
    const int forced_from = own - kLocal + 1;
    store_range(ids, 0, 0, kInit);
    store_range(ids, kTopK - kLocal, forced_from, kLocal);
    const auto rank_row = score_row<ScoreRank>(params.buffer[2], select_head, row - params.token_begin, params.token_end - params.token_begin, params.score_stride);
    const auto edges = edge_row<kPad>(rank_row, padded_blocks<kBlock, kRowsPerBlock>(params.max_k));
    if (kChunkBlocks >= forced_from) {
      RankPairs<1> ranks;
      load_rank_pairs<kInit, kBlocksPerEdge>(ranks, rank_row, edges, 0, forced_from);
      const int upper = count_upper(ranks);
      const bool is_upper = upper >= kSearched;
      fold_ranks(ranks, is_upper);
      ThresholdSearch search;
      start_search<kSearched>(search, own);
      for (int step = 17; step < 32; ++step) {
        if (is_open(search)) {
          const int threshold = next_threshold(search, step);
          const int count = count_at_least(ranks, threshold);
          narrow(search, threshold, count);
        }
      }
      BlockMarks<1> marks;
      mark_blocks(marks, ranks, search.threshold);
      const int above = marked_above(marks);
      if (folded_leaves_order(search, is_upper)) {
        mark_unordered(ids);
      } else {
        store_marked(ids, marks, 0, kInit, 0, kSearched - above);
      }
    } else {
      if (kChunkBlocks * 2 >= forced_from) {
        RankPairs<2> ranks;
        load_rank_pairs<kInit, kBlocksPerEdge>(ranks, rank_row, edges, 0, forced_from);
        const int upper = count_upper(ranks);
        const bool is_upper = upper >= kSearched;
        fold_ranks(ranks, is_upper);
        ThresholdSearch search;
        start_search<kSearched>(search, own);
        for (int step = 17; step < 32; ++step) {
          if (is_open(search)) {
            const int threshold = next_threshold(search, step);
            const int count = count_at_least(ranks, threshold);
            narrow(search, threshold, count);
          }
        }
        BlockMarks<2> marks;
        mark_blocks(marks, ranks, search.threshold);
        const int above = marked_above(marks);
        if (folded_leaves_order(search, is_upper)) {
          mark_unordered(ids);
        } else {
          store_marked(ids, marks, 0, kInit, 0, kSearched - above);
        }
      } else {
        if (kChunkBlocks * 4 >= forced_from) {
          RankPairs<4> ranks;
          load_rank_pairs<kInit, kBlocksPerEdge>(ranks, rank_row, edges, 0, forced_from);
          const int upper = count_upper(ranks);
          const bool is_upper = upper >= kSearched;
          fold_ranks(ranks, is_upper);
          ThresholdSearch search;
          start_search<kSearched>(search, own);
          for (int step = 17; step < 32; ++step) {
            if (is_open(search)) {
              const int threshold = next_threshold(search, step);
              const int count = count_at_least(ranks, threshold);
              narrow(search, threshold, count);
            }
          }
          BlockMarks<4> marks;
          mark_blocks(marks, ranks, search.threshold);
          const int above = marked_above(marks);
          if (folded_leaves_order(search, is_upper)) {
            mark_unordered(ids);
          } else {
            store_marked(ids, marks, 0, kInit, 0, kSearched - above);
          }
        } else {
          if (kChunkBlocks * 6 >= forced_from) {
            RankPairs<6> ranks;
            load_rank_pairs<kInit, kBlocksPerEdge>(ranks, rank_row, edges, 0, forced_from);
            const int upper = count_upper(ranks);
            const bool is_upper = upper >= kSearched;
            fold_ranks(ranks, is_upper);
            ThresholdSearch search;
            start_search<kSearched>(search, own);
            for (int step = 17; step < 32; ++step) {
              if (is_open(search)) {
                const int threshold = next_threshold(search, step);
                const int count = count_at_least(ranks, threshold);
                narrow(search, threshold, count);
              }
            }
            BlockMarks<6> marks;
            mark_blocks(marks, ranks, search.threshold);
            const int above = marked_above(marks);
            if (folded_leaves_order(search, is_upper)) {
              mark_unordered(ids);
            } else {
              store_marked(ids, marks, 0, kInit, 0, kSearched - above);
            }
          } else {
            RankPairs<8> ranks;
            load_rank_pairs<kInit, kBlocksPerEdge>(ranks, rank_row, edges, 0, forced_from);
            const int upper = count_upper(ranks);
            const bool is_upper = upper >= kSearched;
            fold_ranks(ranks, is_upper);
            ThresholdSearch search;
            start_search<kSearched>(search, own);
            for (int step = 17; step < 32; ++step) {
              if (is_open(search)) {
                const int threshold = next_threshold(search, step);
                const int count = count_at_least(ranks, threshold);
                narrow(search, threshold, count);
              }
            }
            BlockMarks<8> marks;
            mark_blocks(marks, ranks, search.threshold);
            const int above = marked_above(marks);
            if (folded_leaves_order(search, is_upper)) {
              mark_unordered(ids);
            } else {
              store_marked(ids, marks, 0, kInit, 0, kSearched - above);
            }
          }
        }
      }
    }
  }
}
