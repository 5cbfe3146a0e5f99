// Summaries of keys: where they lie, which are visible, how they are made. How leaves are declared: Leaf.td.
#ifndef WINNOW_DIALECT_TILE_SUMMARIES
#define WINNOW_DIALECT_TILE_SUMMARIES

include "dialect/tile/Leaf.td"

def Tile_SummariesGroup : OpDocGroup {
  let summary = "Leaves: summaries";
  let description = "Summaries of keys: where they lie, which are visible, how they are made.";
}

let opDocGroup = Tile_SummariesGroup in {
def Tile_SummaryRowsOp : Tile_Leaf<"summary_rows", "select/summarize.cuh", [Pure]> {
  let summary = "Whole windows in a sequence of keys";
  let arguments = (ins Template:$window, Template:$stride, I32:$length);
  let results = (outs I32:$rows);
}
def Tile_SummaryOfOp : Tile_Leaf<"summary_of", "select/summarize.cuh", [Pure, InferTypeOpAdaptor]> {
  let summary = "A sequence's summary rows of one key/value head";
  let arguments = (ins Template:$type, Template:$dim, Template:$stride, Takes<Pointer>:$buffer, I32:$kv_head,
                       I32:$total_k, I32:$k_row);
  let results = (outs GlobalRows:$rows);
}
def Tile_ImagesOfOp : Tile_Leaf<"images_of", "select/summary_images.cuh", [Pure, InferTypeOpAdaptor]> {
  let summary = "A sequence's tile images of summaries of one key/value head";
  let arguments = (ins Template:$type, Template:$dim, Template:$stride, Takes<Pointer>:$buffer, I32:$kv_head,
                       I32:$total_k, I32:$batch, Takes<TokenTile>:$tile);
  let results = (outs SummaryImages:$images);
}
def Tile_KeptRowsOp : Tile_Leaf<"kept_rows", "core/layout.cuh", [Pure, InferTypeOpAdaptor]> {
  let summary = "Summary rows of one sequence and one head that the host keeps, wherever its pages lie";
  let arguments = (ins Template:$type, Template:$window, Template:$stride, Takes<Params>:$params, I32:$index,
                       Takes<TokenTile>:$tile, I32:$head);
  let results = (outs PagedRows:$rows);
}
def Tile_VisibleAbsoluteOp : Tile_Leaf<"visible_absolute", "select/scoring.cuh", [Pure]> {
  let summary = "Summary rows whose window ends at or before a position";
  let arguments = (ins Template:$window, Template:$stride, I32:$position, I32:$rows);
  let results = (outs I32:$visible);
}
def Tile_VisibleBySegmentOp : Tile_Leaf<"visible_by_segment", "select/scoring.cuh", [Pure]> {
  let summary = "Visible summary rows by the rule of infllmv2_cuda_impl";
  let arguments = (ins Template:$stride, I32:$index, I32:$q_length, I32:$rows);
  let results = (outs I32:$visible);
}
def Tile_AddRowOp : Tile_Leaf<"add_row", "select/summarize.cuh, select/summary_images.cuh"> {
  let summary = "Adds eight channels of a key to fp32 sums";
  let arguments = (ins Updates<ChannelSums>:$sums, Takes<AnyRows>:$rows, I32:$row, I32:$chunk);
}
def Tile_AddTileRowsOp : Tile_Leaf<"add_tile_rows", "select/summarize.cuh"> {
  let summary = "Adds eight channels of each row of a shared tile to fp32 sums, in the rows' order";
  let arguments = (ins Updates<ChannelSums>:$sums, Reads<SharedTile>:$tile, I32:$chunk);
}
def Tile_StoreMeanOp : Tile_Leaf<"store_mean", "select/summarize.cuh"> {
  let summary = "Writes eight channels of a summary row";
  let arguments = (ins Stores<KeyRows>:$rows, I32:$row, I32:$chunk, Reads<ChannelSums>:$sums, F32:$count,
                       F32:$factor);
}
def Tile_StoreImageRowOp : Tile_Leaf<"store_image_row", "select/summary_images.cuh"> {
  let summary = "Writes eight channels of a summary into its tile image";
  let arguments = (ins Stores<SummaryImages>:$images, I32:$row, I32:$chunk, Reads<ChannelSums>:$sums, F32:$count,
                       F32:$factor);
}
def Tile_MakeNewRowOp : Tile_Leaf<"make_new_row", "select/new_row.cuh"> {
  let summary = "The summary that a decode step's new key finishes, in a warp's registers";
  let arguments = (ins Template:$type, Template:$window, Template:$stride, Template:$dim, Writes<NewRow>:$row,
                       Takes<PagedRows>:$keys, I32:$index, F32:$factor);
}
def Tile_KeepMeanOp : Tile_Leaf<"keep_mean", "select/new_row.cuh"> {
  let summary = "Stores 64 elements of a summary where the host keeps it, by one warp";
  let arguments = (ins Template:$window, Template:$stride, Template:$dim, Stores<PagedRows>:$rows,
                       Takes<PagedRows>:$keys, I32:$index, I32:$part, F32:$factor);
}
def Tile_PutNewRowOp : Tile_Leaf<"put_new_row", "select/new_row.cuh"> {
  let summary = "Puts that summary into the tile that it belongs to, by the warp that multiplies the tile";
  let arguments = (ins Writes<SharedTile>:$tile, Reads<NewRow>:$row, I32:$place);
}
} // opDocGroup

#endif
