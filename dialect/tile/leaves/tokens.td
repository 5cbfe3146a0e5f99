// Where a thread stands, and on which tokens its block works. How leaves are declared: Leaf.td.
#ifndef WINNOW_DIALECT_TILE_TOKENS
#define WINNOW_DIALECT_TILE_TOKENS

include "dialect/tile/Leaf.td"

def Tile_TokensGroup : OpDocGroup {
  let summary = "Leaves: tokens";
  let description = "Where a thread stands, and on which tokens its block works.";
}

let opDocGroup = Tile_TokensGroup in {
def Tile_ThreadIndexOp : Tile_Leaf<"thread_index", "core/types.cuh", [Pure, Varies]> {
  let summary = "Index of the thread in its block";
  let results = (outs I32:$index);
}
def Tile_LaneIndexOp : Tile_Leaf<"lane_index", "core/types.cuh", [Pure, Varies]> {
  let summary = "Index of the thread in its warp";
  let results = (outs I32:$index);
}
def Tile_WarpIndexOp : Tile_Leaf<"warp_index", "core/types.cuh", [Pure, Varies]> {
  let summary = "Index of the warp in its block, uniform over the warp";
  let results = (outs I32:$index);
}
def Tile_WarpUniformOp : Tile_Leaf<"warp_uniform", "core/types.cuh", [Pure]> {
  let summary = "A value that all lanes of a warp have alike, told to the compiler to be so";
  let source = "PTX ISA 9.0, shfl.sync.idx: ptxas keeps what depends on it in uniform registers";
  let arguments = (ins I32:$value);
  let results = (outs I32:$same);
}
def Tile_WarpgroupIndexOp : Tile_Leaf<"warpgroup_index", "core/warpgroup.cuh", [Pure, Varies]> {
  let summary = "Index of the warpgroup in its block, uniform over the warp";
  let results = (outs I32:$index);
}
def Tile_VaryingZeroOp : Tile_Leaf<"varying_zero", "arch/scalar.cuh", [Orders]> {
  let summary = "Zero, which the device compiler takes for another number at each call";
  let results = (outs I32:$zero);
}
def Tile_FindTokenTileOp : Tile_Leaf<"find_token_tile", "core/sequence.cuh", [Pure]> {
  let summary = "The tokens that this block of threads works on, found by the slot's number in a ragged batch";
  let arguments = (ins Template:$tokens, Takes<Pointer>:$cu_q, Takes<Lengths>:$lengths, I32:$batch, I32:$begin,
                       I32:$end, I32:$slot);
  let results = (outs Whole<TokenTile>:$tile);
}
def Tile_FindSegmentTileOp : Tile_Leaf<"find_segment_tile", "core/sequence.cuh", [Pure]> {
  let summary = "The tile of tokens of a sequence that begins with one of them, counted in its query segment";
  let arguments = (ins Template:$tokens, Takes<Pointer>:$cu_q, Takes<Lengths>:$lengths, I32:$sequence, I32:$first);
  let results = (outs Whole<TokenTile>:$tile);
}
def Tile_KeyLengthsOp : Tile_Leaf<"key_lengths", "core/layout.cuh", [Pure]> {
  let summary = "How many keys each sequence has, as the launch says";
  let arguments = (ins Takes<Params>:$params);
  let results = (outs Whole<KeyLengths>:$lengths);
}
def Tile_FindKeyTileOp : Tile_Leaf<"find_key_tile", "core/sequence.cuh", [Pure]> {
  let summary = "The keys that this block of threads works on, found by the slot's number";
  let arguments = (ins Template:$tokens, Takes<KeyLengths>:$lengths, I32:$batch, I32:$slot);
  let results = (outs Whole<TokenTile>:$tile);
}
def Tile_FindTokenOp : Tile_Leaf<"find_token", "core/sequence.cuh", [Pure]> {
  let summary = "The tile of the one token in a row of q";
  let arguments = (ins Takes<Pointer>:$cu_q, Takes<Lengths>:$lengths, I32:$batch, I32:$row);
  let results = (outs Whole<TokenTile>:$tile);
}
def Tile_LastPositionOp : Tile_Leaf<"last_position", "core/sequence.cuh", [Pure]> {
  let summary = "Absolute position of the tile's last token";
  let arguments = (ins Takes<TokenTile>:$tile);
  let results = (outs I32:$position);
}
def Tile_ParkOp : Tile_Leaf<"park", "core/sequence.cuh"> {
  let summary = "Keeps a token tile in shared memory while registers are short, by one thread";
  let arguments = (ins Writes<TileSlot>:$slot, Takes<TokenTile>:$tile);
}
def Tile_ParkedOp : Tile_Leaf<"parked", "core/sequence.cuh"> {
  let summary = "The parked token tile";
  let arguments = (ins Reads<TileSlot>:$slot);
  let results = (outs Whole<TokenTile>:$tile);
}
def Tile_QueryRowsOp : Tile_Leaf<"query_rows", "attend/attention.cuh", [Pure]> {
  let summary = "Tokens, heads and positions of a row tile's 16 query rows";
  let arguments = (ins Template:$tile_heads, Takes<TokenTile>:$tile, I32:$row_tile);
  let results = (outs Whole<QueryRows>:$rows);
}
def Tile_SetTokenOp : Tile_Leaf<"set_token", "select/scoring.cuh", [Pure, Varies]> {
  let summary = "The lane's token of a token set";
  let arguments = (ins Template:$sets, I32:$token_group, I32:$set);
  let results = (outs I32:$token);
}
def Tile_TileTokenOp : Tile_Leaf<"tile_token", "select/scoring_warpgroup.cuh", [Pure, Varies]> {
  let summary = "The thread's token of a half of an mma tile";
  let arguments = (ins Template:$group, I32:$mma_tile, I32:$half);
  let results = (outs I32:$token);
}
} // opDocGroup

#endif
