// backward_keys of infllm_v2: the gradients of 64 keys and values, from all tokens that attend to them; a block of threads each.
// Dynamic shared memory: 98368 bytes.
#include "winnow/sm80.cuh"

constexpr int kHeads = 32;  // query heads
constexpr int kKvHeads = 2;  // key/value heads
constexpr int kTileHeads = 16;  // query heads of one stage
constexpr int kDim = 128;  // elements of one query or key row
constexpr int kValueDim = 128;  // elements of one value or output row
constexpr int kKeys = 64;  // keys of one block of threads
constexpr int kRows = 32;  // query rows of one stage
constexpr int kTokens = 2;  // tokens of one stage
constexpr int kBlock = 64;  // keys of one selectable block
constexpr float kSoftmaxScale = 0.0883883461f;  // what a logit has been multiplied by
constexpr float kScale = 0.127517432f;  // softmax scale times log2 e: weights are powers of 2
constexpr int kStages = 4;  // stages of the ring
constexpr int kConsumerWarps = 4;  // warps that compute
constexpr int kProducerThreads = 128;  // threads that load

extern "C" __global__ void __launch_bounds__(256, 1)
backward_keys(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const SharedTile<kKeys, kDim, bf16> keys{shared + 65536};
  static_assert(SharedTile<kKeys, kDim, bf16>::kBytes == 16384);
  const SharedTile<kKeys, kValueDim, bf16> values{shared + 81920};
  static_assert(SharedTile<kKeys, kValueDim, bf16>::kBytes == 16384);
  const Ring<kStages, SharedTile<kRows, kDim, bf16>> query_ring{shared + 0};
  static_assert(Ring<kStages, SharedTile<kRows, kDim, bf16>>::kBytes == 32768);
  const Ring<kStages, SharedTile<kRows, kValueDim, bf16>> gradient_ring{shared + 32768};
  static_assert(Ring<kStages, SharedTile<kRows, kValueDim, bf16>>::kBytes == 32768);
  const RingBarriers<kStages> barriers{shared + 98304};
  static_assert(RingBarriers<kStages>::kBytes == 64);
  const auto block = find_key_block<kKeys>(params.cu_q, params.cu_k, params.batch, params.total_k, blockIdx.x);
  if (block.keys == 0) return;
  const int warp = warp_index();
  const int kv_head = blockIdx.y % kKvHeads;
  const int range = blockIdx.y / kKvHeads;
  const int warp_row = warp * 16;
  Accumulator<16, kDim> key_gradient;
  Accumulator<16, kValueDim> value_gradient;
  if (warp < kConsumerWarps) {
    clear(key_gradient);
    clear(value_gradient);
  }
  const int thread = thread_index();
  load_rows<256>(keys, global_rows<bf16, kKvHeads * kDim>(params.k, block.row, kv_head * kDim), 0, block.keys, thread);
  load_rows<256>(values, global_rows<bf16, kKvHeads * kValueDim>(params.v, block.row, kv_head * kValueDim), 0, block.keys, thread);
  const int first_head = kv_head * kTileHeads;
  const auto listed = listed_tokens<kBlock>(params.buffer[3], params.buffer[2], params, first_head / kTileHeads, block, false);
  const int range_tokens = (params.max_q + params.parts - 1) / params.parts;
  const int range_begin = range * range_tokens;
  const auto list = tokens_between(listed, range_begin, range_begin + range_tokens);
  Cursor<kStages> cursor;
  if (thread == 0) {
    init_ring(barriers, kProducerThreads, kConsumerWarps);
  }
  wait_copies();
  sync_threads();
  if (warp < kConsumerWarps) {
    const int first_key = block.first + warp_row;
    for (int entry = 0; entry < list.count; entry += kTokens) {
      Accumulator<16, kRows> weights;
      Accumulator<16, kRows> changes;
      QueryColumns<kRows> columns;
      load_columns<kTileHeads, kTokens>(columns, params.buffer[0], list, block, entry, first_head, params.total_q);
      clear(weights);
      clear(changes);
      wait_full(barriers, cursor);
      const auto query_tile = stage(query_ring, cursor);
      const auto gradient_tile = stage(gradient_ring, cursor);
      mma_abt_rows(weights, keys, warp_row, query_tile, 0);
      mma_abt_rows(changes, values, warp_row, gradient_tile, 0);
      subtract_column_deltas(changes, columns);
      weigh_columns(weights, changes, columns, first_key, kScale);
      LeftOperand<16, kRows, bf16> weight_factor;
      round_to_operand(weight_factor, weights);
      mma_ab(value_gradient, weight_factor, gradient_tile);
      LeftOperand<16, kRows, bf16> change_factor;
      round_to_operand(change_factor, changes);
      mma_ab(key_gradient, change_factor, query_tile);
      arrive_empty(barriers, cursor);
      advance(cursor);
    }
    store_key_gradient<kKvHeads, bf16>(params.dk, key_gradient, block, warp_row, kv_head, kSoftmaxScale, params.parts == 1);
    store_key_part<kKvHeads>(params.buffer[4], key_gradient, block, warp_row, kv_head, range, params.total_k, params.parts == 1);
    store_key_gradient<kKvHeads, bf16>(params.dv, value_gradient, block, warp_row, kv_head, 1.0f, params.parts == 1);
    store_key_part<kKvHeads>(params.buffer[5], value_gradient, block, warp_row, kv_head, range, params.total_k, params.parts == 1);
  } else {
    const auto queries = token_rows<bf16, kHeads, kTileHeads, kTokens>(params.q, list, block, first_head, kDim);
    const auto gradients = token_rows<bf16, kHeads, kTileHeads, kTokens>(params.dout, list, block, first_head, kValueDim);
    const int producer = thread - 128;
    for (int entry = 0; entry < list.count; entry += kTokens) {
      wait_empty(barriers, cursor);
      const auto query_tile = stage(query_ring, cursor);
      load_rows<kProducerThreads>(query_tile, queries, entry, list.count, producer);
      const auto gradient_tile = stage(gradient_ring, cursor);
      load_rows<kProducerThreads>(gradient_tile, gradients, entry, list.count, producer);
      arrive_full(barriers, cursor);
      advance(cursor);
    }
  }
}
