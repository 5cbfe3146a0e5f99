// The leaf ops of the tile dialect, one entry per device function of templates/: same name, same operand order,
// destination first; attributes are the template arguments that operands do not determine, in order. Shapes, layouts
// and instructions are documented at the device functions; here stands what the passes need: what is read and written.
#ifndef WINNOW_DIALECT_TILE_LEAVES
#define WINNOW_DIALECT_TILE_LEAVES

include "dialect/tile/Tile.td"

// A template argument: a number, a named constant of the kernel, an element type or the name of a device type.
def Arg_ : AnyAttrOf<[I32Attr, FlatSymbolRefAttr, TypeAttr, StrAttr]>;

//===-- Where: threads, sequences, rows (sequence.cuh, tile.cuh) ---------------------------------------------------===//

def Tile_ThreadIndexOp : Tile_Leaf<"thread_index", [Pure]> {
  let summary = "Index of the thread in its block";
  let results = (outs I32:$index);
}
def Tile_WarpIndexOp : Tile_Leaf<"warp_index", [Pure]> {
  let summary = "Index of the warp in its block, uniform over the warp";
  let results = (outs I32:$index);
}
def Tile_FindTokenTileOp : Tile_Leaf<"find_token_tile", [Pure]> {
  let summary = "The tokens that this block of threads works on, found by the slot's number in a ragged batch";
  let arguments = (ins Arg_:$tokens, Takes<>:$cu_q, Takes<>:$cu_k, I32:$batch, I32:$begin, I32:$end, I32:$slot);
  let results = (outs Tile_Object:$tile);
}
def Tile_LastPositionOp : Tile_Leaf<"last_position", [Pure]> {
  let summary = "Absolute position of the tile's last token";
  let arguments = (ins Takes<>:$tile);
  let results = (outs I32:$position);
}
def Tile_ParkOp : Tile_Leaf<"park"> {
  let summary = "Keeps a token tile in shared memory while registers are short, by one thread";
  let arguments = (ins Writes<>:$slot, Takes<>:$tile);
}
def Tile_ParkedOp : Tile_Leaf<"parked"> {
  let summary = "The parked token tile";
  let arguments = (ins Reads<>:$slot);
  let results = (outs Tile_Object:$tile);
}
def Tile_GlobalRowsOp : Tile_Leaf<"global_rows", [Pure]> {
  let summary = "Rows of a matrix in global memory";
  let arguments = (ins Arg_:$type, Arg_:$stride, Takes<>:$matrix, I32:$row, I32:$column);
  let results = (outs Tile_Object:$rows);
}
def Tile_LoadRowsOp : Tile_Leaf<"load_rows", [AsyncLoad]> {
  let summary = "Starts copying consecutive rows into a shared tile; rows from the limit on become zero";
  let arguments = (ins Arg_:$threads, Writes<>:$tile, Takes<>:$source, I32:$first_row, I32:$row_limit, I32:$thread);
}

//===-- Order: barriers and rings (arch/, pipeline.cuh); made by passes --------------------------------------------===//

def Tile_SyncThreadsOp : Tile_Leaf<"sync_threads", [Orders]> {
  let summary = "Barrier of all threads of the block (inserted by the insert-barriers pass)";
}
def Tile_WaitCopiesOp : Tile_Leaf<"wait_copies", [Orders]> {
  let summary = "Waits until this thread's asynchronous copies have landed";
}
def Tile_InitRingOp : Tile_Leaf<"init_ring"> {
  let summary = "Sets up a ring's full and empty barriers";
  let arguments = (ins Writes<>:$barriers, I32:$producers, I32:$consumers);
}
def Tile_StageOp : Tile_Leaf<"stage", [Inline]> {
  let summary = "The cursor's tile of a ring";
  let arguments = (ins Takes<>:$ring, Reads<>:$cursor);
  let results = (outs Tile_Object:$tile);
}
def Tile_WaitFullOp : Tile_Leaf<"wait_full", [Orders]> {
  let arguments = (ins Reads<>:$barriers, Reads<>:$cursor);
  let summary = "Waits until the cursor's stage has been filled";
}
def Tile_WaitEmptyOp : Tile_Leaf<"wait_empty", [Orders]> {
  let arguments = (ins Reads<>:$barriers, Reads<>:$cursor);
  let summary = "Waits until all consumers have released the cursor's stage";
}
def Tile_ArriveFullOp : Tile_Leaf<"arrive_full", [Orders]> {
  let arguments = (ins Reads<>:$barriers, Reads<>:$cursor);
  let summary = "Reports the stage full once this thread's copies have landed";
}
def Tile_ArriveEmptyOp : Tile_Leaf<"arrive_empty", [Orders]> {
  let arguments = (ins Reads<>:$barriers, Reads<>:$cursor);
  let summary = "Releases the cursor's stage, every lane for itself";
}
def Tile_AdvanceOp : Tile_Leaf<"advance"> {
  let arguments = (ins Updates<>:$cursor);
  let summary = "Moves the cursor to the next stage";
}

//===-- Order with bulk copies (arch/sm90.cuh, pipeline.cuh) ---------------------------------------------------------===//

def Tile_LaneIndexOp : Tile_Leaf<"lane_index", [Pure]> {
  let summary = "Index of the thread in its warp";
  let results = (outs I32:$index);
}
def Tile_VaryingZeroOp : Tile_Leaf<"varying_zero", [Orders]> {
  let summary = "Zero, which the device compiler takes for another number at each call";
  let results = (outs I32:$zero);
}
def Tile_WarpgroupIndexOp : Tile_Leaf<"warpgroup_index", [Pure]> {
  let summary = "Index of the warpgroup in its block, uniform over the warp";
  let results = (outs I32:$index);
}
def Tile_ClaimRegistersOp : Tile_Leaf<"claim_registers", [Orders]> {
  let summary = "The warpgroup takes more registers per thread, once others have released them";
  let arguments = (ins Arg_:$registers);
}
def Tile_ReleaseRegistersOp : Tile_Leaf<"release_registers", [Orders]> {
  let summary = "The warpgroup gives registers back";
  let arguments = (ins Arg_:$registers);
}
def Tile_InitBarriersOp : Tile_Leaf<"init_barriers"> {
  let summary = "Sets up a ring's barriers for bulk copies: arrivals that fill and that release a stage";
  let arguments = (ins Writes<>:$barriers, I32:$fills, I32:$releases);
}
def Tile_FenceBarriersOp : Tile_Leaf<"fence_barriers", [Orders]> {
  let summary = "Makes initialised barriers visible to the copy engine";
}
def Tile_FullBarrierOp : Tile_Leaf<"full_barrier", [Inline]> {
  let summary = "The address of the cursor's full barrier";
  let arguments = (ins Takes<>:$barriers, Reads<>:$cursor);
  let results = (outs I32:$address);
}
def Tile_ArriveExpectingOp : Tile_Leaf<"arrive_expecting", [Orders]> {
  let summary = "Arrives on a barrier and announces bytes of bulk copies";
  let arguments = (ins I32:$barrier, I32:$bytes);
}
def Tile_ReportFullOp : Tile_Leaf<"report_full", [Orders]> {
  let summary = "Reports the stage full, every lane for itself";
  let arguments = (ins Reads<>:$barriers, Reads<>:$cursor);
}
def Tile_PublishOp : Tile_Leaf<"publish", [Orders]> {
  let summary = "One arrival on the full barrier for the warp";
  let arguments = (ins Reads<>:$barriers, Reads<>:$cursor);
}
def Tile_ReleaseOp : Tile_Leaf<"release", [Orders]> {
  let summary = "One arrival on the empty barrier for the warp";
  let arguments = (ins Reads<>:$barriers, Reads<>:$cursor);
}
def Tile_MoveToOp : Tile_Leaf<"move_to"> {
  let summary = "Puts the cursor on a stage of the same turn";
  let arguments = (ins Updates<>:$cursor, I32:$stage);
}
def Tile_NextTurnOp : Tile_Leaf<"next_turn"> {
  let summary = "Moves the cursor to the same stage, one turn of the ring later";
  let arguments = (ins Updates<>:$cursor);
}
def Tile_FollowOp : Tile_Leaf<"follow"> {
  let summary = "Puts the cursor where another one is";
  let arguments = (ins Writes<>:$cursor, Reads<>:$other);
}
def Tile_CopyRowsOp : Tile_Leaf<"copy_rows"> {
  let summary = "Starts the bulk copy of consecutive rows of one head into rows of a panel tile";
  let arguments = (ins Arg_:$rows, Writes<>:$tile, I32:$tile_row, Takes<>:$map, I32:$barrier, I32:$head,
                   I32:$first_row);
}
def Tile_CopyQueriesOp : Tile_Leaf<"copy_queries"> {
  let summary = "Starts the bulk copies of a warpgroup's query rows";
  let arguments = (ins Arg_:$group, Arg_:$warp_tokens, Writes<>:$queries, Takes<>:$map, I32:$barrier,
                   I32:$first_head, I32:$row);
}
def Tile_ClearRowsOp : Tile_Leaf<"clear_rows"> {
  let summary = "Sets rows of a panel tile to zero";
  let arguments = (ins Arg_:$threads, Writes<>:$tile, I32:$first_row, I32:$end_row);
}

//===-- Products of warpgroups (warpgroup.cuh) ----------------------------------------------------------------------===//

def Tile_StartAbtOp : Tile_Leaf<"start_abt"> {
  let summary = "Starts sums = a b^T of a warpgroup, both factors in shared memory";
  let arguments = (ins Writes<>:$sums, Reads<>:$left, Reads<>:$right);
}
def Tile_StartAbOp : Tile_Leaf<"start_ab"> {
  let summary = "Starts sums += a b of a warpgroup, the left factor in registers";
  let arguments = (ins Updates<>:$sums, Reads<>:$left, Reads<>:$right);
}
def Tile_WaitProductsOp : Tile_Leaf<"wait_products"> {
  let summary = "Waits until at most `pending` started products are unfinished; the fragment's is finished";
  let arguments = (ins Arg_:$pending, Updates<>:$sums);
}
def Tile_WarpAbtOp : Tile_Leaf<"warp_abt"> {
  let summary = "sums = a b^T of one warp, from the tiles of its warpgroup";
  let arguments = (ins Arg_:$unroll, Writes<>:$sums, Reads<>:$left, I32:$first_row, Reads<>:$right);
}
def Tile_WarpAbOp : Tile_Leaf<"warp_ab"> {
  let summary = "sums += a b of one warp, from the tiles of its warpgroup";
  let arguments = (ins Updates<>:$sums, Reads<>:$left, Reads<>:$right);
}

//===-- Work lists (work_list.cuh) ----------------------------------------------------------------------------------===//

def Tile_ClearBitmapOp : Tile_Leaf<"clear_bitmap"> {
  let summary = "Clears the whole bitmap of wanted key tiles";
  let arguments = (ins Writes<>:$wanted);
}
def Tile_MarkSelectedOp : Tile_Leaf<"mark_selected"> {
  let summary = "Marks the key tiles that the tile's tokens selected, by one warp";
  let arguments = (ins Arg_:$topk, Arg_:$tiles_per_block, Arg_:$keys, Updates<>:$wanted, Takes<>:$ids, I32:$select_head,
                   I32:$total_q, Takes<>:$tile, I32:$window);
}
def Tile_MarkAllOp : Tile_Leaf<"mark_all"> {
  let summary = "Marks every key tile at or before the tokens, by one warp";
  let arguments = (ins Arg_:$keys, Writes<>:$wanted, Takes<>:$tile, I32:$window, I32:$tiles);
}
def Tile_FillListOp : Tile_Leaf<"fill_list"> {
  let summary = "Makes a list of what is marked, and clears the bitmap there, by one warp";
  let arguments = (ins Arg_:$split, Arg_:$whole, Arg_:$parts, Arg_:$warp_tokens, Writes<>:$list, Updates<>:$wanted,
                   I32:$window, I32:$from, I32:$tiles);
  let results = (outs I32:$next);
}
def Tile_DescribeWorkOp : Tile_Leaf<"describe_work"> {
  let summary = "Says what a list is about";
  let arguments = (ins Updates<>:$list, Takes<>:$tile, I32:$select_head, I1:$opens, I1:$closes);
}
def Tile_EndWorkOp : Tile_Leaf<"end_work"> {
  let summary = "Says that there is no more work";
  let arguments = (ins Writes<>:$list);
}
def Tile_HasWorkOp : Tile_Leaf<"has_work"> {
  let summary = "Whether the list is one, or the end of the work";
  let arguments = (ins Reads<>:$list);
  let results = (outs I1:$has);
}
def Tile_WorkHeaderOp : Tile_Leaf<"work_header"> {
  let summary = "What a list is about";
  let arguments = (ins Reads<>:$list);
  let results = (outs Tile_Object:$header);
}
def Tile_WorkTileOp : Tile_Leaf<"work_tile"> {
  let summary = "An entry's key tile, counted from the sequence's first one";
  let arguments = (ins Reads<>:$list, I32:$entry);
  let results = (outs I32:$tile);
}
def Tile_NextWantedOp : Tile_Leaf<"next_wanted"> {
  let summary = "The next step that the warpgroup wants";
  let arguments = (ins Arg_:$parts, Arg_:$warp_tokens, Reads<>:$list, I32:$from, I32:$limit, I32:$group);
  let results = (outs I32:$entry);
}

//===-- Attention on warpgroups (attention_step.cuh) ----------------------------------------------------------------===//

def Tile_ReadStepOp : Tile_Leaf<"read_step"> {
  let summary = "Where the keys of a step lie, and which tokens of the warp want them";
  let arguments = (ins Arg_:$keys, Arg_:$warp_tokens, Writes<>:$step, Reads<>:$list, I32:$entry, I32:$warp);
}
def Tile_IsWantedOp : Tile_Leaf<"is_wanted"> {
  let summary = "Whether any token of the warp wants any part of the step";
  let arguments = (ins Reads<>:$step);
  let results = (outs I1:$wanted);
}
def Tile_MaskStepOp : Tile_Leaf<"mask_step"> {
  let summary = "Hides keys behind each row's position";
  let arguments = (ins Updates<>:$logits, Takes<>:$rows, Reads<>:$step);
}
def Tile_MapStepOp : Tile_Leaf<"map_step"> {
  let summary = "Applies the method's elementwise region to scaled logits";
  let arguments = (ins Updates<>:$logits, Takes<>:$rows, Reads<>:$step, F32:$scale, Takes<>:$hook);
}
def Tile_RaiseStepMaximumOp : Tile_Leaf<"raise_step_maximum"> {
  let summary = "Raises the rows' maxima where they must; true if the output has to be rescaled";
  let arguments = (ins Updates<>:$state, Reads<>:$logits, Takes<>:$rows, Reads<>:$step, F32:$scale);
  let results = (outs I1:$raised);
}
def Tile_ExponentiateStepOp : Tile_Leaf<"exponentiate_step"> {
  let summary = "Turns logits into weights, 0 where the row's token does not want the part, and sums them";
  let arguments = (ins Arg_:$fma_columns, Writes<>:$sums, Updates<>:$logits, Reads<>:$state, Takes<>:$rows, Reads<>:$step, F32:$scale);
}
def Tile_LeavesRangeOp : Tile_Leaf<"leaves_range"> {
  let summary = "Whether a row's weights are too large for its maximum";
  let arguments = (ins Arg_:$type, Reads<>:$sums);
  let results = (outs I1:$leaves);
}
def Tile_AddStepOp : Tile_Leaf<"add_step"> {
  let summary = "Adds a step's sums to the rows' sums";
  let arguments = (ins Updates<>:$state, Reads<>:$sums);
}

//===-- Products (tile.cuh) ----------------------------------------------------------------------------------------===//

def Tile_ClearOp : Tile_Leaf<"clear"> {
  let summary = "Sets a fragment to its neutral value";
  let arguments = (ins Writes<>:$fragment);
}
def Tile_LoadOperandOp : Tile_Leaf<"load_operand"> {
  let summary = "Rows of a shared tile as the transposed right factor of a product, in registers";
  let arguments = (ins Writes<>:$operand, Reads<>:$tile, I32:$first_row);
}
def Tile_MmaAbtOp : Tile_Leaf<"mma_abt"> {
  let summary = "sums += a b^T; a shared left factor is followed by its first row";
  let arguments = (ins Updates<>:$sums, Reads<>:$left, Optional<I32>:$first_row, Reads<>:$right);
}
def Tile_MmaAbtPairOp : Tile_Leaf<"mma_abt_pair"> {
  let summary = "sums += a b^T for two left factors, which share the loads of the right one";
  let arguments = (ins Updates<>:$sums0, Updates<>:$sums1, Reads<>:$left0, Reads<>:$left1, Reads<>:$right);
}
def Tile_MmaAbOp : Tile_Leaf<"mma_ab"> {
  let summary = "sums += a b";
  let arguments = (ins Updates<>:$sums, Reads<>:$left, Reads<>:$right);
}
def Tile_MmaAbPairOp : Tile_Leaf<"mma_ab_pair"> {
  let summary = "sums += a b for two left factors, which share the loads of the right one";
  let arguments = (ins Updates<>:$sums0, Updates<>:$sums1, Reads<>:$left0, Reads<>:$left1, Reads<>:$right);
}
def Tile_RoundToOperandOp : Tile_Leaf<"round_to_operand"> {
  let summary = "Rounds fp32 sums to the element type, as the left factor of the next product";
  let arguments = (ins Writes<>:$operand, Reads<>:$sums);
}

//===-- Which key tiles (wanted.cuh) -------------------------------------------------------------------------------===//

def Tile_ClearWantedOp : Tile_Leaf<"clear_wanted"> {
  let summary = "Clears the bitmap of wanted key tiles";
  let arguments = (ins Writes<>:$wanted, I32:$tiles);
}
def Tile_MarkWantedOp : Tile_Leaf<"mark_wanted"> {
  let summary = "Marks the key tiles that the tile's tokens selected";
  let arguments = (ins Arg_:$topk, Arg_:$tiles_per_block, Arg_:$keys, Updates<>:$wanted, Takes<>:$ids, I32:$select_head,
                   I32:$total_q, Takes<>:$tile, I32:$window);
}
def Tile_MarkCausalOp : Tile_Leaf<"mark_causal"> {
  let summary = "Marks every key tile at or before the tokens: the dense case";
  let arguments = (ins Arg_:$keys, Updates<>:$wanted, Takes<>:$tile, I32:$window, I32:$tiles);
}
def Tile_CompactListOp : Tile_Leaf<"compact_list"> {
  let summary = "The wanted key tiles as an ascending list, by one warp";
  let arguments = (ins Writes<>:$list, Reads<>:$wanted, I32:$tiles);
}
def Tile_ListLengthOp : Tile_Leaf<"list_length"> {
  let arguments = (ins Reads<>:$list);
  let results = (outs I32:$length);
  let summary = "Entries of the list";
}
def Tile_ListTileOp : Tile_Leaf<"list_tile"> {
  let arguments = (ins Reads<>:$list, I32:$entry);
  let results = (outs I32:$tile);
  let summary = "An entry's key tile, counted from the window's first";
}
def Tile_ListWantsOp : Tile_Leaf<"list_wants"> {
  let arguments = (ins Arg_:$row_tokens, Reads<>:$list, I32:$entry, I32:$row_tile);
  let results = (outs I32:$wants);
  let summary = "One bit per token of the row tile that selected the entry";
}

//===-- Attention (attention.cuh) ----------------------------------------------------------------------------------===//

def Tile_QueryRowsOp : Tile_Leaf<"query_rows", [Pure]> {
  let summary = "Tokens, heads and positions of a row tile's 16 query rows";
  let arguments = (ins Arg_:$group, Takes<>:$tile, I32:$row_tile);
  let results = (outs Tile_Object:$rows);
}
def Tile_LoadQueryOp : Tile_Leaf<"load_query"> {
  let summary = "The query rows as the left factor of a product";
  let arguments = (ins Arg_:$heads, Writes<>:$query, Takes<>:$q, Takes<>:$rows, I32:$first_head);
}
def Tile_MaskCausalOp : Tile_Leaf<"mask_causal"> {
  let summary = "Hides keys behind each row's position";
  let arguments = (ins Updates<>:$logits, Takes<>:$rows, I32:$first_key);
}
def Tile_MapLogitsOp : Tile_Leaf<"map_logits"> {
  let summary = "Applies the method's elementwise region to scaled logits";
  let arguments = (ins Updates<>:$logits, Takes<>:$rows, I32:$first_key, F32:$scale, Takes<>:$hook);
}
def Tile_RaiseMaximumOp : Tile_Leaf<"raise_maximum"> {
  let summary = "Raises the rows' running maxima where they must; true if sums and output have to be rescaled";
  let arguments = (ins Updates<>:$state, Reads<>:$logits, F32:$scale);
  let results = (outs I1:$raised);
}
def Tile_RaiseWantedMaximumOp : Tile_Leaf<"raise_wanted_maximum"> {
  let summary = "The same where only some tokens want the key tile";
  let arguments = (ins Updates<>:$state, Reads<>:$logits, Takes<>:$rows, I32:$wants, F32:$scale);
  let results = (outs I1:$raised);
}
def Tile_RescaleRowsOp : Tile_Leaf<"rescale_rows"> {
  let summary = "Rescales the output rows after a raise of the maxima";
  let arguments = (ins Updates<>:$output, Reads<>:$state);
}
def Tile_ExponentiateOp : Tile_Leaf<"exponentiate"> {
  let summary = "Turns logits into softmax weights in place and adds their row sums to the state";
  let arguments = (ins Updates<>:$logits, Updates<>:$state, F32:$scale);
}
def Tile_ExponentiateWantedOp : Tile_Leaf<"exponentiate_wanted"> {
  let summary = "The same where only some tokens want the key tile: the others' weights are 0";
  let arguments = (ins Updates<>:$logits, Updates<>:$state, Takes<>:$rows, I32:$wants, F32:$scale);
}
def Tile_ReduceSumOp : Tile_Leaf<"reduce_sum"> {
  let summary = "Completes the row sums over the lanes that share a row";
  let arguments = (ins Updates<>:$state);
}
def Tile_StoreOutputOp : Tile_Leaf<"store_output"> {
  let summary = "Writes output rows, divided by their sums";
  let arguments = (ins Arg_:$heads, Arg_:$type, Stores<>:$out, Reads<>:$output, Reads<>:$state, Takes<>:$rows,
                   I32:$first_head);
}
def Tile_StoreLseOp : Tile_Leaf<"store_lse"> {
  let summary = "Writes the rows' log-sum-exp";
  let arguments = (ins Stores<>:$lse, Reads<>:$state, Takes<>:$rows, I32:$first_head, I32:$total_q, F32:$scale);
}

include "dialect/tile/ScoreLeaves.td"

#endif
