// A decode step that is one launch: who does what, what blocks of threads tell each other, and their parts of attention.
// How leaves are declared: Leaf.td.
#ifndef WINNOW_DIALECT_TILE_STEP
#define WINNOW_DIALECT_TILE_STEP

include "dialect/tile/Leaf.td"

def Tile_StepGroup : OpDocGroup {
  let summary = "Leaves: step";
  let description = "A decode step that is one launch: who does what, and what blocks of threads tell each other.";
}

let opDocGroup = Tile_StepGroup in {
def Tile_FindStepTokenOp : Tile_Leaf<"find_step_token", "step/step_work.cuh", [Pure]> {
  let summary = "The tile of the one token in a row of q; sooner where each sequence has one";
  let arguments = (ins Takes<Pointer>:$cu_q, Takes<Lengths>:$lengths, I32:$batch, I32:$total_q,
                       I32:$row);
  let results = (outs Whole<TokenTile>:$tile);
}
def Tile_PutStepTokenOp : Tile_Leaf<"put_step_token", "step/step_work.cuh"> {
  let summary = "How much work of each kind a selection of the thread's token has";
  let arguments = (ins Writes<StepTable>:$table, I32:$token, Takes<TokenTile>:$tile, I32:$rows, I32:$visible,
                       I32:$normalizer_visible, I32:$scored_end, I32:$tiles, I32:$chunks, I32:$keys);
}
def Tile_SumStepTokensOp : Tile_Leaf<"sum_step_tokens", "step/step_work.cuh"> {
  let summary = "Adds the work of all tokens up, by all threads";
  let arguments = (ins Updates<StepTable>:$table);
}
def Tile_StepTotalOp : Tile_Leaf<"step_total", "step/step_work.cuh"> {
  let summary = "How much work of one kind there is";
  let arguments = (ins Template:$kind, Template:$selections, Reads<StepTable>:$table);
  let results = (outs I32:$total);
}
def Tile_CutStepKeysOp : Tile_Leaf<"cut_step_keys", "step/step_work.cuh"> {
  let summary = "Cuts the key tiles into a piece for each block of threads";
  let arguments = (ins Template:$threads, Template:$selections, Updates<StepTable>:$table, I32:$blocks, I32:$chunk_cost);
}
def Tile_FillChunkListOp : Tile_Leaf<"fill_chunk_list", "step/step_work.cuh"> {
  let summary = "Which selections the block of threads' chunks belong to, by all threads";
  let arguments = (ins Template:$selections, Writes<ChunkList>:$list, Reads<StepTable>:$table, I32:$tokens, I32:$block,
                       I32:$blocks);
}
def Tile_CountChunksOp : Tile_Leaf<"count_chunks", "step/step_work.cuh"> {
  let summary = "How many chunks the block of threads has";
  let arguments = (ins Reads<ChunkList>:$list);
  let results = (outs I32:$count);
}
def Tile_ListedChunkOp : Tile_Leaf<"listed_chunk", "step/step_work.cuh"> {
  let summary = "One of the block of threads' chunks";
  let arguments = (ins Template:$selections, Reads<ChunkList>:$list, Reads<StepTable>:$table, I32:$index, I32:$chunk);
  let results = (outs Whole<StepItem>:$item);
}
def Tile_StepTokenOp : Tile_Leaf<"step_token", "step/step_work.cuh"> {
  let summary = "The tile of one of the launch's tokens";
  let arguments = (ins Reads<StepTable>:$table, I32:$token);
  let results = (outs Whole<TokenTile>:$tile);
}
def Tile_StepPartsOp : Tile_Leaf<"step_parts", "step/step_work.cuh"> {
  let summary = "What a block of threads has of the key tiles, in parts of one selection each";
  let arguments = (ins Template:$selections, Reads<StepTable>:$table, I32:$tokens, I32:$block);
  let results = (outs Whole<StepParts>:$parts);
}
def Tile_CountStepPartsOp : Tile_Leaf<"count_step_parts", "step/step_work.cuh", [Pure]> {
  let summary = "How many parts these are";
  let arguments = (ins Takes<StepParts>:$parts);
  let results = (outs I32:$count);
}
def Tile_StepPartOp : Tile_Leaf<"step_part", "step/step_work.cuh"> {
  let summary = "One of a block of threads' parts";
  let arguments = (ins Template:$selections, Reads<StepTable>:$table, Takes<StepParts>:$parts, I32:$index);
  let results = (outs Whole<StepItem>:$item);
}
def Tile_PartSlotOp : Tile_Leaf<"part_slot", "step/step_parts.cuh", [Pure]> {
  let summary = "The slot in which a part lies";
  let arguments = (ins Takes<StepItem>:$item, I32:$block);
  let results = (outs I32:$slot);
}
def Tile_FirstOfOp : Tile_Leaf<"first_of", "step/step_parts.cuh", [Pure, InferTypeOpAdaptor]> {
  let summary = "The first of two objects in the same bytes";
  let arguments = (ins Takes<Overlay>:$both);
  let results = (outs Tile_Object:$first);
}
def Tile_SecondOfOp : Tile_Leaf<"second_of", "step/step_parts.cuh", [Pure, InferTypeOpAdaptor]> {
  let summary = "The second of two objects in the same bytes";
  let arguments = (ins Takes<Overlay>:$both);
  let results = (outs Tile_Object:$second);
}
def Tile_ClearExchangeOp : Tile_Leaf<"clear_exchange", "step/step_exchange.cuh"> {
  let summary = "Clears what blocks of threads will tell each other, by some threads of each";
  let arguments = (ins Stores<Pointer>:$buffer, I32:$fours, I32:$thread, I32:$threads);
}
def Tile_MeetGridOp : Tile_Leaf<"meet_grid", "arch/", [Orders]> {
  let summary = "Until a thread of each of the grid's blocks has come here";
  let source = "PTX ISA 9.0, atom, fence.acq_rel";
  let arguments = (ins I32:$block, I32:$blocks);
}
def Tile_ExchangeOfOp : Tile_Leaf<"exchange_of", "step/step_exchange.cuh", [Pure]> {
  let summary = "Where blocks of threads tell each other shares and ranks";
  let arguments = (ins Takes<Pointer>:$buffer, I32:$selections, I32:$heads, I32:$chunks, I32:$tiles);
  let results = (outs Whole<Exchange>:$exchange);
}
def Tile_StoreStepShareOp : Tile_Leaf<"store_step_share", "step/step_exchange.cuh"> {
  let summary = "The maxima and sums of a warp's tiles of a chunk";
  let arguments = (ins Writes<WarpShares>:$shares, Reads<NormalizerSums>:$sums, I32:$place);
}
def Tile_TellShareOp : Tile_Leaf<"tell_share", "step/step_exchange.cuh", [Orders]> {
  let summary = "Tells all blocks of threads a chunk's share of the normalisers";
  let source = "PTX ISA 9.0, st.relaxed";
  let arguments = (ins Template:$threads, Template:$streams, Template:$count, Template:$step, Template:$stride,
                       Takes<Exchange>:$exchange, Reads<WarpShares>:$warps, Reads<OpenSums>:$open, I32:$selection,
                       I32:$chunk, I32:$share_place, I32:$place, I32:$tiles, I32:$first_row, I32:$visible, F32:$scale);
}
def Tile_TellsNextOp : Tile_Leaf<"tells_next", "step/step_exchange.cuh", [Orders]> {
  let summary = "Whether the threads that normalise tell a share next, or have the normalisers of a chunk";
  let source = "PTX ISA 9.0, ld.relaxed";
  let arguments = (ins Template:$threads, Template:$count, Template:$step, Template:$stride, Template:$open,
                       Template:$tile_heads, Writes<NormalizerTable>:$table, I32:$first_row, Reads<RingBarriers>:$barriers,
                       Reads<Cursor>:$cursor, Takes<Exchange>:$exchange, I1:$may_tell, I1:$may_hear, I32:$selection,
                       I32:$chunks, I32:$chunk_tiles, I32:$visible, F32:$scale, I32:$barrier);
  let results = (outs I1:$tells);
}
def Tile_ScoredTileOp : Tile_Leaf<"scored_tile", "step/step_exchange.cuh", [Pure, Varies]> {
  let summary = "Which of a chunk's tiles the thread's summaries lie in";
  let arguments = (ins I32:$chunk_tiles);
  let results = (outs I32:$tile);
}
def Tile_SpeaksForTileOp : Tile_Leaf<"speaks_for_tile", "step/step_exchange.cuh", [Pure, Varies]> {
  let summary = "Whether the thread is the one that speaks for its summaries";
  let arguments = (ins I32:$chunk_tiles);
  let results = (outs I1:$speaks);
}
def Tile_AddStepHeadsOp : Tile_Leaf<"add_step_heads", "step/step_exchange.cuh"> {
  let summary = "Combines in the kept weights of a group's heads, some by each of the lanes that share 8 summaries";
  let arguments = (ins Template:$combine, Updates<RowScores>:$scores, Updates<RangeVote>:$vote,
                       Reads<TileWeights>:$weights, Reads<NormalizerTable>:$table, I32:$first_row, I32:$place, I32:$chunk_tiles,
                       I1:$exists);
}
def Tile_TellRanksOp : Tile_Leaf<"tell_ranks", "step/step_exchange.cuh", [Orders]> {
  let summary = "Pools the thread's summaries to key blocks and tells their ranks";
  let source = "PTX ISA 9.0, st.relaxed";
  let arguments = (ins Template:$pool, Template:$rows_per_block, Template:$pad, Template:$edge_rows,
                       Takes<Exchange>:$exchange, Reads<RowScores>:$scores, Reads<RangeVote>:$vote, I32:$selection,
                       I32:$first_row, I32:$rows, I1:$valid);
}
def Tile_HearRanksOp : Tile_Leaf<"hear_ranks", "step/step_exchange.cuh", [Orders, Varies]> {
  let summary = "The ranks of a selection, once all of them have been told; whether fp32 may not hold one of the thread's";
  let source = "PTX ISA 9.0, ld.relaxed";
  let arguments = (ins Template:$threads, Template:$rows_per_block, Template:$pad, Template:$edge_rows,
                       Writes<RankRow>:$row, Takes<Exchange>:$exchange, I32:$selection, I32:$scored_rows, I32:$padded);
  let results = (outs I1:$leaves);
}
def Tile_RanksOfOp : Tile_Leaf<"ranks_of", "step/step_exchange.cuh"> {
  let summary = "Where a row of ranks is";
  let arguments = (ins Reads<RankRow>:$row);
  let results = (outs Whole<Pointer>:$ranks);
}
def Tile_SelectByWarpsOp : Tile_Leaf<"select_by_warps", "step/step_search.cuh", [Orders]> {
  let summary = "The best blocks by ranks that several warps hold, to ids in shared memory";
  let arguments = (ins Template:$searched, Template:$init, Template:$warps, Stores<Pointer>:$ids,
                       Updates<RankPairs>:$ranks, Writes<WarpCounts>:$counts, I32:$own, I32:$first_block, I32:$barrier);
}
def Tile_RestartSumsOp : Tile_Leaf<"restart_sums", "step/step_parts.cuh"> {
  let summary = "The sums of no keys";
  let arguments = (ins Writes<Accumulator>:$output, Writes<SoftmaxState>:$state);
}
def Tile_JoinSumsOp : Tile_Leaf<"join_sums", "step/step_parts.cuh", [Orders]> {
  let summary = "Joins what warps that attend have of a selection and tells it as one part";
  let source = "sums of one softmax from those of its parts: Milakov and Gimelshein, arXiv:1805.02867";
  let arguments = (ins Template:$tile_heads, Stores<Pointer>:$values, Stores<Pointer>:$states,
                       Updates<JoinedSums>:$joined, Reads<Accumulator>:$output, Reads<SoftmaxState>:$state, I32:$slot,
                       I32:$first_thread, I32:$barrier, F32:$scale);
}
def Tile_StoreNoPartOp : Tile_Leaf<"store_no_part", "step/step_parts.cuh"> {
  let summary = "Leaves a part without keys";
  let arguments = (ins Template:$tile_heads, Stores<Pointer>:$states, I32:$slot, I32:$thread);
}
def Tile_IdListOp : Tile_Leaf<"id_list", "step/step_parts.cuh", [Pure]> {
  let summary = "Where the ids of one of two selections are";
  let arguments = (ins Takes<IdLists>:$lists, I32:$index);
  let results = (outs Whole<Pointer>:$ids);
}
def Tile_CopyIdsOp : Tile_Leaf<"copy_ids", "step/step_parts.cuh"> {
  let summary = "Copies a row of ids";
  let arguments = (ins Template:$threads, Template:$topk, Stores<Pointer>:$to, Loads<Pointer>:$from);
}
def Tile_StepKeyOp : Tile_Leaf<"step_key", "step/step_parts.cuh"> {
  let summary = "The first key of one of a selection's tiles";
  let arguments = (ins Template:$init, Template:$forced, Template:$tiles_per_block, Template:$keys,
                       Loads<Pointer>:$ids, I32:$entry, I1:$chooses, I32:$forced_from);
  let results = (outs I32:$key);
}
def Tile_MergePartsOp : Tile_Leaf<"merge_parts", "step/step_parts.cuh", [Orders]> {
  let summary = "Adds up the parts of some rows of the output, once they are there, by the warps that multiply";
  let source = "sums of one softmax from those of its parts: Milakov and Gimelshein, arXiv:1805.02867";
  let arguments = (ins Template:$heads, Template:$tile_heads, Template:$selections, Template:$type, Stores<Heads>:$out,
                       Stores<Pointer>:$lse, Updates<JoinedSums>:$joined, Reads<StepTable>:$table,
                       Loads<Pointer>:$values, Loads<Pointer>:$states, I32:$total_q, I32:$block, I32:$blocks,
                       I32:$first_thread, I32:$barrier);
}
} // opDocGroup

#endif
