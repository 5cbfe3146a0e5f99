// Gradients of attention: statistics of rows, tiles of weights and their changes, whoever owns them, and the lists of tokens
// that attend to a key block. How leaves are declared: Leaf.td.
#ifndef WINNOW_DIALECT_TILE_GRADIENTS
#define WINNOW_DIALECT_TILE_GRADIENTS

include "dialect/tile/Leaf.td"

def Tile_GradientsGroup : OpDocGroup {
  let summary = "Leaves: gradients";
  let description = [{Gradients of attention: statistics of rows, tiles of weights and their changes, whoever owns them, and the lists of
tokens that attend to a key block.}];
}

let opDocGroup = Tile_GradientsGroup in {
def Tile_ClearMarksOp : Tile_Leaf<"clear_marks", "attend/token_lists.cuh"> {
  let summary = "Clears the bits of all tokens";
  let arguments = (ins Writes<TokenMarks>:$marks);
}
def Tile_MarkTokensOp : Tile_Leaf<"mark_tokens", "attend/token_lists.cuh"> {
  let summary = "Marks which key blocks the tile's tokens selected";
  let arguments = (ins Template:$topk, Template:$block, Updates<TokenMarks>:$marks, Takes<Pointer>:$ids,
                       I32:$select_head, I32:$total_q, Takes<TokenTile>:$tile, I32:$from_block);
}
def Tile_StoreMarksOp : Tile_Leaf<"store_marks", "attend/token_lists.cuh"> {
  let summary = "Writes the bits of the tile's tokens";
  let arguments = (ins Template:$block, Stores<Pointer>:$bits, Reads<TokenMarks>:$marks, Takes<Params>:$params,
                       I32:$select_head, Takes<TokenTile>:$tile, I32:$from_block, I32:$end);
}
def Tile_OpenListsOp : Tile_Leaf<"open_lists", "attend/token_lists.cuh"> {
  let summary = "Says that no entry of the lists is in use, by one thread";
  let arguments = (ins Stores<Pointer>:$ranges);
}
def Tile_FindKeyBlockOp : Tile_Leaf<"find_key_block", "attend/token_lists.cuh", [Pure]> {
  let summary = "The keys that this block of threads works on, and the query segment beside them";
  let arguments = (ins Template:$keys, Takes<Pointer>:$cu_q, Takes<Pointer>:$cu_k, I32:$batch, I32:$total_k, I32:$slot);
  let results = (outs Whole<KeyBlock>:$block);
}
def Tile_ListTokensOp : Tile_Leaf<"list_tokens", "attend/token_lists.cuh"> {
  let summary = "Makes the ascending list of the tokens that attend to a key block, by one warp";
  let arguments = (ins Template:$block, Stores<Pointer>:$lists, Stores<Pointer>:$ranges, Takes<Pointer>:$bits,
                       Takes<Params>:$params, I32:$select_head, Takes<KeyBlock>:$key_block);
}
def Tile_ListedTokensOp : Tile_Leaf<"listed_tokens", "attend/token_lists.cuh", [Pure]> {
  let summary = "The tokens that attend to a key block: as list_tokens has listed them, or all that see its first key";
  let arguments = (ins Template:$block, Takes<Pointer>:$lists, Takes<Pointer>:$ranges, Takes<Params>:$params,
                       I32:$select_head, Takes<KeyBlock>:$key_block, I1:$all);
  let results = (outs Whole<TokenList>:$list);
}
def Tile_LaterTokensOp : Tile_Leaf<"later_tokens", "attend/token_lists.cuh", [Pure]> {
  let summary = "Every token that sees the first key of a block";
  let arguments = (ins Takes<KeyBlock>:$key_block);
  let results = (outs Whole<TokenList>:$list);
}
def Tile_StoreStatisticsOp : Tile_Leaf<"store_statistics", "attend/gradients.cuh"> {
  let summary = "Writes the log-sum-exp of a row, base 2, and its sum of dO * out, by one warp";
  let source = "delta of arXiv 2205.14135, algorithm 4";
  let arguments = (ins Template:$heads, Template:$value_dim, Template:$type, Stores<Pointer>:$statistics,
                       Takes<Pointer>:$out, Takes<Pointer>:$dout, Takes<Pointer>:$lse, I32:$row, I32:$total_q);
}
def Tile_LoadStatisticsOp : Tile_Leaf<"load_statistics", "attend/gradients.cuh"> {
  let summary = "The statistics of the row tile's rows";
  let arguments = (ins Template:$heads, Writes<RowStatistics>:$own, Takes<Pointer>:$statistics, Takes<QueryRows>:$rows,
                       I32:$first_head);
}
def Tile_SubtractDeltasOp : Tile_Leaf<"subtract_deltas", "attend/gradients.cuh"> {
  let summary = "changes -= delta";
  let arguments = (ins Updates<Accumulator>:$changes, Reads<RowStatistics>:$own);
}
def Tile_MultiplySlopesOp : Tile_Leaf<"multiply_slopes", "attend/gradients.cuh"> {
  let summary = "changes *= the derivative of the method's region at the scaled logits";
  let arguments = (ins Updates<Accumulator>:$changes, Reads<Accumulator>:$logits, Takes<QueryRows>:$rows,
                       I32:$first_key, F32:$scale, Takes<Hook>:$slope);
}
def Tile_WeighChangesOp : Tile_Leaf<"weigh_changes", "attend/gradients.cuh"> {
  let summary = "Turns logits into weights and changes into gradients of logits; 0 where a token does not want the tile";
  let source = "dS = P (dP - delta) of arXiv 2205.14135, algorithm 4";
  let arguments = (ins Updates<Accumulator>:$logits, Updates<Accumulator>:$changes, Reads<RowStatistics>:$own,
                       Takes<QueryRows>:$rows, I32:$wants, F32:$scale);
}
def Tile_MultiplyStepSlopesOp : Tile_Leaf<"multiply_step_slopes", "attend/gradients_step.cuh"> {
  let summary = "multiply_slopes, of a step";
  let arguments = (ins Updates<Accumulator>:$changes, Reads<Accumulator>:$logits, Takes<QueryRows>:$rows,
                       Reads<StepKeys>:$step, F32:$scale, Takes<Hook>:$slope);
}
def Tile_WeighStepOp : Tile_Leaf<"weigh_step", "attend/gradients_step.cuh"> {
  let summary = "Turns logits into softmax weights by the rows' log-sum-exp, 0 where the row's token does not want the part";
  let source = "P = exp(S - lse) of arXiv 2205.14135, algorithm 4";
  let arguments = (ins Updates<Accumulator>:$logits, Reads<RowStatistics>:$own, Takes<QueryRows>:$rows,
                       Reads<StepKeys>:$step, F32:$scale);
}
def Tile_MultiplyWeightsOp : Tile_Leaf<"multiply_weights", "attend/gradients_step.cuh"> {
  let summary = "changes *= weights; with `guards` whatever a change is, a weight of 0 makes 0 of it";
  let source = "dS = P (dP - delta) of arXiv 2205.14135, algorithm 4";
  let arguments = (ins Template:$guards, Updates<Accumulator>:$changes, Reads<Accumulator>:$weights);
}
def Tile_StoreQueryGradientOp : Tile_Leaf<"store_query_gradient", "attend/gradients.cuh"> {
  let summary = "Writes the gradient of the row tile's queries, times a factor";
  let arguments = (ins Template:$heads, Template:$type, Stores<Pointer>:$gradient, Reads<Accumulator>:$sums,
                       Takes<QueryRows>:$rows, I32:$first_head, F32:$factor);
}
def Tile_TokenRowsOp : Tile_Leaf<"token_rows", "attend/gradients.cuh", [Pure, InferTypeOpAdaptor]> {
  let summary = "Query rows of the tokens of a list, some heads of each";
  let arguments = (ins Template:$type, Template:$heads, Template:$group, Template:$tokens, Takes<Pointer>:$tensor,
                       Takes<TokenList>:$list, Takes<KeyBlock>:$key_block, I32:$first_head, I32:$dim);
  let results = (outs TokenRows:$rows);
}
def Tile_LoadColumnsOp : Tile_Leaf<"load_columns", "attend/gradients.cuh"> {
  let summary = "Positions and statistics of the query rows that are the columns of a tile";
  let arguments = (ins Template:$heads, Template:$group, Template:$tokens, Writes<QueryColumns>:$columns,
                       Takes<Pointer>:$statistics, Takes<TokenList>:$list, Takes<KeyBlock>:$key_block,
                       I32:$first_entry, I32:$first_head);
}
def Tile_SubtractColumnDeltasOp : Tile_Leaf<"subtract_column_deltas", "attend/gradients.cuh"> {
  let summary = "changes -= delta, where columns are query rows";
  let arguments = (ins Updates<Accumulator>:$changes, Reads<QueryColumns>:$columns);
}
def Tile_MultiplyColumnSlopesOp : Tile_Leaf<"multiply_column_slopes", "attend/gradients.cuh"> {
  let summary = "multiply_slopes, where columns are query rows";
  let arguments = (ins Updates<Accumulator>:$changes, Reads<Accumulator>:$logits, Reads<QueryColumns>:$columns,
                       I32:$first_key, F32:$scale, Takes<Hook>:$slope);
}
def Tile_MapColumnLogitsOp : Tile_Leaf<"map_column_logits", "attend/gradients.cuh"> {
  let summary = "map_logits, where columns are query rows";
  let arguments = (ins Updates<Accumulator>:$logits, Reads<QueryColumns>:$columns, I32:$first_key, F32:$scale,
                       Takes<Hook>:$hook);
}
def Tile_WeighColumnsOp : Tile_Leaf<"weigh_columns", "attend/gradients.cuh"> {
  let summary = "weigh_changes, where columns are query rows; 0 of keys behind a row's position";
  let source = "dS = P (dP - delta) of arXiv 2205.14135, algorithm 4";
  let arguments = (ins Updates<Accumulator>:$logits, Updates<Accumulator>:$changes, Reads<QueryColumns>:$columns,
                       I32:$first_key, F32:$scale);
}
def Tile_StoreKeyGradientOp : Tile_Leaf<"store_key_gradient", "attend/gradients.cuh"> {
  let summary = "Writes the gradient of 16 keys or values of a block, times a factor, where the sums are whole";
  let arguments = (ins Template:$kv_heads, Template:$type, Stores<Pointer>:$gradient, Reads<Accumulator>:$sums,
                       Takes<KeyBlock>:$key_block, I32:$first_row, I32:$kv_head, F32:$factor, I1:$whole);
}
def Tile_TokensBetweenOp : Tile_Leaf<"tokens_between", "attend/token_lists.cuh", [Pure]> {
  let summary = "The tokens of a list that lie in a range";
  let arguments = (ins Takes<TokenList>:$list, I32:$begin, I32:$end);
  let results = (outs Whole<TokenList>:$part);
}
def Tile_StoreKeyPartOp : Tile_Leaf<"store_key_part", "attend/gradients.cuh"> {
  let summary = "Writes the sums of 16 keys or values of a block over one range of tokens, where they are not whole";
  let arguments = (ins Template:$kv_heads, Stores<Pointer>:$parts, Reads<Accumulator>:$sums,
                       Takes<KeyBlock>:$key_block, I32:$first_row, I32:$kv_head, I32:$part, I32:$total_k, I1:$whole);
}
def Tile_JoinKeyPartsOp : Tile_Leaf<"join_key_parts", "attend/gradients.cuh"> {
  let summary = "Four elements of a gradient of keys from the sums over all ranges, in their order";
  let arguments = (ins Template:$type, Template:$width, Stores<Pointer>:$gradient, Takes<Pointer>:$parts, I32:$count,
                       I32:$total_k, I32:$index, F32:$factor);
}
} // opDocGroup

#endif
