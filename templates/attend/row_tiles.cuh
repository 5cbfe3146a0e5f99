// Tiles of query rows that two key tiles share, of gradients by keys on warpgroups: kTokens tokens
// that both, only the first or only the second of them want, so that no product is spent on a token
// that does not want its keys. Each stage of the ring of rows has a header: what there is to know
// of its tokens. Columns of a tile of P^T and dS^T are query rows.
#pragma once
#include "winnow/gradients.cuh"
#include "winnow/key_items.cuh"
#include "winnow/warpgroup.cuh"

//===-- Tiles of tokens, by one warp ----------------------------------------------------------===//

// How far the lists of a pair have been read. All but the tokens is the same in all lanes.
template <int kTokens> struct TokenFeed {
  static_assert(32 % kTokens == 0, "a tile's tokens are among those at hand");
  bool listed;         // else tokens follow each other
  int first[kKinds];   // the first entry among those of all lists, or the first token
  int count[kKinds];   // tokens
  int taken[kKinds];   // of them, in whole tiles
  int at_hand[kKinds]; // lane n: token n of the 32 that the next tile is among
  int ahead[kKinds];   // and of the next 32, which are on their way
};

// The tokens of one tile of rows, counted in their segment and ascending. Where there are too few,
// the last one stands for those that are missing, which are no tokens.
struct RowTokens {
  int token; // lane n has the n-th
  int first; // in all lanes
  int count; // those that are tokens
  int kind;  // 1 to 3; 0: there is no tile left
  bool run;  // all are tokens, one behind the other
};

// The lane's token of the 32 from number `from` on, or the list's last one; of a list without
// tokens some number.
template <int kTokens>
__device__ __forceinline__ int token_ahead(const TokenFeed<kTokens> &feed, const void *lists,
                                           int kind, int from) {
  const int place = feed.first[kind] + min(from + lane_index(), max(feed.count[kind] - 1, 0));
  return feed.listed && feed.count[kind] > 0 ? static_cast<const int *>(lists)[place] : place;
}

// `lists`: the buffer that all lists lie in.
template <int kTokens>
__device__ __forceinline__ void open_feed(TokenFeed<kTokens> &feed, const void *lists,
                                          const KeyItem &item) {
  feed.listed = item.tokens.list[0].tokens != nullptr;
#pragma unroll
  for (int i = 0; i < kKinds; ++i) {
    const TokenList &list = item.tokens.list[i];
    feed.first[i] = __shfl_sync(
        kFullWarp,
        feed.listed ? static_cast<int>(list.tokens - static_cast<const int *>(lists)) : list.first,
        0);
    feed.count[i] = __shfl_sync(kFullWarp, list.count, 0);
    feed.taken[i] = 0;
    feed.at_hand[i] = token_ahead(feed, lists, i, 0);
    feed.ahead[i] = token_ahead(feed, lists, i, 32);
  }
}

// The next tile, of the kind of which the smallest share has been taken: so neither key tile's
// warpgroup waits long for the other, and all kinds are at about the same tokens.
template <int kTokens>
__device__ __forceinline__ RowTokens next_rows(TokenFeed<kTokens> &feed, const void *lists) {
  // The share is (taken + half a tile) / count; a range has few enough tokens for its products.
  int next = kKinds, part = 1, whole = 0;
#pragma unroll
  for (int i = 0; i < kKinds; ++i) {
    const int own = feed.taken[i] + kTokens / 2;
    if (feed.taken[i] < feed.count[i] && own * whole < part * feed.count[i]) {
      next = i;
      part = own;
      whole = feed.count[i];
    }
  }
  RowTokens rows = {0, 0, 0, 0, false};
#pragma unroll
  for (int i = 0; i < kKinds; ++i)
    if (next == i) {
      const int begin = feed.taken[i], place = begin % 32;
      rows.token = __shfl_sync(kFullWarp, feed.at_hand[i], place + lane_index() % kTokens);
      rows.first = __shfl_sync(kFullWarp, feed.at_hand[i], place);
      const int last = __shfl_sync(kFullWarp, feed.at_hand[i], place + kTokens - 1);
      rows.count = min(feed.count[i] - begin, kTokens);
      rows.run = rows.count == kTokens && last - rows.first == kTokens - 1;
      rows.kind = i + 1;
      feed.taken[i] = begin + kTokens;
      if (place + kTokens == 32) {
        feed.at_hand[i] = feed.ahead[i];
        feed.ahead[i] = token_ahead(feed, lists, i, begin + kTokens + 32);
      }
    }
  return rows;
}

//===-- Headers of stages ---------------------------------------------------------------------===//

// What there is to know of the rows of each of kStages stages: lse and delta of kRows rows,
// positions of kTokens tokens (-1: none), and a word: bits 0 and 1 say which key tile wants the
// rows, bits 2 and 3 which one has keys that some of the tokens do not see; kEndOfRows: there are
// none left.
constexpr int kEndOfRows = 16;
template <int kStages, int kRows, int kTokens> struct RowHeaders {
  static constexpr int kStageBytes = 8 * kRows + (4 * kTokens + 4 + 15) / 16 * 16;
  static constexpr int kBytes = kStages * kStageBytes;
  unsigned char *bytes;
  explicit __device__ __forceinline__ RowHeaders(unsigned char *bytes) : bytes(bytes) {}
  __device__ __forceinline__ float2 *statistics(int stage) const {
    return reinterpret_cast<float2 *>(bytes + stage * kStageBytes);
  }
  __device__ __forceinline__ int *positions(int stage) const {
    return reinterpret_cast<int *>(bytes + stage * kStageBytes + 8 * kRows);
  }
  __device__ __forceinline__ int *word(int stage) const { return positions(stage) + kTokens; }
};

// Rows that no head fills have no weight, in every stage; by all threads of the block.
template <int kStages, int kRows, int kTokens>
__device__ __forceinline__ void
clear_statistics(const RowHeaders<kStages, kRows, kTokens> &headers) {
  for (int i = threadIdx.x; i < kStages * kRows; i += blockDim.x)
    headers.statistics(i / kRows)[i % kRows] = make_float2(kInfinity, 0.f);
  fence_shared_stores();
}

// Writes a stage's header but for the statistics, by the first kTokens lanes of one warp.
template <int kStages, int kRows, int kTokens>
__device__ __forceinline__ void describe_rows(const RowHeaders<kStages, kRows, kTokens> &headers,
                                              const Cursor<kStages> &cursor, const RowTokens &rows,
                                              const KeyItem &item) {
  const int lane = lane_index();
  if (lane < kTokens)
    headers.positions(cursor.stage)[lane] = lane < rows.count ? item.history + rows.token : -1;
  int word = rows.kind;
#pragma unroll
  for (int tile = 0; tile < kPairTiles; ++tile) {
    const int last_key = item.first + (tile + 1) * kItemTileKeys - 1;
    const bool hides = rows.count < kTokens || item.history + rows.first < last_key;
    word |= static_cast<int>(hides) << (2 + tile);
  }
  if (lane == 0)
    *headers.word(cursor.stage) = word;
}
template <int kStages, int kRows, int kTokens>
__device__ __forceinline__ void end_rows(const RowHeaders<kStages, kRows, kTokens> &headers,
                                         const Cursor<kStages> &cursor) {
  if (lane_index() == 0)
    *headers.word(cursor.stage) = kEndOfRows;
}

// The lanes that write headers arrive, the first one with the `bytes` that copies will bring.
template <int kTokens, int kStages>
__device__ __forceinline__ void announce_rows(const RingBarriers<kStages> &barriers,
                                              const Cursor<kStages> &cursor, int bytes) {
  if (lane_index() == 0)
    arrive_expecting(barriers.full(cursor.stage), bytes);
  else if (lane_index() < kTokens)
    arrive(barriers.full(cursor.stage));
}

// 0 where the rows of the stage are not wanted by key tile `tile`, 1 where they are, 2 at the end.
template <int kStages, int kRows, int kTokens>
__device__ __forceinline__ int rows_wanted(const RowHeaders<kStages, kRows, kTokens> &headers,
                                           const Cursor<kStages> &cursor, int tile) {
  const int word = __shfl_sync(kFullWarp, *headers.word(cursor.stage), 0);
  return word == kEndOfRows ? 2 : word >> tile & 1;
}

//===-- Copies, by one warp -------------------------------------------------------------------===//

// Starts copying the rows of kTokens tokens, kRows / kTokens rows of the tile each: a panel of a
// token is the map's box, 64 columns of the heads from first_head on, and one lane's copy.
template <int kTokens, int kRows, int kColumns, class T>
__device__ __forceinline__ void copy_token_rows(const PanelTile<kRows, kColumns, T> &tile,
                                                const TensorMap &map, unsigned barrier,
                                                const RowTokens &rows, int q_row, int first_head) {
  constexpr int kPanels = PanelTile<kRows, kColumns, T>::kPanels;
  static_assert(kTokens * kPanels <= 32, "a lane for each copy");
  const int lane = lane_index(), panel = lane % kPanels, token = lane / kPanels;
  const int row = q_row + __shfl_sync(kFullWarp, rows.token, token);
  if (token < kTokens)
    copy_box(tile.base + panel * tile.kPanelBytes + token * (kRows / kTokens) * 128, map, barrier,
             64 * panel, first_head, row);
}

// The same of a run of tokens whose rows fill the tile, by one lane: the map's box is all panels of
// kTokens tokens of kRows / kTokens heads.
template <int kRows, int kColumns, class T>
__device__ __forceinline__ void copy_row_run(const PanelTile<kRows, kColumns, T> &tile,
                                             const TensorMap &map, unsigned barrier,
                                             const RowTokens &rows, int q_row, int first_head) {
  if (lane_index() == 0)
    copy_box(tile.base, map, barrier, 0, first_head, q_row + rows.first, 0);
}

// The same of lse and delta of the kGroup heads from first_head on.
template <int kGroup, int kStages, int kRows, int kTokens>
__device__ __forceinline__ void
copy_statistics(const RowHeaders<kStages, kRows, kTokens> &headers, const Cursor<kStages> &cursor,
                const void *statistics, unsigned barrier, const RowTokens &rows, int q_row,
                int first_head, int total_q) {
  const int lane = lane_index();
  if (lane < kTokens)
    copy_bytes(shared_address(headers.statistics(cursor.stage) + lane * (kRows / kTokens)),
               static_cast<const float2 *>(statistics) +
                   place_of_statistics<kGroup>(first_head, q_row + rows.token, total_q),
               8 * kGroup, barrier);
}
template <int kGroup, int kStages, int kRows, int kTokens>
__device__ __forceinline__ void
copy_statistics_run(const RowHeaders<kStages, kRows, kTokens> &headers,
                    const Cursor<kStages> &cursor, const void *statistics, unsigned barrier,
                    const RowTokens &rows, int q_row, int first_head, int total_q) {
  static_assert(kGroup * kTokens == kRows, "rows lie side by side");
  if (lane_index() == 0)
    copy_bytes(shared_address(headers.statistics(cursor.stage)),
               static_cast<const float2 *>(statistics) +
                   place_of_statistics<kGroup>(first_head, q_row + rows.first, total_q),
               8 * kRows, barrier);
}

//===-- Columns of a tile ---------------------------------------------------------------------===//

// QueryColumns of a stage, left in shared memory: kTokenRows columns of each token.
template <int kTokenRows> struct StageColumns {
  const float4 *statistics; // lse and delta of two columns
  const int *positions;     // of tokens
  bool hides;               // some of the tile's keys lie behind some of the tokens
};

template <int kTokenRows, int kStages, int kRows, int kTokens>
__device__ __forceinline__ void find_columns(StageColumns<kTokenRows> &columns,
                                             const RowHeaders<kStages, kRows, kTokens> &headers,
                                             const Cursor<kStages> &cursor, int tile) {
  static_assert(kTokenRows * kTokens == kRows, "tokens fill the stage");
  columns.statistics = reinterpret_cast<const float4 *>(headers.statistics(cursor.stage));
  columns.positions = headers.positions(cursor.stage);
  columns.hides = __shfl_sync(kFullWarp, *headers.word(cursor.stage), 0) >> (2 + tile) & 1;
}

// lse and delta of columns 8j + 2c and the next one: x, y and z, w.
template <int kTokenRows>
__device__ __forceinline__ float4 pair_of_columns(const StageColumns<kTokenRows> &columns, int j) {
  return columns.statistics[4 * j + (lane_index() & 3)];
}

// The position of these two columns' token.
template <int kTokenRows>
__device__ __forceinline__ int position_of(const StageColumns<kTokenRows> &columns, int j) {
  static_assert(kTokenRows % 8 == 0 || kTokenRows == 4, "a lane's two columns have one token");
  const int column = kTokenRows % 8 == 0 ? 8 * j : 8 * j + 2 * (lane_index() & 3);
  return columns.positions[column / kTokenRows];
}

// What gradients.cuh says of QueryColumns.
template <int kRows, int kTokenRows>
__device__ __forceinline__ void subtract_column_deltas(Accumulator<16, kRows> &changes,
                                                       const StageColumns<kTokenRows> &columns) {
#pragma unroll
  for (int j = 0; j < kRows / 8; ++j) {
    const float4 pair = pair_of_columns(columns, j);
#pragma unroll
    for (int e = 0; e < 4; ++e)
      changes.value[j][e] -= e & 1 ? pair.w : pair.y;
  }
}
template <int kRows, int kTokenRows, class Hook>
__device__ __forceinline__ void
multiply_column_slopes(Accumulator<16, kRows> &changes, const Accumulator<16, kRows> &logits,
                       const StageColumns<kTokenRows> &columns, int first_key, float scale,
                       const Hook &slope) {
  const int key = first_key + lane_index() / 4;
#pragma unroll
  for (int j = 0; j < kRows / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      changes.value[j][e] *=
          slope(logits.value[j][e] * scale, position_of(columns, j), key + 8 * (e >> 1));
}
template <int kRows, int kTokenRows, class Hook>
__device__ __forceinline__ void map_column_logits(Accumulator<16, kRows> &logits,
                                                  const StageColumns<kTokenRows> &columns,
                                                  int first_key, float scale, const Hook &hook) {
  const int key = first_key + lane_index() / 4;
#pragma unroll
  for (int j = 0; j < kRows / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      logits.value[j][e] =
          hook(logits.value[j][e] * scale, position_of(columns, j), key + 8 * (e >> 1));
}
// Keys that no token hides are not compared with positions.
template <int kRows, int kTokenRows>
__device__ __forceinline__ void
weigh_columns(Accumulator<16, kRows> &logits, Accumulator<16, kRows> &changes,
              const StageColumns<kTokenRows> &columns, int first_key, float scale) {
  const int key = first_key + lane_index() / 4;
  if (columns.hides)
#pragma unroll
    for (int j = 0; j < kRows / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (key + 8 * (e >> 1) > position_of(columns, j))
          logits.value[j][e] = -kInfinity;
#pragma unroll
  for (int j = 0; j < kRows / 8; ++j) {
    const float4 pair = pair_of_columns(columns, j);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      logits.value[j][e] = exp2_fast(fmaf(logits.value[j][e], scale, e & 1 ? -pair.z : -pair.x));
      changes.value[j][e] *= logits.value[j][e];
    }
  }
}

// What a region hides may have a slope that is no number: what has no weight does not change.
template <int kRows>
__device__ __forceinline__ void clear_unweighted(Accumulator<16, kRows> &changes,
                                                 const Accumulator<16, kRows> &weights) {
#pragma unroll
  for (int j = 0; j < kRows / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      changes.value[j][e] = weights.value[j][e] > 0.f ? changes.value[j][e] : 0.f;
}
