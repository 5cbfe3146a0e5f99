// Who does what in a decode step that is one launch (decode_step): blocks of threads that all run
// at the same time share the summaries and the key tiles of all tokens. Work is of two kinds, and a
// selection of a token (one of its tiles of heads that select together) has some of each: chunks of
// summaries to be scored, which go to the blocks of threads in turn; and key tiles, first those of
// forced blocks, which are known before anything is scored, then those of chosen ones. Of the key
// tiles of all selections, one behind the other, a block of threads has one piece, whose length
// makes the bytes of both kinds even; or where selections are alike and their number allows it, an
// even part of one selection, or some whole ones. Lengths are known to the device alone, so each
// block of threads adds up the work of all tokens itself.
#pragma once
#include "winnow/sequence.cuh"

enum StepKind { kStepChunks, kStepKeys };
constexpr int kStepGrid = 256;   // blocks of threads, at most
constexpr int kStepSharers = 64; // of a selection, at most, where pieces end with it

// What a token sees of its summaries: how many there are, how many of them it sees, and of the
// normaliser's; how many it needs scores of; and in how many tiles of 32 all of these lie.
struct StepSight {
  int rows, visible, normalizer_visible, scored_end, tiles;
};

// Of each of the launch's tokens, in shared memory: where it is, what it sees, and for each kind of
// work that of the tokens in front of it, per selection. And where each piece of the key tiles
// begins.
template <int kTokens> struct StepTable {
  static constexpr int kBytes = 52 * kTokens + 8 * (kTokens + 4) + 4 * (kStepGrid + 4);
  static_assert(sizeof(TokenTile) == 32 && sizeof(StepSight) == 20 && kTokens % 32 == 0,
                "bytes of a table");
  unsigned char *bytes;
  explicit __device__ __forceinline__ StepTable(unsigned char *bytes) : bytes(bytes) {}
  __device__ __forceinline__ TokenTile *tiles() const {
    return reinterpret_cast<TokenTile *>(bytes);
  }
  __device__ __forceinline__ StepSight *sights() const {
    return reinterpret_cast<StepSight *>(bytes + 32 * kTokens);
  }
  __device__ __forceinline__ int *before(int kind) const {
    return reinterpret_cast<int *>(bytes + 52 * kTokens) + kind * (kTokens + 4);
  }
  __device__ __forceinline__ int *pieces() const { return before(2); }
  // The key tiles of each selection that has any, or 0 where these differ.
  __device__ __forceinline__ int &alike() const { return pieces()[kStepGrid + 1]; }
  // Blocks of threads without key tiles, in front of all others; how many share a selection, where
  // all have an even part of one, else 0.
  __device__ __forceinline__ int &idle() const { return pieces()[kStepGrid + 2]; }
  __device__ __forceinline__ int &sharers() const { return pieces()[kStepGrid + 3]; }
};

// find_token (sequence.cuh) of one of `total_q` rows; without a token behind them. Where every
// sequence has one token, it is found by loads that do not wait for each other.
template <class Lengths>
__device__ __forceinline__ TokenTile find_step_token(const int *cu_q, const Lengths &lengths,
                                                     int batch, int total_q, int row) {
  TokenTile tile = {};
  if (row >= total_q)
    return tile;
  const int guess = min(row, batch - 1);
  const int begin = cu_q[guess], end = cu_q[guess + 1], keys = key_count(lengths, guess);
  if (begin != row || end != row + 1)
    return find_token(cu_q, lengths, batch, row);
  tile.sequence = guess;
  tile.tokens = tile.q_length = 1;
  tile.row = row;
  tile.k_row = first_key_row(lengths, guess);
  tile.k_length = keys;
  tile.position = keys - 1;
  return tile;
}

// By the thread of each token, those behind the last one included, whose tiles have no tokens: how
// much of each kind a selection of the token has.
template <int kTokens>
__device__ __forceinline__ void put_step_token(const StepTable<kTokens> &table, int token,
                                               const TokenTile &tile, int rows, int visible,
                                               int normalizer_visible, int scored_end, int tiles,
                                               int chunks, int keys) {
  table.tiles()[token] = tile;
  table.sights()[token] = {rows, visible, normalizer_visible, scored_end, tiles};
  table.before(kStepChunks)[token] = chunks;
  table.before(kStepKeys)[token] = keys;
}

// By all threads, 2 whole warps at least: adds up.
template <int kTokens>
__device__ __forceinline__ void sum_step_tokens(const StepTable<kTokens> &table) {
  constexpr int kEach = kTokens / 32;
  const int kind = warp_index();
  if (kind > kStepKeys)
    return;
  int *before = table.before(kind);
  int sum = 0, most = 0, own[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int each = before[kEach * lane_index() + i];
    own[i] = sum;
    sum += each;
    most = max(most, each);
  }
  int all = most;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2)
    all = max(all, __shfl_xor_sync(kFullWarp, all, distance));
  bool alike = true;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int each = (i + 1 < kEach ? own[i + 1] : sum) - own[i];
    alike &= each == 0 || each == all;
  }
  alike = __ballot_sync(kFullWarp, alike) == kFullWarp;
  int through = sum; // up to the end of this lane's tokens
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const int other = __shfl_up_sync(kFullWarp, through, distance);
    through += lane_index() >= distance ? other : 0;
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i)
    before[kEach * lane_index() + i] = through - sum + own[i];
  if (lane_index() == 31) {
    before[kTokens] = through;
    if (kind == kStepKeys)
      table.alike() = alike ? all : 0;
  }
}

// Of one kind, over all selections.
template <int kKind, int kSelections, int kTokens>
__device__ __forceinline__ int step_total(const StepTable<kTokens> &table) {
  return kSelections * table.before(kKind)[kTokens];
}

// By kThreads threads from 0 on: cuts the key tiles into a piece for each block of threads, so that
// both kinds of work together are alike. A chunk takes as long as `chunk_cost` key tiles, and the
// first blocks of threads have a chunk more than the others. In fp32: a piece may be a tile too
// long, but each begins where the one before ends. Where selections are alike, pieces end with
// them, if that leaves less than a tenth of the blocks of threads without any: each piece more
// costs joining its sums.
template <int kThreads, int kSelections, int kTokens>
__device__ __forceinline__ void cut_step_keys(const StepTable<kTokens> &table, int blocks,
                                              int chunk_cost) {
  const int chunks = step_total<kStepChunks, kSelections>(table),
            total = step_total<kStepKeys, kSelections>(table);
  const int alike = table.alike(), selections = alike > 0 ? total / alike : 0;
  const int sharers =
      selections > 0 ? min(max(blocks / selections, 1), kStepSharers) : 1; // of a selection
  const int together = max((selections + blocks - 1) / blocks, 1);         // selections of a piece
  const int used = together > 1 ? (selections + together - 1) / together : sharers * selections;
  const bool whole_ones =
      10 * used >= 9 * blocks &&
      kSelections * table.before(kStepKeys)[selections / kSelections] == total; // none is missing
  if (thread_index() == 0) {
    table.idle() = whole_ones ? blocks - used : 0;
    table.sharers() = whole_ones && together == 1 ? sharers : 0;
  }
  const int least = chunks / blocks, more = chunks - least * blocks;
  const float even = (static_cast<float>(chunks) * chunk_cost + total) / blocks;
  const float each = fmaxf(even - least * chunk_cost, 0.f);
  const float less = fmaxf(even - (least + 1) * chunk_cost, 0.f);
  const float whole = more * less + (blocks - more) * each;
#pragma unroll 1
  for (int block = thread_index(); block <= blocks; block += kThreads) {
    int begin = total;
    if (whole_ones) {
      const int piece = max(block - (blocks - used), 0), selection = piece / sharers;
      begin = selection * together * alike + (piece - selection * sharers) * alike / sharers;
    } else if (block < blocks) {
      const float before = min(block, more) * less + max(block - more, 0) * each;
      begin = static_cast<int>(before * (total / fmaxf(whole, 1.f)));
    }
    table.pieces()[block] = min(begin, total);
  }
}

// How many chunks a block of threads has, and their selections, one after the other.
template <int kCount> struct ChunkList {
  static constexpr int kBytes = 2 * kCount + 16;
  int *count;
  short *selections;
  explicit __device__ __forceinline__ ChunkList(unsigned char *bytes)
      : count(reinterpret_cast<int *>(bytes)), selections(reinterpret_cast<short *>(bytes + 16)) {}
};

// Some work of one selection: [begin, end) of its `all` chunks or key tiles.
struct StepItem : StepSight {
  TokenTile tile;
  int token, select_head, selection; // `selection`: its number among all of the launch
  int begin, end, all;
};

// The selection that item `at` of one kind (StepKind) belongs to, of the launch's `tokens`.
template <int kSelections, int kTokens>
__device__ __forceinline__ int step_selection(const StepTable<kTokens> &table, int kind, int tokens,
                                              int at) {
  const int *before = table.before(kind);
  int low = 0, high = tokens; // the item belongs to a token in [low, high)
  while (low + 1 < high) {
    const int middle = (low + high) / 2;
    if (kSelections * before[middle] <= at)
      low = middle;
    else
      high = middle;
  }
  const int each = before[low + 1] - before[low];
  int left = at - kSelections * before[low], head = 0;
  if (kSelections <= 4) { // sooner than a division
    for (; head < kSelections - 1 && left >= each; left -= each)
      ++head;
  } else if (each > 0) {
    head = min(left / each, kSelections - 1);
  }
  return kSelections * low + head;
}

// What selection `selection` has of the items [begin, end) of one kind; begin >= end: nothing.
template <int kSelections, int kTokens>
__device__ __forceinline__ StepItem step_item(const StepTable<kTokens> &table, int kind,
                                              int selection, int begin, int end) {
  StepItem item;
  item.selection = selection;
  item.token = selection / kSelections;
  item.select_head = selection % kSelections;
  item.tile = table.tiles()[item.token];
  static_cast<StepSight &>(item) = table.sights()[item.token];
  const int *before = table.before(kind) + item.token;
  const int each = before[1] - before[0], first = kSelections * before[0] + item.select_head * each;
  item.begin = max(begin - first, 0);
  item.end = min(end - first, each);
  item.all = each;
  return item;
}

// By all threads, of whom there are as many as places: which selections the chunks of block `block`
// of `blocks` belong to.
template <int kSelections, int kCount, int kTokens>
__device__ __forceinline__ void fill_chunk_list(const ChunkList<kCount> &list,
                                                const StepTable<kTokens> &table, int tokens,
                                                int block, int blocks) {
  const int chunk = block + thread_index() * blocks,
            chunks = step_total<kStepChunks, kSelections>(table);
  if (thread_index() == kCount - 1)
    *list.count = min((max(chunks - block, 0) + blocks - 1) / blocks, kCount);
  if (thread_index() < kCount && chunk < chunks)
    list.selections[thread_index()] =
        static_cast<short>(step_selection<kSelections>(table, kStepChunks, tokens, chunk));
}
template <int kCount> __device__ __forceinline__ int count_chunks(const ChunkList<kCount> &list) {
  return *list.count;
}
// The `index`-th chunk of the block of threads, which is chunk `chunk` of all.
template <int kSelections, int kCount, int kTokens>
__device__ __forceinline__ StepItem listed_chunk(const ChunkList<kCount> &list,
                                                 const StepTable<kTokens> &table, int index,
                                                 int chunk) {
  return step_item<kSelections>(table, kStepChunks, list.selections[index], chunk, chunk + 1);
}

// The tile of one of the launch's tokens.
template <int kTokens>
__device__ __forceinline__ TokenTile step_token(const StepTable<kTokens> &table, int token) {
  return table.tiles()[token];
}

// What a block of threads has of the key tiles, in parts of one selection each.
struct StepParts {
  int begin, end;
  int first, count; // selections; where tiles are few, perhaps without any of them
};
template <int kSelections, int kTokens>
__device__ __forceinline__ StepParts step_parts(const StepTable<kTokens> &table, int tokens,
                                                int block) {
  StepParts parts;
  parts.begin = table.pieces()[block];
  parts.end = table.pieces()[block + 1];
  const bool none = parts.begin >= step_total<kStepKeys, kSelections>(table);
  parts.first = none ? 0 : step_selection<kSelections>(table, kStepKeys, tokens, parts.begin);
  const int last = parts.end - parts.begin < 2
                       ? parts.first
                       : step_selection<kSelections>(table, kStepKeys, tokens, parts.end - 1);
  parts.count = none ? 0 : last - parts.first + 1;
  return parts;
}
__device__ __forceinline__ int count_step_parts(const StepParts &parts) { return parts.count; }
template <int kSelections, int kTokens>
__device__ __forceinline__ StepItem step_part(const StepTable<kTokens> &table,
                                              const StepParts &parts, int index) {
  return step_item<kSelections>(table, kStepKeys, parts.first + index, parts.begin, parts.end);
}
