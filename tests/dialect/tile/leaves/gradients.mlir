// The leaves of dialect/tile/leaves/gradients.td: what each prints as. leaves.test wants a line for every leaf.
// RUN: winnow-translate %s | FileCheck %s

!accumulator = !tile.fragment<Accumulator<16, @kKeys>>
!barriers = !tile.barriers<RingBarriers<@kStages>>
!change_table = !tile.table<ChangeTable<@kTokens>>
!change_tile = !tile.shared_tile<ChangeTile<@kTokens>>
!columns = !tile.state<QueryColumns<@kRows>>
!counts = !tile.table<KindCounts<@kWarps>>
!cursor = !tile.cursor<Cursor<@kStages>>
!headers = !tile.ring<RowHeaders<@kStages, @kRows, @kTokens>>
!hints = !tile.table<ProductHints>
!feed = !tile.state<TokenFeed<@kTokens>>
!hook = !tile.value<Hook>
!item = !tile.value<KeyItem>
!item_cursor = !tile.cursor<Cursor<@kItems>>
!item_tile = !tile.value<ItemTile>
!items = !tile.ring<ItemRing<@kItems>>
!key_block = !tile.value<KeyBlock>
!left_operand = !tile.fragment<LeftOperand<16, @kKeys, bf16>>
!map = !tile.view<TensorMap>
!marks = !tile.table<TokenMarks<@kBlocks>>
!panels = !tile.shared_tile<PanelTile<@kRows, @kDim, bf16>>
!params = !tile.value<Params>
!places = !tile.value<ChangePlaces>
!pointer = !tile.view<Pointer>
!query_rows = !tile.value<QueryRows>
!pair_lists = !tile.value<PairLists>
!row_tokens = !tile.value<RowTokens>
!row_statistics = !tile.state<RowStatistics>
!step_keys = !tile.state<StepKeys<@kParts>>
!stage_columns = !tile.state<StageColumns<@kTokenRows>>
!tile = !tile.shared_tile<SharedTile<@kRows, @kDim, bf16>>
!token_list = !tile.value<TokenList>
!token_rows = !tile.view<TokenRows<bf16, @kHeads, @kTileHeads, @kTokens>>
!token_tile = !tile.value<TokenTile>
!work_list = !tile.list<WorkList<@kEntries, @kTokens>>
!work_ring = !tile.ring<WorkRing<@kStages, @kEntries, @kTokens>>

tile.kernel @gradients attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !params) {
  %i = tile.block_index "x" : i32
  %pointer = tile.field %params "dout" : !params -> !pointer
  %gradient = tile.field %params "dq" : !params -> !pointer
  %bits = tile.field %params "buffer[1]" : !params -> !pointer
  %token_tile = tile.find_token %pointer, %pointer, %i, %i : (!pointer, !pointer, i32, i32) -> !token_tile
  %query_rows = tile.query_rows %token_tile, %i {tile_heads = @kTileHeads} : (!token_tile, i32) -> !query_rows
  %first_key = tile.block_index "x" : i32
  %first_head = tile.block_index "y" : i32
  %scale = tile.constant @kScale : f32
  %slope = tile.hook {
  ^bb0(%value: f32, %query: i32, %key: i32):
    tile.yield %value : f32
  }
  %marks = tile.shared bytes 4096 : !marks
  %tile = tile.shared bytes 4096 : !tile
  %logits = tile.register : !accumulator
  %changes = tile.register : !accumulator
  %own = tile.register : !row_statistics
  %columns = tile.register : !columns
  %step = tile.register : !step_keys
  %wants = tile.block_index "x" : i32
  // CHECK: clear_marks(marks);
  tile.clear_marks %marks : (!marks) -> ()
  // CHECK: mark_tokens<kTopK, kBlock>(marks, pointer, i, i, token_tile, i);
  tile.mark_tokens %marks, %pointer, %i, %i, %token_tile, %i {topk = @kTopK, block = @kBlock} : (!marks, !pointer, i32, i32, !token_tile, i32) -> ()
  // CHECK: store_marks<kBlock>(bits, marks, params, i, token_tile, i, i);
  tile.store_marks %bits, %marks, %params, %i, %token_tile, %i, %i {block = @kBlock} : (!pointer, !marks, !params, i32, !token_tile, i32, i32) -> ()
  // CHECK: open_lists(bits);
  tile.open_lists %bits : (!pointer) -> ()
  // CHECK: find_key_block<kKeys>(pointer, pointer, i, i, i);
  %key_block = tile.find_key_block %pointer, %pointer, %i, %i, %i {keys = @kKeys} : (!pointer, !pointer, i32, i32, i32) -> !key_block
  // CHECK: list_tokens<kBlock>(bits, bits, pointer, params, i, key_block);
  tile.list_tokens %bits, %bits, %pointer, %params, %i, %key_block {block = @kBlock} : (!pointer, !pointer, !pointer, !params, i32, !key_block) -> ()
  // CHECK: listed_tokens<kBlock>(pointer, pointer, params, i, key_block, all);
  %all = arith.constant false
  %token_list = tile.listed_tokens %pointer, %pointer, %params, %i, %key_block, %all {block = @kBlock} : (!pointer, !pointer, !params, i32, !key_block, i1) -> !token_list
  // CHECK: later_tokens(key_block);
  %later = tile.later_tokens %key_block : (!key_block) -> !token_list
  // CHECK: store_statistics<kHeads, kTileHeads, kValueDim, bf16>(bits, pointer, pointer, pointer, i, i);
  tile.store_statistics %bits, %pointer, %pointer, %pointer, %i, %i {heads = @kHeads, group = @kTileHeads, value_dim = @kValueDim, type = bf16} : (!pointer, !pointer, !pointer, !pointer, i32, i32) -> ()
  // CHECK: load_statistics<kTileHeads>(own, bits, query_rows, first_head, i);
  tile.load_statistics %own, %bits, %query_rows, %first_head, %i {group = @kTileHeads} : (!row_statistics, !pointer, !query_rows, i32, i32) -> ()
  // CHECK: subtract_deltas(changes, own);
  tile.subtract_deltas %changes, %own : (!accumulator, !row_statistics) -> ()
  // CHECK: multiply_slopes(changes, logits, query_rows, first_key, kScale, slope);
  tile.multiply_slopes %changes, %logits, %query_rows, %first_key, %scale, %slope : (!accumulator, !accumulator, !query_rows, i32, f32, !hook) -> ()
  // CHECK: weigh_changes(logits, changes, own, query_rows, wants, kScale);
  tile.weigh_changes %logits, %changes, %own, %query_rows, %wants, %scale : (!accumulator, !accumulator, !row_statistics, !query_rows, i32, f32) -> ()
  // CHECK: multiply_step_slopes(changes, logits, query_rows, step, kScale, slope);
  tile.multiply_step_slopes %changes, %logits, %query_rows, %step, %scale, %slope : (!accumulator, !accumulator, !query_rows, !step_keys, f32, !hook) -> ()
  // CHECK: weigh_step(logits, own, query_rows, step, kScale);
  tile.weigh_step %logits, %own, %query_rows, %step, %scale : (!accumulator, !row_statistics, !query_rows, !step_keys, f32) -> ()
  // CHECK: multiply_weights<true>(changes, logits);
  tile.multiply_weights %changes, %logits {guards = true} : (!accumulator, !accumulator) -> ()
  // CHECK: store_query_gradient<kHeads, bf16>(gradient, changes, query_rows, first_head, kScale);
  tile.store_query_gradient %gradient, %changes, %query_rows, %first_head, %scale {heads = @kHeads, type = bf16} : (!pointer, !accumulator, !query_rows, i32, f32) -> ()
  // CHECK: token_rows<bf16, kHeads, kTileHeads, kTokens>(pointer, token_list, key_block, first_head, i);
  %token_rows = tile.token_rows %pointer, %token_list, %key_block, %first_head, %i {type = bf16, heads = @kHeads, group = @kTileHeads, tokens = @kTokens} : (!pointer, !token_list, !key_block, i32, i32) -> !token_rows
  // CHECK: load_rows<kThreads>(tile, token_rows, i, i, i);
  tile.load_rows %tile, %token_rows, %i, %i, %i {threads = @kThreads} : (!tile, !token_rows, i32, i32, i32) -> ()
  // CHECK: load_columns<kTileHeads, kTokens>(columns, bits, token_list, key_block, i, first_head, i);
  tile.load_columns %columns, %bits, %token_list, %key_block, %i, %first_head, %i {group = @kTileHeads, tokens = @kTokens} : (!columns, !pointer, !token_list, !key_block, i32, i32, i32) -> ()
  // CHECK: subtract_column_deltas(changes, columns);
  tile.subtract_column_deltas %changes, %columns : (!accumulator, !columns) -> ()
  // CHECK: multiply_column_slopes(changes, logits, columns, first_key, kScale, slope);
  tile.multiply_column_slopes %changes, %logits, %columns, %first_key, %scale, %slope : (!accumulator, !accumulator, !columns, i32, f32, !hook) -> ()
  // CHECK: map_column_logits(logits, columns, first_key, kScale, slope);
  tile.map_column_logits %logits, %columns, %first_key, %scale, %slope : (!accumulator, !columns, i32, f32, !hook) -> ()
  // CHECK: weigh_columns(logits, changes, columns, first_key, kScale);
  tile.weigh_columns %logits, %changes, %columns, %first_key, %scale : (!accumulator, !accumulator, !columns, i32, f32) -> ()
  // CHECK: store_key_gradient<kKvHeads, bf16>(gradient, changes, key_block, i, i, kScale, all);
  tile.store_key_gradient %gradient, %changes, %key_block, %i, %i, %scale, %all {kv_heads = @kKvHeads, type = bf16} : (!pointer, !accumulator, !key_block, i32, i32, f32, i1) -> ()
  // CHECK: tokens_between(later, i, i);
  %part = tile.tokens_between %later, %i, %i : (!token_list, i32, i32) -> !token_list
  // CHECK: store_key_part<kKvHeads>(bits, changes, key_block, i, i, i, i, all);
  tile.store_key_part %bits, %changes, %key_block, %i, %i, %i, %i, %all {kv_heads = @kKvHeads} : (!pointer, !accumulator, !key_block, i32, i32, i32, i32, i1) -> ()
  // CHECK: join_key_parts<bf16, kWidth>(gradient, bits, i, i, i, kScale);
  tile.join_key_parts %gradient, %bits, %i, %i, %i, %scale {type = bf16, width = @kWidth} : (!pointer, !pointer, i32, i32, i32, f32) -> ()
  // Gradients by keys on warpgroups.
  %map = tile.field %params "map[0]" : !params -> !map
  %headers = tile.shared bytes 4096 : !headers
  %counts = tile.shared bytes 100 : !counts
  %row_barriers = tile.shared bytes 80 : !barriers
  %hints = tile.shared bytes 16 : !hints
  %items = tile.shared bytes 192 : !items
  %panels = tile.shared bytes 4096 : !panels
  %cursor = tile.register : !cursor
  %turn = tile.register : !item_cursor
  %feed = tile.register : !feed
  %stage_columns = tile.register : !stage_columns
  // CHECK: open_key_items(bits, i);
  tile.open_key_items %bits, %i : (!pointer, i32) -> ()
  // CHECK: take_key_item(bits);
  %taken = tile.take_key_item %bits : (!pointer) -> i32
  // CHECK: tile_of_pair(key_block, i);
  %half = tile.tile_of_pair %key_block, %i : (!key_block, i32) -> !key_block
  // CHECK: sees_range(half, i, i);
  %sees = tile.sees_range %half, %i, %i : (!key_block, i32, i32) -> i1
  // CHECK: list_pair_tokens<kBlock>(counts, bits, bits, pointer, params, i, key_block);
  tile.list_pair_tokens %counts, %bits, %bits, %pointer, %params, %i, %key_block {block = @kBlock} : (!counts, !pointer, !pointer, !pointer, !params, i32, !key_block) -> ()
  // CHECK: listed_pair(pointer, pointer, params, i, key_block, all, i, i);
  %tokens = tile.listed_pair %pointer, %pointer, %params, %i, %key_block, %all, %i, %i : (!pointer, !pointer, !params, i32, !key_block, i1, i32, i32) -> !pair_lists
  // CHECK: later_pair(key_block, i, i);
  %later_tokens = tile.later_pair %key_block, %i, %i : (!key_block, i32, i32) -> !pair_lists
  // CHECK: describe_item(items, turn, key_block, i, i, i, i, tokens);
  tile.describe_item %items, %turn, %key_block, %i, %i, %i, %i, %tokens : (!items, !item_cursor, !key_block, i32, i32, i32, i32, !pair_lists) -> ()
  // CHECK: end_items(items, turn);
  tile.end_items %items, %turn : (!items, !item_cursor) -> ()
  // CHECK: has_item(items, turn);
  %has = tile.has_item %items, %turn : (!items, !item_cursor) -> i1
  // CHECK: key_item(items, turn);
  %item = tile.key_item %items, %turn : (!items, !item_cursor) -> !item
  // CHECK: tile_of_item(items, turn, i);
  %item_tile = tile.tile_of_item %items, %turn, %i : (!items, !item_cursor, i32) -> !item_tile
  // CHECK: wait_turn(bits, i, i);
  tile.wait_turn %bits, %i, %i : (!pointer, i32, i32) -> ()
  // CHECK: pass_turn(bits, i, i, i);
  tile.pass_turn %bits, %i, %i, %i : (!pointer, i32, i32, i32) -> ()
  // CHECK: add_key_sums(changes, bits, i);
  tile.add_key_sums %changes, %bits, %i : (!accumulator, !pointer, i32) -> ()
  // CHECK: store_key_sums(bits, changes, i);
  tile.store_key_sums %bits, %changes, %i : (!pointer, !accumulator, i32) -> ()
  // CHECK: open_feed(feed, pointer, item);
  tile.open_feed %feed, %pointer, %item : (!feed, !pointer, !item) -> ()
  // CHECK: next_rows(feed, pointer);
  %row_tokens = tile.next_rows %feed, %pointer : (!feed, !pointer) -> !row_tokens
  // CHECK: clear_statistics(headers);
  tile.clear_statistics %headers : (!headers) -> ()
  // CHECK: describe_rows(headers, cursor, row_tokens, item);
  tile.describe_rows %headers, %cursor, %row_tokens, %item : (!headers, !cursor, !row_tokens, !item) -> ()
  // CHECK: end_rows(headers, cursor);
  tile.end_rows %headers, %cursor : (!headers, !cursor) -> ()
  // CHECK: announce_rows<kTokens>(row_barriers, cursor, i);
  tile.announce_rows %row_barriers, %cursor, %i {tokens = @kTokens} : (!barriers, !cursor, i32) -> ()
  // CHECK: rows_wanted(headers, cursor, i);
  %wanted = tile.rows_wanted %headers, %cursor, %i : (!headers, !cursor, i32) -> i32
  // CHECK: copy_token_rows<kTokens>(panels, map, i, row_tokens, i, i);
  tile.copy_token_rows %panels, %map, %i, %row_tokens, %i, %i {tokens = @kTokens} : (!panels, !map, i32, !row_tokens, i32, i32) -> ()
  // CHECK: copy_row_run(panels, map, i, row_tokens, i, i);
  tile.copy_row_run %panels, %map, %i, %row_tokens, %i, %i : (!panels, !map, i32, !row_tokens, i32, i32) -> ()
  // CHECK: copy_statistics<kTileHeads>(headers, cursor, pointer, i, row_tokens, i, i, i);
  tile.copy_statistics %headers, %cursor, %pointer, %i, %row_tokens, %i, %i, %i {group = @kTileHeads} : (!headers, !cursor, !pointer, i32, !row_tokens, i32, i32, i32) -> ()
  // CHECK: copy_statistics_run<kTileHeads>(headers, cursor, pointer, i, row_tokens, i, i, i);
  tile.copy_statistics_run %headers, %cursor, %pointer, %i, %row_tokens, %i, %i, %i {group = @kTileHeads} : (!headers, !cursor, !pointer, i32, !row_tokens, i32, i32, i32) -> ()
  // CHECK: find_columns<kTokenRows>(stage_columns, headers, cursor, i);
  tile.find_columns %stage_columns, %headers, %cursor, %i {token_rows = @kTokenRows} : (!stage_columns, !headers, !cursor, i32) -> ()
  // CHECK: weigh_columns(logits, changes, stage_columns, first_key, kScale);
  tile.weigh_columns %logits, %changes, %stage_columns, %first_key, %scale : (!accumulator, !accumulator, !stage_columns, i32, f32) -> ()
  // CHECK: clear_unweighted(changes, logits);
  tile.clear_unweighted %changes, %logits : (!accumulator, !accumulator) -> ()
  // CHECK: open_hints(hints);
  tile.open_hints %hints : (!hints) -> ()
  // CHECK: claim_products(hints, i);
  tile.claim_products %hints, %i : (!hints, i32) -> ()
  // CHECK: yield_products(hints, i);
  tile.yield_products %hints, %i : (!hints, i32) -> ()
  %change_tile = tile.shared bytes 24576 : !change_tile
  %change_table = tile.shared bytes 1536 : !change_table
  %work_ring = tile.shared bytes 4096 : !work_ring
  %work_list = tile.stage %work_ring, %cursor : (!work_ring, !cursor) -> !work_list
  %left_operand = tile.register : !left_operand
  // CHECK: const auto places = change_places<kKvHeads>(bits, params);
  %places = tile.change_places %bits, %params {selections = @kKvHeads} : (!pointer, !params) -> !places
  // CHECK: place_changes<kBlock, kRangeTokens, kWarps>(places, pointer, params, i, key_block, all);
  tile.place_changes %places, %pointer, %params, %i, %key_block, %all {block = @kBlock, range_tokens = @kRangeTokens, warps = @kWarps} : (!places, !pointer, !params, i32, !key_block, i1) -> ()
  // CHECK: take_chunk_item(places, i);
  %taken_of_chunk = tile.take_chunk_item %places, %i : (!places, i32) -> i32
  // CHECK: place_item(items, turn, places, params, i, key_block, i);
  tile.place_item %items, %turn, %places, %params, %i, %key_block, %i : (!items, !item_cursor, !places, !params, i32, !key_block, i32) -> ()
  // CHECK: place_rows(headers, cursor, feed, row_tokens, item);
  tile.place_rows %headers, %cursor, %feed, %row_tokens, %item : (!headers, !cursor, !feed, !row_tokens, !item) -> ()
  // CHECK: store_changes(places, left_operand, headers, cursor, i);
  tile.store_changes %places, %left_operand, %headers, %cursor, %i : (!places, !left_operand, !headers, !cursor, i32) -> ()
  // CHECK: find_changes<kBlock>(change_table, places, pointer, params, work_list, i, i, all);
  tile.find_changes %change_table, %places, %pointer, %params, %work_list, %i, %i, %all {block = @kBlock} : (!change_table, !places, !pointer, !params, !work_list, i32, i32, i1) -> ()
  // CHECK: copy_changes(change_tile, i, change_table, places, work_list, i);
  tile.copy_changes %change_tile, %i, %change_table, %places, %work_list, %i : (!change_tile, i32, !change_table, !places, !work_list, i32) -> ()
  // CHECK: load_changes(left_operand, change_tile, work_list, i, i);
  tile.load_changes %left_operand, %change_tile, %work_list, %i, %i : (!left_operand, !change_tile, !work_list, i32, i32) -> ()
}
