// weigh of infllm_v2: softmax weights of one token's heads for a part of the summaries that the host keeps.
// Dynamic shared memory: 24624 bytes.
#include "winnow/sm80.cuh"

constexpr int kHeads = 32;  // query heads
constexpr int kKvHeads = 2;  // key/value heads
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
constexpr int kTileHeads = 16;  // heads of one mma tile
constexpr int kTileKeys = 512;  // keys from one tile of 32 summaries to the next
constexpr int kRows = 32;  // summaries of one tile
constexpr int kMeans = 4;  // scored summaries whose mean is one of the normaliser's
constexpr int kMeanStep = 2;  // from one of these to the next
constexpr int kMeanStride = 4;  // from the first one of a normaliser's summary to that of the next
constexpr float kScale = 0.127517432f;  // softmax scale times log2 e
constexpr int kStages = 3;  // stages of the ring
constexpr int kConsumerWarps = 1;  // warps that compute
constexpr int kProducerWarps = 1;  // warps that load, a tile each in turn
constexpr int kProducerThreads = 32;  // threads that load a tile

extern "C" __global__ void __launch_bounds__(64, 6)
weigh(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const int warp = warp_index();
  start_later_kernels();
  const Ring<kStages, SharedTile<kRows, kDim, bf16>> summary_ring{shared + 0};
  static_assert(Ring<kStages, SharedTile<kRows, kDim, bf16>>::kBytes == 24576);
  const RingBarriers<kStages> barriers{shared + 24576};
  static_assert(RingBarriers<kStages>::kBytes == 48);
  const int row_tiles = (params.max_k + (kTileKeys - 1)) / kTileKeys;
  const int parts = min(min(params.parts * 2, 128), max(row_tiles / 2, 1));
  const int part = blockIdx.x % parts;
  const int token = blockIdx.x / parts;
  const int row = params.token_begin + token;
  const auto tile = find_token(params.cu_q, key_lengths(params), params.batch, row);
  const int head_tile = blockIdx.y;
  const int first_head = head_tile * kTileHeads;
  LeftOperand<16, kDim, bf16> query;
  if (warp < kConsumerWarps) {
    const auto heads = query_rows<kTileHeads>(tile, 0);
    load_query<kHeads>(query, strided_heads(params.q, params.q_stride), heads, first_head);
  }
  NormalizerSums<1> sums;
  const int own = tile.position / kBlock;
  const bool x = tile.tokens == 0 || own < kTopK;
  const int kv_head = first_head / (kHeads / kKvHeads);
  const int rows = summary_rows<kWindow, kStride>(tile.k_length);
  const int visible = visible_absolute<kWindow, kStride>(tile.position, rows);
  const int fine_end = (own - kLocal + 1) * kRowsPerBlock;
  const int normalizer_visible = visible_absolute<kCoarseWindow, kCoarseStride>(tile.position, summary_rows<kCoarseWindow, kCoarseStride>(tile.k_length));
  const int tiles = (min(max(max(fine_end, visible), normalizer_visible * kMeanStride + 3), rows) + (kRows - 1)) / kRows;
  const int begin = tiles * part / parts;
  const int end = tiles * (part + 1) / parts;
  const int old_rows = summary_rows<kWindow, kStride>(tile.position - tile.first);
  if (x || params.token_begin > 0 || end * kRows > old_rows) {
    wait_earlier_kernels();
  }
  if (x) return;
  const int from = begin < end ? max(begin - 1, 0) : end;
  Cursor<kStages> cursor;
  if (thread_index() == 0) {
    init_ring(barriers, kProducerThreads, kConsumerWarps);
  }
  sync_threads();
  if (warp < kConsumerWarps) {
    const int column = token * 2 + head_tile;
    for (int entry = from; entry < end; ++entry) {
      const int first_row = entry * kRows;
      Accumulator<16, kRows> logits;
      clear(logits);
      wait_full(barriers, cursor);
      const auto summary_tile = stage(summary_ring, cursor);
      mma_abt(logits, query, summary_tile);
      const bool counts = entry >= begin;
      add_normalizer_rows<kMeans, kMeanStep, kMeanStride>(sums, logits, first_row, normalizer_visible, counts, kScale);
      if (counts) {
        store_head_weights<kTileHeads>(params.buffer[5], logits, column, row_tiles, entry, visible, kScale);
      }
      arrive_empty(barriers, cursor);
      advance(cursor);
    }
    const int tokens = params.token_end - params.token_begin;
    store_normalizer_share<kHeads, kTileHeads>(params.buffer[4], sums, part, token, tokens, first_head);
  } else {
    const auto source = in_summary_order(read_once(kept_rows<bf16, kWindow, kStride>(params, 0, tile, kv_head)));
    const int producer = thread_index() - 32;
    Cursor<kStages> place;
    follow(place, cursor);
    const int turn = producer / 32;
    const int lane = producer % 32;
    advance_by(place, turn);
    for (int entry = from + turn; entry < end; entry += kProducerWarps) {
      const int first_row = entry * kRows;
      const int page = find_page(source, first_row, rows, lane);
      wait_empty(barriers, place);
      const auto summary_tile = stage(summary_ring, place);
      load_found_rows(summary_tile, source, page, first_row, rows, lane);
      arrive_full(barriers, place);
      advance_by(place, kProducerWarps);
    }
  }
  wait_earlier_kernels();
}
