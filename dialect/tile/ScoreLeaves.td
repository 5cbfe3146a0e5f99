// The leaf ops of selection: summaries, scores and top-k; included by TileLeaves.td, whose rules hold here as well:
// one entry per device function of templates/, same name, same operand order, destination first, attributes are
// template arguments.
#ifndef WINNOW_DIALECT_SCORE_LEAVES
#define WINNOW_DIALECT_SCORE_LEAVES

//===-- Scores (scoring.cuh) ---------------------------------------------------------------------------------------===//

def Tile_LoadQueriesOp : Tile_Leaf<"load_queries", [AsyncLoad]> {
  let summary = "Starts copying the block's query rows into shared memory, in the order that makes head sums local";
  let arguments = (ins Arg_:$threads, Arg_:$heads, Arg_:$group, Arg_:$sets, Writes<>:$queries, Takes<>:$q, Takes<>:$tile,
                   I32:$first_head);
}
def Tile_LoadSummariesOp : Tile_Leaf<"load_summaries", [AsyncLoad]> {
  let summary = "Starts copying a tile of summary rows into shared memory, in the order that makes pooling local";
  let arguments = (ins Arg_:$threads, Writes<>:$summaries, Takes<>:$source, I32:$first_row, I32:$row_limit);
}
def Tile_SummaryOfOp : Tile_Leaf<"summary_of", [Pure]> {
  let summary = "A sequence's summary rows of one key/value head";
  let arguments = (ins Arg_:$type, Arg_:$dim, Arg_:$stride, Takes<>:$buffer, I32:$kv_head, I32:$total_k, I32:$k_row);
  let results = (outs Tile_Object:$rows);
}
def Tile_SummaryRowsOp : Tile_Leaf<"summary_rows", [Pure]> {
  let summary = "Whole windows in a sequence of keys";
  let arguments = (ins Arg_:$window, Arg_:$stride, I32:$length);
  let results = (outs I32:$rows);
}
def Tile_SetTokenOp : Tile_Leaf<"set_token", [Pure]> {
  let summary = "The lane's token of a token set";
  let arguments = (ins Arg_:$sets, I32:$token_group, I32:$set);
  let results = (outs I32:$token);
}
def Tile_VisibleAbsoluteOp : Tile_Leaf<"visible_absolute", [Pure]> {
  let summary = "Summary rows whose window ends at or before a position";
  let arguments = (ins Arg_:$window, Arg_:$stride, I32:$position, I32:$rows);
  let results = (outs I32:$visible);
}
def Tile_VisibleBySegmentOp : Tile_Leaf<"visible_by_segment", [Pure]> {
  let summary = "Visible summary rows by the rule of infllmv2_cuda_impl";
  let arguments = (ins Arg_:$stride, I32:$index, I32:$q_length, I32:$rows);
  let results = (outs I32:$visible);
}
def Tile_MaskSummariesOp : Tile_Leaf<"mask_summaries"> {
  let summary = "Hides summaries that the lane's token may not see";
  let arguments = (ins Updates<>:$logits, I32:$first_row, I32:$visible);
}
def Tile_AddExponentialsOp : Tile_Leaf<"add_exponentials"> {
  let summary = "Adds logits to the running log-sum-exp of one mma tile";
  let arguments = (ins Updates<>:$sums, I32:$mma_tile, Reads<>:$logits, F32:$scale);
}
def Tile_StartSumsOp : Tile_Leaf<"start_sums"> {
  let summary = "A log-sum-exp of nothing, with what counts as its maximum";
  let arguments = (ins Writes<>:$sums, F32:$maximum);
}
def Tile_StartBelowOp : Tile_Leaf<"start_below"> {
  let summary = "Starts the sums of one mma tile of logits at minus its rows' references";
  let arguments = (ins Writes<>:$logits, Reads<>:$sums, I32:$mma_tile);
}
def Tile_AddPowersOp : Tile_Leaf<"add_powers"> {
  let summary = "Adds powers of logits less their references to the running log-sum-exp of one mma tile";
  let arguments = (ins Updates<>:$sums, I32:$mma_tile, Reads<>:$logits);
}
def Tile_TableLeavesWeightsOp : Tile_Leaf<"table_leaves_weights"> {
  let summary = "Whether a normaliser of the thread's entries has no use as a weight";
  let arguments = (ins Arg_:$threads, Reads<>:$table);
  let results = (outs I1:$leaves);
}
def Tile_SyncThreadsAnyOp : Tile_Leaf<"sync_threads_any", [Orders]> {
  let summary = "Barrier of all threads; true where the vote holds in any";
  let arguments = (ins I1:$vote);
  let results = (outs I1:$any);
}
def Tile_WeighNormalizersOp : Tile_Leaf<"weigh_normalizers"> {
  let summary = "Turns the table's normalisers into weights";
  let arguments = (ins Arg_:$threads, Updates<>:$table);
}
def Tile_MergeNormalizersOp : Tile_Leaf<"merge_normalizers"> {
  let summary = "Adds a warp's log-sum-exp to the block's table; one warp of a token group after the other";
  let arguments = (ins Updates<>:$table, Reads<>:$sums, I32:$token_group, I1:$is_first);
}
def Tile_ClearScoresOp : Tile_Leaf<"clear_scores"> {
  let summary = "Scores before the first head";
  let arguments = (ins Arg_:$combine, Writes<>:$scores);
}
def Tile_AddSoftmaxScoresOp : Tile_Leaf<"add_softmax_scores"> {
  let summary = "Combines in the softmax weights of one mma tile's heads";
  let arguments = (ins Arg_:$combine, Arg_:$group, Updates<>:$scores, Reads<>:$logits, Reads<>:$table,
                   I32:$row, F32:$scale);
}
def Tile_AddWeightedHeadsOp : Tile_Leaf<"add_weighted_heads"> {
  let summary = "Adds one mma tile's heads: powers times weights";
  let arguments = (ins Arg_:$group, Updates<>:$scores, Reads<>:$logits, Reads<>:$table, I32:$row);
}
def Tile_AddRawScoresOp : Tile_Leaf<"add_raw_scores"> {
  let summary = "Combines in the raw scores of one mma tile's heads, through the method's elementwise region";
  let arguments = (ins Arg_:$combine, Arg_:$group, Updates<>:$scores, Reads<>:$logits, I32:$position, I32:$first_row,
                   F32:$scale, Takes<>:$hook);
}
def Tile_MaskScoresOp : Tile_Leaf<"mask_scores"> {
  let summary = "Gives hidden and missing summaries their fixed scores";
  let arguments = (ins Arg_:$pool, Updates<>:$scores, I32:$first_row, I32:$visible, I32:$rows, F32:$hidden);
}
def Tile_ScoreRowOp : Tile_Leaf<"score_row", [Pure]> {
  let summary = "A token's row of block scores in the workspace";
  let arguments = (ins Arg_:$element, Takes<>:$buffer, I32:$select_head, I32:$token, I32:$tokens, I32:$stride);
  let results = (outs Tile_Object:$row);
}
def Tile_PaddedBlocksOp : Tile_Leaf<"padded_blocks", [Pure]> {
  let summary = "Blocks of a row of block scores in front of its edges";
  let arguments = (ins Arg_:$block, Arg_:$rows_per_block, I32:$max_k);
  let results = (outs I32:$blocks);
}
def Tile_StoreBlockScoresOp : Tile_Leaf<"store_block_scores"> {
  let summary = "Pools summaries to key blocks and writes their scores";
  let arguments = (ins Arg_:$pool, Arg_:$rows_per_block, Arg_:$pad, Stores<>:$row, Reads<>:$scores, I32:$first_row,
                   I32:$rows, I32:$padded, I1:$valid);
}

//===-- Summaries (summarize.cuh) ----------------------------------------------------------------------------------===//

def Tile_AddRowOp : Tile_Leaf<"add_row"> {
  let summary = "Adds eight channels of a key to fp32 sums";
  let arguments = (ins Updates<>:$sums, Takes<>:$rows, I32:$row, I32:$chunk);
}
def Tile_StoreMeanOp : Tile_Leaf<"store_mean"> {
  let summary = "Writes eight channels of a summary row";
  let arguments = (ins Stores<>:$rows, I32:$row, I32:$chunk, Reads<>:$sums, F32:$count, F32:$factor);
}

//===-- Top-k (top_k.cuh) ------------------------------------------------------------------------------------------===//

def Tile_IdRowOp : Tile_Leaf<"id_row", [Pure]> {
  let summary = "A token's row of selected ids";
  let arguments = (ins Arg_:$topk, Takes<>:$ids, I32:$select_head, I32:$total_q, I32:$row);
  let results = (outs Tile_Object:$row_ids);
}
def Tile_PadIdsOp : Tile_Leaf<"pad_ids"> {
  let summary = "Fills a row of ids with -1 from an index on";
  let arguments = (ins Arg_:$topk, Stores<>:$ids, I32:$from);
}
def Tile_FirstForcedOp : Tile_Leaf<"first_forced", [Pure]> {
  let summary = "The first of the forced blocks that end at the token's own";
  let arguments = (ins Arg_:$topk, Arg_:$local, I32:$own);
  let results = (outs I32:$block);
}
def Tile_EdgeRowOp : Tile_Leaf<"edge_row", [Pure]> {
  let summary = "The edges of a row of block scores; null where windows do not reach over blocks";
  let arguments = (ins Arg_:$pad, Takes<>:$row, I32:$padded);
  let results = (outs Tile_Object:$edges);
}
def Tile_LoadKeysOp : Tile_Leaf<"load_keys"> {
  let summary = "A warp's block scores as order-preserving keys in registers";
  let arguments = (ins Arg_:$pool, Arg_:$init, Arg_:$blocks_per_edge, Writes<>:$keys, Takes<>:$blocks, Takes<>:$edges,
                   I32:$first_block, I32:$forced_from, I32:$own);
}
def Tile_StartSearchOp : Tile_Leaf<"start_search"> {
  let summary = "Begins the search for the threshold of the selection";
  let arguments = (ins Arg_:$topk, Writes<>:$search, I32:$own);
}
def Tile_IsOpenOp : Tile_Leaf<"is_open"> {
  let summary = "True while more keys than wanted reach the threshold";
  let arguments = (ins Reads<>:$search);
  let results = (outs I1:$open);
}
def Tile_NextThresholdOp : Tile_Leaf<"next_threshold"> {
  let summary = "The threshold with the next bit set";
  let arguments = (ins Reads<>:$search, I32:$step);
  let results = (outs I32:$threshold);
}
def Tile_CountAtLeastOp : Tile_Leaf<"count_at_least"> {
  let summary = "Keys of the warp at or above a threshold";
  let arguments = (ins Reads<>:$keys, I32:$threshold);
  let results = (outs I32:$count);
}
def Tile_CountAboveOp : Tile_Leaf<"count_above"> {
  let summary = "Keys of the warp above a threshold";
  let arguments = (ins Reads<>:$keys, I32:$threshold);
  let results = (outs I32:$count);
}
def Tile_NarrowOp : Tile_Leaf<"narrow"> {
  let summary = "Keeps the threshold if enough keys reach it";
  let arguments = (ins Updates<>:$search, I32:$threshold, I32:$count);
}
def Tile_StoreIdsOp : Tile_Leaf<"store_ids"> {
  let summary = "Writes the selected ids of a row, ascending";
  let arguments = (ins Stores<>:$ids, Reads<>:$keys, I32:$threshold, I32:$first_block, I32:$above, I32:$equal, I32:$ties);
}
def Tile_StoreCountOp : Tile_Leaf<"store_count"> {
  let summary = "A warp's count into the block's table of counts";
  let arguments = (ins Writes<>:$counts, I32:$warp, I32:$count);
}
def Tile_TotalCountOp : Tile_Leaf<"total_count"> {
  let summary = "Sum of all warps' counts";
  let arguments = (ins Reads<>:$counts);
  let results = (outs I32:$total);
}
def Tile_CountBeforeOp : Tile_Leaf<"count_before"> {
  let summary = "Sum of the counts of the warps before this one";
  let arguments = (ins Reads<>:$counts, I32:$warp);
  let results = (outs I32:$sum);
}

//===-- Scores that leave the range of fp32 (rescore.cuh) ----------------------------------------------------------===//

def Tile_LeavesOrderOp : Tile_Leaf<"leaves_order"> {
  let summary = "Whether overflow or underflow may have decided which blocks of a row are selected";
  let arguments = (ins Arg_:$topk, Reads<>:$search, I32:$own);
  let results = (outs I1:$leaves);
}
def Tile_FoldedLeavesOrderOp : Tile_Leaf<"folded_leaves_order"> {
  let summary = "The same for 16-bit keys that were folded to 15 bits";
  let arguments = (ins Reads<>:$search, I1:$upper);
  let results = (outs I1:$leaves);
}
def Tile_MarkUnorderedOp : Tile_Leaf<"mark_unordered"> {
  let summary = "Leaves a row of ids to rescore";
  let arguments = (ins Stores<>:$ids);
}
def Tile_FindUnorderedOp : Tile_Leaf<"find_unordered"> {
  let summary = "Which rows of ids were left to rescore, one row per thread";
  let arguments = (ins Arg_:$topk, Writes<>:$marks, Takes<>:$ids, I32:$first, I32:$rows);
}
def Tile_CountUnorderedOp : Tile_Leaf<"count_unordered"> {
  let summary = "How many rows are marked";
  let arguments = (ins Reads<>:$marks);
  let results = (outs I32:$count);
}
def Tile_NthUnorderedOp : Tile_Leaf<"nth_unordered"> {
  let summary = "The place of a mark";
  let arguments = (ins Reads<>:$marks, I32:$index);
  let results = (outs I32:$place);
}
def Tile_FindTokenOp : Tile_Leaf<"find_token", [Pure]> {
  let summary = "The tile of the one token in a row of q";
  let arguments = (ins Takes<>:$cu_q, Takes<>:$cu_k, I32:$batch, I32:$row);
  let results = (outs Tile_Object:$tile);
}
def Tile_LoadHeadQueriesOp : Tile_Leaf<"load_head_queries"> {
  let summary = "The queries of one token's group of heads, as fp32";
  let arguments = (ins Arg_:$type, Arg_:$threads, Arg_:$heads, Writes<>:$queries, Takes<>:$q, I32:$row,
                   I32:$first_head);
}
def Tile_MakeHeadNormalizersOp : Tile_Leaf<"make_head_normalizers"> {
  let summary = "The normalisers of one token's group of heads";
  let arguments = (ins Arg_:$threads, Writes<>:$normalizers, Reads<>:$queries, Takes<>:$summaries, I32:$visible,
                   F32:$scale);
}
def Tile_StoreOctavesOp : Tile_Leaf<"store_octaves"> {
  let summary = "The base-2 logarithms of block scores";
  let arguments = (ins Arg_:$combine, Arg_:$pool, Arg_:$threads, Arg_:$rows_per_block, Arg_:$pad, Stores<>:$octaves,
                   Reads<>:$normalizers, Reads<>:$queries, Takes<>:$summaries, I32:$first_block, I32:$end, I32:$rows,
                   I32:$visible, F32:$scale);
}
def Tile_CountOctavesOp : Tile_Leaf<"count_octaves"> {
  let summary = "The warp's octaves at or above a threshold";
  let arguments = (ins Arg_:$threads, Loads<>:$octaves, I32:$first_block, I32:$end, I32:$threshold);
  let results = (outs I32:$count);
}
def Tile_StoreOctaveIdsOp : Tile_Leaf<"store_octave_ids"> {
  let summary = "Writes the ids of blocks above and at a threshold, ascending";
  let arguments = (ins Stores<>:$ids, Loads<>:$octaves, I32:$at, I32:$first_block, I32:$end, I32:$threshold, I32:$ties);
}

//===-- Summaries as tile images (summary_images.cuh) --------------------------------------------------------------===//

def Tile_ImagesOfOp : Tile_Leaf<"images_of", [Pure]> {
  let summary = "A sequence's tile images of summaries of one key/value head";
  let arguments = (ins Arg_:$type, Arg_:$dim, Arg_:$stride, Takes<>:$buffer, I32:$kv_head, I32:$total_k, I32:$batch,
                   Takes<>:$tile);
  let results = (outs Tile_Object:$images);
}
def Tile_StoreImageRowOp : Tile_Leaf<"store_image_row"> {
  let summary = "Writes eight channels of a summary into its tile image";
  let arguments = (ins Stores<>:$images, I32:$row, I32:$chunk, Reads<>:$sums, F32:$count, F32:$factor);
}
def Tile_CopyImageOp : Tile_Leaf<"copy_image"> {
  let summary = "Starts the bulk copy of a tile image into shared memory";
  let arguments = (ins Writes<>:$tile, Takes<>:$images, I32:$index, I32:$barrier);
}

//===-- Order of roles (scoring_warpgroup.cuh, arch/sm90.cuh) ------------------------------------------------------===//

def Tile_SyncSomeOp : Tile_Leaf<"sync_some", [Orders]> {
  let summary = "Barrier of the threads that name it";
  let arguments = (ins I32:$id, I32:$threads);
}
def Tile_SyncAnyOp : Tile_Leaf<"sync_any", [Orders]> {
  let summary = "Barrier of the threads that name it; true in all where the vote holds in any";
  let arguments = (ins I32:$id, I32:$threads, I1:$vote);
  let results = (outs I1:$any);
}
def Tile_ReleaseTimesOp : Tile_Leaf<"release_times", [Orders]> {
  let summary = "Several arrivals on the empty barrier for the warp";
  let arguments = (ins Reads<>:$barriers, Reads<>:$cursor, I32:$times);
}
def Tile_SkipOp : Tile_Leaf<"skip"> {
  let summary = "Moves the cursor over stages, at most a whole turn";
  let arguments = (ins Updates<>:$cursor, I32:$stages);
}
def Tile_FirstDealtOp : Tile_Leaf<"first_dealt"> {
  let summary = "The first of the coming tiles that the consumer gets";
  let arguments = (ins Reads<>:$deal, I32:$consumer);
  let results = (outs I32:$tile);
}
def Tile_DealOutOp : Tile_Leaf<"deal_out"> {
  let summary = "Deals tiles to the consumers in turn";
  let arguments = (ins Updates<>:$deal, I32:$tiles);
}

//===-- Scores on warpgroups (scoring_warpgroup.cuh) ---------------------------------------------------------------===//

def Tile_TileTokenOp : Tile_Leaf<"tile_token", [Pure]> {
  let summary = "The thread's token of a half of an mma tile";
  let arguments = (ins Arg_:$group, I32:$mma_tile, I32:$half);
  let results = (outs I32:$token);
}
def Tile_CopyQueryTileOp : Tile_Leaf<"copy_query_tile"> {
  let summary = "Starts the bulk copies of an mma tile of queries, in the order that makes head sums local";
  let arguments = (ins Arg_:$group, Writes<>:$tile, Takes<>:$map, I32:$barrier, I32:$head, I32:$row);
}
def Tile_MaskTileOp : Tile_Leaf<"mask_tile"> {
  let summary = "Hides summaries that the thread's token may not see";
  let arguments = (ins Arg_:$first_half, Arg_:$halves, Updates<>:$logits, I32:$first_row, I32:$visible);
}
def Tile_RaiseMaximaOp : Tile_Leaf<"raise_maxima"> {
  let summary = "Raises the maxima of an mma tile's rows to those of its logits";
  let arguments = (ins Updates<>:$sums, I32:$index, Reads<>:$logits, F32:$scale);
}
def Tile_AddTileExponentialsOp : Tile_Leaf<"add_tile_exponentials"> {
  let summary = "Adds logits to the running log-sum-exp of an mma tile";
  let arguments = (ins Arg_:$cubic_every, Updates<>:$sums, I32:$index, Reads<>:$logits, F32:$scale);
}
def Tile_FinishNormalizersOp : Tile_Leaf<"finish_normalizers"> {
  let summary = "Completes the log-sum-exps over the lanes that share a row";
  let arguments = (ins Updates<>:$sums);
}
def Tile_LeavesWeightsOp : Tile_Leaf<"leaves_weights"> {
  let summary = "Whether a normaliser of the thread's rows is too large or too small for weights";
  let arguments = (ins Arg_:$group, Arg_:$mma_tiles, Reads<>:$sums, I32:$first_tile, I32:$tokens);
  let results = (outs I1:$leaves);
}
def Tile_StoreNormalizersOp : Tile_Leaf<"store_normalizers"> {
  let summary = "Puts the warpgroup's normalisers into the block's table, as they are or as weights";
  let arguments = (ins Writes<>:$table, Reads<>:$sums, I32:$first_tile, I1:$as_offsets);
}
def Tile_AddWeightedScoresOp : Tile_Leaf<"add_weighted_scores"> {
  let summary = "Combines in heads of an mma tile: powers times weights";
  let arguments = (ins Arg_:$combine, Arg_:$cubic_every, Arg_:$first_half, Arg_:$halves, Updates<>:$scores,
                   Reads<>:$logits, Reads<>:$table, I32:$mma_tile);
}
def Tile_AddOffsetScoresOp : Tile_Leaf<"add_offset_scores"> {
  let summary = "Combines in heads of an mma tile: powers of logits less normalisers";
  let arguments = (ins Arg_:$combine, Arg_:$first_half, Arg_:$halves, Updates<>:$scores, Reads<>:$logits,
                   Reads<>:$table, I32:$mma_tile, F32:$scale);
}
def Tile_AddHookedScoresOp : Tile_Leaf<"add_hooked_scores"> {
  let summary = "Combines in heads of an mma tile: raw scores through the method's elementwise region";
  let arguments = (ins Arg_:$combine, Arg_:$first_half, Arg_:$halves, Updates<>:$scores, Reads<>:$logits,
                   I32:$position, I32:$first_row, F32:$scale, Takes<>:$hook);
}

//===-- Top-k over 16-bit keys (block_keys.cuh) --------------------------------------------------------------------===//

def Tile_LoadKeyPairsOp : Tile_Leaf<"load_key_pairs"> {
  let summary = "A warp's candidates as pairs of 16-bit keys in registers, edges pooled in";
  let arguments = (ins Arg_:$init, Arg_:$blocks_per_edge, Writes<>:$keys, Takes<>:$row, Takes<>:$edges,
                   I32:$first_block, I32:$end);
}
def Tile_CountUpperOp : Tile_Leaf<"count_upper"> {
  let summary = "Keys of the warp in the upper half of their range";
  let arguments = (ins Reads<>:$keys);
  let results = (outs I32:$count);
}
def Tile_FoldKeysOp : Tile_Leaf<"fold_keys"> {
  let summary = "Keeps the half of the range that the threshold lies in, in 15 bits";
  let arguments = (ins Updates<>:$keys, I1:$upper);
}
def Tile_MarkBlocksOp : Tile_Leaf<"mark_blocks"> {
  let summary = "Bit masks of the lane's keys above and at the threshold";
  let arguments = (ins Writes<>:$marks, Reads<>:$keys, I32:$threshold);
}
def Tile_MarkedAboveOp : Tile_Leaf<"marked_above"> {
  let summary = "Blocks of the warp above the threshold";
  let arguments = (ins Reads<>:$marks);
  let results = (outs I32:$count);
}
def Tile_MarkedAtOp : Tile_Leaf<"marked_at"> {
  let summary = "Blocks of the warp at the threshold";
  let arguments = (ins Reads<>:$marks);
  let results = (outs I32:$count);
}
def Tile_StoreMarkedOp : Tile_Leaf<"store_marked"> {
  let summary = "Writes the ids of marked blocks, ascending";
  let arguments = (ins Stores<>:$ids, Reads<>:$marks, I32:$first_block, I32:$above, I32:$equal, I32:$ties);
}
def Tile_StoreRangeOp : Tile_Leaf<"store_range"> {
  let summary = "Writes consecutive ids";
  let arguments = (ins Stores<>:$ids, I32:$at, I32:$block, I32:$count);
}

#endif
