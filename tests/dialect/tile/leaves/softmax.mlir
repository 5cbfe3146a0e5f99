// The leaves of dialect/tile/leaves/softmax.td: what each prints as. leaves.test wants a line for every leaf.
// RUN: winnow-translate %s | FileCheck %s

!accumulator = !tile.fragment<Accumulator<16, @kKeys>>
!cursor = !tile.cursor<Cursor<@kStages>>
!hook = !tile.value<Hook>
!params = !tile.value<Params>
!pointer = !tile.view<Pointer>
!query_rows = !tile.value<QueryRows>
!softmax_state = !tile.state<SoftmaxState>
!step_keys = !tile.state<StepKeys<@kParts>>
!step_sums = !tile.state<StepSums>
!token_tile = !tile.value<TokenTile>
!work_list = !tile.list<WorkList<@kEntries, @kTokens>>
!work_ring = !tile.ring<WorkRing<@kStages, @kEntries, @kTokens>>

tile.kernel @softmax attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !params) {
  %i = tile.block_index "x" : i32
  %accumulator = tile.register : !accumulator
  %ids = tile.field %params "ids" : !params -> !pointer
  %pointer = tile.id_row %ids, %i, %i, %i {topk = @kTopK} : (!pointer, i32, i32, i32) -> !pointer
  %token_tile = tile.find_token %pointer, %pointer, %i, %i : (!pointer, !pointer, i32, i32) -> !token_tile
  %query_rows = tile.query_rows %token_tile, %i {tile_heads = @kTileHeads} : (!token_tile, i32) -> !query_rows
  %first_key = tile.block_index "x" : i32
  %scale = tile.constant @kScale : f32
  %hook = tile.hook {
  ^bb0(%value: f32, %query: i32, %key: i32):
    tile.yield %value : f32
  }
  %softmax_state = tile.register : !softmax_state
  %wants = tile.block_index "x" : i32
  %first_head = tile.block_index "x" : i32
  %total_q = tile.block_index "x" : i32
  %step_keys = tile.register : !step_keys
  %work_ring = tile.shared bytes 16 : !work_ring
  %cursor = tile.register : !cursor
  %work_list = tile.stage %work_ring, %cursor : (!work_ring, !cursor) -> !work_list
  %entry = tile.block_index "x" : i32
  %warp = tile.block_index "x" : i32
  %step_sums = tile.register : !step_sums
  // CHECK: mask_causal(accumulator, query_rows, first_key);
  tile.mask_causal %accumulator, %query_rows, %first_key : (!accumulator, !query_rows, i32) -> ()
  // CHECK: map_logits(accumulator, query_rows, first_key, kScale, hook);
  tile.map_logits %accumulator, %query_rows, %first_key, %scale, %hook : (!accumulator, !query_rows, i32, f32, !hook) -> ()
  // CHECK: const bool raised = raise_maximum(softmax_state, accumulator, kScale);
  %raised = tile.raise_maximum %softmax_state, %accumulator, %scale : (!softmax_state, !accumulator, f32) -> i1
  // CHECK: const bool raised_2 = raise_wanted_maximum(softmax_state, accumulator, query_rows, wants, kScale);
  %raised_2 = tile.raise_wanted_maximum %softmax_state, %accumulator, %query_rows, %wants, %scale : (!softmax_state, !accumulator, !query_rows, i32, f32) -> i1
  // CHECK: rescale_rows(accumulator, softmax_state);
  tile.rescale_rows %accumulator, %softmax_state : (!accumulator, !softmax_state) -> ()
  // CHECK: exponentiate(accumulator, softmax_state, kScale);
  tile.exponentiate %accumulator, %softmax_state, %scale : (!accumulator, !softmax_state, f32) -> ()
  // CHECK: exponentiate_wanted(accumulator, softmax_state, query_rows, wants, kScale);
  tile.exponentiate_wanted %accumulator, %softmax_state, %query_rows, %wants, %scale : (!accumulator, !softmax_state, !query_rows, i32, f32) -> ()
  // CHECK: reduce_sum(softmax_state);
  tile.reduce_sum %softmax_state : (!softmax_state) -> ()
  // CHECK: store_output<kHeads, bf16>(pointer, accumulator, softmax_state, query_rows, first_head);
  tile.store_output %pointer, %accumulator, %softmax_state, %query_rows, %first_head {heads = @kHeads, type = bf16} : (!pointer, !accumulator, !softmax_state, !query_rows, i32) -> ()
  // CHECK: store_lse(pointer, softmax_state, query_rows, first_head, total_q, kScale);
  tile.store_lse %pointer, %softmax_state, %query_rows, %first_head, %total_q, %scale : (!pointer, !softmax_state, !query_rows, i32, i32, f32) -> ()
  // CHECK: read_step<kKeys, kWarpTokens>(step_keys, work_list, entry, warp);
  tile.read_step %step_keys, %work_list, %entry, %warp {keys = @kKeys, warp_tokens = @kWarpTokens} : (!step_keys, !work_list, i32, i32) -> ()
  // CHECK: const bool wanted = is_wanted(step_keys);
  %wanted = tile.is_wanted %step_keys : (!step_keys) -> i1
  // CHECK: mask_step(accumulator, query_rows, step_keys);
  tile.mask_step %accumulator, %query_rows, %step_keys : (!accumulator, !query_rows, !step_keys) -> ()
  // CHECK: map_step(accumulator, query_rows, step_keys, kScale, hook);
  tile.map_step %accumulator, %query_rows, %step_keys, %scale, %hook : (!accumulator, !query_rows, !step_keys, f32, !hook) -> ()
  // CHECK: const bool raised_3 = raise_step_maximum(softmax_state, accumulator, query_rows, step_keys, kScale);
  %raised_3 = tile.raise_step_maximum %softmax_state, %accumulator, %query_rows, %step_keys, %scale : (!softmax_state, !accumulator, !query_rows, !step_keys, f32) -> i1
  // CHECK: exponentiate_step<2>(step_sums, accumulator, softmax_state, query_rows, step_keys, kScale);
  tile.exponentiate_step %step_sums, %accumulator, %softmax_state, %query_rows, %step_keys, %scale {fma_columns = 2 : i32} : (!step_sums, !accumulator, !softmax_state, !query_rows, !step_keys, f32) -> ()
  // CHECK: const bool leaves = leaves_range<bf16>(step_sums);
  %leaves = tile.leaves_range %step_sums {type = bf16} : (!step_sums) -> i1
  // CHECK: add_step(softmax_state, step_sums);
  tile.add_step %softmax_state, %step_sums : (!softmax_state, !step_sums) -> ()
}
