// Selection of the best blocks, over 32-bit ranks and over pairs of 16-bit ones. How leaves are declared: Leaf.td.
#ifndef WINNOW_DIALECT_TILE_TOPK
#define WINNOW_DIALECT_TILE_TOPK

include "dialect/tile/Leaf.td"

def Tile_TopKGroup : OpDocGroup {
  let summary = "Leaves: top-k";
  let description = "Selection of the best blocks, over 32-bit ranks and over pairs of 16-bit ones.";
}

let opDocGroup = Tile_TopKGroup in {
def Tile_IdRowOp : Tile_Leaf<"id_row", "select/top_k.cuh", [Pure]> {
  let summary = "A token's row of selected ids";
  let arguments = (ins Template:$topk, Takes<Pointer>:$ids, I32:$select_head, I32:$total_q, I32:$row);
  let results = (outs Whole<Pointer>:$row_ids);
}
def Tile_PadIdsOp : Tile_Leaf<"pad_ids", "select/top_k.cuh"> {
  let summary = "Fills a row of ids with -1 from an index on";
  let arguments = (ins Template:$topk, Stores<Pointer>:$ids, I32:$from);
}
def Tile_StoreRangeOp : Tile_Leaf<"store_range", "select/block_ranks.cuh"> {
  let summary = "Writes consecutive ids";
  let arguments = (ins Stores<Pointer>:$ids, I32:$at, I32:$block, I32:$count);
}
def Tile_FirstForcedOp : Tile_Leaf<"first_forced", "select/top_k.cuh", [Pure]> {
  let summary = "The first of the forced blocks that end at the token's own";
  let arguments = (ins Template:$topk, Template:$local, I32:$own);
  let results = (outs I32:$block);
}
def Tile_EdgeRowOp : Tile_Leaf<"edge_row", "select/score_row.cuh", [Pure]> {
  let summary = "The edges of a row of block scores; null where windows do not reach over blocks";
  let arguments = (ins Template:$pad, Takes<Pointer>:$row, I32:$padded);
  let results = (outs Whole<Pointer>:$edges);
}
def Tile_LoadRanksOp : Tile_Leaf<"load_ranks", "select/top_k.cuh"> {
  let summary = "A warp's block scores as order-preserving ranks in registers";
  let arguments = (ins Template:$pool, Template:$init, Template:$blocks_per_edge, Writes<BlockRanks>:$ranks,
                       Takes<Pointer>:$blocks, Takes<Pointer>:$edges, I32:$first_block, I32:$forced_from, I32:$own);
}
def Tile_LoadRankPairsOp : Tile_Leaf<"load_rank_pairs", "select/block_ranks.cuh"> {
  let summary = "A warp's candidates as pairs of 16-bit ranks in registers, edges pooled in";
  let arguments = (ins Template:$init, Template:$blocks_per_edge, Writes<RankPairs>:$ranks, Loads<Pointer>:$row,
                       Loads<Pointer>:$edges, I32:$first_block, I32:$end);
}
def Tile_LoadAllRankPairsOp : Tile_Leaf<"load_all_rank_pairs", "select/block_ranks.cuh"> {
  let summary = "All candidates of a row as pairs of 16-bit ranks in a warp's registers, in an order that serves counting";
  let arguments = (ins Template:$init, Template:$blocks_per_edge, Writes<RankPairs>:$ranks, Loads<Pointer>:$row,
                       Loads<Pointer>:$edges, I32:$end);
}
def Tile_StartSearchOp : Tile_Leaf<"start_search", "select/top_k.cuh"> {
  let summary = "Begins the search for the threshold of the selection";
  let arguments = (ins Template:$topk, Writes<ThresholdSearch>:$search, I32:$own);
}
def Tile_IsOpenOp : Tile_Leaf<"is_open", "select/top_k.cuh"> {
  let summary = "True while more ranks than wanted reach the threshold";
  let arguments = (ins Reads<ThresholdSearch>:$search);
  let results = (outs I1:$open);
}
def Tile_NextThresholdOp : Tile_Leaf<"next_threshold", "select/top_k.cuh"> {
  let summary = "The threshold with the next bit set";
  let arguments = (ins Reads<ThresholdSearch>:$search, I32:$step);
  let results = (outs I32:$threshold);
}
def Tile_NarrowOp : Tile_Leaf<"narrow", "select/top_k.cuh"> {
  let summary = "Keeps the threshold if enough ranks reach it";
  let arguments = (ins Updates<ThresholdSearch>:$search, I32:$threshold, I32:$count);
}
def Tile_ThresholdOfWarpOp : Tile_Leaf<"threshold_of_warp", "select/top_k.cuh"> {
  let summary = "The threshold with another digit for each warp, which counts for it";
  let arguments = (ins Reads<ThresholdSearch>:$search, I32:$shift, I32:$warp);
  let results = (outs I32:$threshold);
}
def Tile_NarrowDigitOp : Tile_Leaf<"narrow_digit", "select/top_k.cuh"> {
  let summary = "Keeps the largest digit of the threshold that enough ranks reach, by what the warps have counted";
  let arguments = (ins Updates<ThresholdSearch>:$search, Reads<WarpCounts>:$counts, I32:$shift);
}
def Tile_CountAtLeastOp : Tile_Leaf<"count_at_least", "select/block_ranks.cuh, select/top_k.cuh"> {
  let summary = "Ranks of the warp at or above a threshold";
  let arguments = (ins Reads<Ranks>:$ranks, I32:$threshold);
  let results = (outs I32:$count);
}
def Tile_CountAboveOp : Tile_Leaf<"count_above", "select/top_k.cuh"> {
  let summary = "Ranks of the warp above a threshold";
  let arguments = (ins Reads<BlockRanks>:$ranks, I32:$threshold);
  let results = (outs I32:$count);
}
def Tile_CountUpperOp : Tile_Leaf<"count_upper", "select/block_ranks.cuh"> {
  let summary = "Ranks of the warp in the upper half of their range";
  let arguments = (ins Reads<RankPairs>:$ranks);
  let results = (outs I32:$count);
}
def Tile_FoldRanksOp : Tile_Leaf<"fold_ranks", "select/block_ranks.cuh"> {
  let summary = "Keeps the half of the range that the threshold lies in, in 15 bits";
  let arguments = (ins Updates<RankPairs>:$ranks, I1:$upper);
}
def Tile_MarkBlocksOp : Tile_Leaf<"mark_blocks", "select/block_ranks.cuh"> {
  let summary = "Bit masks of the lane's ranks above and at the threshold";
  let arguments = (ins Writes<BlockMarks>:$marks, Reads<RankPairs>:$ranks, I32:$threshold);
}
def Tile_MarkedAboveOp : Tile_Leaf<"marked_above", "select/block_ranks.cuh"> {
  let summary = "Blocks of the warp above the threshold";
  let arguments = (ins Reads<BlockMarks>:$marks);
  let results = (outs I32:$count);
}
def Tile_MarkedAtOp : Tile_Leaf<"marked_at", "select/block_ranks.cuh"> {
  let summary = "Blocks of the warp at the threshold";
  let arguments = (ins Reads<BlockMarks>:$marks);
  let results = (outs I32:$count);
}
def Tile_StoreIdsOp : Tile_Leaf<"store_ids", "select/top_k.cuh"> {
  let summary = "Writes the selected ids of a row, ascending";
  let arguments = (ins Stores<Pointer>:$ids, Reads<BlockRanks>:$ranks, I32:$threshold, I32:$first_block, I32:$above,
                       I32:$equal, I32:$ties);
}
def Tile_StoreMarkedOp : Tile_Leaf<"store_marked", "select/block_ranks.cuh"> {
  let summary = "Writes the ids of marked blocks, ascending";
  let arguments = (ins Stores<Pointer>:$ids, Reads<BlockMarks>:$marks, I32:$first_block, I32:$above, I32:$equal,
                       I32:$ties);
}
def Tile_StoreCountOp : Tile_Leaf<"store_count", "select/top_k.cuh"> {
  let summary = "A warp's count into the block's table of counts";
  let arguments = (ins Writes<WarpCounts>:$counts, I32:$warp, I32:$count);
}
def Tile_TotalCountOp : Tile_Leaf<"total_count", "select/top_k.cuh"> {
  let summary = "Sum of all warps' counts";
  let arguments = (ins Reads<WarpCounts>:$counts);
  let results = (outs I32:$total);
}
def Tile_CountBeforeOp : Tile_Leaf<"count_before", "select/top_k.cuh"> {
  let summary = "Sum of the counts of the warps before this one";
  let arguments = (ins Reads<WarpCounts>:$counts, I32:$warp);
  let results = (outs I32:$sum);
}
} // opDocGroup

#endif
