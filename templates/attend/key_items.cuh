// The work of gradients by keys on warpgroups, found on the device: items of two neighbouring key
// tiles of one key/value head and one range of tokens, taken from a counter by blocks of threads
// that stay. Who takes an item does not matter: what the ranges add to a key tile's sums is added
// in the order of the ranges, each one waiting for its turn. Nobody can wait for ever, because
// items are taken in the order of their ranges, and the first unfinished one waits for nobody.
//
// The buffer of work holds the counter, and behind it a number for each key tile of each head: the
// range whose turn it is.
#pragma once
#include "winnow/pipeline.cuh"
#include "winnow/token_lists.cuh"

// Keys of a tile: the rows of a warpgroup's products. A pair is two tiles of one sequence.
constexpr int kItemTileKeys = 64, kPairTiles = 2;

// An item, as the scheduling warp says it to all others. 80 bytes.
struct KeyItem {
  TokenList list[kPairTiles]; // the tokens of the range that attend to each tile
  int range;                  // -1: no more work
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
  int unused;
};

// kItems items in shared memory.
template <int kItems> struct ItemRing {
  static constexpr int kBytes = kItems * sizeof(KeyItem);
  KeyItem *items;
  explicit __device__ __forceinline__ ItemRing(unsigned char *bytes)
      : items(reinterpret_cast<KeyItem *>(bytes)) {}
};

//===-- Before the kernel ---------------------------------------------------------------------===//

// Nothing is taken and no range has been added; by all threads of a kernel that runs before.
__device__ __forceinline__ void open_key_items(void *work, int count) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
    static_cast<int *>(work)[i] = 0;
}

//===-- By the scheduling warp ----------------------------------------------------------------===//

// The next item's number, the same in all lanes.
__device__ __forceinline__ int take_key_item(void *work) {
  int item = 0;
  if (lane_index() == 0)
    item = atomicAdd(static_cast<int *>(work), 1);
  return __shfl_sync(kFullWarp, item, 0);
}

// Tile `tile` of a pair; without keys where the sequence has ended.
__device__ __forceinline__ KeyBlock tile_of_pair(const KeyBlock &pair, int tile) {
  KeyBlock block = pair;
  block.first += tile * kItemTileKeys;
  block.row += tile * kItemTileKeys;
  block.keys = max(0, min(kItemTileKeys, pair.keys - tile * kItemTileKeys));
  return block;
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

// The tokens in [begin, end) that attend to a tile, none of a tile without keys: listed_tokens and
// tokens_between by one warp, which looks at 32 entries at a time.
template <int kBlock>
__device__ __forceinline__ TokenList listed_between(const void *lists, const void *ranges,
                                                    const Params &params, int select_head,
                                                    const KeyBlock &tile, bool all, int begin,
                                                    int end) {
  if (tile.keys == 0)
    return {nullptr, 0, 0};
  const TokenList list = listed_tokens<kBlock>(lists, ranges, params, select_head, tile, all);
  if (list.tokens == nullptr)
    return tokens_between(list, begin, end);
  auto entry_of = [&](int token) { // the first entry that is not in front of `token`
    int low = 0, high = list.count;
    while (low < high) {
      const int step = (high - low + 31) / 32, probe = low + lane_index() * step;
      const bool before = probe < high && list.tokens[probe] < token;
      const int count = __popc(__ballot_sync(kFullWarp, before)); // the first ones, as it ascends
      high = min(high, low + count * step);
      low += count > 0 ? (count - 1) * step + 1 : 0;
    }
    return low;
  };
  const int from = entry_of(begin);
  return {list.tokens + from, 0, entry_of(end) - from};
}

// Writes the item of a pair and the lists of its tiles, by one warp.
template <int kItems>
__device__ __forceinline__ void describe_item(const ItemRing<kItems> &ring,
                                              const Cursor<kItems> &cursor, const KeyBlock &pair,
                                              int place, int kv_head, int range, int width,
                                              const TokenList &first, const TokenList &second) {
  if (lane_index() != 0)
    return;
  KeyItem item = {{first, second}, range, kv_head, pair.first, pair.keys, pair.row, pair.q_row,
                  pair.history,    place, 0,       0,          0,         0};
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
  store_hint_if(true, hints.base, 0);
  store_hint_if(true, hints.base + 4, 0);
}
// By a whole warpgroup, of which one warp decides: products are made by all four, and four that
// each decided for themselves could wait for each other for ever. Nobody waits for rows between
// claim and yield, since the feeding warp may be waiting for the other warpgroup.
__device__ __forceinline__ void claim_products(const ProductHints &hints, int warpgroup) {
  if (warp_index() % 4 == 0) {
    while (__shfl_sync(kFullWarp, load_hint(hints.base + 4 * (1 - warpgroup)), 0) != 0) {
    }
    store_hint_if(lane_index() == 0, hints.base + 4 * warpgroup, 1);
  }
  sync_some(1 + warpgroup, 128);
}
__device__ __forceinline__ void yield_products(const ProductHints &hints, int warpgroup) {
  store_hint_if(threadIdx.x % 128 == 0, hints.base + 4 * warpgroup, 0);
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
