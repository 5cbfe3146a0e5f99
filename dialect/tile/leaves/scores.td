// Scores of queries against summaries, on warps and on warpgroups. How leaves are declared: Leaf.td.
#ifndef WINNOW_DIALECT_TILE_SCORES
#define WINNOW_DIALECT_TILE_SCORES

include "dialect/tile/Leaf.td"

def Tile_ScoresGroup : OpDocGroup {
  let summary = "Leaves: scores";
  let description = "Scores of queries against summaries, on warps and on warpgroups.";
}

let opDocGroup = Tile_ScoresGroup in {
def Tile_StartSumsOp : Tile_Leaf<"start_sums", "select/scoring.cuh"> {
  let summary = "A log-sum-exp of nothing, with what counts as its maximum";
  let arguments = (ins Writes<LogSumExp>:$sums, F32:$maximum);
}
def Tile_AddExponentialsOp : Tile_Leaf<"add_exponentials", "select/scoring.cuh"> {
  let summary = "Adds logits to the running log-sum-exp of one mma tile";
  let arguments = (ins Updates<LogSumExp>:$sums, I32:$mma_tile, Reads<Accumulator>:$logits, F32:$scale);
}
def Tile_StartBelowOp : Tile_Leaf<"start_below", "select/scoring.cuh"> {
  let summary = "Starts the sums of one mma tile of logits at minus its rows' references";
  let arguments = (ins Writes<Accumulator>:$logits, Reads<LogSumExp>:$sums, I32:$mma_tile);
}
def Tile_AddPowersOp : Tile_Leaf<"add_powers", "select/scoring.cuh"> {
  let summary = "Adds powers of logits less their references to the running log-sum-exp of one mma tile";
  let arguments = (ins Updates<LogSumExp>:$sums, I32:$mma_tile, Reads<Accumulator>:$logits);
}
def Tile_RaiseMaximaOp : Tile_Leaf<"raise_maxima", "select/scoring_warpgroup.cuh"> {
  let summary = "Raises the maxima of an mma tile's rows to those of its logits";
  let arguments = (ins Updates<LogSumExp>:$sums, I32:$index, Reads<Accumulator>:$logits, F32:$scale);
}
def Tile_AddTileExponentialsOp : Tile_Leaf<"add_tile_exponentials", "select/scoring_warpgroup.cuh"> {
  let summary = "Adds logits to the running log-sum-exp of an mma tile";
  let arguments = (ins Template:$cubic_every, Updates<LogSumExp>:$sums, I32:$index, Reads<Accumulator>:$logits,
                       F32:$scale);
}
def Tile_FinishNormalizersOp : Tile_Leaf<"finish_normalizers", "select/scoring_warpgroup.cuh"> {
  let summary = "Completes the log-sum-exps over the lanes that share a row";
  let arguments = (ins Updates<LogSumExp>:$sums);
}
def Tile_MergeNormalizersOp : Tile_Leaf<"merge_normalizers", "select/scoring.cuh"> {
  let summary = "Adds a warp's log-sum-exp to the block's table; one warp of a token group after the other";
  let arguments = (ins Updates<NormalizerTable>:$table, Reads<LogSumExp>:$sums, I32:$token_group, I1:$is_first);
}
def Tile_StoreNormalizersOp : Tile_Leaf<"store_normalizers", "select/scoring_warpgroup.cuh"> {
  let summary = "Puts the warpgroup's normalisers into the block's table, as they are or as weights";
  let arguments = (ins Writes<NormalizerTable>:$table, Reads<LogSumExp>:$sums, I32:$first_tile, I1:$as_offsets);
}
def Tile_TableLeavesWeightsOp : Tile_Leaf<"table_leaves_weights", "select/scoring.cuh", [Varies]> {
  let summary = "Whether a normaliser of the thread's entries has no use as a weight";
  let arguments = (ins Template:$threads, Reads<NormalizerTable>:$table);
  let results = (outs I1:$leaves);
}
def Tile_LeavesWeightsOp : Tile_Leaf<"leaves_weights", "select/scoring_warpgroup.cuh"> {
  let summary = "Whether a normaliser of the thread's rows is too large or too small for weights";
  let arguments = (ins Template:$group, Template:$mma_tiles, Reads<LogSumExp>:$sums, I32:$first_tile, I32:$tokens);
  let results = (outs I1:$leaves);
}
def Tile_WeighNormalizersOp : Tile_Leaf<"weigh_normalizers", "select/scoring.cuh"> {
  let summary = "Turns the table's normalisers into weights";
  let arguments = (ins Template:$threads, Updates<NormalizerTable>:$table);
}
def Tile_MaskSummariesOp : Tile_Leaf<"mask_summaries", "select/scoring.cuh"> {
  let summary = "Hides summaries that the lane's token may not see";
  let arguments = (ins Updates<Accumulator>:$logits, I32:$first_row, I32:$visible);
}
def Tile_MaskTileOp : Tile_Leaf<"mask_tile", "select/scoring.cuh"> {
  let summary = "Hides summaries that the thread's token may not see";
  let arguments = (ins Template:$first_half, Template:$halves, Updates<Accumulator>:$logits, I32:$first_row,
                       I32:$visible);
}
def Tile_ClearScoresOp : Tile_Leaf<"clear_scores", "select/head_scores.cuh"> {
  let summary = "Scores before the first head";
  let arguments = (ins Template:$combine, Writes<Scores>:$scores);
}
def Tile_AddSoftmaxScoresOp : Tile_Leaf<"add_softmax_scores", "select/scoring.cuh"> {
  let summary = "Combines in the softmax weights of one mma tile's heads";
  let arguments = (ins Template:$combine, Template:$group, Updates<RowScores>:$scores, Reads<Accumulator>:$logits,
                       Reads<NormalizerTable>:$table, I32:$row, F32:$scale);
}
def Tile_AddWeightedHeadsOp : Tile_Leaf<"add_weighted_heads", "select/scoring.cuh"> {
  let summary = "Adds one mma tile's heads: powers times weights";
  let arguments = (ins Template:$group, Updates<RowScores>:$scores, Reads<Accumulator>:$logits,
                       Reads<NormalizerTable>:$table, I32:$row);
}
def Tile_AddRawScoresOp : Tile_Leaf<"add_raw_scores", "select/scoring.cuh"> {
  let summary = "Combines in the raw scores of one mma tile's heads, through the method's elementwise region";
  let arguments = (ins Template:$combine, Template:$group, Updates<RowScores>:$scores, Reads<Accumulator>:$logits,
                       I32:$position, I32:$first_row, F32:$scale, Takes<Hook>:$hook);
}
def Tile_AddWeightedScoresOp : Tile_Leaf<"add_weighted_scores", "select/scoring_warpgroup.cuh"> {
  let summary = "Combines in heads of an mma tile: powers times weights";
  let arguments = (ins Template:$combine, Template:$cubic_every, Template:$first_half, Template:$halves,
                       Updates<TokenScores>:$scores, Reads<Accumulator>:$logits, Reads<NormalizerTable>:$table,
                       I32:$mma_tile);
}
def Tile_AddOffsetScoresOp : Tile_Leaf<"add_offset_scores", "select/scoring_warpgroup.cuh"> {
  let summary = "Combines in heads of an mma tile: powers of logits less normalisers";
  let arguments = (ins Template:$combine, Template:$first_half, Template:$halves, Updates<TokenScores>:$scores,
                       Reads<Accumulator>:$logits, Reads<NormalizerTable>:$table, I32:$mma_tile, F32:$scale);
}
def Tile_AddHookedScoresOp : Tile_Leaf<"add_hooked_scores", "select/head_scores.cuh"> {
  let summary = "Combines in heads of an mma tile: raw scores through the method's elementwise region";
  let arguments = (ins Template:$combine, Template:$first_half, Template:$halves, Updates<TokenScores>:$scores,
                       Reads<Accumulator>:$logits, I32:$position, I32:$first_row, F32:$scale, Takes<Hook>:$hook);
}
def Tile_MaskScoresOp : Tile_Leaf<"mask_scores", "select/head_scores.cuh"> {
  let summary = "Gives hidden and missing summaries their fixed scores";
  let arguments = (ins Template:$pool, Updates<Scores>:$scores, I32:$first_row, I32:$visible, I32:$rows, F32:$hidden);
}
def Tile_ScoreRowOp : Tile_Leaf<"score_row", "select/score_row.cuh", [Pure]> {
  let summary = "A token's row of block scores in the workspace";
  let arguments = (ins Template:$element, Takes<Pointer>:$buffer, I32:$select_head, I32:$token, I32:$tokens,
                       I32:$stride);
  let results = (outs Whole<Pointer>:$row);
}
def Tile_PaddedBlocksOp : Tile_Leaf<"padded_blocks", "select/score_row.cuh", [Pure]> {
  let summary = "Blocks of a row of block scores in front of its edges";
  let arguments = (ins Template:$block, Template:$rows_per_block, I32:$max_k);
  let results = (outs I32:$blocks);
}
def Tile_StoreBlockScoresOp : Tile_Leaf<"store_block_scores", "select/head_scores.cuh"> {
  let summary = "Pools summaries to key blocks and writes their scores";
  let arguments = (ins Template:$pool, Template:$rows_per_block, Template:$pad, Stores<Pointer>:$row,
                       Reads<Scores>:$scores, I32:$first_row, I32:$rows, I32:$padded, I1:$valid);
}
def Tile_MergePartSumsOp : Tile_Leaf<"merge_part_sums", "select/head_weights.cuh"> {
  let summary = "The normalisers of a token's heads from the sums of all parts";
  let arguments = (ins Template:$threads, Template:$heads, Template:$group, Writes<NormalizerTable>:$table,
                       Takes<Pointer>:$buffer, I32:$parts, I32:$token, I32:$tokens, I32:$first_head);
}
def Tile_AddNormalizerRowsOp : Tile_Leaf<"add_normalizer_rows", "select/head_weights.cuh"> {
  let summary = "Adds the normaliser's summaries, means of scored ones, that end in the lane's of a tile";
  let arguments = (ins Template:$count, Template:$step, Template:$stride, Updates<NormalizerSums>:$sums,
                       Reads<Accumulator>:$logits, I32:$first_row, I32:$visible, I1:$counts, F32:$scale);
}
def Tile_StoreNormalizerShareOp : Tile_Leaf<"store_normalizer_share", "select/head_weights.cuh"> {
  let summary = "Writes the maxima and sums of a part of the summaries";
  let arguments = (ins Template:$heads, Template:$tile_heads, Stores<Pointer>:$buffer, Reads<NormalizerSums>:$sums,
                       I32:$part, I32:$token, I32:$tokens, I32:$first_head);
}
def Tile_StoreHeadWeightsOp : Tile_Leaf<"store_head_weights", "select/head_weights.cuh"> {
  let summary = "Writes the softmax weights of a head tile for 32 summaries in 16 bits, less their references; logits may be hidden";
  let arguments = (ins Template:$tile_heads, Stores<Pointer>:$weights, Updates<Accumulator>:$logits, I32:$column, I32:$tiles, I32:$tile, I32:$visible, F32:$scale);
}
def Tile_AddTileNormalizersOp : Tile_Leaf<"add_tile_normalizers", "select/cluster_selection.cuh"> {
  let summary = "Adds the normaliser's summaries, means of scored ones, that lie in a tile of any turn";
  let arguments = (ins Template:$count, Template:$step, Template:$stride, Updates<NormalizerSums>:$sums,
                       Writes<OpenSums>:$open, Reads<Accumulator>:$logits, I32:$tile, I32:$first_row, I32:$visible,
                       F32:$scale);
}
def Tile_StoreWarpShareOp : Tile_Leaf<"store_warp_share", "select/cluster_selection.cuh"> {
  let summary = "The maxima and sums of a warp's tiles";
  let arguments = (ins Writes<WarpShares>:$shares, Reads<NormalizerSums>:$sums);
}
def Tile_StoreTileWeightsOp : Tile_Leaf<"store_tile_weights", "select/cluster_selection.cuh"> {
  let summary = "Keeps the softmax weights of a tile's 32 summaries in 16 bits, less their references; logits may be hidden";
  let arguments = (ins Writes<TileWeights>:$weights, Updates<Accumulator>:$logits, I32:$tile, I32:$first_row,
                       I32:$visible, F32:$scale);
}
def Tile_SendShareOp : Tile_Leaf<"send_share", "select/cluster_selection.cuh"> {
  let summary = "Tells all blocks of the cluster what this one has of the normalisers";
  let source = "PTX ISA 9.0, mapa and stores to shared::cluster";
  let arguments = (ins Template:$threads, Template:$count, Template:$step, Template:$stride,
                       Writes<ClusterShares>:$shares, Reads<WarpShares>:$warps, Reads<OpenSums>:$open, I32:$tiles,
                       I32:$first_row, I32:$visible, F32:$scale);
}
def Tile_MergeBlockSharesOp : Tile_Leaf<"merge_block_shares", "select/cluster_selection.cuh"> {
  let summary = "The normalisers of a token's heads from the shares of the cluster's blocks";
  let arguments = (ins Template:$threads, Template:$count, Template:$step, Template:$stride,
                       Writes<NormalizerTable>:$table, Reads<ClusterShares>:$shares, I32:$part_tiles, I32:$tiles,
                       I32:$visible, F32:$scale);
}
def Tile_AddTileHeadsOp : Tile_Leaf<"add_tile_heads", "select/cluster_selection.cuh"> {
  let summary = "Combines in the kept weights of a group's heads for the thread's 8 summaries";
  let arguments = (ins Template:$combine, Template:$group, Template:$tile_heads, Updates<RowScores>:$scores,
                       Updates<RangeVote>:$vote, Reads<TileWeights>:$weights, Reads<NormalizerTable>:$table, I32:$tile,
                       I1:$exists);
}
def Tile_RankRowOfOp : Tile_Leaf<"rank_row_of", "select/cluster_selection.cuh"> {
  let summary = "Where a block of the cluster has its row of ranks, into which all of them write";
  let source = "PTX ISA 9.0, mapa";
  let arguments = (ins Writes<RankRow>:$row, I32:$block);
  let results = (outs Whole<Pointer>:$ranks);
}
def Tile_SendVoteOp : Tile_Leaf<"send_vote", "select/cluster_selection.cuh", [Orders]> {
  let summary = "Tells the cluster's first block whether scores leave the range of fp32; a barrier of all threads";
  let arguments = (ins Writes<ClusterShares>:$shares, Reads<RangeVote>:$vote);
}
def Tile_AnyVoteOp : Tile_Leaf<"any_vote", "select/cluster_selection.cuh"> {
  let summary = "Whether any block of the cluster has told its first one so";
  let arguments = (ins Reads<ClusterShares>:$shares);
  let results = (outs I1:$leaves);
}
def Tile_InitMessagesOp : Tile_Leaf<"init_messages", "select/cluster_messages.cuh", [Orders]> {
  let summary = "Sets up the barriers that count what blocks of the cluster send this one";
  let source = "PTX ISA 9.0, fence.mbarrier_init, mbarrier.arrive.expect_tx";
  let arguments = (ins Writes<MessageBarriers>:$barriers, Takes<ClusterShares>:$shares, I32:$warps);
}
def Tile_PostShareOp : Tile_Leaf<"post_share", "select/cluster_messages.cuh"> {
  let summary = "send_share by asynchronous stores";
  let source = "PTX ISA 9.0, st.async";
  let arguments = (ins Template:$threads, Template:$count, Template:$step, Template:$stride,
                       Writes<ClusterShares>:$shares, Reads<MessageBarriers>:$barriers, Reads<WarpShares>:$warps,
                       Reads<OpenSums>:$open, I32:$tiles, I32:$first_row, I32:$visible, F32:$scale);
}
def Tile_WaitSharesOp : Tile_Leaf<"wait_shares", "select/cluster_messages.cuh", [Orders]> {
  let summary = "Waits until the shares of all blocks of the cluster are there";
  let source = "PTX ISA 9.0, mbarrier.try_wait";
  let arguments = (ins Reads<MessageBarriers>:$barriers);
}
def Tile_RankRowAddressOp : Tile_Leaf<"rank_row_address", "select/cluster_messages.cuh"> {
  let summary = "The address of the row of ranks of a block of the cluster, to which all of them send";
  let source = "PTX ISA 9.0, mapa";
  let arguments = (ins Writes<RankRow>:$row, I32:$block);
  let results = (outs I32:$ranks);
}
def Tile_EdgeWordsOp : Tile_Leaf<"edge_words", "select/cluster_messages.cuh", [Pure]> {
  let summary = "The edges of a row that blocks have sent: words";
  let arguments = (ins Template:$pad, Takes<Pointer>:$row, I32:$padded);
  let results = (outs Whole<Pointer>:$edges);
}
def Tile_PostThreadScoresOp : Tile_Leaf<"post_thread_scores", "select/cluster_messages.cuh", [Orders]> {
  let summary = "store_thread_scores by asynchronous stores to a block of the cluster";
  let source = "PTX ISA 9.0, st.async";
  let arguments = (ins Template:$pool, Template:$rows_per_block, Template:$pad, Template:$edge_rows, I32:$ranks,
                       Updates<SentBytes>:$sent, Reads<MessageBarriers>:$barriers, Reads<RowScores>:$scores,
                       I32:$first_row, I32:$rows, I32:$padded, I1:$valid);
}
def Tile_PostVotesOp : Tile_Leaf<"post_votes", "select/cluster_messages.cuh"> {
  let summary = "Tells the cluster's first block for each warp whether scores leave the range of fp32, and how much it has sent";
  let source = "PTX ISA 9.0, st.async, mbarrier.arrive.expect_tx";
  let arguments = (ins Writes<WarpVotes>:$votes, Reads<SentBytes>:$sent, Reads<MessageBarriers>:$barriers,
                       Reads<RangeVote>:$vote);
}
def Tile_WaitRanksOp : Tile_Leaf<"wait_ranks", "select/cluster_messages.cuh", [Orders]> {
  let summary = "Waits until the ranks and votes of all blocks of the cluster are there";
  let source = "PTX ISA 9.0, mbarrier.try_wait";
  let arguments = (ins Reads<MessageBarriers>:$barriers);
}
def Tile_AnyWarpVoteOp : Tile_Leaf<"any_warp_vote", "select/cluster_messages.cuh"> {
  let summary = "Whether any warp of the cluster has voted so, by whole warps";
  let arguments = (ins Reads<WarpVotes>:$votes);
  let results = (outs I1:$leaves);
}
def Tile_AddStoredHeadsOp : Tile_Leaf<"add_stored_heads", "select/head_weights.cuh"> {
  let summary = "Combines in the stored weights of a group's heads for the thread's 8 summaries";
  let arguments = (ins Template:$combine, Template:$group, Template:$tile_heads, Updates<RowScores>:$scores,
                       Updates<RangeVote>:$vote, Takes<Pointer>:$weights, Reads<NormalizerTable>:$table, I32:$column, I32:$tiles, I32:$tile, I1:$exists);
}
def Tile_AnyLeavesOp : Tile_Leaf<"any_leaves", "select/head_weights.cuh", [Orders]> {
  let summary = "Whether any thread's vote says that scores leave the range of fp32; a barrier of all threads";
  let arguments = (ins Reads<RangeVote>:$vote);
  let results = (outs I1:$leaves);
}
def Tile_StoreThreadScoresOp : Tile_Leaf<"store_thread_scores", "select/head_weights.cuh"> {
  let summary = "Pools the summaries of threads that follow each other to key blocks and writes their scores";
  let arguments = (ins Template:$pool, Template:$rows_per_block, Template:$pad, Template:$edge_rows,
                       Stores<Pointer>:$row, Reads<RowScores>:$scores, I32:$first_row, I32:$rows, I32:$padded,
                       I1:$valid);
}
def Tile_AddRawHeadScoresOp : Tile_Leaf<"add_raw_head_scores", "select/decode_scores.cuh"> {
  let summary = "Combines in the raw scores of the lane's heads of a head tile, through the method's region";
  let arguments = (ins Template:$combine, Template:$group, Updates<RowScores>:$scores, Reads<Accumulator>:$logits,
                       I32:$row, I32:$position, I32:$first_row, F32:$scale, Takes<Hook>:$hook);
}
def Tile_CombineLaneGroupsOp : Tile_Leaf<"combine_lane_groups", "select/decode_scores.cuh"> {
  let summary = "Combines the heads of the warp's lane groups: every lane has its quad's scores";
  let arguments = (ins Template:$combine, Updates<Scores>:$scores);
}
def Tile_PutTileScoresOp : Tile_Leaf<"put_tile_scores", "select/decode_scores.cuh"> {
  let summary = "A warp's 32 scores into those of the block's tile";
  let arguments = (ins Writes<TileScores>:$tile_scores, Reads<RowScores>:$scores, I32:$first);
}
def Tile_TakeTileScoresOp : Tile_Leaf<"take_tile_scores", "select/decode_scores.cuh"> {
  let summary = "The lane's 32 consecutive scores of the tile";
  let arguments = (ins Writes<TokenScores>:$scores, Reads<TileScores>:$tile_scores);
}
} // opDocGroup

#endif
