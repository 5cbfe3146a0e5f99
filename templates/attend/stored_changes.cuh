// Changes of logits (dS), which backward_keys stores for backward_queries, so that they are made
// once (backward_changes=stored). A launch goes over chunks of tokens: first the places of a
// chunk's changes are shared out (place_changes), then the kernel of keys stores them, then that of
// queries reads them. A chunk is some whole ranges of key_items.cuh: it begins at a multiple of
// their tokens.
//
// A tile of changes is those of one token's rows (up to 16) and the 64 keys of a tile, as the
// products of keys have them: for each of four warps the 16 bytes of each lane, a left factor of
// 16 keys by 16 rows. It has a place if the token attends to the key tile.
//
// The buffer: two numbers of each range of tokens, of which a chunk uses those of its first range
// (items that are taken, tiles that have a place); for each selection, pair of key tiles, 32 tokens
// of the chunk and kind of tokens the place of the first such tile; then the tiles. Those of a pair
// and a range follow each other, by kinds, and within a kind by tokens; a token that wants both key
// tiles has two, that of the first key tile in front.
#pragma once
#include "winnow/row_tiles.cuh"
#include "winnow/work_list.cuh"

constexpr int kChangeTileBytes = 2 * 16 * kItemTileKeys;

// Where all of this lies, of the chunk in work.
struct ChangePlaces {
  int *counts; // [ranges][2]
  int *firsts; // [selections][pairs][words][kKinds]
  unsigned char *tiles;
  int begin, words; // words of 32 tokens, counted in a segment
};
template <int kSelections>
__device__ __forceinline__ ChangePlaces change_places(void *buffer, const Params &params) {
  constexpr int kAlignment = 128;
  auto padded = [](long long bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; };
  ChangePlaces places;
  places.begin = params.token_begin / 32;
  places.words = (params.token_end + 31) / 32 - places.begin;
  const long long pairs = kSelections * (params.total_k / kItemKeys + params.batch);
  unsigned char *bytes = static_cast<unsigned char *>(buffer);
  places.counts = reinterpret_cast<int *>(bytes);
  bytes += padded(8ll * params.parts);
  places.firsts = reinterpret_cast<int *>(bytes);
  places.tiles = bytes + padded(4ll * kKinds * pairs * places.words);
  return places;
}
// The places of the first tiles of each kind.
__device__ __forceinline__ int *first_places(const ChangePlaces &places, long long pair, int word) {
  return places.firsts + (pair * places.words + word - places.begin) * kKinds;
}

//===-- Before the gradients of keys ----------------------------------------------------------===//

// By a block of kWarps warps: shares out places for the changes of a pair's tokens, of one range of
// kRangeTokens after the other. `all`: every token that sees a key tile attends to it. Who comes
// first has the first places, so these differ from run to run, and results do not: the order within
// a range is always the same.
template <int kBlock, int kRangeTokens, int kWarps>
__device__ __forceinline__ void place_changes(const ChangePlaces &places, const void *bits,
                                              const Params &params, int select_head,
                                              const KeyBlock &pair, bool all) {
  static_assert(kRangeTokens % 32 == 0, "ranges are whole words of tokens");
  const PairWords words = pair_words<kBlock>(bits, params, select_head, pair, all);
  const long long number = number_of_pair(params, select_head, pair);
  const int lane = lane_index(), first_range = params.token_begin / kRangeTokens;
  for (int range = first_range + warp_index(); range * kRangeTokens < params.token_end;
       range += kWarps) {
    if (!sees_range(tile_of_pair(pair, 0), range, kRangeTokens))
      continue;
    const int begin = range * (kRangeTokens / 32), end = min(words.end, begin + kRangeTokens / 32);
    int count[kKinds] = {}, next[kKinds] = {};
    words.add_counts(count, begin, end);
#pragma unroll
    for (int i = 0; i < kKinds; ++i)
      count[i] = warp_sum(count[i]) * (i == 2 ? kPairTiles : 1);
    if (lane == 0)
      next[0] = atomicAdd(places.counts + 2 * first_range + 1, count[0] + count[1] + count[2]);
    next[0] = __shfl_sync(kFullWarp, next[0], 0);
    next[1] = next[0] + count[0];
    next[2] = next[1] + count[1];
    for (int from = begin; from < end; from += 32) {
      unsigned kinds[kKinds] = {};
      const bool is_word = from + lane < end;
      if (is_word)
        words.find(kinds, from + lane);
#pragma unroll
      for (int i = 0; i < kKinds; ++i) {
        const int own = __popc(kinds[i]) * (i == 2 ? kPairTiles : 1), below = lanes_before(own);
        if (is_word)
          first_places(places, number, from + lane)[i] = next[i] + below;
        next[i] += __shfl_sync(kFullWarp, below + own, 31);
      }
    }
  }
}

//===-- By the gradients of keys --------------------------------------------------------------===//

// The next item of the chunk, the same in all lanes.
__device__ __forceinline__ int take_chunk_item(const ChangePlaces &places, int first_range) {
  return take_key_item(places.counts + 2 * first_range);
}

// Says where the changes of an item's tokens lie, whose range begins at token `begin`; by one warp.
template <int kItems>
__device__ __forceinline__ void
place_item(const ItemRing<kItems> &ring, const Cursor<kItems> &cursor, const ChangePlaces &places,
           const Params &params, int select_head, const KeyBlock &pair, int begin) {
  if (lane_index() == 0 && begin < pair.q_length)
    ring.items[cursor.stage].changes =
        first_places(places, number_of_pair(params, select_head, pair), begin / 32)[0];
}

// Behind a stage's word: the place of its first token's changes.
template <int kStages, int kRows, int kTokens>
__device__ __forceinline__ int *place_in_header(const RowHeaders<kStages, kRows, kTokens> &headers,
                                                int stage) {
  static_assert(8 * kRows + 4 * kTokens + 8 <= RowHeaders<kStages, kRows, kTokens>::kStageBytes,
                "headers have room for a place");
  return headers.word(stage) + 1;
}

// Says where the changes of a stage's tokens lie, after next_rows has found them; by one warp.
template <int kStages, int kRows, int kTokens>
__device__ __forceinline__ void
place_rows(const RowHeaders<kStages, kRows, kTokens> &headers, const Cursor<kStages> &cursor,
           const TokenFeed<kTokens> &feed, const RowTokens &rows, const KeyItem &item) {
  int place = item.changes;
#pragma unroll
  for (int i = 0; i < kKinds; ++i) {
    if (i + 1 < rows.kind)
      place += feed.count[i];
    if (i + 1 == rows.kind)
      place += (feed.taken[i] - kTokens) * (i == 2 ? kPairTiles : 1);
  }
  if (lane_index() == 0)
    *place_in_header(headers, cursor.stage) = place;
}

// Stores the changes of a stage's tokens and of the warpgroup's key tile, which are a left factor
// of the products of keys.
template <class T, int kStages, int kRows, int kTokens>
__device__ __forceinline__ void store_changes(const ChangePlaces &places,
                                              const LeftOperand<16, kRows, T> &changes,
                                              const RowHeaders<kStages, kRows, kTokens> &headers,
                                              const Cursor<kStages> &cursor, int tile) {
  static_assert(kRows == 16 * kTokens, "a token's rows are a step of the product");
  const int *positions = headers.positions(cursor.stage);
  const bool both = (*headers.word(cursor.stage) & 3) == 3;
  const int place = *place_in_header(headers, cursor.stage) + (both ? tile : 0);
  uint4 *to =
      reinterpret_cast<uint4 *>(places.tiles + static_cast<long long>(place) * kChangeTileBytes) +
      warp_index() % 4 * 32 + lane_index();
  const int step = (both ? 2 : 1) * (kChangeTileBytes / 16);
  const bool all = positions[kTokens - 1] >= 0; // else the last one stands for those behind it
#pragma unroll
  for (int token = 0; token < kTokens; ++token)
    if (all || positions[token] >= 0) {
      const unsigned (&words)[4] = changes.word[token];
      store_once(to + token * step, make_uint4(words[0], words[1], words[2], words[3]));
    }
}

//===-- By the gradients of queries -----------------------------------------------------------===//

// Tiles of changes of kTokens tokens, in shared memory.
template <int kTokens> struct ChangeTile {
  static constexpr int kBytes = kTokens * kChangeTileBytes;
  unsigned base;
  explicit __device__ __forceinline__ ChangeTile(unsigned address) : base(address) {}
};

// Of 32 entries of a list, where the changes of each of kTokens tokens lie.
template <int kTokens> struct ChangeTable {
  static constexpr int kBytes = 4 * 32 * kTokens;
  int *places;
  explicit __device__ __forceinline__ ChangeTable(unsigned char *bytes)
      : places(reinterpret_cast<int *>(bytes)) {}
  __device__ __forceinline__ int &place(int entry, int token) const {
    return places[entry % 32 * kTokens + token];
  }
};

// Fills the table of the 32 entries from `entry` on, one by each lane; by one warp.
template <int kBlock, int kEntries, int kTokens>
__device__ __forceinline__ void
find_changes(const ChangeTable<kTokens> &table, const ChangePlaces &places, const void *bits,
             const Params &params, const WorkList<kEntries, kTokens> &list, int select_head,
             int entry, bool all) {
  static_assert(kTokens <= 16, "a mask of one word, and tokens of two words");
  __syncwarp(); // the table has been read
  const int at = entry + lane_index();
  if (at < list.header->length) {
    const TokenTile &tile = list.header->tile;
    const int key_tile = work_tile(list, at), side = key_tile % kPairTiles;
    KeyBlock pair = {};
    pair.sequence = tile.sequence;
    pair.first = key_tile / kPairTiles * kItemKeys;
    pair.keys = min(kItemKeys, tile.k_length - pair.first);
    pair.k_row = tile.k_row;
    pair.q_length = tile.q_length;
    pair.history = tile.k_length - tile.q_length;
    const PairWords words = pair_words<kBlock>(bits, params, select_head, pair, all);
    const int word = tile.first / 32;
    unsigned kinds[2][kKinds]; // of the first token's word, and of the next one
    words.find(kinds[0], word);
    words.find(kinds[1], word + 1);
    const int *first = first_places(places, number_of_pair(params, select_head, pair), word);
    const int own_place = first[side], both_place = first[2];
    for (unsigned left = work_mask<16>(list, at, 0); left != 0; left &= left - 1) {
      const int token = __ffs(left) - 1, bit = tile.first % 32 + token;
      // How many tokens in front of this one there are of its kind, since the first one's word.
      auto count = [&](int kind) {
        const unsigned below = (1u << bit % 32) - 1;
        return bit < 32 ? __popc(kinds[0][kind] & below)
                        : __popc(kinds[0][kind]) + __popc(kinds[1][kind] & below);
      };
      const bool both = (bit < 32 ? kinds[0][2] : kinds[1][2]) >> bit % 32 & 1;
      table.place(at, token) = both        ? both_place + kPairTiles * count(2) + side
                               : side == 0 ? own_place + count(0)
                                           : own_place + count(1);
    }
  }
  __syncwarp();
}

// Starts copying the changes of an entry's tokens, a lane for each, and arrives with every lane; by
// one warp.
template <int kEntries, int kTokens>
__device__ __forceinline__ void
copy_changes(const ChangeTile<kTokens> &to, unsigned barrier, const ChangeTable<kTokens> &table,
             const ChangePlaces &places, const WorkList<kEntries, kTokens> &list, int entry) {
  const int lane = lane_index();
  const unsigned mask = work_mask<16>(list, entry, 0);
  if (lane == 0)
    arrive_expecting(barrier, kChangeTileBytes * __popc(mask));
  __syncwarp();
  if (mask >> lane & 1)
    copy_bytes(to.base + lane * kChangeTileBytes,
               places.tiles + static_cast<long long>(table.place(entry, lane)) * kChangeTileBytes,
               kChangeTileBytes, barrier);
  if (lane > 0)
    arrive(barrier);
}

// The changes of the warp's token as the left factor of the product of queries; 0 where it does not
// want the entry. By one warp for each token.
template <class T, int kKeys, int kEntries, int kTokens>
__device__ __forceinline__ void
load_changes(LeftOperand<16, kKeys, T> &changes, const ChangeTile<kTokens> &tile,
             const WorkList<kEntries, kTokens> &list, int entry, int warp) {
  static_assert(kKeys == kItemTileKeys, "a tile of changes");
  const bool wants = warp_uniform(work_mask<1>(list, entry, warp)) != 0;
  if (wants) {
    uint4 turned[kKeys / 16]; // keys by rows
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step)
      turned[step] =
          load_words(tile.base + warp * kChangeTileBytes + step * 512 + lane_index() * 16);
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) {
      changes.word[step][0] = transposed_matrix(turned[step].x);
      changes.word[step][1] = transposed_matrix(turned[step].z);
      changes.word[step][2] = transposed_matrix(turned[step].y);
      changes.word[step][3] = transposed_matrix(turned[step].w);
    }
  } else {
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        changes.word[step][j] = 0;
  }
  // Keys behind the sequence have no weight, but whatever is there made their changes.
  const int keys = list.header->tile.k_length - work_tile(list, entry) * kKeys;
  if (keys < kKeys)
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int left = keys - (16 * step + 8 * (j / 2) + 2 * (lane_index() & 3));
        changes.word[step][j] &= left >= 2 ? ~0u : left == 1 ? 0xffffu : 0u;
      }
}
