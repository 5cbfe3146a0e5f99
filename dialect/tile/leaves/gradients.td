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
  let summary = "Writes the log-sum-exp of some rows, base 2, and their sums of dO * out, by one warp";
  let source = "delta of arXiv 2205.14135, algorithm 4";
  let arguments = (ins Template:$heads, Template:$group, Template:$value_dim, Template:$type, Stores<Pointer>:$statistics,
                       Takes<Pointer>:$out, Takes<Pointer>:$dout, Takes<Pointer>:$lse, I32:$row, I32:$total_q);
}
def Tile_LoadStatisticsOp : Tile_Leaf<"load_statistics", "attend/gradients.cuh"> {
  let summary = "The statistics of the row tile's rows";
  let arguments = (ins Template:$group, Writes<RowStatistics>:$own, Takes<Pointer>:$statistics, Takes<QueryRows>:$rows,
                       I32:$first_head, I32:$total_q);
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
  let arguments = (ins Template:$group, Template:$tokens, Writes<QueryColumns>:$columns, Takes<Pointer>:$statistics,
                       Takes<TokenList>:$list, Takes<KeyBlock>:$key_block, I32:$first_entry, I32:$first_head,
                       I32:$total_q);
}
def Tile_SubtractColumnDeltasOp : Tile_Leaf<"subtract_column_deltas", "attend/gradients.cuh, attend/row_tiles.cuh"> {
  let summary = "changes -= delta, where columns are query rows";
  let arguments = (ins Updates<Accumulator>:$changes, Reads<Columns>:$columns);
}
def Tile_MultiplyColumnSlopesOp : Tile_Leaf<"multiply_column_slopes", "attend/gradients.cuh, attend/row_tiles.cuh"> {
  let summary = "multiply_slopes, where columns are query rows";
  let arguments = (ins Updates<Accumulator>:$changes, Reads<Accumulator>:$logits, Reads<Columns>:$columns,
                       I32:$first_key, F32:$scale, Takes<Hook>:$slope);
}
def Tile_MapColumnLogitsOp : Tile_Leaf<"map_column_logits", "attend/gradients.cuh, attend/row_tiles.cuh"> {
  let summary = "map_logits, where columns are query rows";
  let arguments = (ins Updates<Accumulator>:$logits, Reads<Columns>:$columns, I32:$first_key, F32:$scale,
                       Takes<Hook>:$hook);
}
def Tile_WeighColumnsOp : Tile_Leaf<"weigh_columns", "attend/gradients.cuh, attend/row_tiles.cuh"> {
  let summary = "weigh_changes, where columns are query rows; 0 of keys behind a row's position";
  let source = "dS = P (dP - delta) of arXiv 2205.14135, algorithm 4";
  let arguments = (ins Updates<Accumulator>:$logits, Updates<Accumulator>:$changes, Reads<Columns>:$columns,
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
def Tile_OpenKeyItemsOp : Tile_Leaf<"open_key_items", "attend/key_items.cuh"> {
  let summary = "Says that no item of gradients by keys is taken and no range is added, in a kernel before theirs";
  let arguments = (ins Stores<Pointer>:$work, I32:$count);
}
def Tile_TakeKeyItemOp : Tile_Leaf<"take_key_item", "attend/key_items.cuh", [Orders]> {
  let summary = "The number of the next item that nobody has taken, by one warp";
  let arguments = (ins Stores<Pointer>:$work);
  let results = (outs I32:$item);
}
def Tile_TileOfPairOp : Tile_Leaf<"tile_of_pair", "attend/key_items.cuh", [Pure]> {
  let summary = "One of two neighbouring key tiles";
  let arguments = (ins Takes<KeyBlock>:$pair, I32:$tile);
  let results = (outs Whole<KeyBlock>:$block);
}
def Tile_SeesRangeOp : Tile_Leaf<"sees_range", "attend/key_items.cuh", [Pure]> {
  let summary = "Whether a range has tokens that see the tile's first key, or its sums end in it without any";
  let arguments = (ins Takes<KeyBlock>:$key_block, I32:$range, I32:$width);
  let results = (outs I1:$sees);
}
def Tile_ListPairTokensOp : Tile_Leaf<"list_pair_tokens", "attend/key_items.cuh", [Orders]> {
  let summary = "Makes three ascending lists of the tokens that attend to both, only the first and only the second of two "
                "neighbouring key tiles";
  let arguments = (ins Template:$block, Updates<KindCounts>:$counts, Stores<Pointer>:$lists, Stores<Pointer>:$ranges, Takes<Pointer>:$bits,
                       Takes<Params>:$params, I32:$select_head, Takes<KeyBlock>:$pair);
}
def Tile_ListedPairOp : Tile_Leaf<"listed_pair", "attend/key_items.cuh", [Pure]> {
  let summary = "The tokens of a range that attend to a pair of key tiles: as list_pair_tokens has listed them, or all that "
                "see their first keys, by one warp";
  let arguments = (ins Takes<Pointer>:$lists, Takes<Pointer>:$ranges, Takes<Params>:$params, I32:$select_head,
                       Takes<KeyBlock>:$pair, I1:$all, I32:$begin, I32:$end);
  let results = (outs Whole<PairLists>:$tokens);
}
def Tile_LaterPairOp : Tile_Leaf<"later_pair", "attend/key_items.cuh", [Pure]> {
  let summary = "Every token of a range that sees the first key of a tile of a pair";
  let arguments = (ins Takes<KeyBlock>:$pair, I32:$begin, I32:$end);
  let results = (outs Whole<PairLists>:$tokens);
}
def Tile_DescribeItemOp : Tile_Leaf<"describe_item", "attend/key_items.cuh"> {
  let summary = "Says what an item is about, by one warp";
  let arguments = (ins Writes<ItemRing>:$ring, Reads<Cursor>:$cursor, Takes<KeyBlock>:$pair, I32:$place, I32:$kv_head,
                       I32:$range, I32:$width, Takes<PairLists>:$lists);
}
def Tile_EndItemsOp : Tile_Leaf<"end_items", "attend/key_items.cuh"> {
  let summary = "Says that there are no more items";
  let arguments = (ins Writes<ItemRing>:$ring, Reads<Cursor>:$cursor);
}
def Tile_HasItemOp : Tile_Leaf<"has_item", "attend/key_items.cuh"> {
  let summary = "Whether the cursor's item is one, or the end of them";
  let arguments = (ins Reads<ItemRing>:$ring, Reads<Cursor>:$cursor);
  let results = (outs I1:$has);
}
def Tile_KeyItemOp : Tile_Leaf<"key_item", "attend/key_items.cuh"> {
  let summary = "What the cursor's item is about";
  let arguments = (ins Reads<ItemRing>:$ring, Reads<Cursor>:$cursor);
  let results = (outs Whole<KeyItem>:$item);
}
def Tile_TileOfItemOp : Tile_Leaf<"tile_of_item", "attend/key_items.cuh"> {
  let summary = "One of the two key tiles of the cursor's item: its keys, and what becomes of its sums";
  let arguments = (ins Reads<ItemRing>:$ring, Reads<Cursor>:$cursor, I32:$tile);
  let results = (outs Whole<ItemTile>:$own);
}
def Tile_WaitTurnOp : Tile_Leaf<"wait_turn", "attend/key_items.cuh", [Orders]> {
  let summary = "Waits until all ranges before this one have been added to a tile's sums";
  let source = "PTX ISA 9.0, ld.acquire";
  let arguments = (ins Loads<Pointer>:$work, I32:$place, I32:$range);
}
def Tile_PassTurnOp : Tile_Leaf<"pass_turn", "attend/key_items.cuh", [Orders]> {
  let summary = "Lets the next range be added to a tile's sums, after all stores of the warpgroup";
  let source = "PTX ISA 9.0, st.release";
  let arguments = (ins Stores<Pointer>:$work, I32:$place, I32:$next, I32:$warpgroup);
}
def Tile_AddKeySumsOp : Tile_Leaf<"add_key_sums", "attend/key_items.cuh"> {
  let summary = "Adds a tile's sums over earlier ranges to the warpgroup's own";
  let arguments = (ins Updates<Accumulator>:$own, Loads<Pointer>:$sums, I32:$place);
}
def Tile_StoreKeySumsOp : Tile_Leaf<"store_key_sums", "attend/key_items.cuh"> {
  let summary = "Writes a tile's sums over all ranges so far";
  let arguments = (ins Stores<Pointer>:$sums, Reads<Accumulator>:$own, I32:$place);
}
def Tile_OpenFeedOp : Tile_Leaf<"open_feed", "attend/row_tiles.cuh"> {
  let summary = "Begins to read the lists of tokens of an item's two key tiles, by one warp";
  let arguments = (ins Writes<TokenFeed>:$feed, Takes<Pointer>:$lists, Takes<KeyItem>:$item);
}
def Tile_NextRowsOp : Tile_Leaf<"next_rows", "attend/row_tiles.cuh"> {
  let summary = "The next tokens that both key tiles, only the first or only the second one want, by one warp";
  let arguments = (ins Updates<TokenFeed>:$feed, Takes<Pointer>:$lists);
  let results = (outs Whole<RowTokens>:$rows);
}
def Tile_ClearStatisticsOp : Tile_Leaf<"clear_statistics", "attend/row_tiles.cuh"> {
  let summary = "Gives rows that no head fills no weight, in every stage";
  let arguments = (ins Writes<RowHeaders>:$headers);
}
def Tile_DescribeRowsOp : Tile_Leaf<"describe_rows", "attend/row_tiles.cuh"> {
  let summary = "Says which tokens a stage has and who wants them, by one warp";
  let arguments = (ins Writes<RowHeaders>:$headers, Reads<Cursor>:$cursor, Takes<RowTokens>:$rows, Takes<KeyItem>:$item);
}
def Tile_EndRowsOp : Tile_Leaf<"end_rows", "attend/row_tiles.cuh"> {
  let summary = "Says that the item has no more rows";
  let arguments = (ins Writes<RowHeaders>:$headers, Reads<Cursor>:$cursor);
}
def Tile_AnnounceRowsOp : Tile_Leaf<"announce_rows", "attend/row_tiles.cuh", [Orders]> {
  let summary = "Arrives for a stage's header, with the bytes that copies will bring, by one warp";
  let arguments = (ins Template:$tokens, Reads<RingBarriers>:$barriers, Reads<Cursor>:$cursor, I32:$bytes);
}
def Tile_RowsWantedOp : Tile_Leaf<"rows_wanted", "attend/row_tiles.cuh"> {
  let summary = "Whether a key tile wants the stage's rows: 0 no, 1 yes, 2 there are none left";
  let arguments = (ins Reads<RowHeaders>:$headers, Reads<Cursor>:$cursor, I32:$tile);
  let results = (outs I32:$wanted);
}
def Tile_CopyTokenRowsOp : Tile_Leaf<"copy_token_rows", "attend/row_tiles.cuh"> {
  let summary = "Starts the bulk copies of some tokens' rows into a panel tile, by one warp";
  let source = "PTX ISA 9.0, cp.async.bulk.tensor";
  let arguments = (ins Template:$tokens, Writes<PanelTile>:$tile, Takes<TensorMap>:$map, I32:$barrier,
                       Takes<RowTokens>:$rows, I32:$q_row, I32:$first_head);
}
def Tile_CopyRowRunOp : Tile_Leaf<"copy_row_run", "attend/row_tiles.cuh"> {
  let summary = "Starts the bulk copy of neighbouring tokens' rows into a panel tile, by one warp";
  let source = "PTX ISA 9.0, cp.async.bulk.tensor";
  let arguments = (ins Writes<PanelTile>:$tile, Takes<TensorMap>:$map, I32:$barrier, Takes<RowTokens>:$rows, I32:$q_row,
                       I32:$first_head);
}
def Tile_CopyStatisticsOp : Tile_Leaf<"copy_statistics", "attend/row_tiles.cuh"> {
  let summary = "Starts the bulk copies of some tokens' log-sum-exps and sums of dO * out, by one warp";
  let source = "PTX ISA 9.0, cp.async.bulk";
  let arguments = (ins Template:$group, Writes<RowHeaders>:$headers, Reads<Cursor>:$cursor, Takes<Pointer>:$statistics,
                       I32:$barrier, Takes<RowTokens>:$rows, I32:$q_row, I32:$first_head, I32:$total_q);
}
def Tile_CopyStatisticsRunOp : Tile_Leaf<"copy_statistics_run", "attend/row_tiles.cuh"> {
  let summary = "The same of neighbouring tokens, in one copy";
  let source = "PTX ISA 9.0, cp.async.bulk";
  let arguments = (ins Template:$group, Writes<RowHeaders>:$headers, Reads<Cursor>:$cursor, Takes<Pointer>:$statistics,
                       I32:$barrier, Takes<RowTokens>:$rows, I32:$q_row, I32:$first_head, I32:$total_q);
}
def Tile_FindColumnsOp : Tile_Leaf<"find_columns", "attend/row_tiles.cuh"> {
  let summary = "The query rows of a stage as the columns of a tile";
  let arguments = (ins Template:$token_rows, Writes<StageColumns>:$columns, Reads<RowHeaders>:$headers,
                       Reads<Cursor>:$cursor, I32:$tile);
}
def Tile_ClearUnweightedOp : Tile_Leaf<"clear_unweighted", "attend/row_tiles.cuh"> {
  let summary = "Sets changes to 0 where there is no weight, whatever they were";
  let arguments = (ins Updates<Accumulator>:$changes, Reads<Accumulator>:$weights);
}
def Tile_OpenHintsOp : Tile_Leaf<"open_hints", "attend/key_items.cuh"> {
  let summary = "Says that no warpgroup is making products, by one thread";
  let arguments = (ins Writes<ProductHints>:$hints);
}
def Tile_ClaimProductsOp : Tile_Leaf<"claim_products", "attend/key_items.cuh", [Orders]> {
  let summary = "Waits while the other warpgroup says that it is making products, and says so itself";
  let arguments = (ins Reads<ProductHints>:$hints, I32:$warpgroup);
}
def Tile_YieldProductsOp : Tile_Leaf<"yield_products", "attend/key_items.cuh", [Orders]> {
  let summary = "Says that the warpgroup has made its products";
  let arguments = (ins Reads<ProductHints>:$hints, I32:$warpgroup);
}
def Tile_ChangePlacesOp : Tile_Leaf<"change_places", "attend/stored_changes.cuh", [Pure]> {
  let summary = "Where changes are stored, of the chunk of tokens in work";
  let arguments = (ins Template:$selections, Takes<Pointer>:$buffer, Takes<Params>:$params);
  let results = (outs Whole<ChangePlaces>:$places);
}
def Tile_PlaceChangesOp : Tile_Leaf<"place_changes", "attend/stored_changes.cuh", [Orders]> {
  let summary = "Shares out places for the changes of the tokens that attend to a pair of key tiles, by a block of warps";
  let arguments = (ins Template:$block, Template:$range_tokens, Template:$warps, Stores<ChangePlaces>:$places,
                       Takes<Pointer>:$bits, Takes<Params>:$params, I32:$select_head, Takes<KeyBlock>:$pair, I1:$all);
}
def Tile_TakeChunkItemOp : Tile_Leaf<"take_chunk_item", "attend/stored_changes.cuh", [Orders]> {
  let summary = "take_key_item, of the chunk that begins with a range";
  let arguments = (ins Stores<ChangePlaces>:$places, I32:$first_range);
  let results = (outs I32:$item);
}
def Tile_PlaceItemOp : Tile_Leaf<"place_item", "attend/stored_changes.cuh"> {
  let summary = "Says where the changes of an item's tokens lie, by one warp";
  let arguments = (ins Updates<ItemRing>:$ring, Reads<Cursor>:$cursor, Takes<ChangePlaces>:$places, Takes<Params>:$params,
                       I32:$select_head, Takes<KeyBlock>:$pair, I32:$begin);
}
def Tile_PlaceRowsOp : Tile_Leaf<"place_rows", "attend/stored_changes.cuh"> {
  let summary = "Says where the changes of a stage's tokens lie, by one warp";
  let arguments = (ins Writes<RowHeaders>:$headers, Reads<Cursor>:$cursor, Reads<TokenFeed>:$feed, Takes<RowTokens>:$rows,
                       Takes<KeyItem>:$item);
}
def Tile_StoreChangesOp : Tile_Leaf<"store_changes", "attend/stored_changes.cuh"> {
  let summary = "Stores the changes of a stage's tokens and of the warpgroup's key tile";
  let source = "PTX ISA 9.0, st.global.cs";
  let arguments = (ins Stores<ChangePlaces>:$places, Reads<LeftOperand>:$changes, Reads<RowHeaders>:$headers,
                       Reads<Cursor>:$cursor, I32:$tile);
}
def Tile_FindChangesOp : Tile_Leaf<"find_changes", "attend/stored_changes.cuh"> {
  let summary = "Where the changes of 32 entries of a list lie, by one warp";
  let arguments = (ins Template:$block, Writes<ChangeTable>:$table, Takes<ChangePlaces>:$places, Takes<Pointer>:$bits,
                       Takes<Params>:$params, Reads<WorkList>:$list, I32:$select_head, I32:$entry, I1:$all);
}
def Tile_CopyChangesOp : Tile_Leaf<"copy_changes", "attend/stored_changes.cuh", [Orders]> {
  let summary = "Starts copying the changes of an entry's tokens, and arrives with every lane, by one warp";
  let source = "PTX ISA 9.0, cp.async.bulk";
  let arguments = (ins Writes<ChangeTile>:$to, I32:$barrier, Reads<ChangeTable>:$table, Takes<ChangePlaces>:$places,
                       Reads<WorkList>:$list, I32:$entry);
}
def Tile_LoadChangesOp : Tile_Leaf<"load_changes", "attend/stored_changes.cuh"> {
  let summary = "The changes of the warp's token as the left factor of a product; 0 where it does not want the entry";
  let source = "PTX ISA 9.0, movmatrix";
  let arguments = (ins Writes<LeftOperand>:$changes, Reads<ChangeTile>:$tile, Reads<WorkList>:$list, I32:$entry, I32:$warp);
}
} // opDocGroup

#endif
