// The work of a persistent block of threads, found on the device: for one tile of tokens after the
// other, the ascending list of key tiles that any of its tokens wants, with a mask of who. Serves
// attend on warpgroups, where one warp builds the next list while the others work on this one. What
// does not fit one list, or one bitmap of kBitmapTiles key tiles, comes in several lists. Duplicate
// ids count once; -1, ids out of range and blocks in a token's future are ignored.
#pragma once
#include "winnow/sequence.cuh"
#include "winnow/wanted.cuh"

// What a work list is about; written by the building warp, read by everybody.
struct WorkHeader {
  TokenTile tile;
  int select_head; // tile of query heads; its selection is select_head / kHeadTiles
  int shared; // entries [0, shared) are for whole warpgroups, [shared, length) for single warps
  int length; // entries; -1: no more work
  int opens;  // first list of its tile: nothing has been accumulated yet
  int closes; // last list of its tile: results are due
  int unused[3];
};

// One list: 64 bytes of header, then the entries: a key tile (16 bits) and a mask of kTokens bits
// (rounded up to a power of two), in one word where both fit, else a word for the tile and then
// those of the mask.
template <int kEntries, int kTokens> struct WorkList {
  static constexpr int kMaskBits = mask_bits(kTokens);
  static constexpr bool kIsPacked = kMaskBits <= 16;
  static constexpr int kWords = kIsPacked ? 1 : 1 + kMaskBits / 32;
  static constexpr int kBytes = 64 + 4 * kEntries * kWords;
  WorkHeader *header;
  unsigned *entries;
  explicit __device__ __forceinline__ WorkList(unsigned char *bytes)
      : header(reinterpret_cast<WorkHeader *>(bytes)),
        entries(reinterpret_cast<unsigned *>(bytes + 64)) {}
};

// Writes an entry.
template <int kEntries, int kTokens, int kMaskWords>
__device__ __forceinline__ void set_entry(const WorkList<kEntries, kTokens> &list, int entry,
                                          int key_tile, const unsigned (&mask)[kMaskWords]) {
  using List = WorkList<kEntries, kTokens>;
  unsigned *words = list.entries + entry * List::kWords;
  words[0] = key_tile | (List::kIsPacked ? mask[0] << 16 : 0u);
  if constexpr (!List::kIsPacked)
    for (int w = 0; w < kMaskWords; ++w)
      words[1 + w] = mask[w];
}

// kStages lists, one behind the other (generic pointers, where Ring holds shared addresses).
template <int kStages, int kEntries, int kTokens> struct WorkRing {
  static constexpr int kBytes = kStages * WorkList<kEntries, kTokens>::kBytes;
  unsigned char *bytes;
  explicit __device__ __forceinline__ WorkRing(unsigned char *bytes) : bytes(bytes) {}
};
template <int kStages, int kEntries, int kTokens>
__device__ __forceinline__ WorkList<kEntries, kTokens>
stage(const WorkRing<kStages, kEntries, kTokens> &ring, const Cursor<kStages> &cursor) {
  return WorkList<kEntries, kTokens>(ring.bytes +
                                     cursor.stage * WorkList<kEntries, kTokens>::kBytes);
}

//===-- By the building warp ------------------------------------------------------------------===//

// Clears the whole bitmap, by all threads of the block; afterwards fill_list keeps it clear.
template <int kBitmapTiles, int kTokens>
__device__ __forceinline__ void clear_bitmap(const WantedBitmap<kBitmapTiles, kTokens> &wanted) {
  for (int i = threadIdx.x; i < WantedBitmap<kBitmapTiles, kTokens>::kWords; i += blockDim.x)
    wanted.words[i] = 0;
}

// Marks the key tiles in [from_tile, from_tile + kBitmapTiles) that the tile's tokens selected; by
// one warp. `ids` [select_heads, total_q, kTopK].
template <int kTopK, int kTilesPerBlock, int kKeys, int kBitmapTiles, int kTokens>
__device__ __forceinline__ void mark_selected(const WantedBitmap<kBitmapTiles, kTokens> &wanted,
                                              const int *ids, int select_head, int total_q,
                                              const TokenTile &tile, int from_tile) {
  constexpr int kAtOnce = 8;
  const int *selected = ids + (static_cast<long long>(select_head) * total_q + tile.row) * kTopK;
  const int all = tile.tokens * kTopK;
  for (int first = lane_index(); first < all; first += 32 * kAtOnce) {
    int id[kAtOnce]; // loads in flight together
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j)
      id[j] = first + 32 * j < all ? __ldg(selected + first + 32 * j) : -1;
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int token = (first + 32 * j) / kTopK, position = tile.position + token;
      if (id[j] < 0 || position < 0 || id[j] > position / (kKeys * kTilesPerBlock))
        continue;
      mark_block<kTilesPerBlock, kKeys>(wanted, id[j], token, position, from_tile);
    }
  }
  __syncwarp();
}

// Marks every key tile at or before a token's position among `tiles` ones from `from_tile` on: the
// dense case; by one warp.
template <int kKeys, int kBitmapTiles, int kTokens>
__device__ __forceinline__ void mark_all(const WantedBitmap<kBitmapTiles, kTokens> &wanted,
                                         const TokenTile &tile, int from_tile, int tiles) {
  write_causal<kKeys>(wanted, tile, from_tile, tiles, lane_index(), 32);
  __syncwarp();
}

// True where some warpgroup has two or more warps that want the tile: worth a product of 64 rows.
template <int kWarpTokens, int kMaskWords>
__device__ __forceinline__ bool is_shared_tile(const unsigned (&mask)[kMaskWords]) {
  bool shared = false;
  constexpr unsigned kWarpMask = kWarpTokens >= 32 ? 0xffffffffu : (1u << kWarpTokens) - 1;
#pragma unroll
  for (int warpgroup = 0; warpgroup < 32 * kMaskWords / (4 * kWarpTokens); ++warpgroup) {
    int warps = 0;
#pragma unroll
    for (int warp = 0; warp < 4; ++warp) {
      const int bit = (warpgroup * 4 + warp) * kWarpTokens;
      warps += (mask[bit / 32] >> (bit % 32) & kWarpMask) != 0;
    }
    shared |= warps > 1;
  }
  return shared;
}

// The end of the longest run of key tiles from `from` on (a multiple of 32, up to `tiles`) of which
// at most kMost are marked. By one warp.
template <int kMost, int kBitmapTiles, int kTokens>
__device__ __forceinline__ int end_of_run(const WantedBitmap<kBitmapTiles, kTokens> &wanted,
                                          int from, int tiles) {
  constexpr int kMaskBits = WantedBitmap<kBitmapTiles, kTokens>::kMaskBits;
  static_assert(kMost >= 32, "a run makes progress");
  int count = 0;
  for (; from < tiles; from += 32) {
    const int key_tile = from + lane_index();
    unsigned any = 0;
    if (key_tile < tiles) {
      if constexpr (kMaskBits < 32)
        any = wanted.words[key_tile * kMaskBits / 32] >> (key_tile * kMaskBits % 32) &
              ((1u << kMaskBits) - 1);
      else
#pragma unroll
        for (int w = 0; w < kMaskBits / 32; ++w)
          any |= wanted.words[key_tile * kMaskBits / 32 + w];
    }
    count += __popc(__ballot_sync(kFullWarp, any != 0));
    if (count > kMost)
      return from;
  }
  return tiles;
}

// Appends the marked tiles among [from, to) of the bitmap, which begins at key tile `from_tile`, to
// the list, ascending, from entry `length` on; returns the new length. By one warp. kKind: 0 all
// tiles, 1 those that a warpgroup shares (see is_shared_tile), 2 the others, 3 none. Clears the
// bitmap behind itself if kClear.
template <int kKind, bool kClear, int kWarpTokens, int kEntries, int kBitmapTiles, int kTokens>
__device__ __forceinline__ int append_marked(const WorkList<kEntries, kTokens> &list,
                                             const WantedBitmap<kBitmapTiles, kTokens> &wanted,
                                             int from_tile, int from, int to, int length) {
  constexpr int kMaskBits = WantedBitmap<kBitmapTiles, kTokens>::kMaskBits;
  constexpr int kMaskWords = (kMaskBits + 31) / 32;
  const int lane = lane_index();
#pragma unroll 2
  for (int first = from; first < to; first += 32) {
    const int key_tile = first + lane;
    unsigned mask[kMaskWords];
    bool any = false;
#pragma unroll
    for (int w = 0; w < kMaskWords; ++w) {
      mask[w] = mask_word(wanted, key_tile, w, to);
      any |= mask[w] != 0;
    }
    if constexpr (kKind == 1 || kKind == 2)
      any = any && is_shared_tile<kWarpTokens>(mask) == (kKind == 1);
    if constexpr (kKind == 3)
      any = false;
    const unsigned found = __ballot_sync(kFullWarp, any);
    if (any) {
      const int entry = length + __popc(found & ((1u << lane) - 1));
      set_entry(list, entry, from_tile + key_tile, mask);
    }
    __syncwarp(); // all lanes have read before one of them clears what they share
    if constexpr (kClear)
      for (int w = 0; w < kMaskWords; ++w)
        if (key_tile < to && key_tile * kMaskBits % 32 == 0)
          wanted.words[key_tile * kMaskBits / 32 + w] = 0;
    length += __popc(found);
  }
  __syncwarp();
  return length;
}

// Appends empty entries until the length is a multiple of kParts; returns it.
template <int kParts, int kEntries, int kTokens>
__device__ __forceinline__ int pad_entries(const WorkList<kEntries, kTokens> &list, int length) {
  const int padded = (length + kParts - 1) / kParts * kParts;
  const unsigned nobody[(WorkList<kEntries, kTokens>::kMaskBits + 31) / 32] = {};
  if (length + lane_index() < padded)
    set_entry(list, length + lane_index(), 0, nobody); // loaded and not used
  return padded;
}

// Makes a list from what is marked in the bitmap, which begins at key tile `from_tile` and has
// `tiles` tiles, from tile `from` on, and clears it there; returns where the next list begins
// (`tiles` if there is none). By one warp. With kSplit, tiles that only single warps want stand
// behind the others, in a part of their own, where they are at least a quarter of all: each then
// costs a product of 16 rows, not 64. kWhole: it is known that all of them fit.
template <bool kSplit, bool kWhole, int kParts, int kWarpTokens, int kEntries, int kBitmapTiles,
          int kTokens>
__device__ __forceinline__ int fill_list(const WorkList<kEntries, kTokens> &list,
                                         const WantedBitmap<kBitmapTiles, kTokens> &wanted,
                                         int from_tile, int from, int tiles) {
  static_assert(!kSplit || kParts == 1, "single warps take one key tile at a time");
  int to = tiles;
  if constexpr (!kWhole)
    to = end_of_run<kEntries - kParts>(wanted, from, tiles);
  int shared = 0, length = 0;
  bool split = false;
  if constexpr (kSplit) {
    shared = append_marked<1, false, kWarpTokens>(list, wanted, from_tile, from, to, 0);
    length = append_marked<2, false, kWarpTokens>(list, wanted, from_tile, from, to, shared);
    split = 4 * (length - shared) >= length;
  }
  if (!split)
    shared = length = pad_entries<kParts>(
        list, append_marked<0, true, kWarpTokens>(list, wanted, from_tile, from, to, 0));
  else
    append_marked<3, true, kWarpTokens>(list, wanted, from_tile, from, to, 0); // only clears
  if (lane_index() == 0) {
    list.header->shared = shared;
    list.header->length = length;
  }
  __syncwarp();
  return to;
}

// Says what the list is about; by one warp.
template <int kEntries, int kTokens>
__device__ __forceinline__ void describe_work(const WorkList<kEntries, kTokens> &list,
                                              const TokenTile &tile, int select_head, bool opens,
                                              bool closes) {
  if (lane_index() == 0) {
    list.header->tile = tile;
    list.header->select_head = select_head;
    list.header->opens = opens;
    list.header->closes = closes;
  }
  __syncwarp();
}

// Says that there is no more work; by one warp.
template <int kEntries, int kTokens>
__device__ __forceinline__ void end_work(const WorkList<kEntries, kTokens> &list) {
  if (lane_index() == 0)
    list.header->length = -1;
  __syncwarp();
}

//===-- By everybody --------------------------------------------------------------------------===//

template <int kEntries, int kTokens>
__device__ __forceinline__ bool has_work(const WorkList<kEntries, kTokens> &list) {
  return list.header->length >= 0;
}
template <int kEntries, int kTokens>
__device__ __forceinline__ WorkHeader work_header(const WorkList<kEntries, kTokens> &list) {
  return *list.header;
}

// The entry's key tile, counted from the sequence's first one.
template <int kEntries, int kTokens>
__device__ __forceinline__ int work_tile(const WorkList<kEntries, kTokens> &list, int entry) {
  return list.entries[entry * WorkList<kEntries, kTokens>::kWords] & 0xffff;
}

// Bits [first, first + kCount) of the entry's mask as one word; kCount is a power of two, at most
// 32, and divides `first`.
template <int kCount, int kEntries, int kTokens>
__device__ __forceinline__ unsigned work_mask(const WorkList<kEntries, kTokens> &list, int entry,
                                              int first) {
  using List = WorkList<kEntries, kTokens>;
  constexpr unsigned kMask = kCount >= 32 ? 0xffffffffu : (1u << kCount) - 1;
  if constexpr (List::kIsPacked)
    return list.entries[entry] >> (16 + first) & kMask;
  else
    return list.entries[entry * List::kWords + 1 + first / 32] >> (first % 32) & kMask;
}

// The first step of kParts entries, from entry `from` on and before `limit`, that the warpgroup
// wants; `limit` if none. Both are multiples of kParts.
template <int kParts, int kWarpTokens, int kEntries, int kTokens>
__device__ __forceinline__ int next_wanted(const WorkList<kEntries, kTokens> &list, int from,
                                           int limit, int warpgroup) {
  constexpr int kWarpgroupTokens = 4 * kWarpTokens,
                kBits = kWarpgroupTokens < 32 ? kWarpgroupTokens : 32;
  for (; from < limit; from += kParts) {
    unsigned any = 0;
#pragma unroll
    for (int part = 0; part < kParts; ++part)
#pragma unroll
      for (int bit = 0; bit < kWarpgroupTokens; bit += kBits)
        any |= work_mask<kBits>(list, from + part, warpgroup * kWarpgroupTokens + bit);
    if (any)
      return from;
  }
  return limit;
}

// Whether the warpgroup wants the step of kParts entries from entry `entry` on; uniform over the
// warp. By a whole warp.
template <int kParts, int kWarpTokens, int kEntries, int kTokens>
__device__ __forceinline__ bool warpgroup_wants(const WorkList<kEntries, kTokens> &list, int entry,
                                                int warpgroup) {
  const int next = next_wanted<kParts, kWarpTokens>(list, entry, entry + kParts, warpgroup);
  return warp_uniform(next == entry) != 0;
}
