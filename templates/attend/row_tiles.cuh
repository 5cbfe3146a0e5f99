// Tiles of query rows that two key tiles share, of gradients by keys on warpgroups. The two
// ascending lists of tokens that attend to the one and to the other are merged into tiles of
// kTokens tokens that both, only the first or only the second of them want, so that no product is
// spent on a token that does not want its keys. Each stage of the ring of rows has a header: what
// there is to know of its tokens. Columns of a tile of P^T and dS^T are query rows.
#pragma once
#include "winnow/gradients.cuh"
#include "winnow/key_items.cuh"
#include "winnow/warpgroup.cuh"

//===-- Merging two lists, by one warp --------------------------------------------------------===//

// The kinds of tokens, as bits: 1 the first key tile wants them, 2 the second one does.
constexpr int kKinds = 3;

// How far the lists have been read, and the tokens of each kind that have no tile yet: lane n has
// the n-th. Counts and places are the same in all lanes.
template <int kTokens> struct TokenMerge {
  static_assert(kTokens <= 16,
                "half a warp is read at a time, and what is left over fits beside it");
  TokenList list[kPairTiles];
  int read[kPairTiles];
  int waiting[kKinds];
  int count[kKinds];
};

// The tokens of one tile of rows, counted in their segment: lane n has the n-th. Where there are
// too few, the last one stands for those that are missing, which are no tokens.
struct RowTokens {
  int token;
  bool valid; // whether it is one
  int kind;   // 1 to 3; 0: there is no tile left
};

template <int kTokens>
__device__ __forceinline__ void open_merge(TokenMerge<kTokens> &merge, const KeyItem &item) {
#pragma unroll
  for (int i = 0; i < kPairTiles; ++i) {
    merge.list[i] = item.list[i];
    merge.list[i].count = __shfl_sync(kFullWarp, item.list[i].count, 0);
    merge.read[i] = 0;
  }
#pragma unroll
  for (int i = 0; i < kKinds; ++i)
    merge.waiting[i] = merge.count[i] = 0;
}

// The lane of the n-th bit of `lanes`, from 0 on; 31 or less where there are not so many.
__device__ __forceinline__ int nth_lane(unsigned lanes, int n) {
  int lane = 0;
#pragma unroll
  for (int width = 16; width > 0; width /= 2) {
    const int inside = __popc(lanes >> lane & ((1u << width) - 1));
    if (n >= inside) {
      n -= inside;
      lane += width;
    }
  }
  return lane;
}

// Reads on: 16 entries of each list, of which those are taken that no later entry of the other
// list can equal.
template <int kTokens> __device__ __forceinline__ void read_tokens(TokenMerge<kTokens> &merge) {
  constexpr int kHalf = 16, kNone = 0x7fffffff;
  const int lane = lane_index();
  const bool of_second = lane >= kHalf;
  const int entry = (of_second ? merge.read[1] : merge.read[0]) + lane % kHalf;
  int token = kNone;
  if (entry < (of_second ? merge.list[1].count : merge.list[0].count))
    token = of_second ? merge.list[1].token(entry) : merge.list[0].token(entry);
  const int last = min(__shfl_sync(kFullWarp, token, kHalf - 1), __shfl_sync(kFullWarp, token, 31));
  const bool taken = token != kNone && token <= last;
  const unsigned lanes = __ballot_sync(kFullWarp, taken);
  merge.read[0] += __popc(lanes & 0xffffu);
  merge.read[1] += __popc(lanes >> kHalf);
  const bool twice = (match_lanes(token) & ~(1u << lane)) != 0;
#pragma unroll
  for (int i = 0; i < kKinds; ++i) { // kind i + 1
    const bool is_kind = i == 2 ? twice && !of_second : !twice && of_second == (i == 1);
    const unsigned found = __ballot_sync(kFullWarp, taken && is_kind);
    const int behind = lane - merge.count[i];
    const int next = __shfl_sync(kFullWarp, token, nth_lane(found, max(0, behind)));
    merge.waiting[i] = behind < 0 ? merge.waiting[i] : next;
    merge.count[i] += __popc(found);
  }
}

// The next tile: whole ones as long as there are any, of the kind that has most tokens, so that
// neither key tile's warpgroup waits long for the other.
template <int kTokens> __device__ __forceinline__ RowTokens next_rows(TokenMerge<kTokens> &merge) {
  const int lane = lane_index();
  while (true) {
    const int most = max(merge.count[0], max(merge.count[1], merge.count[2]));
    const bool ends = merge.read[0] >= merge.list[0].count && merge.read[1] >= merge.list[1].count;
    if (most < kTokens && !ends) {
      read_tokens(merge);
      continue;
    }
    RowTokens rows = {0, false, 0};
    if (most == 0)
      return rows;
    const int count = min(most, kTokens);
#pragma unroll
    for (int i = kKinds - 1; i >= 0; --i)
      if (rows.kind == 0 && merge.count[i] == most) {
        rows.token = __shfl_sync(kFullWarp, merge.waiting[i], min(lane, count - 1));
        rows.valid = lane < count;
        rows.kind = i + 1;
        merge.waiting[i] = __shfl_sync(kFullWarp, merge.waiting[i], (lane + count) & 31);
        merge.count[i] -= count;
      }
    return rows;
  }
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

// Writes a stage's header but for the statistics, by one warp.
template <int kStages, int kRows, int kTokens>
__device__ __forceinline__ void describe_rows(const RowHeaders<kStages, kRows, kTokens> &headers,
                                              const Cursor<kStages> &cursor, const RowTokens &rows,
                                              const KeyItem &item) {
  const int lane = lane_index(), position = rows.valid ? item.history + rows.token : -1;
  if (lane < kTokens)
    headers.positions(cursor.stage)[lane] = position;
  int word = rows.kind;
#pragma unroll
  for (int tile = 0; tile < kPairTiles; ++tile) {
    const int last_key = item.first + (tile + 1) * kItemTileKeys - 1;
    const bool hides = __any_sync(kFullWarp, lane < kTokens && position < last_key);
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

// The same of lse and delta of kGroup heads; `statistics` [total_q, kHeads].
template <int kHeads, int kGroup, int kStages, int kRows, int kTokens>
__device__ __forceinline__ void copy_statistics(const RowHeaders<kStages, kRows, kTokens> &headers,
                                                const Cursor<kStages> &cursor,
                                                const void *statistics, unsigned barrier,
                                                const RowTokens &rows, int q_row, int first_head) {
  const int lane = lane_index();
  if (lane < kTokens)
    copy_bytes(shared_address(headers.statistics(cursor.stage) + lane * (kRows / kTokens)),
               static_cast<const float2 *>(statistics) +
                   static_cast<long long>(q_row + rows.token) * kHeads + first_head,
               8 * kGroup, barrier);
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
  static_assert(kTokenRows * kTokens == kRows && kTokenRows % 8 == 0, "tokens have whole columns");
  columns.statistics = reinterpret_cast<const float4 *>(headers.statistics(cursor.stage));
  columns.positions = headers.positions(cursor.stage);
  columns.hides = __shfl_sync(kFullWarp, *headers.word(cursor.stage), 0) >> (2 + tile) & 1;
}

// lse and delta of columns 8j + 2c and the next one: x, y and z, w.
template <int kTokenRows>
__device__ __forceinline__ float4 pair_of_columns(const StageColumns<kTokenRows> &columns, int j) {
  return columns.statistics[4 * j + (lane_index() & 3)];
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
      changes.value[j][e] *= slope(logits.value[j][e] * scale,
                                   columns.positions[8 * j / kTokenRows], key + 8 * (e >> 1));
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
      logits.value[j][e] = hook(logits.value[j][e] * scale, columns.positions[8 * j / kTokenRows],
                                key + 8 * (e >> 1));
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
        if (key + 8 * (e >> 1) > columns.positions[8 * j / kTokenRows])
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
