// normalize of infllm_v2: maximum and sum of each head's exponentials, over a part of the summaries that the host keeps.
// Dynamic shared memory: 36864 bytes.
#include "winnow/sm80.cuh"

constexpr int kHeads = 32;  // query heads
constexpr int kKvHeads = 2;  // key/value heads
constexpr int kGroup = 16;  // query heads that share one selection
constexpr int kDim = 128;  // elements of one query or summary row
constexpr int kBlock = 64;  // keys of one selectable block
constexpr int kTopK = 96;  // selected blocks per token, at most
constexpr int kLocal = 33;  // blocks up to the query's own that are always selected
constexpr int kDenseLength = -1;  // shorter sequences are not selected from
constexpr int kWindow = 32;  // keys of one summary
constexpr int kStride = 16;  // keys from one summary to the next
constexpr int kCoarseWindow = 128;  // the same for the normaliser's summaries
constexpr int kCoarseStride = 64;
constexpr int kRowsPerBlock = 4;  // summaries per block
constexpr int kPad = 1;  // summaries that reach into a block from the one before
constexpr int kThreads = 128;
constexpr int kWarps = 4;
constexpr int kRows = 128;  // summaries of one tile
constexpr int kTileHeads = 16;  // heads of one mma tile
constexpr int kQueryRows = 16;  // rows of queries: heads, to whole mma tiles
constexpr int kTileKeys = 8192;  // keys from one tile of the normaliser's summaries to the next
constexpr float kScale = 0.127517432f;  // softmax scale times log2 e

extern "C" __global__ void __launch_bounds__(128, 4)
normalize(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
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
  const int first_head = blockIdx.y * kTileHeads;
  const int kv_head = first_head / (kHeads / kKvHeads);
  const SharedTile<16, kDim, bf16> queries{shared + 32768};
  static_assert(SharedTile<16, kDim, bf16>::kBytes == 4096);
  const SharedTile<kRows, kDim, bf16> summaries{shared + 0};
  static_assert(SharedTile<kRows, kDim, bf16>::kBytes == 32768);
  const int rows = summary_rows<kCoarseWindow, kCoarseStride>(tile.k_length);
  const int visible = visible_absolute<kCoarseWindow, kCoarseStride>(tile.position, rows);
  const auto source = read_once(kept_rows<bf16, kCoarseWindow, kCoarseStride>(params, 1, tile, kv_head));
  const int tiles = (visible + (kRows - 1)) / kRows;
  const int begin = tiles * part / parts * kRows;
  const int end = tiles * (part + 1) / parts * kRows;
  load_head_rows<kThreads, kHeads, kTileHeads>(queries, strided_heads(params.q, params.q_stride), row, first_head);
  load_summaries<kThreads>(summaries, source, begin, visible);
  SoftmaxState state;
  for (int tile_row = begin; tile_row < end; tile_row += kRows) {
    Accumulator<16, 32> logits;
    clear(logits);
    wait_copies();
    sync_threads();
    mma_abt_rows(logits, queries, 0, summaries, warp_row);
    const int first_row = tile_row + warp_row;
    const int next = tile_row + kRows;
    sync_threads();
    if (next < end) {
      load_summaries<kThreads>(summaries, source, next, visible);
    }
    if (first_row + 32 > visible) {
      mask_summaries(logits, first_row, visible);
    }
    const bool raise_maximum_value = raise_maximum(state, logits, kScale);
    exponentiate(logits, state, kScale);
  }
  reduce_sum(state);
  const RowSums<kWarps> sums{shared + 0};
  static_assert(RowSums<kWarps>::kBytes == 512);
  wait_copies();
  sync_threads();
  put_row_sums(sums, state, warp, kScale);
  sync_threads();
  store_part_sums<kHeads, kTileHeads>(params.buffer[4], sums, part, token, tokens, first_head);
}
