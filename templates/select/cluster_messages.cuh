// What the blocks of a cluster tell each other without barriers of the cluster: asynchronous
// stores, whose bytes a barrier of the receiver counts. A barrier of the cluster makes every thread
// wait until all its stores can be seen by the whole GPU ("MEMBAR.ALL.GPU" in SASS); these need no
// such fence, and a block waits for what it reads alone. Serves select_decode in the place of
// send_share, store_thread_scores and send_vote (cluster_selection.cuh). On entry of all but
// init_messages: the cluster has met once (wait_cluster), so that the receivers' barriers are
// there.
#pragma once
#include "winnow/cluster_selection.cuh"

// The barriers of a block, one for each exchange: for the shares that all blocks send it, and for
// the ranks and votes that come to the first one.
template <int kExchanges> struct MessageBarriers {
  static_assert(kExchanges == 2, "shares and ranks");
  static constexpr int kBytes = 8 * kExchanges;
  unsigned base;
  explicit __device__ __forceinline__ MessageBarriers(const unsigned char *bytes)
      : base(shared_address(bytes)) {}
  __device__ __forceinline__ unsigned shares() const { return base; }
  __device__ __forceinline__ unsigned ranks() const { return base + 8; }
};

// What a thread has sent to the first block.
struct SentBytes {
  int count = 0;
};

// Whether warps of the cluster have met scores that fp32 does not hold. Written by the others.
template <int kWarps> struct WarpVotes {
  static constexpr int kBytes = 4 * kMostClusterBlocks * kWarps;
  int *votes;
  explicit __device__ __forceinline__ WarpVotes(unsigned char *bytes)
      : votes(reinterpret_cast<int *>(bytes)) {}
};

// A cluster of one block sends nothing: it stores, and its threads meet behind every wait. (It may
// send itself words, but memcheck takes these for stores outside of shared memory.)
__device__ __forceinline__ bool is_alone() { return cluster_blocks() == 1; }
__device__ __forceinline__ unsigned address_in(unsigned shared, int block) {
  return is_alone() ? shared : shared_address_of(shared, block);
}
// Returns the bytes that the barrier will count.
template <class Words>
__device__ __forceinline__ int post_words(unsigned to, unsigned barrier, const Words &words) {
  if (is_alone()) {
    store_words(to, words);
    return 0;
  }
  send_words(to, barrier, words);
  return sizeof(Words);
}

// By all threads, in front of enter_cluster, which tells the others: the barriers wait for the
// shares of all blocks, and for all of their `warps` warps.
template <int kExchanges, int kTileHeads, int kOpen>
__device__ __forceinline__ void init_messages(const MessageBarriers<kExchanges> &barriers,
                                              const ClusterShares<kTileHeads, kOpen> &, int warps) {
  if (thread_index() == 0) {
    const int blocks = cluster_blocks();
    init_barrier(barriers.shares(), 1);
    init_barrier(barriers.ranks(), blocks * warps);
    fence_barriers();
    const int bytes = blocks * kTileHeads * static_cast<int>(sizeof(BlockShare<kOpen>));
    arrive_expecting(barriers.shares(), is_alone() ? 0 : bytes);
  }
  __syncwarp();
}

//===-- Normalisers ---------------------------------------------------------------------------===//

// send_share.
template <int kThreads, int kCount, int kStep, int kStride, int kTileHeads, int kOpen,
          int kExchanges, int kWarps, int kTiles>
__device__ __forceinline__ void post_share(const ClusterShares<kTileHeads, kOpen> &shares,
                                           const MessageBarriers<kExchanges> &barriers,
                                           const WarpShares<kWarps, kTileHeads> &warps,
                                           const OpenSums<kTileHeads, kOpen, kTiles> &sums,
                                           int tiles, int first_row, int visible, float scale) {
  constexpr int kLanes = kThreads / 16;
  constexpr int kWords = sizeof(BlockShare<kOpen>) / 4, kTogether = kWords % 4 == 0 ? 4 : 2;
  BlockShare<kOpen> share;
  const bool has_head = share_of_block<kThreads, kCount, kStep, kStride>(share, warps, sums, tiles,
                                                                         first_row, visible, scale);
  // Who has the shares of all blocks sends ranks to where the first one has read warps' shares.
  __syncwarp();
  if (!has_head)
    return;
  const int head = thread_index() / kLanes, lane = thread_index() % kLanes;
  const unsigned place = shared_address(&shares.of(cluster_block(), head));
  const unsigned *words = reinterpret_cast<const unsigned *>(&share);
  for (int block = lane; block < cluster_blocks(); block += kLanes) {
    const unsigned to = address_in(place, block);
    const unsigned barrier = address_in(barriers.shares(), block);
#pragma unroll
    for (int i = 0; i < kWords; i += kTogether)
      if constexpr (kTogether == 4)
        post_words(to + 4 * i, barrier,
                   make_uint4(words[i], words[i + 1], words[i + 2], words[i + 3]));
      else
        post_words(to + 4 * i, barrier, make_uint2(words[i], words[i + 1]));
  }
}

// Until the shares of all blocks are there.
template <int kExchanges>
__device__ __forceinline__ void wait_shares(const MessageBarriers<kExchanges> &barriers) {
  wait_words(barriers.shares(), 0);
}

//===-- Ranks ---------------------------------------------------------------------------------===//

// Where block `block` of the cluster has its row of ranks, for post_thread_scores.
template <int kBlocks>
__device__ __forceinline__ int rank_row_address(const RankRow<kBlocks, 4> &row, int block) {
  return address_in(shared_address(row.ranks), block);
}

// The edges of a row, one to a word.
template <int kPad>
__device__ __forceinline__ const unsigned *edge_words(const ScoreRank *row, int padded) {
  return kPad > 0 ? reinterpret_cast<const unsigned *>(row + padded) : nullptr;
}

// store_thread_scores (head_weights.cuh) to the first block, whose row lies at `ranks`. An edge
// takes a word, since fewer bytes are not sent; ranks of single blocks go by pairs of lanes.
template <class Pool, int kRowsPerBlock, int kPad, int kEdgeRows, int kExchanges>
__device__ __forceinline__ void
post_thread_scores(int ranks, SentBytes &sent, const MessageBarriers<kExchanges> &barriers,
                   const RowScores &scores, int first_row, int rows, int padded, bool valid) {
  constexpr int kCount = 8 / kRowsPerBlock; // blocks of a thread
  const int row = first_row + 8 * (lane_index() & 3);
  float block[kCount];
  const float edge =
      pool_thread_scores<Pool, kRowsPerBlock, kPad, kEdgeRows>(block, scores, row, rows);
  unsigned rank[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i)
    rank[i] = score_rank(block[i]);
  const unsigned beside = __shfl_xor_sync(kFullWarp, rank[0], 1);
  if (!valid)
    return;
  const unsigned barrier = address_in(barriers.ranks(), 0);
  const unsigned place = ranks + 2 * (row / kRowsPerBlock);
  if constexpr (kCount == 1) {
    if (lane_index() % 2 == 0)
      sent.count += post_words(place, barrier, rank[0] | beside << 16);
  } else {
    unsigned words[kCount / 2];
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i)
      words[i] = rank[2 * i] | rank[2 * i + 1] << 16;
    if constexpr (kCount == 2)
      sent.count += post_words(place, barrier, words[0]);
    else if constexpr (kCount == 4)
      sent.count += post_words(place, barrier, make_uint2(words[0], words[1]));
    else
      sent.count += post_words(place, barrier, make_uint4(words[0], words[1], words[2], words[3]));
  }
  if (kPad > 0 && row % kEdgeRows == kEdgeRows - 8)
    sent.count += post_words(ranks + 2 * padded + 4 * (row / kEdgeRows), barrier, score_rank(edge));
}

// The vote of each warp, to the first block of the cluster, and how many bytes it has sent there.
template <int kWarps, int kExchanges>
__device__ __forceinline__ void post_votes(const WarpVotes<kWarps> &votes, const SentBytes &sent,
                                           const MessageBarriers<kExchanges> &barriers,
                                           const RangeVote &vote) {
  const unsigned leaves = __any_sync(kFullWarp, vote.leaves);
  const int bytes = warp_sum(sent.count), warp = warp_index();
  if (lane_index() != 0)
    return;
  const unsigned barrier = address_in(barriers.ranks(), 0);
  const unsigned place = shared_address(votes.votes + cluster_block() * kWarps + warp);
  const int vote_bytes = post_words(address_in(place, 0), barrier, leaves);
  if (is_alone())
    arrive(barrier);
  else
    announce_words(barrier, bytes + vote_bytes);
}

// In the first block of the cluster, until the ranks and votes of all blocks are there.
template <int kExchanges>
__device__ __forceinline__ void wait_ranks(const MessageBarriers<kExchanges> &barriers) {
  wait_words(barriers.ranks(), 0);
}

// Then, by whole warps: whether any warp of the cluster has voted so.
template <int kWarps>
__device__ __forceinline__ bool any_warp_vote(const WarpVotes<kWarps> &votes) {
  bool leaves = false;
  for (int i = lane_index(); i < cluster_blocks() * kWarps; i += 32)
    leaves |= votes.votes[i] != 0;
  return __any_sync(kFullWarp, leaves);
}
