// Who does what in a decode step that is one launch (decode_step): blocks of threads that all run
// at the same time share the summaries and the key tiles of all tokens. Work is of three kinds, and
// a selection of a token (one of its tiles of heads that select together) has some of each: chunks
// of summaries to be scored, which go to the blocks of threads in turn; early key tiles, which are
// known before anything is scored; chosen key tiles. Of either kind of key tiles, all selections
// one behind the other, a block of threads has one piece: an even one of the early tiles, and of
// the chosen ones what makes the bytes of all three kinds even. Lengths are known to the device
// alone, so each block of threads adds up the work of all tokens itself.
#pragma once
#include "winnow/sequence.cuh"

enum StepKind { kStepChunks, kStepEarly, kStepChosen };

// What a token sees of its summaries: how many there are, how many of them it sees, and of the
// normaliser's; how many it needs scores of; and in how many tiles of 32 all of these lie.
struct StepSight {
  int rows, visible, normalizer_visible, scored_end, tiles;
};

// Of each of the launch's tokens, in shared memory: where it is, what it sees, and for each kind of
// work that of the tokens in front of it, per selection.
template <int kTokens> struct StepTable {
  static constexpr int kBytes = 52 * kTokens + 12 * (kTokens + 4);
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
                                               int chunks, int early, int chosen) {
  table.tiles()[token] = tile;
  table.sights()[token] = {rows, visible, normalizer_visible, scored_end, tiles};
  table.before(kStepChunks)[token] = chunks;
  table.before(kStepEarly)[token] = early;
  table.before(kStepChosen)[token] = chosen;
}

// By all threads, 3 whole warps at least: adds up.
template <int kTokens>
__device__ __forceinline__ void sum_step_tokens(const StepTable<kTokens> &table) {
  constexpr int kEach = kTokens / 32;
  if (warp_index() > kStepChosen)
    return;
  int *before = table.before(warp_index());
  int sum = 0, own[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    own[i] = sum;
    sum += before[kEach * lane_index() + i];
  }
  int through = sum; // up to the end of this lane's tokens
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const int other = __shfl_up_sync(kFullWarp, through, distance);
    through += lane_index() >= distance ? other : 0;
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i)
    before[kEach * lane_index() + i] = through - sum + own[i];
  if (lane_index() == 31)
    before[kTokens] = through;
}

// Of one kind, over all selections.
template <int kKind, int kSelections, int kTokens>
__device__ __forceinline__ int step_total(const StepTable<kTokens> &table) {
  return kSelections * table.before(kKind)[kTokens];
}

// A piece of the key tiles of either kind.
struct StepRange {
  int begin, end;
};

// Where the pieces of the key tiles of one kind begin: the first `more` blocks of threads have
// pieces of `less` tiles, the others of `each`. In fp64, which holds every number of tiles and
// takes a tenth of the time of a division of 64-bit numbers; each block of threads comes to the
// same.
struct StepPieces {
  double less, each;
  int more, blocks, total;
  __device__ __forceinline__ int begin(int block) const {
    return block >= blocks
               ? total
               : min(static_cast<int>(min(block, more) * less + max(block - more, 0) * each),
                     total);
  }
  __device__ __forceinline__ StepRange of(int block) const {
    return {begin(block), begin(block + 1)};
  }
};

// Of the early key tiles: all alike.
template <int kSelections, int kTokens>
__device__ __forceinline__ StepPieces early_pieces(const StepTable<kTokens> &table, int blocks) {
  const int total = step_total<kStepEarly, kSelections>(table);
  return {0., static_cast<double>(total) / blocks, 0, blocks, total};
}

// Of the chosen ones, so that all kinds of work together are alike. A chunk takes as long as
// `chunk_cost` key tiles; the first blocks of threads have a chunk more than the others.
template <int kSelections, int kTokens>
__device__ __forceinline__ StepPieces chosen_pieces(const StepTable<kTokens> &table, int blocks,
                                                    int chunk_cost) {
  const int chunks = step_total<kStepChunks, kSelections>(table),
            total = step_total<kStepChosen, kSelections>(table);
  const int least = chunks / blocks, more = chunks - least * blocks;
  const double even = (static_cast<double>(chunks) * chunk_cost + total) / blocks;
  const double each = max(even - least * chunk_cost, 0.);
  const double less = max(even - (least + 1) * chunk_cost, 0.);
  const double whole = more * less + (blocks - more) * each;
  const double factor = whole > 0. ? total / whole : 0.;
  return {less * factor, each * factor, more, blocks, total};
}

template <int kSelections, int kTokens>
__device__ __forceinline__ StepRange early_range(const StepTable<kTokens> &table, int block,
                                                 int blocks) {
  return early_pieces<kSelections>(table, blocks).of(block);
}
template <int kSelections, int kTokens>
__device__ __forceinline__ StepRange chosen_range(const StepTable<kTokens> &table, int block,
                                                  int blocks, int chunk_cost) {
  return chosen_pieces<kSelections>(table, blocks, chunk_cost).of(block);
}

// The selections of a block of threads' chunks, one after the other.
template <int kCount> struct ChunkList {
  static constexpr int kBytes = 2 * kCount;
  short *selections;
  explicit __device__ __forceinline__ ChunkList(unsigned char *bytes)
      : selections(reinterpret_cast<short *>(bytes)) {}
};

// Some work of one selection: [begin, end) of its chunks or of its key tiles of one kind.
struct StepItem : StepSight {
  TokenTile tile;
  int token, select_head, selection; // `selection`: its number among all of the launch
  int begin, end;
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
  return item;
}

// By all threads, of whom there are as many as places: which selections the chunks of block `block`
// of `blocks` belong to.
template <int kSelections, int kCount, int kTokens>
__device__ __forceinline__ void fill_chunk_list(const ChunkList<kCount> &list,
                                                const StepTable<kTokens> &table, int tokens,
                                                int block, int blocks) {
  const int chunk = block + thread_index() * blocks;
  if (thread_index() < kCount && chunk < step_total<kStepChunks, kSelections>(table))
    list.selections[thread_index()] =
        static_cast<short>(step_selection<kSelections>(table, kStepChunks, tokens, chunk));
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

// What a block of threads has of both kinds of key tiles, in parts of one selection each.
struct StepParts {
  StepRange range[2];     // of the early tiles, and of the chosen ones
  int first[2], count[2]; // selections of either; where tiles are few, perhaps without any of them
  bool continues;         // the first chosen part goes on with the last early one
};
template <int kSelections, int kTokens>
__device__ __forceinline__ StepParts step_parts(const StepTable<kTokens> &table, int tokens,
                                                int block, int blocks, int chunk_cost) {
  StepParts parts;
  parts.range[0] = early_range<kSelections>(table, block, blocks);
  parts.range[1] = chosen_range<kSelections>(table, block, blocks, chunk_cost);
  bool some = true;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const StepRange range = parts.range[i];
    const int kind = kStepEarly + i, total = kSelections * table.before(kind)[kTokens];
    const bool none = range.begin >= total;
    parts.first[i] = none ? 0 : step_selection<kSelections>(table, kind, tokens, range.begin);
    const int last = range.end - range.begin < 2
                         ? parts.first[i]
                         : step_selection<kSelections>(table, kind, tokens, range.end - 1);
    parts.count[i] = none ? 0 : last - parts.first[i] + 1;
    some &= range.begin < range.end;
  }
  parts.continues = some && parts.first[0] + parts.count[0] - 1 == parts.first[1];
  return parts;
}
__device__ __forceinline__ int count_step_parts(const StepParts &parts) {
  return parts.count[0] + parts.count[1];
}
// Whether part `index` is one of chosen tiles, whether it goes on with the one before, and whether
// the one behind goes on with it.
__device__ __forceinline__ bool is_chosen_part(const StepParts &parts, int index) {
  return index >= parts.count[0];
}
__device__ __forceinline__ bool continues_part(const StepParts &parts, int index) {
  return parts.continues && index == parts.count[0];
}
__device__ __forceinline__ bool is_continued_part(const StepParts &parts, int index) {
  return parts.continues && index + 1 == parts.count[0];
}
template <int kSelections, int kTokens>
__device__ __forceinline__ StepItem step_part(const StepTable<kTokens> &table,
                                              const StepParts &parts, int index) {
  const int kind = index >= parts.count[0];
  return step_item<kSelections>(table, kStepEarly + kind,
                                parts.first[kind] + index - (kind ? parts.count[0] : 0),
                                parts.range[kind].begin, parts.range[kind].end);
}
