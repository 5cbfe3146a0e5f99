// Which key tiles does a tile of tokens need? The union of the tokens' selected blocks, with a mask
// of who wants what. Serves attend: neighbouring tokens share the load of a key tile, and each
// still attends to exactly its own selection. The bitmap is filled by all threads of the block
// (clear_wanted, mark_wanted), then turned into an ascending list by one warp (compact_list); a
// sync_threads lies between any two of these steps. Duplicate ids count once; -1, ids out of range
// and blocks in a token's future are ignored. Key tiles: a block of kBlock keys is kTilesPerBlock
// tiles; tile i holds the keys [i kKeys, (i + 1) kKeys).
#pragma once
#include "winnow/sequence.cuh"

// Bits reserved per key tile for a mask of kTokens tokens: a power of two, at least a byte.
__host__ __device__ constexpr int mask_bits(int tokens) {
  int bits = 8;
  while (bits < tokens)
    bits *= 2;
  return bits;
}

// For each key tile of a bitmap of kBitmapTiles tiles, one bit per token. kBitmapTiles * mask_bits
// / 8 bytes.
template <int kBitmapTiles, int kTokens> struct WantedBitmap {
  static constexpr int kMaskBits = mask_bits(kTokens);
  static constexpr int kWords = kBitmapTiles * kMaskBits / 32;
  static constexpr int kBytes = kWords * 4;
  unsigned *words;
  explicit __device__ __forceinline__ WantedBitmap(unsigned char *bytes)
      : words(reinterpret_cast<unsigned *>(bytes)) {}
};

// The wanted key tiles in ascending order: a 16-bit index (counted from the bitmap's first tile)
// and a mask each; a 16-bit mask lies in one word with its index, which a look-up then loads once.
// 16 + kEntries * (2 + mask_bits / 8) bytes.
template <int kEntries, int kTokens> struct WantedList {
  static constexpr int kMaskBits = mask_bits(kTokens);
  static constexpr bool kOneWord = kMaskBits == 16; // masks[entry] = index | mask << 16
  static constexpr int kBytes = 16 + kEntries * (2 + kMaskBits / 8);
  int *length;
  unsigned *masks;
  unsigned short *tiles;
  explicit __device__ __forceinline__ WantedList(unsigned char *bytes)
      : length(reinterpret_cast<int *>(bytes)), masks(reinterpret_cast<unsigned *>(bytes + 16)),
        tiles(reinterpret_cast<unsigned short *>(bytes + 16 + kEntries * kMaskBits / 8)) {}
};

// Clears the masks of the bitmap's first `tiles` key tiles.
template <int kBitmapTiles, int kTokens>
__device__ __forceinline__ void clear_wanted(const WantedBitmap<kBitmapTiles, kTokens> &wanted,
                                             int tiles) {
  const int words =
      (min(tiles, kBitmapTiles) * WantedBitmap<kBitmapTiles, kTokens>::kMaskBits + 31) / 32;
  for (int i = threadIdx.x; i < words; i += blockDim.x)
    wanted.words[i] = 0;
}

// Marks the key tiles of block `id` for token `token` of the tile, which is at `position`, as far
// as they lie among the key tiles [from_tile, from_tile + kBitmapTiles) and not in the token's
// future.
template <int kTilesPerBlock, int kKeys, int kBitmapTiles, int kTokens>
__device__ __forceinline__ void mark_block(const WantedBitmap<kBitmapTiles, kTokens> &wanted,
                                           int id, int token, int position, int from_tile) {
  constexpr int kMaskBits = WantedBitmap<kBitmapTiles, kTokens>::kMaskBits;
  // Long blocks in a loop: unrolled, they would not fit the registers of a warp that builds lists.
  constexpr int kUnrolled = kTilesPerBlock <= 4 ? kTilesPerBlock : 1;
#pragma unroll kUnrolled
  for (int part = 0; part < kTilesPerBlock; ++part) {
    const int key_tile = id * kTilesPerBlock + part;
    const unsigned bit = (key_tile - from_tile) * kMaskBits + token;
    if (key_tile >= from_tile && key_tile < from_tile + kBitmapTiles &&
        key_tile <= position / kKeys)
      atomicOr(&wanted.words[bit / 32], 1u << (bit % 32));
  }
}

// Marks what the tile's tokens selected, as far as it lies among the key tiles [from_tile,
// from_tile + kBitmapTiles). `ids` [select_heads, total_q, kTopK] is the whole selection.
template <int kTopK, int kTilesPerBlock, int kKeys, int kBitmapTiles, int kTokens>
__device__ __forceinline__ void mark_wanted(const WantedBitmap<kBitmapTiles, kTokens> &wanted,
                                            const int *ids, int select_head, int total_q,
                                            const TokenTile &tile, int from_tile) {
  const int *selected = ids + (static_cast<long long>(select_head) * total_q + tile.row) * kTopK;
  for (int i = threadIdx.x; i < tile.tokens * kTopK; i += blockDim.x) {
    const int token = i / kTopK;
    const int id = selected[i];
    const int position = tile.position + token;
    if (id < 0 || id > position / (kKeys * kTilesPerBlock) || position < 0)
      continue;
    mark_block<kTilesPerBlock, kKeys>(wanted, id, token, position, from_tile);
  }
}

// Overwrites the masks of the bitmap's first `tiles` key tiles: every token wants the tiles that
// hold a key at or before its position. By `threads` threads, of which this one is number `thread`.
template <int kKeys, int kBitmapTiles, int kTokens>
__device__ __forceinline__ void write_causal(const WantedBitmap<kBitmapTiles, kTokens> &wanted,
                                             const TokenTile &tile, int from_tile, int tiles,
                                             int thread, int threads) {
  constexpr int kMaskBits = WantedBitmap<kBitmapTiles, kTokens>::kMaskBits;
  constexpr int kFields = kMaskBits < 32 ? 32 / kMaskBits : 1; // masks of one word
  constexpr int kMaskWords = (kMaskBits + 31) / 32;
  for (int i = thread; i < (tiles + kFields - 1) / kFields * kMaskWords; i += threads) {
    unsigned word = 0;
#pragma unroll
    for (int field = 0; field < kFields; ++field) {
      const int key_tile = i / kMaskWords * kFields + field, bit = i % kMaskWords * 32;
      // The first token that sees the key tile, counted from the mask's first bit of this word.
      const int from = max(0, (from_tile + key_tile) * kKeys - tile.position) - bit;
      const int to = min(tile.tokens - bit, kMaskBits < 32 ? kMaskBits : 32);
      if (key_tile < tiles && from < to) {
        const unsigned up_to = to >= 32 ? 0xffffffffu : (1u << to) - 1;
        const unsigned mask = from <= 0 ? up_to : up_to & ~((1u << from) - 1);
        word |= mask << (kMaskBits < 32 ? field * kMaskBits : 0);
      }
    }
    wanted.words[i] = word;
  }
}

// The dense case, for the bitmap's first `tiles` key tiles.
template <int kKeys, int kBitmapTiles, int kTokens>
__device__ __forceinline__ void mark_causal(const WantedBitmap<kBitmapTiles, kTokens> &wanted,
                                            const TokenTile &tile, int from_tile, int tiles) {
  write_causal<kKeys>(wanted, tile, from_tile, min(tiles, kBitmapTiles), threadIdx.x, blockDim.x);
}

// Word `index` of the mask of a key tile of the bitmap; 0 from tile `end` on.
template <int kBitmapTiles, int kTokens>
__device__ __forceinline__ unsigned mask_word(const WantedBitmap<kBitmapTiles, kTokens> &wanted,
                                              int key_tile, int index, int end) {
  constexpr int kMaskBits = WantedBitmap<kBitmapTiles, kTokens>::kMaskBits;
  const unsigned word = key_tile < end ? wanted.words[key_tile * kMaskBits / 32 + index] : 0u;
  if constexpr (kMaskBits < 32)
    return word >> (key_tile * kMaskBits % 32) & ((1u << kMaskBits) - 1);
  else
    return word;
}

// By one warp: list = the marked tiles among the bitmap's first `tiles` ones, ascending. At most
// kEntries may be marked.
template <int kEntries, int kBitmapTiles, int kTokens>
__device__ __forceinline__ void compact_list(const WantedList<kEntries, kTokens> &list,
                                             const WantedBitmap<kBitmapTiles, kTokens> &wanted,
                                             int tiles) {
  constexpr int kMaskBits = WantedBitmap<kBitmapTiles, kTokens>::kMaskBits;
  constexpr int kMaskWords = (kMaskBits + 31) / 32;
  const int lane = lane_index();
  int length = 0;
#pragma unroll 4
  for (int first = 0; first < min(tiles, kBitmapTiles); first += 32) {
    const int key_tile = first + lane;
    unsigned mask[kMaskWords];
    bool any = false;
#pragma unroll
    for (int w = 0; w < kMaskWords; ++w) {
      mask[w] = mask_word(wanted, key_tile, w, min(tiles, kBitmapTiles));
      any |= mask[w] != 0;
    }
    const unsigned found = __ballot_sync(kFullWarp, any);
    if (any) {
      const int entry = length + __popc(found & ((1u << lane) - 1));
      if constexpr (WantedList<kEntries, kTokens>::kOneWord) {
        list.masks[entry] = key_tile | mask[0] << 16;
      } else {
        list.tiles[entry] = key_tile;
        if constexpr (kMaskBits == 8)
          reinterpret_cast<unsigned char *>(list.masks)[entry] = mask[0];
        else
          for (int w = 0; w < kMaskWords; ++w)
            list.masks[entry * kMaskWords + w] = mask[w];
      }
    }
    length += __popc(found);
  }
  if (lane == 0)
    *list.length = length;
}

// Number of entries.
template <int kEntries, int kTokens>
__device__ __forceinline__ int list_length(const WantedList<kEntries, kTokens> &list) {
  return *list.length;
}

// The entry's key tile, counted from the bitmap's first one.
template <int kEntries, int kTokens>
__device__ __forceinline__ int list_tile(const WantedList<kEntries, kTokens> &list, int entry) {
  if constexpr (WantedList<kEntries, kTokens>::kOneWord)
    return list.masks[entry] & 0xffff;
  else
    return list.tiles[entry];
}

// Which of a row tile's kRowTokens tokens (a power of two, at most 16) want the entry: bit i =
// token row_tile * kRowTokens + i of the block.
template <int kRowTokens, int kEntries, int kTokens>
__device__ __forceinline__ unsigned list_wants(const WantedList<kEntries, kTokens> &list, int entry,
                                               int row_tile) {
  constexpr unsigned kMask = (1u << kRowTokens) - 1;
  if constexpr (WantedList<kEntries, kTokens>::kOneWord)
    return list.masks[entry] >> (16 + row_tile * kRowTokens) & kMask;
  const unsigned bit = entry * WantedList<kEntries, kTokens>::kMaskBits + row_tile * kRowTokens;
  return list.masks[bit / 32] >> (bit % 32) & kMask;
}
