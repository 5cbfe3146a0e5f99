// The leaves of dialect/tile/leaves/scores.td: what each prints as. leaves.test wants a line for every leaf.
// RUN: winnow-translate %s | FileCheck %s

!accumulator = !tile.fragment<Accumulator<16, @kKeys>>
!hook = !tile.value<Hook>
!log_sum_exp = !tile.state<LogSumExp<8>>
!normalizer_sums = !tile.state<NormalizerSums<1>>
!normalizer_table = !tile.table<NormalizerTable<@kQueryRows>>
!params = !tile.value<Params>
!pointer = !tile.view<Pointer>
!range_vote = !tile.state<RangeVote>
!row_scores = !tile.state<RowScores>
!softmax_state = !tile.state<SoftmaxState>
!cluster_shares = !tile.table<ClusterShares<@kTileHeads, 1>>
!open_sums = !tile.table<OpenSums<@kTileHeads, 1, @kMostTiles>>
!message_barriers = !tile.barriers<MessageBarriers<2>>
!rank_row = !tile.table<RankRow<4096>>
!rank_words = !tile.table<RankRow<4096, 4>>
!sent_bytes = !tile.state<SentBytes>
!warp_votes = !tile.table<WarpVotes<8>>
!tile_weights = !tile.table<TileWeights<@kTileHeads, @kMostTiles>>
!warp_shares = !tile.table<WarpShares<4, @kTileHeads>>
!tile_scores = !tile.table<TileScores<@kRows>>
!token_scores = !tile.state<TokenScores>

tile.kernel @scores attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !params) {
  %i = tile.block_index "x" : i32
  %log_sum_exp = tile.register : !log_sum_exp
  %scale = tile.constant @kScale : f32
  %mma_tile = tile.block_index "x" : i32
  %accumulator = tile.register : !accumulator
  %index = tile.block_index "x" : i32
  %normalizer_table = tile.shared bytes 16 : !normalizer_table
  %token_group = tile.block_index "x" : i32
  %is_first = arith.cmpi slt, %i, %i : i32
  %first_tile = tile.block_index "x" : i32
  %as_offsets = arith.cmpi slt, %i, %i : i32
  %tokens = tile.block_index "x" : i32
  %first_row = tile.block_index "x" : i32
  %visible = tile.block_index "x" : i32
  %row_scores = tile.register : !row_scores
  %token_scores = tile.register : !token_scores
  %row = tile.block_index "x" : i32
  %position = tile.block_index "x" : i32
  %hook = tile.hook {
  ^bb0(%value: f32, %query: i32, %key: i32):
    tile.yield %value : f32
  }
  %rows = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !params -> !pointer
  %pointer = tile.id_row %ids, %i, %i, %i {topk = @kTopK} : (!pointer, i32, i32, i32) -> !pointer
  %select_head = tile.block_index "x" : i32
  %token = tile.block_index "x" : i32
  %stride = tile.block_index "x" : i32
  %max_k = tile.block_index "x" : i32
  %padded = tile.block_index "x" : i32
  %valid = arith.cmpi slt, %i, %i : i32
  // CHECK: start_sums(log_sum_exp, kScale);
  tile.start_sums %log_sum_exp, %scale : (!log_sum_exp, f32) -> ()
  // CHECK: add_exponentials(log_sum_exp, mma_tile, accumulator, kScale);
  tile.add_exponentials %log_sum_exp, %mma_tile, %accumulator, %scale : (!log_sum_exp, i32, !accumulator, f32) -> ()
  // CHECK: start_below(accumulator, log_sum_exp, mma_tile);
  tile.start_below %accumulator, %log_sum_exp, %mma_tile : (!accumulator, !log_sum_exp, i32) -> ()
  // CHECK: add_powers(log_sum_exp, mma_tile, accumulator);
  tile.add_powers %log_sum_exp, %mma_tile, %accumulator : (!log_sum_exp, i32, !accumulator) -> ()
  // CHECK: raise_maxima(log_sum_exp, index, accumulator, kScale);
  tile.raise_maxima %log_sum_exp, %index, %accumulator, %scale : (!log_sum_exp, i32, !accumulator, f32) -> ()
  // CHECK: add_tile_exponentials<kCubicEvery>(log_sum_exp, index, accumulator, kScale);
  tile.add_tile_exponentials %log_sum_exp, %index, %accumulator, %scale {cubic_every = @kCubicEvery} : (!log_sum_exp, i32, !accumulator, f32) -> ()
  // CHECK: finish_normalizers(log_sum_exp);
  tile.finish_normalizers %log_sum_exp : (!log_sum_exp) -> ()
  // CHECK: merge_normalizers(normalizer_table, log_sum_exp, token_group, is_first);
  tile.merge_normalizers %normalizer_table, %log_sum_exp, %token_group, %is_first : (!normalizer_table, !log_sum_exp, i32, i1) -> ()
  // CHECK: store_normalizers(normalizer_table, log_sum_exp, first_tile, as_offsets);
  tile.store_normalizers %normalizer_table, %log_sum_exp, %first_tile, %as_offsets : (!normalizer_table, !log_sum_exp, i32, i1) -> ()
  // CHECK: const bool leaves = table_leaves_weights<kThreads>(normalizer_table);
  %leaves = tile.table_leaves_weights %normalizer_table {threads = @kThreads} : (!normalizer_table) -> i1
  // CHECK: const bool leaves_2 = leaves_weights<kGroup, kMmaTiles>(log_sum_exp, first_tile, tokens);
  %leaves_2 = tile.leaves_weights %log_sum_exp, %first_tile, %tokens {group = @kGroup, mma_tiles = @kMmaTiles} : (!log_sum_exp, i32, i32) -> i1
  // CHECK: weigh_normalizers<kThreads>(normalizer_table);
  tile.weigh_normalizers %normalizer_table {threads = @kThreads} : (!normalizer_table) -> ()
  // CHECK: mask_summaries(accumulator, first_row, visible);
  tile.mask_summaries %accumulator, %first_row, %visible : (!accumulator, i32, i32) -> ()
  // CHECK: mask_tile<0, 2>(accumulator, first_row, visible);
  tile.mask_tile %accumulator, %first_row, %visible {first_half = 0 : i32, halves = 2 : i32} : (!accumulator, i32, i32) -> ()
  // CHECK: clear_scores<Sum>(row_scores);
  tile.clear_scores %row_scores {combine = "Sum"} : (!row_scores) -> ()
  // CHECK: clear_scores<Sum>(token_scores);
  tile.clear_scores %token_scores {combine = "Sum"} : (!token_scores) -> ()
  // CHECK: add_softmax_scores<Sum, kGroup>(row_scores, accumulator, normalizer_table, row, kScale);
  tile.add_softmax_scores %row_scores, %accumulator, %normalizer_table, %row, %scale {combine = "Sum", group = @kGroup} : (!row_scores, !accumulator, !normalizer_table, i32, f32) -> ()
  // CHECK: add_weighted_heads<kGroup>(row_scores, accumulator, normalizer_table, row);
  tile.add_weighted_heads %row_scores, %accumulator, %normalizer_table, %row {group = @kGroup} : (!row_scores, !accumulator, !normalizer_table, i32) -> ()
  // CHECK: add_raw_scores<Sum, kGroup>(row_scores, accumulator, position, first_row, kScale, hook);
  tile.add_raw_scores %row_scores, %accumulator, %position, %first_row, %scale, %hook {combine = "Sum", group = @kGroup} : (!row_scores, !accumulator, i32, i32, f32, !hook) -> ()
  // CHECK: add_weighted_scores<Sum, kCubicEvery, 0, 2>(token_scores, accumulator, normalizer_table, mma_tile);
  tile.add_weighted_scores %token_scores, %accumulator, %normalizer_table, %mma_tile {combine = "Sum", cubic_every = @kCubicEvery, first_half = 0 : i32, halves = 2 : i32} : (!token_scores, !accumulator, !normalizer_table, i32) -> ()
  // CHECK: add_offset_scores<Sum, 0, 2>(token_scores, accumulator, normalizer_table, mma_tile, kScale);
  tile.add_offset_scores %token_scores, %accumulator, %normalizer_table, %mma_tile, %scale {combine = "Sum", first_half = 0 : i32, halves = 2 : i32} : (!token_scores, !accumulator, !normalizer_table, i32, f32) -> ()
  // CHECK: add_hooked_scores<Sum, 0, 2>(token_scores, accumulator, position, first_row, kScale, hook);
  tile.add_hooked_scores %token_scores, %accumulator, %position, %first_row, %scale, %hook {combine = "Sum", first_half = 0 : i32, halves = 2 : i32} : (!token_scores, !accumulator, i32, i32, f32, !hook) -> ()
  // CHECK: mask_scores<Max>(row_scores, first_row, visible, rows, kScale);
  tile.mask_scores %row_scores, %first_row, %visible, %rows, %scale {pool = "Max"} : (!row_scores, i32, i32, i32, f32) -> ()
  // CHECK: mask_scores<Max>(token_scores, first_row, visible, rows, kScale);
  tile.mask_scores %token_scores, %first_row, %visible, %rows, %scale {pool = "Max"} : (!token_scores, i32, i32, i32, f32) -> ()
  // CHECK: const auto row_2 = score_row<float>(pointer, select_head, token, tokens, stride);
  %row_2 = tile.score_row %pointer, %select_head, %token, %tokens, %stride {element = f32} : (!pointer, i32, i32, i32, i32) -> !pointer
  // CHECK: const int blocks = padded_blocks<kBlock, kRowsPerBlock>(max_k);
  %blocks = tile.padded_blocks %max_k {block = @kBlock, rows_per_block = @kRowsPerBlock} : (i32) -> i32
  // CHECK: store_block_scores<Max, kRowsPerBlock, kPad>(pointer, row_scores, first_row, rows, padded, valid);
  tile.store_block_scores %pointer, %row_scores, %first_row, %rows, %padded, %valid {pad = @kPad, pool = "Max", rows_per_block = @kRowsPerBlock} : (!pointer, !row_scores, i32, i32, i32, i1) -> ()
  // CHECK: store_block_scores<Max, kRowsPerBlock, kPad>(pointer, token_scores, first_row, rows, padded, valid);
  tile.store_block_scores %pointer, %token_scores, %first_row, %rows, %padded, %valid {pad = @kPad, pool = "Max", rows_per_block = @kRowsPerBlock} : (!pointer, !token_scores, i32, i32, i32, i1) -> ()
  %state = tile.register : !softmax_state
  %warp = tile.block_index "x" : i32
  %part = tile.block_index "x" : i32
  %parts = tile.block_index "x" : i32
  %first_head = tile.block_index "x" : i32
  %tile_scores = tile.shared bytes 16 : !tile_scores
  %first = tile.block_index "x" : i32
  %tile_weights = tile.shared bytes 16 : !tile_weights
  %open_sums = tile.shared bytes 16 : !open_sums
  %warp_shares = tile.shared bytes 16 : !warp_shares
  %cluster_shares = tile.shared bytes 16 : !cluster_shares
  %rank_row = tile.shared bytes 16 : !rank_row
  // CHECK: merge_part_sums<kThreads, kHeads, kGroup>(normalizer_table, pointer, parts, token, tokens, first_head);
  tile.merge_part_sums %normalizer_table, %pointer, %parts, %token, %tokens, %first_head {group = @kGroup, heads = @kHeads, threads = @kThreads} : (!normalizer_table, !pointer, i32, i32, i32, i32) -> ()
  %sums = tile.register : !normalizer_sums
  %vote = tile.register : !range_vote
  %counts = arith.cmpi slt, %i, %i : i32
  // CHECK: add_normalizer_rows<kCount, kStep, kEvery>(sums, accumulator, first_row, visible, counts, kScale);
  tile.add_normalizer_rows %sums, %accumulator, %first_row, %visible, %counts, %scale {count = @kCount, step = @kStep, stride = @kEvery} : (!normalizer_sums, !accumulator, i32, i32, i1, f32) -> ()
  // CHECK: store_normalizer_share<kHeads, kTileHeads>(pointer, sums, part, token, tokens, first_head);
  tile.store_normalizer_share %pointer, %sums, %part, %token, %tokens, %first_head {heads = @kHeads, tile_heads = @kTileHeads} : (!pointer, !normalizer_sums, i32, i32, i32, i32) -> ()
  // CHECK: store_head_weights<kTileHeads>(pointer, accumulator, record, rows, first, visible, kScale);
  %record = tile.block_index "x" : i32
  tile.store_head_weights %pointer, %accumulator, %record, %rows, %first, %visible, %scale {tile_heads = @kTileHeads} : (!pointer, !accumulator, i32, i32, i32, i32, f32) -> ()
  // CHECK: add_stored_heads<Sum, kGroup, kTileHeads>(row_scores, vote, pointer, normalizer_table, record, rows, first, valid);
  tile.add_stored_heads %row_scores, %vote, %pointer, %normalizer_table, %record, %rows, %first, %valid {combine = "Sum", group = @kGroup, tile_heads = @kTileHeads} : (!row_scores, !range_vote, !pointer, !normalizer_table, i32, i32, i32, i1) -> ()
  // CHECK: add_tile_normalizers<kCount, kStep, kEvery>(sums, open_sums, accumulator, first, first_row, visible, kScale);
  tile.add_tile_normalizers %sums, %open_sums, %accumulator, %first, %first_row, %visible, %scale {count = @kCount, step = @kStep, stride = @kEvery} : (!normalizer_sums, !open_sums, !accumulator, i32, i32, i32, f32) -> ()
  // CHECK: store_tile_weights(tile_weights, accumulator, first, first_row, visible, kScale);
  tile.store_tile_weights %tile_weights, %accumulator, %first, %first_row, %visible, %scale : (!tile_weights, !accumulator, i32, i32, i32, f32) -> ()
  // CHECK: store_warp_share(warp_shares, sums);
  tile.store_warp_share %warp_shares, %sums : (!warp_shares, !normalizer_sums) -> ()
  // CHECK: send_share<kThreads, kCount, kStep, kEvery>(cluster_shares, warp_shares, open_sums, rows, first_row, visible, kScale);
  tile.send_share %cluster_shares, %warp_shares, %open_sums, %rows, %first_row, %visible, %scale {count = @kCount, step = @kStep, stride = @kEvery, threads = @kThreads} : (!cluster_shares, !warp_shares, !open_sums, i32, i32, i32, f32) -> ()
  // CHECK: merge_block_shares<kThreads, kCount, kStep, kEvery>(normalizer_table, cluster_shares, rows, rows, visible, kScale);
  tile.merge_block_shares %normalizer_table, %cluster_shares, %rows, %rows, %visible, %scale {count = @kCount, step = @kStep, stride = @kEvery, threads = @kThreads} : (!normalizer_table, !cluster_shares, i32, i32, i32, f32) -> ()
  // CHECK: add_tile_heads<Sum, kGroup, kTileHeads>(row_scores, vote, tile_weights, normalizer_table, first, valid);
  tile.add_tile_heads %row_scores, %vote, %tile_weights, %normalizer_table, %first, %valid {combine = "Sum", group = @kGroup, tile_heads = @kTileHeads} : (!row_scores, !range_vote, !tile_weights, !normalizer_table, i32, i1) -> ()
  // CHECK: const auto ranks = rank_row_of(rank_row, first);
  %ranks = tile.rank_row_of %rank_row, %first : (!rank_row, i32) -> !pointer
  // CHECK: store_thread_scores<Max, kRowsPerBlock, kPad, kEdgeRows>(ranks,
  tile.store_thread_scores %ranks, %row_scores, %first_row, %rows, %padded, %valid {edge_rows = @kEdgeRows, pad = @kPad, pool = "Max", rows_per_block = @kRowsPerBlock} : (!pointer, !row_scores, i32, i32, i32, i1) -> ()
  // CHECK: send_vote(cluster_shares, vote);
  tile.send_vote %cluster_shares, %vote : (!cluster_shares, !range_vote) -> ()
  // CHECK: const bool voted = any_vote(cluster_shares);
  %voted = tile.any_vote %cluster_shares : (!cluster_shares) -> i1
  %messages = tile.shared bytes 16 : !message_barriers
  %rank_words = tile.shared bytes 12288 : !rank_words
  %warp_votes = tile.shared bytes 512 : !warp_votes
  %sent = tile.register : !sent_bytes
  // CHECK: init_messages(messages, cluster_shares, rows);
  tile.init_messages %messages, %cluster_shares, %rows : (!message_barriers, !cluster_shares, i32) -> ()
  // CHECK: post_share<kThreads, kCount, kStep, kEvery>(cluster_shares, messages, warp_shares, open_sums, rows, first_row, visible, kScale);
  tile.post_share %cluster_shares, %messages, %warp_shares, %open_sums, %rows, %first_row, %visible, %scale {count = @kCount, step = @kStep, stride = @kEvery, threads = @kThreads} : (!cluster_shares, !message_barriers, !warp_shares, !open_sums, i32, i32, i32, f32) -> ()
  // CHECK: wait_shares(messages);
  tile.wait_shares %messages : (!message_barriers) -> ()
  // CHECK: const int rank_place = rank_row_address(rank_words, first);
  %rank_place = tile.rank_row_address %rank_words, %first : (!rank_words, i32) -> i32
  // CHECK: const auto edges = edge_words<kPad>(ranks, padded);
  %edges = tile.edge_words %ranks, %padded {pad = @kPad} : (!pointer, i32) -> !pointer
  // CHECK: post_thread_scores<Max, kRowsPerBlock, kPad, kEdgeRows>(rank_place, sent, messages, row_scores, first_row, rows, padded, valid);
  tile.post_thread_scores %rank_place, %sent, %messages, %row_scores, %first_row, %rows, %padded, %valid {edge_rows = @kEdgeRows, pad = @kPad, pool = "Max", rows_per_block = @kRowsPerBlock} : (i32, !sent_bytes, !message_barriers, !row_scores, i32, i32, i32, i1) -> ()
  // CHECK: post_votes(warp_votes, sent, messages, vote);
  tile.post_votes %warp_votes, %sent, %messages, %vote : (!warp_votes, !sent_bytes, !message_barriers, !range_vote) -> ()
  // CHECK: wait_ranks(messages);
  tile.wait_ranks %messages : (!message_barriers) -> ()
  // CHECK: const bool warps_voted = any_warp_vote(warp_votes);
  %warps_voted = tile.any_warp_vote %warp_votes : (!warp_votes) -> i1
  // CHECK: const bool beyond = any_leaves(vote);
  %beyond = tile.any_leaves %vote : (!range_vote) -> i1
  // CHECK: store_thread_scores<Max, kRowsPerBlock, kPad, kEdgeRows>(pointer, row_scores, first_row, rows, padded, valid);
  tile.store_thread_scores %pointer, %row_scores, %first_row, %rows, %padded, %valid {edge_rows = @kEdgeRows, pad = @kPad, pool = "Max", rows_per_block = @kRowsPerBlock} : (!pointer, !row_scores, i32, i32, i32, i1) -> ()
  // CHECK: add_raw_head_scores<Sum, kGroup>(row_scores, accumulator, row, position, first_row, kScale, hook);
  tile.add_raw_head_scores %row_scores, %accumulator, %row, %position, %first_row, %scale, %hook {combine = "Sum", group = @kGroup} : (!row_scores, !accumulator, i32, i32, i32, f32, !hook) -> ()
  // CHECK: combine_lane_groups<Max>(row_scores);
  tile.combine_lane_groups %row_scores {combine = "Max"} : (!row_scores) -> ()
  // CHECK: put_tile_scores(tile_scores, row_scores, first);
  tile.put_tile_scores %tile_scores, %row_scores, %first : (!tile_scores, !row_scores, i32) -> ()
  // CHECK: take_tile_scores(token_scores, tile_scores);
  tile.take_tile_scores %token_scores, %tile_scores : (!token_scores, !tile_scores) -> ()
}
