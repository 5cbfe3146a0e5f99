// The work of gradients by keys on warpgroups: lists of tokens for pairs of key tiles, by a kernel
// before, and items of two neighbouring key tiles of one key/value head and one range of tokens,
// taken from a counter by blocks of threads that stay. Who takes an item does not matter: what the
// ranges add to a key tile's sums is added in the order of the ranges, each one waiting for its
// turn. Nobody can wait for ever, because items are taken in the order of their ranges, and the
// first unfinished one waits for nobody.
//
// The buffer of work holds the counter, and behind it a number for each key tile of each head: the
// range whose turn it is.
#pragma once
#include "winnow/pipeline.cuh"
#include "winnow/token_lists.cuh"

// Keys of a tile: the rows of a warpgroup's products. A pair is two tiles of one sequence.
constexpr int kItemTileKeys = 64, kPairTiles = 2, kItemKeys = kPairTiles * kItemTileKeys;

// Tokens by who of a pair wants them, as bits: 1 the first tile, 2 the second one. Those of kind n
// are list n - 1, ascending.
constexpr int kKinds = 3;
struct PairLists {
  TokenList list[kKinds];
};

// An item, as the scheduling warp says it to all others. 96 bytes.
struct KeyItem {
  PairLists tokens; // of the range
  int range;        // -1: no more work
  int kv_head;
  int first;     // first key of the pair, counted in its sequence
  int keys;      // keys of the pair
  int row;       // first key's row in k and v
  int q_row;     // the segment's first row in q
  int history;   // position of its first token
  int place;     // of the pair's first tile among all that have sums; that of the next one follows
  int works;     // a bit for each tile: the range adds to its sums
  int continues; // and: earlier ranges have
  int closes;    // and: they are whole with it
  int changes; // where those of the range's tokens are stored: its first tile (stored_changes.cuh)
};

// kItems items in shared memory.
template <int kItems> struct ItemRing {
  static constexpr int kBytes = kItems * sizeof(KeyItem);
  KeyItem *items;
  explicit __device__ __forceinline__ ItemRing(unsigned char *bytes)
      : items(reinterpret_cast<KeyItem *>(bytes)) {}
};

//===-- Pairs ---------------------------------------------------------------------------------===//

// Tile `tile` of a pair; without keys where the sequence has ended.
__device__ __forceinline__ KeyBlock tile_of_pair(const KeyBlock &pair, int tile) {
  KeyBlock block = pair;
  block.first += tile * kItemTileKeys;
  block.row += tile * kItemTileKeys;
  block.keys = max(0, min(kItemTileKeys, pair.keys - tile * kItemTileKeys));
  return block;
}

// The first token of the segment that sees the first key of a tile of a pair; behind them all where
// the tile has no keys.
__device__ __forceinline__ int first_seeing(const KeyBlock &pair, int tile) {
  const KeyBlock block = tile_of_pair(pair, tile);
  return block.keys > 0 ? min(max(0, block.first - block.history), block.q_length) : block.q_length;
}

// Which of all pairs a pair is. Sequence s owns the slots of pairs from cu_k[s] / kItemKeys + s on.
__device__ __forceinline__ long long number_of_pair(const Params &params, int select_head,
                                                    const KeyBlock &pair) {
  const long long slots = params.total_k / kItemKeys + params.batch;
  return select_head * slots + pair.k_row / kItemKeys + pair.sequence + pair.first / kItemKeys;
}
// Which of all lists of pairs is its first.
__device__ __forceinline__ long long first_list(const Params &params, int select_head,
                                                const KeyBlock &pair) {
  return kKinds * number_of_pair(params, select_head, pair);
}

// Which tokens attend to the tiles of a pair, as words of 32 of them, counted in the segment.
struct PairWords {
  const unsigned *rows[kPairTiles]; // bits of the tiles' blocks
  int first[kPairTiles];            // the first token that sees a tile
  int end;                          // words of the segment
  int q_length;
  bool all; // whoever sees a tile wants it

  // Tokens in front of a tile do not count; nobody wrote the words of those in front of its block.
  __device__ __forceinline__ unsigned of_tile(int tile, int word) const {
    if (word >= end || word < first[tile] / 32 || first[tile] >= q_length)
      return 0u;
    const int left = q_length - 32 * word;
    const unsigned marked = !all ? rows[tile][word] : left < 32 ? (1u << left) - 1 : ~0u;
    return word == first[tile] / 32 ? marked & ~0u << first[tile] % 32 : marked;
  }
  // Those of each kind.
  __device__ __forceinline__ void find(unsigned (&kinds)[kKinds], int word) const {
    const unsigned a = of_tile(0, word), b = of_tile(1, word);
    kinds[0] = a & ~b;
    kinds[1] = b & ~a;
    kinds[2] = a & b;
  }
  // Adds how many of each kind this lane's share of the words [begin, end) has; by one warp.
  __device__ __forceinline__ void add_counts(int (&count)[kKinds], int begin, int end) const {
    for (int word = begin + lane_index(); word < end; word += 32) {
      unsigned kinds[kKinds];
      find(kinds, word);
#pragma unroll
      for (int i = 0; i < kKinds; ++i)
        count[i] += __popc(kinds[i]);
    }
  }
};
template <int kBlock>
__device__ __forceinline__ PairWords pair_words(const void *bits, const Params &params,
                                                int select_head, const KeyBlock &pair, bool all) {
  PairWords words;
#pragma unroll
  for (int tile = 0; tile < kPairTiles; ++tile) {
    const long long slot = static_cast<long long>(select_head) * slot_count<kBlock>(params) +
                           slot_of<kBlock>(tile_of_pair(pair, tile));
    words.rows[tile] = static_cast<const unsigned *>(bits) + slot * slot_words(params);
    words.first[tile] = first_seeing(pair, tile);
  }
  words.end = (pair.q_length + 31) / 32;
  words.q_length = pair.q_length;
  words.all = all;
  return words;
}

//===-- Before the kernel ---------------------------------------------------------------------===//

// Nothing is taken and no range has been added; by all threads of a kernel that runs before.
__device__ __forceinline__ void open_key_items(void *work, int count) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
    static_cast<int *>(work)[i] = 0;
}

// How many tokens of each kind each of kWarps warps has found, and where the lists begin.
template <int kWarps> struct KindCounts {
  static constexpr int kBytes = 4 * (kKinds * kWarps + 1);
  int *values;
  explicit __device__ __forceinline__ KindCounts(unsigned char *bytes)
      : values(reinterpret_cast<int *>(bytes)) {}
  __device__ __forceinline__ int &begin() const { return values[kKinds * kWarps]; }
};

// By a block of kWarps warps: the lists of a pair, from the bits of its blocks, in the buffers of
// list_tokens; behind the count in `ranges` there are two numbers for each list of a pair.
template <int kBlock, int kWarps>
__device__ __forceinline__ void
list_pair_tokens(const KindCounts<kWarps> &counts, void *lists, void *ranges, const void *bits,
                 const Params &params, int select_head, const KeyBlock &pair) {
  const int lane = lane_index();
  const PairWords words = pair_words<kBlock>(bits, params, select_head, pair, false);
  const int begin_word = words.first[0] / 32, end = words.end;
  const int warp = warp_index(), share = (max(end - begin_word, 0) + kWarps - 1) / kWarps;
  const int own_first = begin_word + warp * share, own_end = min(end, own_first + share);
  int count[kKinds] = {};
  words.add_counts(count, own_first, own_end);
#pragma unroll
  for (int i = 0; i < kKinds; ++i) {
    count[i] = warp_sum(count[i]);
    if (lane == 0)
      counts.values[i * kWarps + warp] = count[i];
  }
  sync_threads();
  int total[kKinds] = {}, before[kKinds] = {}; // of all warps, and of those in front of this one
#pragma unroll
  for (int i = 0; i < kKinds; ++i)
    for (int other = 0; other < kWarps; ++other) {
      const int found = counts.values[i * kWarps + other];
      total[i] += found;
      before[i] += other < warp ? found : 0;
    }
  if (threadIdx.x == 0) {
    const int begin = atomicAdd(static_cast<int *>(ranges), total[0] + total[1] + total[2]);
    counts.begin() = begin;
    uint2 *own = static_cast<uint2 *>(ranges) + 1 + first_list(params, select_head, pair);
    own[0] = make_uint2(begin, total[0]);
    own[1] = make_uint2(begin + total[0], total[1]);
    own[2] = make_uint2(begin + total[0] + total[1], total[2]);
  }
  sync_threads();
  int *to[kKinds];
  to[0] = static_cast<int *>(lists) + counts.begin();
  to[1] = to[0] + total[0];
  to[2] = to[1] + total[1];
#pragma unroll
  for (int i = 0; i < kKinds; ++i)
    to[i] += before[i];
  for (int from = own_first; from < own_end; from += 32) {
    unsigned kinds[kKinds] = {};
    if (from + lane < own_end)
      words.find(kinds, from + lane);
#pragma unroll
    for (int i = 0; i < kKinds; ++i) {
      const int own = __popc(kinds[i]), below = lanes_before(own);
      int *place = to[i] + below;
      for (unsigned left = kinds[i]; left != 0; left &= left - 1)
        *place++ = (from + lane) * 32 + __ffs(left) - 1;
      to[i] += __shfl_sync(kFullWarp, below + own, 31);
    }
  }
}

//===-- By the scheduling warp ----------------------------------------------------------------===//

// The next item's number, the same in all lanes.
__device__ __forceinline__ int take_key_item(void *work) {
  int item = 0;
  if (lane_index() == 0)
    item = atomicAdd(static_cast<int *>(work), 1);
  return __shfl_sync(kFullWarp, item, 0);
}

// The ranges of a segment whose tokens see the tile's first key, `width` tokens each, and where
// there is none the last one.
__device__ __forceinline__ int last_range(const KeyBlock &block, int width) {
  return max(0, block.q_length - 1) / width;
}
__device__ __forceinline__ int first_range(const KeyBlock &block, int width) {
  return min(max(0, block.first - block.history) / width, last_range(block, width));
}
__device__ __forceinline__ bool sees_range(const KeyBlock &block, int range, int width) {
  return block.keys > 0 && range >= first_range(block, width) && range <= last_range(block, width);
}

// The tokens in [begin, end) of a pair whose sequence attends to every key.
__device__ __forceinline__ PairLists later_pair(const KeyBlock &pair, int begin, int end) {
  auto between = [&](int first, int last) {
    const int from = max(first, begin);
    return TokenList{nullptr, from, max(0, min(last, end) - from)};
  };
  const int second = first_seeing(pair, 1);
  return {{between(first_seeing(pair, 0), second), between(0, 0), between(second, pair.q_length)}};
}

// The tokens in [begin, end) of a pair, by one warp: from its lists, or later_pair where its
// sequence attends to every key. Half a warp looks for the first entry of a range and half for its
// end, 16 at a time, in three lists at once.
__device__ __forceinline__ PairLists listed_pair(const void *lists, const void *ranges,
                                                 const Params &params, int select_head,
                                                 const KeyBlock &pair, bool all, int begin,
                                                 int end) {
  if (all)
    return later_pair(pair, begin, end);
  constexpr int kHalf = 16;
  const uint2 *own = static_cast<const uint2 *>(ranges) + 1 + first_list(params, select_head, pair);
  const int lane = lane_index(), wanted = lane < kHalf ? begin : end;
  const int *tokens[kKinds];
  int low[kKinds] = {}, high[kKinds];
#pragma unroll
  for (int i = 0; i < kKinds; ++i) {
    const uint2 range = own[i];
    tokens[i] = static_cast<const int *>(lists) + range.x;
    high[i] = static_cast<int>(range.y);
  }
  while (__any_sync(kFullWarp, low[0] < high[0] || low[1] < high[1] || low[2] < high[2])) {
    bool before[kKinds];
#pragma unroll
    for (int i = 0; i < kKinds; ++i) {
      const int probe = low[i] + lane % kHalf * ((high[i] - low[i] + kHalf - 1) / kHalf);
      before[i] = probe < high[i] && tokens[i][probe] < wanted;
    }
#pragma unroll
    for (int i = 0; i < kKinds; ++i) { // the first ones are in front, as lists ascend
      const int step = (high[i] - low[i] + kHalf - 1) / kHalf;
      const unsigned lanes = __ballot_sync(kFullWarp, before[i]);
      const int count = __popc(lane < kHalf ? lanes & 0xffffu : lanes >> kHalf);
      high[i] = min(high[i], low[i] + count * step);
      low[i] += count > 0 ? (count - 1) * step + 1 : 0;
    }
  }
  PairLists found;
#pragma unroll
  for (int i = 0; i < kKinds; ++i) {
    const int from = __shfl_sync(kFullWarp, low[i], 0);
    found.list[i] = {tokens[i] + from, 0, __shfl_sync(kFullWarp, low[i], kHalf) - from};
  }
  return found;
}

// Writes the item of a pair and its lists, by one warp.
template <int kItems>
__device__ __forceinline__ void
describe_item(const ItemRing<kItems> &ring, const Cursor<kItems> &cursor, const KeyBlock &pair,
              int place, int kv_head, int range, int width, const PairLists &lists) {
  if (lane_index() != 0)
    return;
  KeyItem item = {lists,        range, kv_head, pair.first, pair.keys, pair.row, pair.q_row,
                  pair.history, place, 0,       0,          0,         0};
#pragma unroll
  for (int tile = 0; tile < kPairTiles; ++tile) {
    const KeyBlock block = tile_of_pair(pair, tile);
    item.continues |= static_cast<int>(range > first_range(block, width)) << tile;
    item.closes |= static_cast<int>(range == last_range(block, width)) << tile;
    item.works |= static_cast<int>(sees_range(block, range, width)) << tile;
  }
  ring.items[cursor.stage] = item;
}
template <int kItems>
__device__ __forceinline__ void end_items(const ItemRing<kItems> &ring,
                                          const Cursor<kItems> &cursor) {
  if (lane_index() == 0)
    ring.items[cursor.stage].range = -1;
}

//===-- By everybody --------------------------------------------------------------------------===//

template <int kItems>
__device__ __forceinline__ bool has_item(const ItemRing<kItems> &ring,
                                         const Cursor<kItems> &cursor) {
  return __shfl_sync(kFullWarp, ring.items[cursor.stage].range, 0) >= 0;
}
template <int kItems>
__device__ __forceinline__ KeyItem key_item(const ItemRing<kItems> &ring,
                                            const Cursor<kItems> &cursor) {
  return ring.items[cursor.stage];
}

// One of an item's tiles.
struct ItemTile {
  KeyBlock block; // its keys; of the segment nothing
  int kv_head;
  int range;
  int place;
  bool works, continues, closes;
};
template <int kItems>
__device__ __forceinline__ ItemTile tile_of_item(const ItemRing<kItems> &ring,
                                                 const Cursor<kItems> &cursor, int tile) {
  const KeyItem &item = ring.items[cursor.stage];
  KeyBlock pair = {};
  pair.first = item.first;
  pair.keys = item.keys;
  pair.row = item.row;
  auto holds = [&](int tiles) { return (__shfl_sync(kFullWarp, tiles, 0) >> tile & 1) != 0; };
  return {tile_of_pair(pair, tile), item.kv_head,          item.range,        item.place + tile,
          holds(item.works),        holds(item.continues), holds(item.closes)};
}

//===-- Products by turns ---------------------------------------------------------------------===//

// Which of two warpgroups says that it is making products. Left alone they fall into step, both in
// products and then both in exponentials, with nothing for the tensor cores to do. It is a hint
// and no lock: both may pass at once, which costs time, and no result.
struct ProductHints {
  static constexpr int kBytes = 16;
  unsigned base;
  explicit __device__ __forceinline__ ProductHints(const unsigned char *bytes)
      : base(shared_address(bytes)) {}
};
__device__ __forceinline__ void open_hints(const ProductHints &hints) {
  set_hint_if(true, hints.base, 0);
  set_hint_if(true, hints.base + 4, 0);
}
// By a whole warpgroup, of which one warp decides: products are made by all four, and four that
// each decided for themselves could wait for each other for ever. Nobody waits for rows between
// claim and yield, since the feeding warp may be waiting for the other warpgroup.
__device__ __forceinline__ void claim_products(const ProductHints &hints, int warpgroup) {
  if (warp_index() % 4 == 0) {
    const bool first = lane_index() == 0;
    while (__shfl_sync(kFullWarp, hint_if(first, hints.base + 4 * (1 - warpgroup)), 0) != 0) {
    }
    set_hint_if(first, hints.base + 4 * warpgroup, 1);
  }
  sync_some(1 + warpgroup, 128);
}
__device__ __forceinline__ void yield_products(const ProductHints &hints, int warpgroup) {
  set_hint_if(threadIdx.x % 128 == 0, hints.base + 4 * warpgroup, 0);
}

//===-- Sums over ranges ----------------------------------------------------------------------===//

// Waits until the ranges before `range` have been added to the sums of the tile in place `place`;
// these can be read afterwards. By every thread that reads.
__device__ __forceinline__ void wait_turn(const void *work, int place, int range) {
  wait_at_least(static_cast<const int *>(work) + 1 + place, range);
}
// Lets range `next` have its turn, after the stores of all threads of the warpgroup, which meet at
// barrier 1 + warpgroup.
__device__ __forceinline__ void pass_turn(void *work, int place, int next, int warpgroup) {
  sync_some(1 + warpgroup, 128);
  if (threadIdx.x % 128 == 0)
    store_released(static_cast<int *>(work) + 1 + place, next);
}

// Sums of a tile's 64 rows lie in the order in which the warpgroup's threads hold them: thread n
// has every 128th float4 from the n-th on. kColumns columns of the tile in place `place`.
template <int kColumns> __device__ __forceinline__ float4 *place_of_sums(void *sums, int place) {
  return static_cast<float4 *>(sums) +
         place * static_cast<long long>(kItemTileKeys * kColumns / 4) + threadIdx.x % 128;
}
template <int kColumns>
__device__ __forceinline__ void add_key_sums(Accumulator<16, kColumns> &own, void *sums,
                                             int place) {
  const float4 *from = place_of_sums<kColumns>(sums, place);
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j) {
    const float4 before = load_uncached(from + j * 128);
    own.value[j][0] = before.x + own.value[j][0];
    own.value[j][1] = before.y + own.value[j][1];
    own.value[j][2] = before.z + own.value[j][2];
    own.value[j][3] = before.w + own.value[j][3];
  }
}
template <int kColumns>
__device__ __forceinline__ void store_key_sums(void *sums, const Accumulator<16, kColumns> &own,
                                               int place) {
  float4 *to = place_of_sums<kColumns>(sums, place);
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j)
    to[j * 128] = make_float4(own.value[j][0], own.value[j][1], own.value[j][2], own.value[j][3]);
}
