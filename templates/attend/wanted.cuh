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

// For each key tile of a window of kWindow tiles, one bit per token. kWindow * mask_bits / 8 bytes.
template <int kWindow, int kTokens> struct WantedBitmap {
  static constexpr int kMaskBits = mask_bits(kTokens);
  static constexpr int kWords = kWindow * kMaskBits / 32;
  static constexpr int kBytes = kWords * 4;
  unsigned *words;
  explicit __device__ __forceinline__ WantedBitmap(unsigned char *bytes)
      : words(reinterpret_cast<unsigned *>(bytes)) {}
};

// The wanted key tiles in ascending order: a 16-bit index (counted from the window's first tile)
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

// Clears the masks of the window's first `tiles` key tiles.
template <int kWindow, int kTokens>
__device__ __forceinline__ void clear_wanted(const WantedBitmap<kWindow, kTokens> &wanted,
                                             int tiles) {
  const int words = (min(tiles, kWindow) * WantedBitmap<kWindow, kTokens>::kMaskBits + 31) / 32;
  for (int i = threadIdx.x; i < words; i += blockDim.x)
    wanted.words[i] = 0;
}

// Marks the key tiles of block `id` for token `token` of the tile, which is at `position`, as far
// as they lie in the window of key tiles [window, window + kWindow) and not in the token's future.
template <int kTilesPerBlock, int kKeys, int kWindow, int kTokens>
__device__ __forceinline__ void mark_block(const WantedBitmap<kWindow, kTokens> &wanted, int id,
                                           int token, int position, int window) {
  constexpr int kMaskBits = WantedBitmap<kWindow, kTokens>::kMaskBits;
#pragma unroll
  for (int part = 0; part < kTilesPerBlock; ++part) {
    const int key_tile = id * kTilesPerBlock + part;
    const unsigned bit = (key_tile - window) * kMaskBits + token;
    if (key_tile >= window && key_tile < window + kWindow && key_tile <= position / kKeys)
      atomicOr(&wanted.words[bit / 32], 1u << (bit % 32));
  }
}

// Marks what the tile's tokens selected, as far as it lies in the window of key tiles [window,
// window + kWindow). `ids` [select_heads, total_q, kTopK] is the whole selection.
template <int kTopK, int kTilesPerBlock, int kKeys, int kWindow, int kTokens>
__device__ __forceinline__ void mark_wanted(const WantedBitmap<kWindow, kTokens> &wanted,
                                            const int *ids, int select_head, int total_q,
                                            const TokenTile &tile, int window) {
  const int *selected = ids + (static_cast<long long>(select_head) * total_q + tile.row) * kTopK;
  for (int i = threadIdx.x; i < tile.tokens * kTopK; i += blockDim.x) {
    const int token = i / kTopK;
    const int id = selected[i];
    const int position = tile.position + token;
    if (id < 0 || id > position / (kKeys * kTilesPerBlock) || position < 0)
      continue;
    mark_block<kTilesPerBlock, kKeys>(wanted, id, token, position, window);
  }
}

// Overwrites the masks of the window's first `tiles` key tiles: every token wants the tiles that
// hold a key at or before its position. By `threads` threads, of which this one is number `thread`.
template <int kKeys, int kWindow, int kTokens>
__device__ __forceinline__ void write_causal(const WantedBitmap<kWindow, kTokens> &wanted,
                                             const TokenTile &tile, int window, int tiles,
                                             int thread, int threads) {
  constexpr int kMaskBits = WantedBitmap<kWindow, kTokens>::kMaskBits;
  constexpr int kFields = kMaskBits < 32 ? 32 / kMaskBits : 1; // masks of one word
  constexpr int kMaskWords = (kMaskBits + 31) / 32;
  for (int i = thread; i < (tiles + kFields - 1) / kFields * kMaskWords; i += threads) {
    unsigned word = 0;
#pragma unroll
    for (int field = 0; field < kFields; ++field) {
      const int key_tile = i / kMaskWords * kFields + field, bit = i % kMaskWords * 32;
      // The first token that sees the key tile, counted from the mask's first bit of this word.
      const int from = max(0, (window + key_tile) * kKeys - tile.position) - bit;
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

// The dense case, for the window's first `tiles` key tiles.
template <int kKeys, int kWindow, int kTokens>
__device__ __forceinline__ void mark_causal(const WantedBitmap<kWindow, kTokens> &wanted,
                                            const TokenTile &tile, int window, int tiles) {
  write_causal<kKeys>(wanted, tile, window, min(tiles, kWindow), threadIdx.x, blockDim.x);
}

// Word `index` of the mask of a key tile of the window; 0 from tile `end` on.
template <int kWindow, int kTokens>
__device__ __forceinline__ unsigned mask_word(const WantedBitmap<kWindow, kTokens> &wanted,
                                              int key_tile, int index, int end) {
  constexpr int kMaskBits = WantedBitmap<kWindow, kTokens>::kMaskBits;
  const unsigned word = key_tile < end ? wanted.words[key_tile * kMaskBits / 32 + index] : 0u;
  if constexpr (kMaskBits < 32)
    return word >> (key_tile * kMaskBits % 32) & ((1u << kMaskBits) - 1);
  else
    return word;
}

// By one warp: list = the marked tiles among the window's first `tiles` ones, ascending. At most
// kEntries may be marked.
template <int kEntries, int kWindow, int kTokens>
__device__ __forceinline__ void compact_list(const WantedList<kEntries, kTokens> &list,
                                             const WantedBitmap<kWindow, kTokens> &wanted,
                                             int tiles) {
  constexpr int kMaskBits = WantedBitmap<kWindow, kTokens>::kMaskBits;
  constexpr int kMaskWords = (kMaskBits + 31) / 32;
  const int lane = lane_index();
  int length = 0;
#pragma unroll 4
  for (int first = 0; first < min(tiles, kWindow); first += 32) {
    const int key_tile = first + lane;
    unsigned mask[kMaskWords];
    bool any = false;
#pragma unroll
    for (int w = 0; w < kMaskWords; ++w) {
      mask[w] = mask_word(wanted, key_tile, w, min(tiles, kWindow));
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

// The entry's key tile, counted from the window's first one.
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
