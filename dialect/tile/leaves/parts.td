// Attention of a token by several blocks of threads, each over a part of its key tiles, and what joins them. How leaves
// are declared: Leaf.td.
#ifndef WINNOW_DIALECT_TILE_PARTS
#define WINNOW_DIALECT_TILE_PARTS

include "dialect/tile/Leaf.td"

def Tile_PartsGroup : OpDocGroup {
  let summary = "Leaves: parts";
  let description = "Attention of a token by several blocks of threads, each over a part of its key tiles.";
}

let opDocGroup = Tile_PartsGroup in {
def Tile_ListBlocksOp : Tile_Leaf<"list_blocks", "attend/parts.cuh"> {
  let summary = "The blocks that a token selected, each once, by one warp";
  let arguments = (ins Template:$block, Writes<BlockList>:$list, Takes<Pointer>:$ids, I32:$select_head, I32:$total_q,
                       Takes<TokenTile>:$tile, I32:$begin, I32:$end);
}
def Tile_ForcedKeyOp : Tile_Leaf<"forced_key", "attend/parts.cuh", [Pure]> {
  let summary = "The first key of a key tile of the forced blocks";
  let arguments = (ins Template:$init, Template:$tiles_per_block, Template:$keys, I32:$entry, I32:$forced_from);
  let results = (outs I32:$key);
}
def Tile_CountBlocksOp : Tile_Leaf<"count_blocks", "attend/parts.cuh"> {
  let summary = "Blocks of the list";
  let arguments = (ins Reads<BlockList>:$list);
  let results = (outs I32:$count);
}
def Tile_ListedKeyOp : Tile_Leaf<"listed_key", "attend/parts.cuh"> {
  let summary = "The first key of a key tile of the listed blocks, or of the sequence";
  let arguments = (ins Template:$tiles_per_block, Template:$keys, Reads<BlockList>:$list, I32:$entry, I1:$all);
  let results = (outs I32:$key);
}
def Tile_ChosenKeyOp : Tile_Leaf<"chosen_key", "attend/parts.cuh"> {
  let summary = "listed_key, or where this launch has chosen blocks the first key of a key tile by their ids";
  let arguments = (ins Template:$init, Template:$tiles_per_block, Template:$keys, Reads<BlockList>:$list,
                       Takes<Pointer>:$ids, I32:$entry, I1:$all, I1:$chosen);
  let results = (outs I32:$key);
}
def Tile_StorePartOp : Tile_Leaf<"store_part", "attend/parts.cuh"> {
  let summary = "Writes a part's sums, maxima and weighted values";
  let arguments = (ins Template:$heads, Stores<Pointer>:$values, Stores<Pointer>:$states, Reads<Accumulator>:$output,
                       Reads<SoftmaxState>:$state, Takes<QueryRows>:$rows, I32:$first_head, I32:$part, I32:$total_q,
                       F32:$scale);
}
def Tile_AddPartsOp : Tile_Leaf<"add_parts", "attend/parts.cuh"> {
  let summary = "A warp's share of the parts: their weighted values and sums of weights";
  let source = "sums of one softmax from those of its parts: Milakov and Gimelshein, arXiv:1805.02867";
  let arguments = (ins Template:$heads, Writes<WarpValues>:$sums, Takes<Pointer>:$values, Takes<Pointer>:$states,
                       I32:$first, I32:$step, I32:$parts, I32:$total_q, I32:$row, I32:$head);
}
def Tile_StoreMergedOp : Tile_Leaf<"store_merged", "attend/parts.cuh"> {
  let summary = "Writes a row of the output and its log-sum-exp, by one warp";
  let arguments = (ins Template:$heads, Template:$type, Stores<Heads>:$out, Stores<Pointer>:$lse,
                       Reads<WarpValues>:$sums, I32:$first, I32:$warps, I32:$total_q, I32:$row, I32:$head);
}
} // opDocGroup

#endif
