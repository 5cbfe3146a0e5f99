// Rows whose scores leave the range of fp32: found, and selected again by octaves. How leaves are declared: Leaf.td.
#ifndef WINNOW_DIALECT_TILE_RESCORE
#define WINNOW_DIALECT_TILE_RESCORE

include "dialect/tile/Leaf.td"

def Tile_RescoreGroup : OpDocGroup {
  let summary = "Leaves: rescore";
  let description = "Rows whose scores leave the range of fp32: found, and selected again by octaves.";
}

let opDocGroup = Tile_RescoreGroup in {
def Tile_LeavesOrderOp : Tile_Leaf<"leaves_order", "core/order_range.cuh"> {
  let summary = "Whether overflow or underflow may have decided which blocks of a row are selected";
  let arguments = (ins Template:$topk, Reads<ThresholdSearch>:$search, I32:$own);
  let results = (outs I1:$leaves);
}
def Tile_FoldedLeavesOrderOp : Tile_Leaf<"folded_leaves_order", "core/order_range.cuh"> {
  let summary = "The same for 16-bit ranks that were folded to 15 bits";
  let arguments = (ins Reads<ThresholdSearch>:$search, I1:$upper);
  let results = (outs I1:$leaves);
}
def Tile_MarkUnorderedOp : Tile_Leaf<"mark_unordered", "select/rescore.cuh"> {
  let summary = "Leaves a row of ids to rescore";
  let arguments = (ins Stores<Pointer>:$ids);
}
def Tile_IsUnorderedOp : Tile_Leaf<"is_unordered", "select/rescore.cuh"> {
  let summary = "Whether a row of ids was left to rescore; alike in all threads behind a barrier of them";
  let arguments = (ins Loads<Pointer>:$ids);
  let results = (outs I1:$unordered);
}
def Tile_FindUnorderedOp : Tile_Leaf<"find_unordered", "select/rescore.cuh"> {
  let summary = "Which rows of ids were left to rescore, one row per thread";
  let arguments = (ins Template:$topk, Writes<RowMarks>:$marks, Loads<Pointer>:$ids, I32:$first, I32:$rows);
}
def Tile_CountUnorderedOp : Tile_Leaf<"count_unordered", "select/rescore.cuh"> {
  let summary = "How many rows are marked";
  let arguments = (ins Reads<RowMarks>:$marks);
  let results = (outs I32:$count);
}
def Tile_NthUnorderedOp : Tile_Leaf<"nth_unordered", "select/rescore.cuh"> {
  let summary = "The place of a mark";
  let arguments = (ins Reads<RowMarks>:$marks, I32:$index);
  let results = (outs I32:$place);
}
def Tile_LoadHeadQueriesOp : Tile_Leaf<"load_head_queries", "select/rescore.cuh"> {
  let summary = "The queries of one token's group of heads, as fp32";
  let arguments = (ins Template:$type, Template:$threads, Template:$heads, Writes<HeadQueries>:$queries,
                       Takes<Heads>:$q, I32:$row, I32:$first_head);
}
def Tile_MakeHeadNormalizersOp : Tile_Leaf<"make_head_normalizers", "select/rescore.cuh"> {
  let summary = "The normalisers of one token's group of heads";
  let arguments = (ins Template:$threads, Writes<HeadNormalizers>:$normalizers, Reads<HeadQueries>:$queries,
                       Takes<Summaries>:$summaries, I32:$visible, F32:$scale);
}
def Tile_StoreOctavesOp : Tile_Leaf<"store_octaves", "select/rescore.cuh"> {
  let summary = "The base-2 logarithms of block scores";
  let arguments = (ins Template:$combine, Template:$pool, Template:$threads, Template:$rows_per_block, Template:$pad,
                       Stores<Pointer>:$octaves, Reads<HeadNormalizers>:$normalizers, Reads<HeadQueries>:$queries,
                       Takes<Summaries>:$summaries, I32:$first_block, I32:$end, I32:$rows, I32:$visible, F32:$scale);
}
def Tile_CountOctavesOp : Tile_Leaf<"count_octaves", "select/rescore.cuh", [Varies]> {
  let summary = "The warp's octaves at or above a threshold";
  let arguments = (ins Template:$threads, Loads<Pointer>:$octaves, I32:$first_block, I32:$end, I32:$threshold);
  let results = (outs I32:$count);
}
def Tile_StoreOctaveIdsOp : Tile_Leaf<"store_octave_ids", "select/rescore.cuh"> {
  let summary = "Writes the ids of blocks above and at a threshold, ascending";
  let arguments = (ins Stores<Pointer>:$ids, Loads<Pointer>:$octaves, I32:$at, I32:$first_block, I32:$end,
                       I32:$threshold, I32:$ties);
}
} // opDocGroup

#endif
