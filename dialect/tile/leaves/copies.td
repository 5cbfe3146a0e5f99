// Rows and tiles from global to shared memory, by cp.async and by bulk copies. How leaves are declared: Leaf.td.
#ifndef WINNOW_DIALECT_TILE_COPIES
#define WINNOW_DIALECT_TILE_COPIES

include "dialect/tile/Leaf.td"

def Tile_CopiesGroup : OpDocGroup {
  let summary = "Leaves: copies";
  let description = "Rows and tiles from global to shared memory, by cp.async and by bulk copies.";
}

let opDocGroup = Tile_CopiesGroup in {
def Tile_GlobalRowsOp : Tile_Leaf<"global_rows", "core/tile.cuh", [Pure, InferTypeOpAdaptor]> {
  let summary = "Rows of a matrix in global memory";
  let arguments = (ins Template:$type, Template:$stride, Takes<Pointer>:$matrix, I32:$row, I32:$column);
  let results = (outs GlobalRows:$rows);
}
def Tile_PagedRowsOp : Tile_Leaf<"paged_rows", "core/layout.cuh", [Pure, InferTypeOpAdaptor]> {
  let summary = "Rows of one sequence's keys or values of one head, wherever its pages lie";
  let arguments = (ins Template:$type, Takes<Params>:$params, Takes<Pointer>:$tensor, Takes<Pointer>:$stride,
                       Takes<TokenTile>:$tile, I32:$head);
  let results = (outs PagedRows:$rows);
}
def Tile_HeadFactorOp : Tile_Leaf<"head_factor", "core/layout.cuh", [Pure]> {
  let summary = "A factor times what turns a head's stored keys or values into true ones";
  let arguments = (ins Takes<Pointer>:$scales, I32:$head, F32:$factor);
  let results = (outs F32:$scaled);
}
def Tile_ReadOnceOp : Tile_Leaf<"read_once", "core/layout.cuh", [Pure, InferTypeOpAdaptor]> {
  let summary = "Rows that a launch reads once: others stay in the L2 cache in their place";
  let source = "PTX ISA 9.0, createpolicy with L2::evict_first";
  let arguments = (ins Takes<PagedRows>:$rows);
  let results = (outs StreamedRows:$once);
}
def Tile_InSummaryOrderOp : Tile_Leaf<"in_summary_order", "select/scoring.cuh", [Pure, InferTypeOpAdaptor]> {
  let summary = "Rows that are loaded in the order that makes pooling local";
  let arguments = (ins Takes<StreamedRows>:$rows);
  let results = (outs OrderedRows:$ordered);
}
def Tile_StridedHeadsOp : Tile_Leaf<"strided_heads", "core/layout.cuh", [Pure]> {
  let summary = "A tensor of tokens and heads with the launch's strides";
  let arguments = (ins Takes<Pointer>:$tensor, Takes<Pointer>:$stride);
  let results = (outs Whole<StridedHeads>:$heads);
}
def Tile_LoadRowsOp : Tile_Leaf<"load_rows", "attend/gradients.cuh, core/tile.cuh", [AsyncLoad]> {
  let summary = "Starts copying consecutive rows into a shared tile; rows from the limit on become zero";
  let source = "PTX ISA 9.0, cp.async of 16 bytes";
  let arguments = (ins Template:$threads, Writes<SharedTile>:$tile, Takes<LoadedRows>:$source, I32:$first_row,
                       I32:$row_limit, I32:$thread);
}
def Tile_FindPageOp : Tile_Leaf<"find_page", "core/tile.cuh"> {
  let summary = "What the page table says of this lane's row of a tile of 32";
  let arguments = (ins Takes<AnyTypeOf<[PagedRows, StreamedRows, OrderedRows]>>:$source, I32:$first_row,
                       I32:$row_limit, I32:$lane);
  let results = (outs I32:$page);
}
def Tile_LoadFoundRowsOp : Tile_Leaf<"load_found_rows", "core/tile.cuh", [AsyncLoad]> {
  let summary = "Starts copying 32 rows into a shared tile, by a warp whose lanes know their rows' pages; rows from the limit on become zero";
  let source = "PTX ISA 9.0, cp.async of 16 bytes";
  let arguments = (ins Writes<SharedTile>:$tile, Takes<AnyTypeOf<[PagedRows, StreamedRows, OrderedRows]>>:$source,
                       I32:$page, I32:$first_row, I32:$row_limit, I32:$lane);
}
def Tile_LoadQueriesOp : Tile_Leaf<"load_queries", "select/scoring.cuh", [AsyncLoad]> {
  let summary = "Starts copying the block's query rows into shared memory, in the order that makes head sums local";
  let source = "PTX ISA 9.0, cp.async of 16 bytes";
  let arguments = (ins Template:$threads, Template:$heads, Template:$group, Template:$sets,
                       Writes<SharedTile>:$queries, Takes<Heads>:$q, Takes<TokenTile>:$tile, I32:$first_head);
}
def Tile_LoadSummariesOp : Tile_Leaf<"load_summaries", "select/scoring.cuh", [AsyncLoad]> {
  let summary = "Starts copying a tile of summary rows into shared memory, in the order that makes pooling local";
  let source = "PTX ISA 9.0, cp.async of 16 bytes";
  let arguments = (ins Template:$threads, Writes<SharedTile>:$summaries, Takes<SummaryRows>:$source, I32:$first_row,
                       I32:$row_limit);
}
def Tile_LoadHeadRowsOp : Tile_Leaf<"load_head_rows", "select/decode_scores.cuh", [AsyncLoad]> {
  let summary = "Starts copying the heads of one token into shared memory, one per row; further rows become zero";
  let source = "PTX ISA 9.0, cp.async of 16 bytes";
  let arguments = (ins Template:$threads, Template:$heads, Template:$group, Writes<SharedTile>:$queries,
                       Takes<Heads>:$q, I32:$row, I32:$first_head);
}
def Tile_CopyRowsOp : Tile_Leaf<"copy_rows", "core/warpgroup.cuh"> {
  let summary = "Starts the bulk copy of consecutive rows of one head into rows of a panel tile";
  let source = "PTX ISA 9.0, cp.async.bulk.tensor";
  let arguments = (ins Template:$rows, Writes<PanelTile>:$tile, I32:$tile_row, Takes<TensorMap>:$map, I32:$barrier,
                       I32:$head, I32:$first_row);
}
def Tile_RowBoxOp : Tile_Leaf<"row_box", "core/warpgroup.cuh", [Pure]> {
  let summary = "The rows of one page that this lane's bulk copy brings into a panel tile";
  let arguments = (ins Template:$rows, Takes<PagedRows>:$source, I32:$box_rows, I32:$first_row, I32:$row_limit);
  let results = (outs Whole<RowBox>:$box);
}
def Tile_RowsInBoxesOp : Tile_Leaf<"rows_in_boxes", "core/warpgroup.cuh", [Pure]> {
  let summary = "How many rows the boxes of all lanes have together";
  let arguments = (ins Template:$rows, I32:$box_rows, I32:$first_row, I32:$row_limit);
  let results = (outs I32:$count);
}
def Tile_CopyRowBoxesOp : Tile_Leaf<"copy_row_boxes", "core/warpgroup.cuh"> {
  let summary = "Starts the bulk copy of each lane's rows of one head into rows of a panel tile";
  let source = "PTX ISA 9.0, cp.async.bulk.tensor";
  let arguments = (ins Writes<PanelTile>:$tile, I32:$tile_row, Takes<TensorMap>:$map, I32:$barrier, I32:$head,
                       Takes<RowBox>:$box);
}
def Tile_CopyQueriesOp : Tile_Leaf<"copy_queries", "core/warpgroup.cuh"> {
  let summary = "Starts the bulk copies of a warpgroup's query rows";
  let source = "PTX ISA 9.0, cp.async.bulk.tensor";
  let arguments = (ins Template:$tile_heads, Template:$warp_tokens, Writes<PanelTile>:$queries, Takes<TensorMap>:$map,
                       I32:$barrier, I32:$first_head, I32:$row);
}
def Tile_CopyQueryTileOp : Tile_Leaf<"copy_query_tile", "select/scoring_warpgroup.cuh"> {
  let summary = "Starts the bulk copies of an mma tile of queries, in the order that makes head sums local";
  let source = "PTX ISA 9.0, cp.async.bulk.tensor";
  let arguments = (ins Template:$group, Writes<PanelTile>:$tile, Takes<TensorMap>:$map, I32:$barrier, I32:$head,
                       I32:$row);
}
def Tile_CopyImageOp : Tile_Leaf<"copy_image", "select/summary_images.cuh"> {
  let summary = "Starts the bulk copy of a tile image into shared memory";
  let source = "PTX ISA 9.0, cp.async.bulk";
  let arguments = (ins Writes<PanelTile>:$tile, Takes<SummaryImages>:$images, I32:$index, I32:$barrier);
}
def Tile_ClearRowsOp : Tile_Leaf<"clear_rows", "core/warpgroup.cuh"> {
  let summary = "Sets rows of a panel tile to zero";
  let arguments = (ins Template:$threads, Writes<PanelTile>:$tile, I32:$first_row, I32:$end_row);
}
} // opDocGroup

#endif
