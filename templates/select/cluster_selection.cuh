// The selection of one query token by a thread block cluster, each of whose blocks of threads has a
// part of the summaries that the host keeps: softmax weights stay in shared memory until the
// normalisers are known, of which each block sends its share to all others; then each sends the
// scores of its key blocks to the first one, which selects. So nothing between rows and ids lies in
// device memory. Weights, and normalisers as means of scored logits: head_weights.cuh.
//
// A tile of 32 summaries is multiplied by any warp, in any order. A normaliser's summary that
// begins in the tile before (it is `open` there) is known by halves: the sum of its logits in
// either tile waits in shared memory until both are there.
#pragma once
#include "winnow/head_weights.cuh"
#include "winnow/score_row.cuh"

constexpr int kMostClusterBlocks = 16;

//===-- What the threads tell each other ------------------------------------------------------===//

// Weights and references of the block's tiles, as store_head_weights lays them out.
template <int kTileHeads, int kTiles> struct TileWeights {
  static constexpr int kBytes = 16 * (4 * kTileHeads * kTiles + (kTileHeads * kTiles + 3) / 4);
  unsigned char *bytes;
  explicit __device__ __forceinline__ TileWeights(unsigned char *bytes) : bytes(bytes) {}
};

// Of each of the block's tiles and heads, for the normaliser's summaries that are open at the
// tile's begin and at its end: the sums of their logits in it.
template <int kTileHeads, int kOpen, int kTiles> struct OpenSums {
  static constexpr int kPlaces = kOpen > 0 ? kOpen : 1;
  static constexpr int kBytes = 4 * 2 * kTileHeads * kPlaces * kTiles;
  float *values;
  explicit __device__ __forceinline__ OpenSums(unsigned char *bytes)
      : values(reinterpret_cast<float *>(bytes)) {}
  __device__ __forceinline__ float &at_begin(int tile, int open, int head) const {
    return values[(2 * tile * kPlaces + open) * kTileHeads + head];
  }
  __device__ __forceinline__ float &at_end(int tile, int open, int head) const {
    return values[((2 * tile + 1) * kPlaces + open) * kTileHeads + head];
  }
};

// The shares of the normalisers that the block's warps have, {maximum, sum} of each head.
template <int kWarps, int kTileHeads> struct WarpShares {
  static constexpr int kBytes = 8 * kWarps * kTileHeads;
  float2 *values;
  explicit __device__ __forceinline__ WarpShares(unsigned char *bytes)
      : values(reinterpret_cast<float2 *>(bytes)) {}
};

// What a block tells all blocks of its cluster about a head.
template <int kOpen> struct BlockShare {
  float maximum, sum;
  float at_begin[kOpen > 0 ? kOpen : 1], at_end[kOpen > 0 ? kOpen : 1]; // of its part
};

// The shares of all blocks of the cluster; and whether one of them has met scores that fp32 does
// not hold. Written by the others.
template <int kTileHeads, int kOpen> struct ClusterShares {
  static constexpr int kVotes =
      static_cast<int>(sizeof(BlockShare<kOpen>)) * kMostClusterBlocks * kTileHeads;
  static constexpr int kBytes = kVotes + 4 * kMostClusterBlocks;
  BlockShare<kOpen> *values;
  explicit __device__ __forceinline__ ClusterShares(unsigned char *bytes)
      : values(reinterpret_cast<BlockShare<kOpen> *>(bytes)) {}
  __device__ __forceinline__ BlockShare<kOpen> &of(int block, int head) const {
    return values[block * kTileHeads + head];
  }
  __device__ __forceinline__ int &vote(int block) const {
    return reinterpret_cast<int *>(reinterpret_cast<unsigned char *>(values) + kVotes)[block];
  }
};

// A row of ranks, edges of kEdgeBytes behind them, that the blocks of a cluster write together.
template <int kBlocks, int kEdgeBytes = 2> struct RankRow {
  static constexpr int kBytes = 2 * kBlocks + kEdgeBytes * ((kBlocks / 4 + 7) / 8 * 8);
  ScoreRank *ranks;
  explicit __device__ __forceinline__ RankRow(unsigned char *bytes)
      : ranks(reinterpret_cast<ScoreRank *>(bytes)) {}
};

// The row of block `block` of the cluster.
template <int kBlocks, int kEdgeBytes>
__device__ __forceinline__ ScoreRank *rank_row_of(const RankRow<kBlocks, kEdgeBytes> &row,
                                                  int block) {
  return block == cluster_block() ? row.ranks : shared_of(row.ranks, block);
}

//===-- Normalisers ---------------------------------------------------------------------------===//

// Where the sums of open summaries lie whose tiles no warp sees one behind the other.
template <int kTileHeads, int kOpen, int kTiles> struct KeptOpenSums {
  const OpenSums<kTileHeads, kOpen, kTiles> &sums;
  int tile;
  __device__ __forceinline__ float join(float mine, int half, int open) const {
    const int c = lane_index() & 3, head = 8 * half + lane_index() / 4;
    if (c == 3 && head < kTileHeads)
      sums.at_end(tile, open, head) = mine;
    const float before = __shfl_up_sync(kFullWarp, mine, 1);
    return c == 0 ? 0.f : before;
  }
  __device__ __forceinline__ bool is_whole(float sum, int half, int open) const {
    const int c = lane_index() & 3, head = 8 * half + lane_index() / 4;
    if (c == 0 && head < kTileHeads)
      sums.at_begin(tile, open, head) = sum;
    return c != 0;
  }
};

// Adds the normaliser's summaries that lie in the tile at `first_row`, the `tile`-th of the block.
template <int kCount, int kStep, int kStride, int kTileHeads, int kOpen, int kTiles>
__device__ __forceinline__ void
add_tile_normalizers(NormalizerSums<kOpen> &state, const OpenSums<kTileHeads, kOpen, kTiles> &sums,
                     const Accumulator<16, 32> &logits, int tile, int first_row, int visible,
                     float scale) {
  add_means<kCount, kStep, kStride>(state, logits, first_row, visible, scale,
                                    KeptOpenSums<kTileHeads, kOpen, kTiles>{sums, tile});
}

// The warp's share of the normalisers.
template <int kWarps, int kTileHeads, int kOpen>
__device__ __forceinline__ void store_warp_share(const WarpShares<kWarps, kTileHeads> &shares,
                                                 const NormalizerSums<kOpen> &state) {
  const int warp = warp_index(); // by all lanes
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float2 sum = share_of_quad(state, half);
    const int head = 8 * half + lane_index() / 4;
    if ((lane_index() & 3) == 0 && head < kTileHeads)
      shares.values[warp * kTileHeads + head] = sum;
  }
}

// sum = sum + the open summaries of a head between the tile that ends at `row` and the one that
// begins there, whose logits there add up to `end` and `begin`.
template <int kCount, int kStep, int kStride, int kOpen>
__device__ __forceinline__ void add_open(float2 &sum, const float *end, const float *begin,
                                         int stride, int row, int visible, float scale) {
#pragma unroll
  for (int open = 0; open < kOpen; ++open) {
    const int first = row + open_first<kCount, kStep, kStride>(open);
    if (first / kStride < visible)
      add_scaled(sum,
                 make_float2((end[open * stride] + begin[open * stride]) * (scale / kCount), 1.f));
  }
}

// By kThreads threads, kThreads / 16 lanes for each head: the head's share of the block, of `tiles`
// tiles of which the first begins at `first_row`; false in threads without a head.
template <int kThreads, int kCount, int kStep, int kStride, int kWarps, int kTileHeads, int kOpen,
          int kTiles>
__device__ __forceinline__ bool share_of_block(BlockShare<kOpen> &share,
                                               const WarpShares<kWarps, kTileHeads> &warps,
                                               const OpenSums<kTileHeads, kOpen, kTiles> &sums,
                                               int tiles, int first_row, int visible, float scale) {
  constexpr int kLanes = kThreads / 16; // of a head
  static_assert(kLanes >= 8 && kLanes <= 32 && kTileHeads <= 16, "lanes of one warp");
  const int head = thread_index() / kLanes, lane = thread_index() % kLanes;
  float2 sum = make_float2(0.f, 0.f);
  if (head < kTileHeads) {
    for (int warp = lane; warp < kWarps; warp += kLanes)
      add_scaled(sum, warps.values[warp * kTileHeads + head]);
    if constexpr (kOpen > 0)
      for (int tile = 1 + lane; tile < tiles; tile += kLanes)
        add_open<kCount, kStep, kStride, kOpen>(sum, &sums.at_end(tile - 1, 0, head),
                                                &sums.at_begin(tile, 0, head), kTileHeads,
                                                first_row + 32 * tile, visible, scale);
  }
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    add_scaled(sum, make_float2(__shfl_xor_sync(kFullWarp, sum.x, distance),
                                __shfl_xor_sync(kFullWarp, sum.y, distance)));
  if (head >= kTileHeads)
    return false;
  share = {sum.x, sum.y, {}, {}};
  if (kOpen > 0 && tiles > 0)
#pragma unroll
    for (int open = 0; open < kOpen; ++open) {
      share.at_begin[open] = sums.at_begin(0, open, head);
      share.at_end[open] = sums.at_end(tiles - 1, open, head);
    }
  return true;
}

// By kThreads threads: the block's shares, to all blocks of the cluster.
template <int kThreads, int kCount, int kStep, int kStride, int kWarps, int kTileHeads, int kOpen,
          int kTiles>
__device__ __forceinline__ void send_share(const ClusterShares<kTileHeads, kOpen> &shares,
                                           const WarpShares<kWarps, kTileHeads> &warps,
                                           const OpenSums<kTileHeads, kOpen, kTiles> &sums,
                                           int tiles, int first_row, int visible, float scale) {
  constexpr int kLanes = kThreads / 16;
  BlockShare<kOpen> share;
  if (!share_of_block<kThreads, kCount, kStep, kStride>(share, warps, sums, tiles, first_row,
                                                        visible, scale))
    return;
  const int head = thread_index() / kLanes, lane = thread_index() % kLanes;
  for (int block = lane; block < cluster_blocks(); block += kLanes)
    *(block == cluster_block() ? &shares.of(block, head)
                               : shared_of(&shares.of(cluster_block(), head), block)) = share;
}

// table = the normalisers, from the shares of the cluster's blocks, which have `part_tiles` of the
// `tiles` tiles each; -inf for a head that sees no summary, and for the rows behind the last head.
template <int kThreads, int kCount, int kStep, int kStride, int kRows, int kTileHeads, int kOpen>
__device__ __forceinline__ void merge_block_shares(const NormalizerTable<kRows> &table,
                                                   const ClusterShares<kTileHeads, kOpen> &shares,
                                                   int part_tiles, int tiles, int visible,
                                                   float scale) {
  constexpr int kLanes = kThreads / kRows; // of a head
  const int head = thread_index() / kLanes, lane = thread_index() % kLanes;
  float2 sum = make_float2(0.f, 0.f);
  if (head < kTileHeads)
    for (int block = lane; block < cluster_blocks(); block += kLanes) {
      const BlockShare<kOpen> &share = shares.of(block, head);
      add_scaled(sum, make_float2(share.maximum, share.sum));
      if (kOpen > 0 && block > 0 && block * part_tiles < tiles)
        add_open<kCount, kStep, kStride, kOpen>(sum, shares.of(block - 1, head).at_end,
                                                share.at_begin, 1, 32 * block * part_tiles, visible,
                                                scale);
    }
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    add_scaled(sum, make_float2(__shfl_xor_sync(kFullWarp, sum.x, distance),
                                __shfl_xor_sync(kFullWarp, sum.y, distance)));
  if (lane == 0)
    table.values[head] = sum.y > 0.f ? sum.x + log2_fast(sum.y) : -kInfinity;
}

//===-- Weights -------------------------------------------------------------------------------===//

// store_head_weights (head_weights.cuh) for the `tile`-th tile of the block, which begins at
// `first_row`.
template <int kTileHeads, int kTiles>
__device__ __forceinline__ void store_tile_weights(const TileWeights<kTileHeads, kTiles> &weights,
                                                   Accumulator<16, 32> &logits, int tile,
                                                   int first_row, int visible, float scale) {
  store_weights<kTileHeads>(weights.bytes, logits, 0, kTiles, tile, first_row, visible, scale);
}

// add_stored_heads (head_weights.cuh) of the `tile`-th tile of the block.
template <class Combine, int kGroup, int kTileHeads, int kTiles, int kRows>
__device__ __forceinline__ void
add_tile_heads(RowScores &scores, RangeVote &vote, const TileWeights<kTileHeads, kTiles> &weights,
               const NormalizerTable<kRows> &table, int tile, bool exists) {
  add_stored_heads<Combine, kGroup, kTileHeads>(scores, vote, weights.bytes, table, 0, kTiles, tile,
                                                exists);
}

// The block's vote, to the first block of the cluster; a barrier of all its threads.
template <int kTileHeads, int kOpen>
__device__ __forceinline__ void send_vote(const ClusterShares<kTileHeads, kOpen> &shares,
                                          const RangeVote &vote) {
  const int leaves = any_leaves(vote);
  if (thread_index() == 0)
    *(cluster_block() == 0 ? &shares.vote(0) : shared_of(&shares.vote(cluster_block()), 0)) =
        leaves;
}

// In the first block of the cluster: whether any of them has voted so.
template <int kTileHeads, int kOpen>
__device__ __forceinline__ bool any_vote(const ClusterShares<kTileHeads, kOpen> &shares) {
  bool leaves = false;
  for (int block = 0; block < cluster_blocks(); ++block)
    leaves |= shares.vote(block) != 0;
  return leaves;
}
