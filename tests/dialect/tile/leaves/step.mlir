// The leaves of dialect/tile/leaves/step.td: what each prints as. leaves.test wants a line for every leaf.
// RUN: winnow-translate %s | FileCheck %s

!accumulator = !tile.fragment<Accumulator<16, @kValueDim>>
!chunk_list = !tile.table<ChunkList<512>>
!cursor = !tile.cursor<Cursor<3>>
!exchange = !tile.value<Exchange>
!id_lists = !tile.table<IdLists<@kTopK>>
!joined_sums = !tile.table<JoinedSums<8, @kValueDim>>
!normalizer_sums = !tile.state<NormalizerSums<1>>
!normalizer_table = !tile.table<NormalizerTable<16>>
!open_sums = !tile.table<OpenSums<@kTileHeads, 1, 32>>
!params = !tile.value<Params>
!pointer = !tile.view<Pointer>
!ring_barriers = !tile.barriers<RingBarriers<3>>
!range_vote = !tile.state<RangeVote>
!rank_pairs = !tile.state<RankPairs<2>>
!rank_row = !tile.table<RankRow<2048, 4>>
!row_scores = !tile.state<RowScores>
!softmax_state = !tile.state<SoftmaxState>
!step_item = !tile.value<StepItem>
!step_parts = !tile.value<StepParts>
!step_table = !tile.table<StepTable<128>>
!strided_heads = !tile.view<StridedHeads>
!tile_weights = !tile.table<TileWeights<@kTileHeads, 32>>
!token_tile = !tile.value<TokenTile>
!overlay = !tile.table<Overlay<!tile.table<TileWeights<@kTileHeads, 32>>, !tile.table<JoinedSums<8, @kValueDim>>>>
!warp_counts = !tile.table<WarpCounts<8>>
!warp_shares = !tile.table<WarpShares<16, @kTileHeads>>

tile.kernel @step attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !params) {
  %i = tile.block_index "x" : i32
  %all = arith.constant false
  %scale = tile.constant @kScale : f32
  %ids = tile.field %params "ids" : !params -> !pointer
  %stride = tile.field %params "out_stride" : !params -> !pointer
  %strided = tile.strided_heads %ids, %stride : (!pointer, !pointer) -> !strided_heads
  %token_tile = tile.find_token %ids, %ids, %i, %i : (!pointer, !pointer, i32, i32) -> !token_tile
  %step_table = tile.shared bytes 8752 : !step_table
  %chunk_list = tile.shared bytes 1040 : !chunk_list
  %id_lists = tile.shared bytes 768 : !id_lists
  %joined_sums = tile.shared bytes 33792 : !joined_sums
  %normalizer_table = tile.shared bytes 64 : !normalizer_table
  %open_sums = tile.shared bytes 4096 : !open_sums
  %overlay = tile.shared bytes 34816 : !overlay
  %ring_barriers = tile.shared bytes 48 : !ring_barriers
  %rank_row = tile.shared bytes 6144 : !rank_row
  %tile_weights = tile.shared bytes 34816 : !tile_weights
  %warp_counts = tile.shared bytes 32 : !warp_counts
  %warp_shares = tile.shared bytes 2048 : !warp_shares
  %cursor = tile.register : !cursor
  %accumulator = tile.register : !accumulator
  %normalizer_sums = tile.register : !normalizer_sums
  %range_vote = tile.register : !range_vote
  %rank_pairs = tile.register : !rank_pairs
  %row_scores = tile.register : !row_scores
  %softmax_state = tile.register : !softmax_state
  // CHECK: const auto parts = step_parts<kSelections>(step_table, i, i);
  %parts = tile.step_parts %step_table, %i, %i {selections = @kSelections} : (!step_table, i32, i32) -> !step_parts
  // CHECK: const auto item = step_part<kSelections>(step_table, parts, i);
  %item = tile.step_part %step_table, %parts, %i {selections = @kSelections} : (!step_table, !step_parts, i32) -> !step_item
  // CHECK: const auto exchange = exchange_of(ids, i, i, i, i);
  %exchange = tile.exchange_of %ids, %i, %i, %i, %i : (!pointer, i32, i32, i32, i32) -> !exchange
  // CHECK: const auto tile_of_find_step_token = find_step_token(ids, ids, i, i, i);
  %tile_of_find_step_token = tile.find_step_token %ids, %ids, %i, %i, %i : (!pointer, !pointer, i32, i32, i32) -> !token_tile
  // CHECK: put_step_token(step_table, i, token_tile, i, i, i, i, i, i, i);
  tile.put_step_token %step_table, %i, %token_tile, %i, %i, %i, %i, %i, %i, %i : (!step_table, i32, !token_tile, i32, i32, i32, i32, i32, i32, i32) -> ()
  // CHECK: sum_step_tokens(step_table);
  tile.sum_step_tokens %step_table : (!step_table) -> ()
  // CHECK: const int total_of_step_total = step_total<kStepKeys, kSelections>(step_table);
  %total_of_step_total = tile.step_total %step_table {kind = @kStepKeys, selections = @kSelections} : (!step_table) -> i32
  // CHECK: cut_step_keys<kThreads, kSelections>(step_table, i, i);
  tile.cut_step_keys %step_table, %i, %i {selections = @kSelections, threads = @kThreads} : (!step_table, i32, i32) -> ()
  // CHECK: fill_chunk_list<kSelections>(chunk_list, step_table, i, i, i);
  tile.fill_chunk_list %chunk_list, %step_table, %i, %i, %i {selections = @kSelections} : (!chunk_list, !step_table, i32, i32, i32) -> ()
  // CHECK: const int count_of_count_chunks = count_chunks(chunk_list);
  %count_of_count_chunks = tile.count_chunks %chunk_list : (!chunk_list) -> i32
  // CHECK: const auto item_2 = listed_chunk<kSelections>(chunk_list, step_table, i, i);
  %item_2 = tile.listed_chunk %chunk_list, %step_table, %i, %i {selections = @kSelections} : (!chunk_list, !step_table, i32, i32) -> !step_item
  // CHECK: const auto tile_of_step_token = step_token(step_table, i);
  %tile_of_step_token = tile.step_token %step_table, %i : (!step_table, i32) -> !token_tile
  // CHECK: const int count_of_count_step_parts = count_step_parts(parts);
  %count_of_count_step_parts = tile.count_step_parts %parts : (!step_parts) -> i32
  // CHECK: const int slot_of_part_slot = part_slot(item, i);
  %slot_of_part_slot = tile.part_slot %item, %i : (!step_item, i32) -> i32
  // CHECK: const auto first = first_of(overlay);
  %first = tile.first_of %overlay : (!overlay) -> !tile_weights
  // CHECK: const auto second = second_of(overlay);
  %second = tile.second_of %overlay : (!overlay) -> !joined_sums
  // CHECK: clear_exchange(ids, i, i, i);
  tile.clear_exchange %ids, %i, %i, %i : (!pointer, i32, i32, i32) -> ()
  // CHECK: meet_grid(i, i);
  tile.meet_grid %i, %i : (i32, i32) -> ()
  // CHECK: store_step_share(warp_shares, normalizer_sums, i);
  tile.store_step_share %warp_shares, %normalizer_sums, %i : (!warp_shares, !normalizer_sums, i32) -> ()
  // CHECK: tell_share<kThreads, kStreams, kCount, kStep, kStride>(exchange, warp_shares, open_sums, i, i, i, i, i, i, i, kScale);
  tile.tell_share %exchange, %warp_shares, %open_sums, %i, %i, %i, %i, %i, %i, %i, %scale {count = @kCount, step = @kStep, streams = @kStreams, stride = @kStride, threads = @kThreads} : (!exchange, !warp_shares, !open_sums, i32, i32, i32, i32, i32, i32, i32, f32) -> ()
  // CHECK: const bool tells_of_tells_next = tells_next<kThreads, kCount, kStep, kStride, kOpen, kTileHeads>(normalizer_table, i, ring_barriers, cursor, exchange, all, all, i, i, i, i, kScale, i);
  %tells_of_tells_next = tile.tells_next %normalizer_table, %i, %ring_barriers, %cursor, %exchange, %all, %all, %i, %i, %i, %i, %scale, %i {count = @kCount, open = @kOpen, step = @kStep, stride = @kStride, threads = @kThreads, tile_heads = @kTileHeads} : (!normalizer_table, i32, !ring_barriers, !cursor, !exchange, i1, i1, i32, i32, i32, i32, f32, i32) -> i1
  // CHECK: const int tile_of_scored_tile = scored_tile(i);
  %tile_of_scored_tile = tile.scored_tile %i : (i32) -> i32
  // CHECK: const bool speaks_of_speaks_for_tile = speaks_for_tile(i);
  %speaks_of_speaks_for_tile = tile.speaks_for_tile %i : (i32) -> i1
  // CHECK: add_step_heads<Sum>(row_scores, range_vote, tile_weights, normalizer_table, i, i, i, all);
  tile.add_step_heads %row_scores, %range_vote, %tile_weights, %normalizer_table, %i, %i, %i, %all {combine = "Sum"} : (!row_scores, !range_vote, !tile_weights, !normalizer_table, i32, i32, i32, i1) -> ()
  // CHECK: tell_ranks<Max, kRowsPerBlock, kPad, kEdgeRows>(exchange, row_scores, range_vote, i, i, i, all);
  tile.tell_ranks %exchange, %row_scores, %range_vote, %i, %i, %i, %all {edge_rows = @kEdgeRows, pad = @kPad, pool = "Max", rows_per_block = @kRowsPerBlock} : (!exchange, !row_scores, !range_vote, i32, i32, i32, i1) -> ()
  // CHECK: const bool leaves_of_hear_ranks = hear_ranks<kThreads, kRowsPerBlock, kPad, kEdgeRows>(rank_row, exchange, i, i, i);
  %leaves_of_hear_ranks = tile.hear_ranks %rank_row, %exchange, %i, %i, %i {edge_rows = @kEdgeRows, pad = @kPad, rows_per_block = @kRowsPerBlock, threads = @kThreads} : (!rank_row, !exchange, i32, i32, i32) -> i1
  // CHECK: const auto ranks_of_ranks_of = ranks_of(rank_row);
  %ranks_of_ranks_of = tile.ranks_of %rank_row : (!rank_row) -> !pointer
  // CHECK: select_by_warps<kSearched, kInit, kWarps>(ids, rank_pairs, warp_counts, i, i, i);
  tile.select_by_warps %ids, %rank_pairs, %warp_counts, %i, %i, %i {init = @kInit, searched = @kSearched, warps = @kWarps} : (!pointer, !rank_pairs, !warp_counts, i32, i32, i32) -> ()
  // CHECK: restart_sums(accumulator, softmax_state);
  tile.restart_sums %accumulator, %softmax_state : (!accumulator, !softmax_state) -> ()
  // CHECK: join_sums<kTileHeads>(ids, ids, joined_sums, accumulator, softmax_state, i, i, i, kScale);
  tile.join_sums %ids, %ids, %joined_sums, %accumulator, %softmax_state, %i, %i, %i, %scale {tile_heads = @kTileHeads} : (!pointer, !pointer, !joined_sums, !accumulator, !softmax_state, i32, i32, i32, f32) -> ()
  // CHECK: store_no_part<kTileHeads>(ids, i, i);
  tile.store_no_part %ids, %i, %i {tile_heads = @kTileHeads} : (!pointer, i32, i32) -> ()
  // CHECK: const auto ids_of_id_list = id_list(id_lists, i);
  %ids_of_id_list = tile.id_list %id_lists, %i : (!id_lists, i32) -> !pointer
  // CHECK: copy_ids<kThreads, kTopK>(ids, ids);
  tile.copy_ids %ids, %ids {threads = @kThreads, topk = @kTopK} : (!pointer, !pointer) -> ()
  // CHECK: const int key_of_step_key = step_key<kInit, kForced, kTilesPerBlock, kKeys>(ids, i, all, i);
  %key_of_step_key = tile.step_key %ids, %i, %all, %i {forced = @kForced, init = @kInit, keys = @kKeys, tiles_per_block = @kTilesPerBlock} : (!pointer, i32, i1, i32) -> i32
  // CHECK: merge_parts<kHeads, kTileHeads, kSelections, bf16>(strided, ids, joined_sums, step_table, ids, ids, i, i, i, i, i);
  tile.merge_parts %strided, %ids, %joined_sums, %step_table, %ids, %ids, %i, %i, %i, %i, %i {heads = @kHeads, selections = @kSelections, tile_heads = @kTileHeads, type = bf16} : (!strided_heads, !pointer, !joined_sums, !step_table, !pointer, !pointer, i32, i32, i32, i32, i32) -> ()
}
