// Fragments and their products, of warps (mma.sync) and of warpgroups (wgmma). How leaves are declared: Leaf.td.
#ifndef WINNOW_DIALECT_TILE_PRODUCTS
#define WINNOW_DIALECT_TILE_PRODUCTS

include "dialect/tile/Leaf.td"

def Tile_ProductsGroup : OpDocGroup {
  let summary = "Leaves: products";
  let description = "Fragments and their products, of warps (mma.sync) and of warpgroups (wgmma).";
}

let opDocGroup = Tile_ProductsGroup in {
def Tile_ClearOp : Tile_Leaf<"clear", "attend/attention_step.cuh, core/tile.cuh, select/scoring.cuh"> {
  let summary = "Sets a fragment to its neutral value";
  let arguments = (ins Writes<AnyTypeOf<[Accumulator, LogSumExp, SoftmaxState]>>:$fragment);
}
def Tile_LoadQueryOp : Tile_Leaf<"load_query", "attend/attention.cuh"> {
  let summary = "The query rows as the left factor of a product";
  let arguments = (ins Template:$heads, Writes<LeftOperand>:$query, Takes<Heads>:$q, Takes<QueryRows>:$rows,
                       I32:$first_head);
}
def Tile_LoadQueryFp16Op : Tile_Leaf<"load_query_fp16", "core/fp8.cuh"> {
  let summary = "The query rows in fp16, as the left factor of a product with fp8 keys, and the scale of its logits";
  let arguments = (ins Template:$heads, Template:$type, Writes<LeftOperand>:$query, Writes<LogitScale>:$scale,
                       Takes<Heads>:$q, Takes<QueryRows>:$rows, I32:$first_head, F32:$factor);
}
def Tile_ScaleOfOp : Tile_Leaf<"scale_of", "core/fp8.cuh"> {
  let summary = "What the logits of a row tile are multiplied by";
  let arguments = (ins Reads<LogitScale>:$scale);
  let results = (outs F32:$value);
}
def Tile_OrderColumnsOp : Tile_Leaf<"order_columns", "core/fp8.cuh"> {
  let summary = "Puts the columns of sums over fp8 values in order, times a factor";
  let arguments = (ins Updates<Accumulator>:$sums, F32:$factor);
}
def Tile_LoadOperandOp : Tile_Leaf<"load_operand", "core/tile.cuh"> {
  let summary = "Rows of a shared tile as the transposed right factor of a product, in registers";
  let source = "PTX ISA 9.0, ldmatrix";
  let arguments = (ins Writes<RightOperand>:$operand, Reads<SharedTile>:$tile, I32:$first_row);
}
def Tile_RoundToOperandOp : Tile_Leaf<"round_to_operand", "core/tile.cuh"> {
  let summary = "Rounds fp32 sums to the element type, as the left factor of the next product";
  let arguments = (ins Writes<LeftOperand>:$operand, Reads<Accumulator>:$sums);
}
def Tile_MmaAbtOp : Tile_Leaf<"mma_abt", "core/fp8.cuh, core/tile.cuh"> {
  let summary = "sums += a b^T; a shared left factor is followed by its first row";
  let source = "PTX ISA 9.0, mma.sync.m16n8k16 and ldmatrix";
  let arguments = (ins Updates<Accumulator>:$sums, Reads<AnyTypeOf<[LeftOperand, SharedTile]>>:$left,
                       Optional<I32>:$first_row, Reads<AnyTypeOf<[SharedTile, RightOperand]>>:$right);
  let hasVerifier = 1;
}
def Tile_MmaAbtRowsOp : Tile_Leaf<"mma_abt_rows", "core/tile.cuh"> {
  let summary = "sums += a b^T, each factor rows of a shared tile from a first one on";
  let source = "PTX ISA 9.0, mma.sync.m16n8k16 and ldmatrix";
  let arguments = (ins Updates<Accumulator>:$sums, Reads<SharedTile>:$left, I32:$left_row, Reads<SharedTile>:$right,
                       I32:$right_row);
}
def Tile_MmaAbtPairOp : Tile_Leaf<"mma_abt_pair", "core/fp8.cuh, core/tile.cuh"> {
  let summary = "sums += a b^T for two left factors, which share the loads of the right one";
  let source = "PTX ISA 9.0, mma.sync.m16n8k16 and ldmatrix";
  let arguments = (ins Updates<Accumulator>:$sums0, Updates<Accumulator>:$sums1, Reads<LeftOperand>:$left0,
                       Reads<LeftOperand>:$left1, Reads<SharedTile>:$right);
}
def Tile_MmaAbOp : Tile_Leaf<"mma_ab", "core/fp8.cuh, core/tile.cuh"> {
  let summary = "sums += a b";
  let source = "PTX ISA 9.0, mma.sync.m16n8k16 and ldmatrix.trans";
  let arguments = (ins Updates<Accumulator>:$sums, Reads<LeftOperand>:$left, Reads<SharedTile>:$right);
}
def Tile_MmaAbPairOp : Tile_Leaf<"mma_ab_pair", "core/fp8.cuh, core/tile.cuh"> {
  let summary = "sums += a b for two left factors, which share the loads of the right one";
  let source = "PTX ISA 9.0, mma.sync.m16n8k16 and ldmatrix.trans";
  let arguments = (ins Updates<Accumulator>:$sums0, Updates<Accumulator>:$sums1, Reads<LeftOperand>:$left0,
                       Reads<LeftOperand>:$left1, Reads<SharedTile>:$right);
}
def Tile_StartAbtOp : Tile_Leaf<"start_abt", "core/warpgroup.cuh"> {
  let summary = "Starts sums = a b^T of a warpgroup, both factors in shared memory";
  let source = "PTX ISA 9.0, wgmma.mma_async of two shared matrices";
  let arguments = (ins Writes<Accumulator>:$sums, Reads<PanelTile>:$left, Reads<PanelTile>:$right);
}
def Tile_StartAbOp : Tile_Leaf<"start_ab", "core/warpgroup.cuh"> {
  let summary = "Starts sums += a b of a warpgroup, the left factor in registers";
  let source = "PTX ISA 9.0, wgmma.mma_async with the left matrix in registers";
  let arguments = (ins Updates<Accumulator>:$sums, Reads<LeftOperand>:$left, Reads<PanelTile>:$right);
}
def Tile_WaitProductsOp : Tile_Leaf<"wait_products", "core/warpgroup.cuh"> {
  let summary = "Waits until at most `pending` started products are unfinished; the fragment's is finished";
  let source = "PTX ISA 9.0, wgmma.wait_group";
  let arguments = (ins Template:$pending, Updates<Accumulator>:$sums);
}
def Tile_WarpAbtOp : Tile_Leaf<"warp_abt", "core/warpgroup.cuh"> {
  let summary = "sums = a b^T of one warp, from the tiles of its warpgroup";
  let source = "PTX ISA 9.0, mma.sync.m16n8k16 and ldmatrix";
  let arguments = (ins Template:$unroll, Writes<Accumulator>:$sums, Reads<PanelTile>:$left, I32:$first_row,
                       Reads<PanelTile>:$right);
}
def Tile_WarpAbOp : Tile_Leaf<"warp_ab", "core/warpgroup.cuh"> {
  let summary = "sums += a b of one warp, from the tiles of its warpgroup";
  let source = "PTX ISA 9.0, mma.sync.m16n8k16 and ldmatrix.trans";
  let arguments = (ins Updates<Accumulator>:$sums, Reads<LeftOperand>:$left, Reads<PanelTile>:$right);
}
} // opDocGroup

#endif
