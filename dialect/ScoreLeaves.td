// The leaf ops of scores on warpgroups, of summaries as tile images, and of top-k over 16-bit keys; included by
// TileLeaves.td, whose rules hold here as well: one entry per device function of templates/, same name, same operand
// order, destination first, attributes are template arguments.
#ifndef WINNOW_DIALECT_SCORE_LEAVES
#define WINNOW_DIALECT_SCORE_LEAVES

//===-- Summaries as tile images (summary_images.cuh) --------------------------------------------------------------===//

def Tile_ImagesOfOp : Tile_Leaf<"images_of", [Pure]> {
  let summary = "A sequence's tile images of summaries of one key/value head";
  let arguments = (ins Arg_:$type, Arg_:$dim, Arg_:$stride, Takes<>:$buffer, I32:$kv_head, I32:$total_k, I32:$batch,
                   Takes<>:$tile);
  let results = (outs Tile_Object:$images);
}
def Tile_StoreImageRowOp : Tile_Leaf<"store_image_row"> {
  let summary = "Writes eight channels of a summary into its tile image";
  let arguments = (ins Takes<>:$images, I32:$row, I32:$chunk, Reads<>:$sums, F32:$count, F32:$factor);
}
def Tile_CopyImageOp : Tile_Leaf<"copy_image"> {
  let summary = "Starts the bulk copy of a tile image into shared memory";
  let arguments = (ins Writes<>:$tile, Takes<>:$images, I32:$index, I32:$barrier);
}

//===-- Order of roles (scoring_warpgroup.cuh, arch/sm90.cuh) ------------------------------------------------------===//

def Tile_SyncSomeOp : Tile_Leaf<"sync_some"> {
  let summary = "Barrier of the threads that name it";
  let arguments = (ins I32:$id, I32:$threads);
}
def Tile_SyncAnyOp : Tile_Leaf<"sync_any"> {
  let summary = "Barrier of the threads that name it; true in all where the vote holds in any";
  let arguments = (ins I32:$id, I32:$threads, I1:$vote);
  let results = (outs I1:$any);
}
def Tile_ReleaseTimesOp : Tile_Leaf<"release_times"> {
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
  let arguments = (ins Takes<>:$ids, Reads<>:$marks, I32:$first_block, I32:$above, I32:$equal, I32:$ties);
}
def Tile_StoreRangeOp : Tile_Leaf<"store_range"> {
  let summary = "Writes consecutive ids";
  let arguments = (ins Takes<>:$ids, I32:$at, I32:$block, I32:$count);
}

#endif
