// The leaves of dialect/tile/leaves/topk.td: what each prints as. leaves.test wants a line for every leaf.
// RUN: winnow-translate %s | FileCheck %s

!block_ranks = !tile.state<BlockRanks<@kRanksPerLane>>
!block_marks = !tile.state<BlockMarks<2>>
!key_pairs = !tile.state<RankPairs<2>>
!params = !tile.value<Params>
!pointer = !tile.view<Pointer>
!threshold_search = !tile.cursor<ThresholdSearch>
!warp_counts = !tile.table<WarpCounts<@kWarps>>

tile.kernel @topk attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !params) {
  %i = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !params -> !pointer
  %pointer = tile.id_row %ids, %i, %i, %i {topk = @kTopK} : (!pointer, i32, i32, i32) -> !pointer
  %select_head = tile.block_index "x" : i32
  %total_q = tile.block_index "x" : i32
  %row = tile.block_index "x" : i32
  %from = tile.block_index "x" : i32
  %at = tile.block_index "x" : i32
  %block = tile.block_index "x" : i32
  %count = tile.block_index "x" : i32
  %own = tile.block_index "x" : i32
  %padded = tile.block_index "x" : i32
  %block_ranks = tile.register : !block_ranks
  %first_block = tile.block_index "x" : i32
  %forced_from = tile.block_index "x" : i32
  %key_pairs = tile.register : !key_pairs
  %end = tile.block_index "x" : i32
  %threshold_search = tile.register : !threshold_search
  %step = tile.block_index "x" : i32
  %threshold = tile.block_index "x" : i32
  %upper = arith.cmpi slt, %i, %i : i32
  %block_marks = tile.register : !block_marks
  %above = tile.block_index "x" : i32
  %equal = tile.block_index "x" : i32
  %ties = tile.block_index "x" : i32
  %warp_counts = tile.shared bytes 16 : !warp_counts
  %warp = tile.block_index "x" : i32
  // CHECK: const auto row_ids = id_row<kTopK>(pointer, select_head, total_q, row);
  %row_ids = tile.id_row %pointer, %select_head, %total_q, %row {topk = @kTopK} : (!pointer, i32, i32, i32) -> !pointer
  // CHECK: pad_ids<kTopK>(pointer, from);
  tile.pad_ids %pointer, %from {topk = @kTopK} : (!pointer, i32) -> ()
  // CHECK: store_range(pointer, at, block, count);
  tile.store_range %pointer, %at, %block, %count : (!pointer, i32, i32, i32) -> ()
  // CHECK: const int block_2 = first_forced<kTopK, kLocal>(own);
  %block_2 = tile.first_forced %own {local = @kLocal, topk = @kTopK} : (i32) -> i32
  // CHECK: const auto edges = edge_row<kPad>(pointer, padded);
  %edges = tile.edge_row %pointer, %padded {pad = @kPad} : (!pointer, i32) -> !pointer
  // CHECK: load_ranks<Max, kInit, kBlocksPerEdge>(block_ranks, pointer, pointer, first_block, forced_from, own);
  tile.load_ranks %block_ranks, %pointer, %pointer, %first_block, %forced_from, %own {blocks_per_edge = @kBlocksPerEdge, init = @kInit, pool = "Max"} : (!block_ranks, !pointer, !pointer, i32, i32, i32) -> ()
  // CHECK: load_rank_pairs<kInit, kBlocksPerEdge>(key_pairs, pointer, pointer, first_block, end);
  tile.load_rank_pairs %key_pairs, %pointer, %pointer, %first_block, %end {blocks_per_edge = @kBlocksPerEdge, init = @kInit} : (!key_pairs, !pointer, !pointer, i32, i32) -> ()
  // CHECK: load_all_rank_pairs<kInit, kBlocksPerEdge>(key_pairs, pointer, pointer, end);
  tile.load_all_rank_pairs %key_pairs, %pointer, %pointer, %end {blocks_per_edge = @kBlocksPerEdge, init = @kInit} : (!key_pairs, !pointer, !pointer, i32) -> ()
  // CHECK: const int threshold_of = threshold_of_warp(threshold_search, step, warp);
  %threshold_of = tile.threshold_of_warp %threshold_search, %step, %warp : (!threshold_search, i32, i32) -> i32
  // CHECK: narrow_digit(threshold_search, warp_counts, step);
  tile.narrow_digit %threshold_search, %warp_counts, %step : (!threshold_search, !warp_counts, i32) -> ()
  // CHECK: start_search<kTopK>(threshold_search, own);
  tile.start_search %threshold_search, %own {topk = @kTopK} : (!threshold_search, i32) -> ()
  // CHECK: const bool open = is_open(threshold_search);
  %open = tile.is_open %threshold_search : (!threshold_search) -> i1
  // CHECK: const int threshold_2 = next_threshold(threshold_search, step);
  %threshold_2 = tile.next_threshold %threshold_search, %step : (!threshold_search, i32) -> i32
  // CHECK: narrow(threshold_search, threshold, count);
  tile.narrow %threshold_search, %threshold, %count : (!threshold_search, i32, i32) -> ()
  // CHECK: const int count_2 = count_at_least(block_ranks, threshold);
  %count_2 = tile.count_at_least %block_ranks, %threshold : (!block_ranks, i32) -> i32
  // CHECK: const int count_3 = count_at_least(key_pairs, threshold);
  %count_3 = tile.count_at_least %key_pairs, %threshold : (!key_pairs, i32) -> i32
  // CHECK: const int count_4 = count_above(block_ranks, threshold);
  %count_4 = tile.count_above %block_ranks, %threshold : (!block_ranks, i32) -> i32
  // CHECK: const int count_5 = count_upper(key_pairs);
  %count_5 = tile.count_upper %key_pairs : (!key_pairs) -> i32
  // CHECK: fold_ranks(key_pairs, upper);
  tile.fold_ranks %key_pairs, %upper : (!key_pairs, i1) -> ()
  // CHECK: mark_blocks(block_marks, key_pairs, threshold);
  tile.mark_blocks %block_marks, %key_pairs, %threshold : (!block_marks, !key_pairs, i32) -> ()
  // CHECK: const int count_6 = marked_above(block_marks);
  %count_6 = tile.marked_above %block_marks : (!block_marks) -> i32
  // CHECK: const int count_7 = marked_at(block_marks);
  %count_7 = tile.marked_at %block_marks : (!block_marks) -> i32
  // CHECK: store_ids(pointer, block_ranks, threshold, first_block, above, equal, ties);
  tile.store_ids %pointer, %block_ranks, %threshold, %first_block, %above, %equal, %ties : (!pointer, !block_ranks, i32, i32, i32, i32, i32) -> ()
  // CHECK: store_marked(pointer, block_marks, first_block, above, equal, ties);
  tile.store_marked %pointer, %block_marks, %first_block, %above, %equal, %ties : (!pointer, !block_marks, i32, i32, i32, i32) -> ()
  // CHECK: store_count(warp_counts, warp, count);
  tile.store_count %warp_counts, %warp, %count : (!warp_counts, i32, i32) -> ()
  // CHECK: const int total = total_count(warp_counts);
  %total = tile.total_count %warp_counts : (!warp_counts) -> i32
  // CHECK: const int sum = count_before(warp_counts, warp);
  %sum = tile.count_before %warp_counts, %warp : (!warp_counts, i32) -> i32
}
