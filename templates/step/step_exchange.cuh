// What the blocks of threads of decode_step tell each other through device memory: shares of the
// normalisers, ranks, and parts (step_parts.cuh). Every word says by itself that it is there, since
// it is never 0 and all have been cleared when the kernel began: so a reader asks for the data
// until it comes, and nothing else is waited for. One message takes about 0.6 us (one H200), a
// barrier of the grid twice as long: there is one, behind the clearing, which nobody has to wait
// for.
//
// Shares: of each selection, head and chunk {maximum, sum} and {sums of the open summaries at its
// begin, at its end}, 8 bytes each. Ranks: of each selection and 8 summaries those of its one or
// two blocks, the edge behind them, and flags.
#pragma once
#include "winnow/cluster_selection.cuh"
#include "winnow/step_work.cuh"

// By the grid's `threads` threads that normalise, before anything is told: buffer = 0, `fours`
// times 16 bytes.
__device__ __forceinline__ void clear_exchange(void *buffer, int fours, int thread, int threads) {
#pragma unroll 1
  for (int i = thread; i < fours; i += threads)
    static_cast<uint4 *>(buffer)[i] = make_uint4(0, 0, 0, 0);
}

// What a launch tells, in units of 8 bytes, of `chunks` chunks and `tiles` tiles of 32 summaries at
// most of each selection: first all shares, then all ranks.
struct Exchange {
  unsigned long long *shares, *ranks;
  int chunks, tiles;
};
__device__ __forceinline__ Exchange exchange_of(void *buffer, int selections, int heads, int chunks,
                                                int tiles) {
  Exchange exchange;
  exchange.shares = static_cast<unsigned long long *>(buffer);
  exchange.ranks = exchange.shares + static_cast<long long>(selections) * chunks * heads * 2;
  exchange.chunks = chunks;
  exchange.tiles = tiles;
  return exchange;
}
__device__ __forceinline__ unsigned long long *share_words(const Exchange &exchange, int selection,
                                                           int chunk, int head, int heads) {
  return exchange.shares +
         ((static_cast<long long>(selection) * heads + head) * exchange.chunks + chunk) * 2;
}
__device__ __forceinline__ unsigned long long *rank_words(const Exchange &exchange, int selection,
                                                          int group) {
  return exchange.ranks + static_cast<long long>(selection) * exchange.tiles * 4 + group;
}

// A number as bits that are not all 0: a 0 goes as -0.
__device__ __forceinline__ unsigned told_bits(float value) {
  const unsigned bits = __float_as_uint(value);
  return bits == 0 ? 0x80000000u : bits;
}
// Two numbers as a word that is never 0.
__device__ __forceinline__ unsigned long long told_pair(float told, float beside) {
  return static_cast<unsigned long long>(__float_as_uint(beside)) << 32 | told_bits(told);
}
__device__ __forceinline__ float2 untold_pair(unsigned long long word) {
  return make_float2(__uint_as_float(static_cast<unsigned>(word)),
                     __uint_as_float(static_cast<unsigned>(word >> 32)));
}

//===-- Normalisers ---------------------------------------------------------------------------===//

// Rows of a table of normalisers that one selection has: those of an mma tile.
constexpr int kTableRows = 16;

// The share of the normalisers of a warp that streams, of one chunk.
template <int kWarps, int kTileHeads, int kOpen>
__device__ __forceinline__ void store_step_share(const WarpShares<kWarps, kTileHeads> &shares,
                                                 const NormalizerSums<kOpen> &state, int place) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float2 sum = share_of_quad(state, half);
    const int head = 8 * half + lane_index() / 4;
    if ((lane_index() & 3) == 0 && head < kTileHeads)
      shares.values[place * kTileHeads + head] = sum;
  }
}

// Over kLanes neighbouring lanes, in all of them.
template <int kLanes> __device__ __forceinline__ float largest_of_lanes(float value) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, distance));
  return value;
}
template <int kLanes> __device__ __forceinline__ float sum_of_lanes(float value) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(kFullWarp, value, distance);
  return value;
}

// Some terms 2^x times y of a sum, whose largest x is taken first, so that none waits for another.
template <int kTerms> struct ScaledTerms {
  float exponent[kTerms], factor[kTerms];
};
// The sum over kLanes neighbouring lanes' terms, as {exponent, factor}; a term of factor 0 is none.
template <int kLanes, int kTerms>
__device__ __forceinline__ float2 sum_terms(const ScaledTerms<kTerms> &terms) {
  float top = -kInfinity;
#pragma unroll
  for (int i = 0; i < kTerms; ++i)
    top = terms.factor[i] == 0.f ? top : fmaxf(top, terms.exponent[i]);
  top = largest_of_lanes<kLanes>(top);
  float sum = 0.f;
#pragma unroll
  for (int i = 0; i < kTerms; ++i)
    sum += terms.factor[i] == 0.f ? 0.f : terms.factor[i] * exp2_fast(terms.exponent[i] - top);
  return make_float2(top, sum_of_lanes<kLanes>(sum));
}

// The open summary between two tiles, of which the second begins at `row`, as a term: it exists
// where it `is_there` and is seen.
template <int kCount, int kStep, int kStride, int kTerms>
__device__ __forceinline__ void put_open_term(ScaledTerms<kTerms> &terms, int index, float end,
                                              float begin, int row, int visible, float scale,
                                              bool is_there) {
  const int first = row + open_first<kCount, kStep, kStride>(0);
  terms.exponent[index] = (end + begin) * (scale / kCount);
  terms.factor[index] = is_there && first / kStride < visible ? 1.f : 0.f;
}

// By kThreads threads, kThreads / 16 lanes for each head: tells the share of chunk `chunk`, whose
// `tiles` tiles have the places from `place` on and the summaries from `first_row` on, and whose
// kStreams warps' shares lie from `share_place` on.
template <int kThreads, int kStreams, int kCount, int kStep, int kStride, int kWarps,
          int kTileHeads, int kOpen, int kTiles>
__device__ __forceinline__ void
tell_share(const Exchange &exchange, const WarpShares<kWarps, kTileHeads> &warps,
           const OpenSums<kTileHeads, kOpen, kTiles> &sums, int selection, int chunk,
           int share_place, int place, int tiles, int first_row, int visible, float scale) {
  constexpr int kLanes = kThreads / 16; // of a head
  constexpr int kShares = (kStreams + kLanes - 1) / kLanes;
  constexpr int kOpenTerms = kOpen > 0 ? (kTiles / 2 + kLanes - 1) / kLanes : 0;
  static_assert(kLanes >= 8 && kLanes <= 32 && kTileHeads <= 16 && kOpen <= 1, "lanes of one warp");
  const int row = thread_index() % kThreads / kLanes, lane = thread_index() % kLanes;
  const int head = min(row, kTileHeads - 1);
  ScaledTerms<kShares + kOpenTerms> terms;
#pragma unroll
  for (int i = 0; i < kShares; ++i) {
    const int warp = lane + i * kLanes;
    const float2 share = warps.values[(share_place + min(warp, kStreams - 1)) * kTileHeads + head];
    terms.exponent[i] = share.x;
    terms.factor[i] = warp < kStreams ? share.y : 0.f;
  }
#pragma unroll
  for (int i = 0; i < kOpenTerms; ++i) {
    const int tile = 1 + lane + i * kLanes;
    float end = 0.f, begin = 0.f;
    if (tile < tiles) {
      end = sums.at_end(place + tile - 1, 0, head);
      begin = sums.at_begin(place + tile, 0, head);
    }
    put_open_term<kCount, kStep, kStride>(terms, kShares + i, end, begin, first_row + 32 * tile,
                                          visible, scale, tile < tiles);
  }
  const float2 sum = sum_terms<kLanes>(terms);
  if (row < kTileHeads && lane == 0)
    tell_words(share_words(exchange, selection, chunk, head, kTileHeads), told_pair(sum.y, sum.x),
               kOpen == 0 ? 1ull
                          : told_pair(sums.at_begin(place, 0, head),
                                      sums.at_end(place + tiles - 1, 0, head)));
}

// Adds the shares of chunks [first, first + kTogether * kLanes) of those in front of `chunks`, of
// `chunk_rows` summaries each; by kLanes neighbouring lanes, of one head. The open summary in front
// of a chunk is seen where that begins before `open_rows`. `open`: the sums of open summaries that
// the chunk before ends with; then, in all lanes, those of the last chunk here. Waits for shares
// that have not been told, or else takes back `told`.
template <int kLanes, int kTogether, int kCount, int kOpen>
__device__ __forceinline__ float2 hear_shares(const unsigned long long *words, int first,
                                              int chunks, int chunk_rows, int open_rows,
                                              float &open, float scale, bool waits, bool &told) {
  const int lane = thread_index() % kLanes;
  unsigned long long share[kTogether], sums[kTogether];
  bool there;
  do {
    there = true;
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      // A lane without a chunk asks for the last one, which is waited for anyway.
      ask_words(share[i], sums[i], words + 2 * min(first + lane + i * kLanes, chunks - 1));
      there &= share[i] != 0 && sums[i] != 0;
    }
    if (!there)
      await_others();
  } while (!there && waits);
  told &= there;
  __syncwarp();
  // What is not there has the exponent -inf, of which every power is 0.
  float exponent[kTogether], open_exponent[kTogether];
  float top = -1e30f;
#pragma unroll
  for (int i = 0; i < kTogether; ++i) {
    const int chunk = first + lane + i * kLanes;
    exponent[i] = chunk < chunks ? untold_pair(share[i]).y : -kInfinity;
    top = fmaxf(top, exponent[i]);
    if constexpr (kOpen > 0) {
      const float2 ends = untold_pair(sums[i]); // at its begin, at its end
      const float before = __shfl_sync(kFullWarp, ends.y, lane_index() - lane + max(lane - 1, 0));
      const bool is_seen = chunk > 0 && chunk < chunks && chunk * chunk_rows < open_rows;
      open_exponent[i] =
          is_seen ? ((lane > 0 ? before : open) + ends.x) * (scale / kCount) : -kInfinity;
      top = fmaxf(top, open_exponent[i]);
      open = __shfl_sync(kFullWarp, ends.y, lane_index() | (kLanes - 1));
    }
  }
  top = largest_of_lanes<kLanes>(top);
  float sum = 0.f;
#pragma unroll
  for (int i = 0; i < kTogether; ++i) {
    sum = fmaf(untold_pair(share[i]).x, exp2_fast(exponent[i] - top), sum);
    if constexpr (kOpen > 0)
      sum += exp2_fast(open_exponent[i] - top);
  }
  return make_float2(top, sum_of_lanes<kLanes>(sum));
}

// By kThreads threads: table, from row `first_row` on = the normalisers of a selection, from the
// shares of its `chunks` chunks of `chunk_tiles` tiles; -inf for a head that sees no summary, and
// for the rows behind the last head. Whether all shares that the thread asks for have been told: if
// it `waits`, they have.
template <int kThreads, int kCount, int kStep, int kStride, int kOpen, int kTileHeads, int kRows>
__device__ __forceinline__ bool
hear_normalizers(const NormalizerTable<kRows> &table, int first_row, const Exchange &exchange,
                 int selection, int chunks, int chunk_tiles, int visible, float scale, bool waits) {
  constexpr int kLanes = kThreads / kTableRows; // of a head
  const int head = thread_index() % kThreads / kLanes;
  const unsigned long long *words =
      share_words(exchange, selection, 0, min(head, kTileHeads - 1), kTileHeads);
  float2 sum = make_float2(0.f, 0.f);
  float open = 0.f;
  int first = 0;
  bool told = true;
  // The open summary in front of chunk c begins at row 32 c chunk_tiles + open_first.
  constexpr int kOpenFirst = kOpen > 0 ? open_first<kCount, kStep, kStride>(0) : 0;
  const int chunk_rows = 32 * chunk_tiles, open_rows = visible * kStride - kOpenFirst;
  // Few chunks at a time, or many, so that neither asks for what is not there.
  constexpr int kFew = 2, kMany = 8;
#pragma unroll 1
  for (; chunks - first > kFew * kLanes; first += kMany * kLanes)
    add_scaled(sum, hear_shares<kLanes, kMany, kCount, kOpen>(words, first, chunks, chunk_rows,
                                                              open_rows, open, scale, waits, told));
#pragma unroll 1
  for (; first < chunks; first += kFew * kLanes)
    add_scaled(sum, hear_shares<kLanes, kFew, kCount, kOpen>(words, first, chunks, chunk_rows,
                                                             open_rows, open, scale, waits, told));
  if (thread_index() % kLanes == 0)
    table.values[first_row + head] =
        head < kTileHeads && sum.y > 0.f ? sum.x + log2_fast(sum.y) : -kInfinity;
  return told;
}

// By the kThreads threads that normalise, which meet at `barrier`: what they do next, whatever is
// possible first. True: they tell the share of the chunk at the cursor (if there is one:
// `may_tell`), which is full or the only thing to do; false: the normalisers of `selection`, of
// whose chunks one has been told of and not been heard about (`may_hear`), are in the table from
// row `first_row` on.
template <int kThreads, int kCount, int kStep, int kStride, int kOpen, int kTileHeads, int kStages,
          int kRows>
__device__ __forceinline__ bool tells_next(const NormalizerTable<kRows> &table, int first_row,
                                           const RingBarriers<kStages> &barriers,
                                           const Cursor<kStages> &cursor, const Exchange &exchange,
                                           bool may_tell, bool may_hear, int selection, int chunks,
                                           int chunk_tiles, int visible, float scale, int barrier) {
#pragma unroll 1
  for (;;) {
    if (sync_any(barrier, kThreads, may_tell && (!may_hear || is_full(barriers, cursor))))
      return true;
    const bool told = hear_normalizers<kThreads, kCount, kStep, kStride, kOpen, kTileHeads>(
        table, first_row, exchange, selection, chunks, chunk_tiles, visible, scale, !may_tell);
    if (!sync_any(barrier, kThreads, !told))
      return false;
  }
}

//===-- Ranks ---------------------------------------------------------------------------------===//

// Where the row's ranks are.
template <int kBlocks, int kEdgeBytes>
__device__ __forceinline__ const ScoreRank *ranks_of(const RankRow<kBlocks, kEdgeBytes> &row) {
  return row.ranks;
}

// A chunk is scored by all threads that select: where it has few tiles, several lanes of a warp
// have the same 8 summaries, and some heads each. How many lanes: 2 to 8.
__device__ __forceinline__ int head_parts(int chunk_tiles) {
  return chunk_tiles > 8 ? 2 : chunk_tiles > 4 ? 4 : 8;
}
// Which of the chunk's tiles the thread's summaries lie in, and whether it is the one that speaks
// for them.
__device__ __forceinline__ int scored_tile(int chunk_tiles) {
  const int lanes = 32 / head_parts(chunk_tiles);
  return (thread_index() / 32 * lanes + lane_index() % lanes) / 4;
}
__device__ __forceinline__ bool speaks_for_tile(int chunk_tiles) {
  return lane_index() < 32 / head_parts(chunk_tiles);
}

// add_stored_heads (head_weights.cuh) of the tile at place `place`, with the normalisers from row
// `first_row` of the table on; the lanes that share it then know the scores of all heads, and
// whether fp32 may not hold one.
template <class Combine, int kTileHeads, int kTiles, int kRows>
__device__ __forceinline__ void add_step_heads(RowScores &scores, RangeVote &vote,
                                               const TileWeights<kTileHeads, kTiles> &weights,
                                               const NormalizerTable<kRows> &table, int first_row,
                                               int place, int chunk_tiles, bool exists) {
  const int parts = head_parts(chunk_tiles), lanes = 32 / parts;
  const uint4 *from = reinterpret_cast<const uint4 *>(weights.bytes);
  const float *references = reinterpret_cast<const float *>(from + 4 * kTileHeads * kTiles);
  constexpr int kTogether = kTileHeads >= 8 ? 4 : 2;
#pragma unroll 1
  for (int first = lane_index() / lanes; first < kTileHeads && exists; first += kTogether * parts) {
    float reference[kTogether];
    uint4 codes[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int head = min(first + i * parts, kTileHeads - 1);
      reference[i] = references[head * kTiles + place];
      codes[i] = from[(head * kTiles + place) * 4 + (lane_index() & 3)];
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (first + i * parts >= kTileHeads)
        break;
      const unsigned words[4] = {codes[i].x, codes[i].y, codes[i].z, codes[i].w};
      const float factor =
          weight_factor(vote, reference[i], table.values[first_row + first + i * parts]);
#pragma unroll
      for (int j = 0; j < 8; ++j)
        scores.value[j] =
            Combine::combine(scores.value[j], weight_of(words[j / 2], j % 2) * factor);
    }
  }
  __syncwarp();
#pragma unroll 1
  for (int distance = lanes; distance < 32; distance *= 2) {
    vote.leaves |= __shfl_xor_sync(kFullWarp, static_cast<int>(vote.leaves), distance) != 0;
#pragma unroll
    for (int j = 0; j < 8; ++j)
      scores.value[j] =
          Combine::combine(scores.value[j], __shfl_xor_sync(kFullWarp, scores.value[j], distance));
  }
}

// Pools the thread's 8 summaries (store_thread_scores, head_weights.cuh) and tells their blocks'
// ranks, the edge behind them, and whether fp32 may not hold them.
template <class Pool, int kRowsPerBlock, int kPad, int kEdgeRows>
__device__ __forceinline__ void tell_ranks(const Exchange &exchange, const RowScores &scores,
                                           const RangeVote &vote, int selection, int first_row,
                                           int rows, bool valid) {
  constexpr int kCount = 8 / kRowsPerBlock; // blocks of a thread
  static_assert(kCount <= 2, "ranks of one word");
  const int row = first_row + 8 * (lane_index() & 3);
  float block[kCount];
  const float edge =
      pool_thread_scores<Pool, kRowsPerBlock, kPad, kEdgeRows>(block, scores, row, rows);
  if (!valid)
    return;
  unsigned low = score_rank(block[0]), high = vote.leaves ? 3u : 1u;
  if (kCount == 2)
    low |= score_rank(block[kCount - 1]) << 16;
  if (kPad > 0 && row % kEdgeRows == kEdgeRows - 8)
    high |= score_rank(edge) << 16;
  tell_word(rank_words(exchange, selection, row / 8),
            static_cast<unsigned long long>(high) << 32 | low);
}

// By kThreads threads: row = the ranks of a selection's first `scored_rows` summaries, and the
// edges behind its `padded` blocks, where they then lie for all of them after a barrier. Whether
// one of the thread's says that fp32 may not hold it.
template <int kThreads, int kRowsPerBlock, int kPad, int kEdgeRows, int kBlocks, int kEdgeBytes>
__device__ __forceinline__ bool hear_ranks(const RankRow<kBlocks, kEdgeBytes> &row,
                                           const Exchange &exchange, int selection, int scored_rows,
                                           int padded) {
  constexpr int kCount = 8 / kRowsPerBlock;
  static_assert(kCount <= 2 && kEdgeBytes == 4, "as tell_ranks has them");
  const int groups = (scored_rows + 7) / 8;
  constexpr int kTogether = 8; // words that are asked for at the same time
  bool leaves = false;
  for (int first = thread_index(); first < groups; first += kTogether * kThreads) {
    unsigned long long words[kTogether];
    bool there;
    do {
      there = true;
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        words[i] = ask_word(rank_words(exchange, selection, min(first + i * kThreads, groups - 1)));
        there &= words[i] != 0;
      }
      if (!there)
        back_off();
    } while (!there);
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int group = first + i * kThreads;
      if (group >= groups)
        break;
      const auto low = static_cast<unsigned>(words[i]),
                 high = static_cast<unsigned>(words[i] >> 32);
      leaves |= (high & 2) != 0;
      if constexpr (kCount == 2)
        reinterpret_cast<unsigned *>(row.ranks)[group] = low;
      else
        row.ranks[group] = static_cast<ScoreRank>(low);
      if (kPad > 0 && 8 * group % kEdgeRows == kEdgeRows - 8)
        reinterpret_cast<unsigned *>(row.ranks + padded)[8 * group / kEdgeRows] = high >> 16;
    }
  }
  return leaves;
}
