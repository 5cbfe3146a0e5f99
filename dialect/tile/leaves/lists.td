// Which key tiles the tokens of a block want: bitmaps, lists and work lists. How leaves are declared: Leaf.td.
#ifndef WINNOW_DIALECT_TILE_LISTS
#define WINNOW_DIALECT_TILE_LISTS

include "dialect/tile/Leaf.td"

def Tile_ListsGroup : OpDocGroup {
  let summary = "Leaves: lists";
  let description = "Which key tiles the tokens of a block want: bitmaps, lists and work lists.";
}

let opDocGroup = Tile_ListsGroup in {
def Tile_ClearWantedOp : Tile_Leaf<"clear_wanted", "attend/wanted.cuh"> {
  let summary = "Clears the bitmap of wanted key tiles";
  let arguments = (ins Writes<WantedBitmap>:$wanted, I32:$tiles);
}
def Tile_MarkWantedOp : Tile_Leaf<"mark_wanted", "attend/wanted.cuh"> {
  let summary = "Marks the key tiles that the tile's tokens selected";
  let arguments = (ins Template:$topk, Template:$tiles_per_block, Template:$keys, Updates<WantedBitmap>:$wanted,
                       Takes<Pointer>:$ids, I32:$select_head, I32:$total_q, Takes<TokenTile>:$tile, I32:$from_tile);
}
def Tile_MarkCausalOp : Tile_Leaf<"mark_causal", "attend/wanted.cuh"> {
  let summary = "Marks every key tile at or before the tokens: the dense case";
  let arguments = (ins Template:$keys, Updates<WantedBitmap>:$wanted, Takes<TokenTile>:$tile, I32:$from_tile, I32:$tiles);
}
def Tile_CompactListOp : Tile_Leaf<"compact_list", "attend/wanted.cuh"> {
  let summary = "The wanted key tiles as an ascending list, by one warp";
  let arguments = (ins Writes<WantedList>:$list, Reads<WantedBitmap>:$wanted, I32:$tiles);
}
def Tile_ListLengthOp : Tile_Leaf<"list_length", "attend/wanted.cuh"> {
  let summary = "Entries of the list";
  let arguments = (ins Reads<WantedList>:$list);
  let results = (outs I32:$length);
}
def Tile_ListTileOp : Tile_Leaf<"list_tile", "attend/wanted.cuh"> {
  let summary = "An entry's key tile, counted from the bitmap's first";
  let arguments = (ins Reads<WantedList>:$list, I32:$entry);
  let results = (outs I32:$tile);
}
def Tile_ListWantsOp : Tile_Leaf<"list_wants", "attend/wanted.cuh"> {
  let summary = "One bit per token of the row tile that selected the entry";
  let arguments = (ins Template:$row_tokens, Reads<WantedList>:$list, I32:$entry, I32:$row_tile);
  let results = (outs I32:$wants);
}
def Tile_ClearBitmapOp : Tile_Leaf<"clear_bitmap", "attend/work_list.cuh"> {
  let summary = "Clears the whole bitmap of wanted key tiles";
  let arguments = (ins Writes<WantedBitmap>:$wanted);
}
def Tile_MarkSelectedOp : Tile_Leaf<"mark_selected", "attend/work_list.cuh"> {
  let summary = "Marks the key tiles that the tile's tokens selected, by one warp";
  let arguments = (ins Template:$topk, Template:$tiles_per_block, Template:$keys, Updates<WantedBitmap>:$wanted,
                       Takes<Pointer>:$ids, I32:$select_head, I32:$total_q, Takes<TokenTile>:$tile, I32:$from_tile);
}
def Tile_MarkAllOp : Tile_Leaf<"mark_all", "attend/work_list.cuh"> {
  let summary = "Marks every key tile at or before the tokens, by one warp";
  let arguments = (ins Template:$keys, Writes<WantedBitmap>:$wanted, Takes<TokenTile>:$tile, I32:$from_tile, I32:$tiles);
}
def Tile_FillListOp : Tile_Leaf<"fill_list", "attend/work_list.cuh"> {
  let summary = "Makes a list of what is marked, and clears the bitmap there, by one warp";
  let arguments = (ins Template:$split, Template:$whole, Template:$parts, Template:$warp_tokens,
                       Writes<WorkList>:$list, Updates<WantedBitmap>:$wanted, I32:$from_tile, I32:$from, I32:$tiles);
  let results = (outs I32:$next);
}
def Tile_DescribeWorkOp : Tile_Leaf<"describe_work", "attend/work_list.cuh"> {
  let summary = "Says what a list is about";
  let arguments = (ins Updates<WorkList>:$list, Takes<TokenTile>:$tile, I32:$select_head, I1:$opens, I1:$closes);
}
def Tile_EndWorkOp : Tile_Leaf<"end_work", "attend/work_list.cuh"> {
  let summary = "Says that there is no more work";
  let arguments = (ins Writes<WorkList>:$list);
}
def Tile_HasWorkOp : Tile_Leaf<"has_work", "attend/work_list.cuh"> {
  let summary = "Whether the list is one, or the end of the work";
  let arguments = (ins Reads<WorkList>:$list);
  let results = (outs I1:$has);
}
def Tile_WorkHeaderOp : Tile_Leaf<"work_header", "attend/work_list.cuh"> {
  let summary = "What a list is about";
  let arguments = (ins Reads<WorkList>:$list);
  let results = (outs Whole<WorkHeader>:$header);
}
def Tile_WorkTileOp : Tile_Leaf<"work_tile", "attend/work_list.cuh"> {
  let summary = "An entry's key tile, counted from the sequence's first one";
  let arguments = (ins Reads<WorkList>:$list, I32:$entry);
  let results = (outs I32:$tile);
}
def Tile_NextWantedOp : Tile_Leaf<"next_wanted", "attend/work_list.cuh"> {
  let summary = "The next step that the warpgroup wants";
  let arguments = (ins Template:$parts, Template:$warp_tokens, Reads<WorkList>:$list, I32:$from, I32:$limit,
                       I32:$warpgroup);
  let results = (outs I32:$entry);
}
def Tile_WarpgroupWantsOp : Tile_Leaf<"warpgroup_wants", "attend/work_list.cuh"> {
  let summary = "Whether the warpgroup wants a step, uniform over the warp";
  let arguments = (ins Template:$parts, Template:$warp_tokens, Reads<WorkList>:$list, I32:$entry, I32:$warpgroup);
  let results = (outs I1:$wants);
}
} // opDocGroup

#endif
