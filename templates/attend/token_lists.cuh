// Which tokens attend to a key block? A selection says it the other way round, blocks per token; so
// it is turned round on the device, without a read-back. First bits (clear_marks, mark_tokens,
// store_marks: blocks of kMarkTokens tokens, all threads of a block), then for each block of a
// sequence an ascending list of its tokens (list_tokens, a warp each; of pairs of key tiles:
// key_items.cuh). Serves the kernels of gradients that own keys. Duplicate ids count once; -1, ids
// out of range and blocks in a token's future are ignored. Where lists lie is a matter of who comes
// first; what is in them is not.
//
// Sequence s owns the block slots from cu_k[s] / kBlock + s on. Bits [selections, slots, words] of
// 32 tokens each, counted in their query segment. Ranges: two numbers for each slot, where its list
// begins and how many tokens it has; in front of them the count of entries in use.
#pragma once
#include "winnow/sequence.cuh"

// Tokens that one block of threads marks, and the words that hold their bits.
constexpr int kMarkTokens = 256, kMarkWords = kMarkTokens / 32;

// Bits of kMarkTokens tokens for kBlocks key blocks. kBlocks * 32 bytes.
template <int kBlocks> struct TokenMarks {
  static constexpr int kBytes = kBlocks * kMarkWords * 4;
  unsigned *words;
  explicit __device__ __forceinline__ TokenMarks(unsigned char *bytes)
      : words(reinterpret_cast<unsigned *>(bytes)) {}
};

// Some keys of one sequence, and the query segment that may attend to them.
struct KeyBlock {
  int sequence; // index in the batch
  int first;    // first key, counted in its sequence
  int keys;     // 0: nothing to do
  int row;      // first key's row in k and v
  int k_row;    // the sequence's first row in k and v
  int q_row;    // the segment's first row in q
  int q_length; // tokens of the segment
  int history;  // position of its first token
  int k_length; // keys of the sequence
};

// The tokens that attend to a key block, by their index in the query segment.
struct TokenList {
  const int *tokens; // ascending; null: all from `first` on
  int first, count;
  __device__ __forceinline__ int token(int i) const {
    return tokens == nullptr ? first + i : tokens[i];
  }
};

//===-- Slots ---------------------------------------------------------------------------------===//

// The keys in slot `slot`, as find_token_tile finds tokens.
template <int kKeys>
__device__ __forceinline__ KeyBlock find_key_block(const int *cu_q, const int *cu_k, int batch,
                                                   int total_k, int slot) {
  const TokenTile tile = find_token_tile<kKeys>(cu_k, cu_k, batch, 0, total_k, slot);
  KeyBlock block;
  block.sequence = tile.sequence;
  block.first = tile.first;
  block.keys = tile.tokens;
  block.row = tile.row;
  block.k_row = tile.k_row;
  block.q_row = cu_q[tile.sequence];
  block.q_length = cu_q[tile.sequence + 1] - block.q_row;
  block.history = tile.k_length - block.q_length;
  block.k_length = tile.k_length;
  return block;
}

// Words of a slot's bits, and slots of a selection.
__device__ __forceinline__ int slot_words(const Params &params) {
  return (params.max_q + kMarkTokens - 1) / kMarkTokens * kMarkWords;
}
template <int kBlock> __device__ __forceinline__ int slot_count(const Params &params) {
  return params.total_k / kBlock + params.batch;
}
template <int kBlock> __device__ __forceinline__ int slot_of(const KeyBlock &block) {
  return block.k_row / kBlock + block.sequence + block.first / kBlock;
}

//===-- Marks ---------------------------------------------------------------------------------===//

template <int kBlocks>
__device__ __forceinline__ void clear_marks(const TokenMarks<kBlocks> &marks) {
  for (int i = threadIdx.x; i < kBlocks * kMarkWords; i += blockDim.x)
    marks.words[i] = 0;
}

// Marks which of the blocks [from_block, from_block + kBlocks) the tile's tokens selected. `ids`
// [selections, total_q, kTopK].
template <int kTopK, int kBlock, int kBlocks>
__device__ __forceinline__ void mark_tokens(const TokenMarks<kBlocks> &marks, const int *ids,
                                            int select_head, int total_q, const TokenTile &tile,
                                            int from_block) {
  const int *selected = ids + (static_cast<long long>(select_head) * total_q + tile.row) * kTopK;
  for (int i = threadIdx.x; i < tile.tokens * kTopK; i += blockDim.x) {
    const int token = i / kTopK, id = selected[i], position = tile.position + token;
    if (id >= from_block && id < from_block + kBlocks && position >= 0 && id <= position / kBlock)
      atomicOr(&marks.words[(id - from_block) * kMarkWords + token / 32], 1u << (token % 32));
  }
}

// Writes the words of the tile's tokens, of blocks in front of `end`.
template <int kBlock, int kBlocks>
__device__ __forceinline__ void store_marks(void *bits, const TokenMarks<kBlocks> &marks,
                                            const Params &params, int select_head,
                                            const TokenTile &tile, int from_block, int end) {
  const int words = slot_words(params);
  const long long slot = static_cast<long long>(select_head) * slot_count<kBlock>(params) +
                         tile.k_row / kBlock + tile.sequence + from_block;
  unsigned *to = static_cast<unsigned *>(bits) + slot * words + tile.first / 32;
  for (int i = threadIdx.x; i < min(kBlocks, end - from_block) * kMarkWords; i += blockDim.x)
    to[static_cast<long long>(i / kMarkWords) * words + i % kMarkWords] = marks.words[i];
}

//===-- Lists ---------------------------------------------------------------------------------===//

// No entry is in use. By one thread, in a kernel before that of list_tokens.
__device__ __forceinline__ void open_lists(void *ranges) { *static_cast<int *>(ranges) = 0; }

// The sum of `count` over the lanes in front of this one.
__device__ __forceinline__ int lanes_before(int count) {
  int sum = count;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const int below = __shfl_up_sync(kFullWarp, sum, distance);
    sum += lane_index() >= distance ? below : 0;
  }
  return sum - count;
}

// By one warp: the list of the block's tokens, from their bits.
template <int kBlock>
__device__ __forceinline__ void list_tokens(void *lists, void *ranges, const void *bits,
                                            const Params &params, int select_head,
                                            const KeyBlock &block) {
  const int lane = lane_index(), words = slot_words(params);
  const long long slot =
      static_cast<long long>(select_head) * slot_count<kBlock>(params) + slot_of<kBlock>(block);
  const unsigned *row = static_cast<const unsigned *>(bits) + slot * words;
  // Tokens in front of the block have no bits; nobody wrote those words.
  const int from = max(0, block.first - block.history) / 32, end = (block.q_length + 31) / 32;
  int count = 0;
  for (int word = from + lane; word < end; word += 32)
    count += __popc(row[word]);
  count = warp_sum(count);
  int begin = 0;
  if (lane == 0) {
    begin = atomicAdd(static_cast<int *>(ranges), count);
    static_cast<uint2 *>(ranges)[1 + slot] = make_uint2(begin, count);
  }
  int *to = static_cast<int *>(lists) + __shfl_sync(kFullWarp, begin, 0);
  for (int first = from; first < end; first += 32) {
    const int word = first + lane;
    unsigned left = word < end ? row[word] : 0u;
    const int own = __popc(left), before = lanes_before(own);
    for (int i = 0; i < own; ++i) {
      to[before + i] = word * 32 + __ffs(left) - 1;
      left &= left - 1;
    }
    to += __shfl_sync(kFullWarp, before + own, 31);
  }
}

// Every token that sees the block's first key.
__device__ __forceinline__ TokenList later_tokens(const KeyBlock &block) {
  const int first = max(0, block.first - block.history);
  return {nullptr, first, max(0, block.q_length - first)};
}

// What list_tokens has made of the block; later_tokens where its sequence attends to every key.
template <int kBlock>
__device__ __forceinline__ TokenList listed_tokens(const void *lists, const void *ranges,
                                                   const Params &params, int select_head,
                                                   const KeyBlock &block, bool all) {
  if (all)
    return later_tokens(block);
  const long long slot =
      static_cast<long long>(select_head) * slot_count<kBlock>(params) + slot_of<kBlock>(block);
  const uint2 range = static_cast<const uint2 *>(ranges)[1 + slot];
  return {static_cast<const int *>(lists) + range.x, 0, static_cast<int>(range.y)};
}

// Of a list the tokens in [begin, end).
__device__ __forceinline__ TokenList tokens_between(const TokenList &list, int begin, int end) {
  if (list.tokens == nullptr) {
    const int first = max(list.first, begin);
    return {nullptr, first, max(0, min(list.first + list.count, end) - first)};
  }
  auto entry_of = [&](int token) { // the first entry that is not in front of `token`
    int low = 0, high = list.count;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (list.tokens[middle] < token)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  };
  const int from = entry_of(begin);
  return {list.tokens + from, 0, entry_of(end) - from};
}
