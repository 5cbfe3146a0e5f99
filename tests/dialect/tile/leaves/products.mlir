// The leaves of dialect/tile/leaves/products.td: what each prints as. leaves.test wants a line for every leaf.
// RUN: winnow-translate %s | FileCheck %s

!accumulator = !tile.fragment<Accumulator<16, @kKeys>>
!fp16_operand = !tile.fragment<LeftOperand<16, @kDim, f16>>
!fp8_tile = !tile.shared_tile<SharedTile<@kKeys, @kDim, f8E4M3FN>>
!left_operand = !tile.fragment<LeftOperand<16, @kDim, bf16>>
!logit_scale = !tile.state<LogitScale>
!log_sum_exp = !tile.state<LogSumExp<8>>
!panel_tile = !tile.shared_tile<PanelTile<@kKeys, @kDim, bf16>>
!params = !tile.value<Params>
!pointer = !tile.view<Pointer>
!query_rows = !tile.value<QueryRows>
!right_operand = !tile.fragment<RightOperand<32, @kDim, bf16>>
!shared_tile = !tile.shared_tile<SharedTile<@kKeys, @kDim, bf16>>
!softmax_state = !tile.state<SoftmaxState>
!token_tile = !tile.value<TokenTile>

tile.kernel @products attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !params) {
  %i = tile.block_index "x" : i32
  %accumulator = tile.register : !accumulator
  %log_sum_exp = tile.register : !log_sum_exp
  %softmax_state = tile.register : !softmax_state
  %left_operand = tile.register : !left_operand
  %ids = tile.field %params "ids" : !params -> !pointer
  %pointer = tile.id_row %ids, %i, %i, %i {topk = @kTopK} : (!pointer, i32, i32, i32) -> !pointer
  %token_tile = tile.find_token %pointer, %pointer, %i, %i : (!pointer, !pointer, i32, i32) -> !token_tile
  %query_rows = tile.query_rows %token_tile, %i {tile_heads = @kTileHeads} : (!token_tile, i32) -> !query_rows
  %first_head = tile.block_index "x" : i32
  %right_operand = tile.register : !right_operand
  %shared_tile = tile.shared bytes 16 : !shared_tile
  %first_row = tile.block_index "x" : i32
  %accumulator_2 = tile.register : !accumulator
  %left_operand_2 = tile.register : !left_operand
  %panel_tile = tile.shared bytes 16 : !panel_tile
  // CHECK: clear(accumulator);
  tile.clear %accumulator : (!accumulator) -> ()
  // CHECK: clear(log_sum_exp);
  tile.clear %log_sum_exp : (!log_sum_exp) -> ()
  // CHECK: clear(softmax_state);
  tile.clear %softmax_state : (!softmax_state) -> ()
  // CHECK: load_query<kHeads>(left_operand, pointer, query_rows, first_head);
  tile.load_query %left_operand, %pointer, %query_rows, %first_head {heads = @kHeads} : (!left_operand, !pointer, !query_rows, i32) -> ()
  %fp16_operand = tile.register : !fp16_operand
  %logit_scale = tile.register : !logit_scale
  %scale = tile.constant @kScale : f32
  // CHECK: load_query_fp16<kHeads, bf16>(fp16_operand, logit_scale, pointer, query_rows, first_head, kScale);
  tile.load_query_fp16 %fp16_operand, %logit_scale, %pointer, %query_rows, %first_head, %scale {heads = @kHeads, type = bf16} : (!fp16_operand, !logit_scale, !pointer, !query_rows, i32, f32) -> ()
  // CHECK: const float value = scale_of(logit_scale);
  %value = tile.scale_of %logit_scale : (!logit_scale) -> f32
  // CHECK: order_columns(accumulator, value);
  tile.order_columns %accumulator, %value : (!accumulator, f32) -> ()
  %fp8_tile = tile.shared bytes 16 : !fp8_tile
  // CHECK: mma_abt(accumulator, fp16_operand, fp8_tile);
  tile.mma_abt %accumulator, %fp16_operand, %fp8_tile : (!accumulator, !fp16_operand, !fp8_tile) -> ()
  // CHECK: load_operand(right_operand, shared_tile, first_row);
  tile.load_operand %right_operand, %shared_tile, %first_row : (!right_operand, !shared_tile, i32) -> ()
  // CHECK: round_to_operand(left_operand, accumulator);
  tile.round_to_operand %left_operand, %accumulator : (!left_operand, !accumulator) -> ()
  // CHECK: mma_abt(accumulator, left_operand, shared_tile);
  tile.mma_abt %accumulator, %left_operand, %shared_tile : (!accumulator, !left_operand, !shared_tile) -> ()
  // CHECK: mma_abt(accumulator, shared_tile, first_row, right_operand);
  tile.mma_abt %accumulator, %shared_tile, %first_row, %right_operand : (!accumulator, !shared_tile, i32, !right_operand) -> ()
  // CHECK: mma_abt_rows(accumulator, shared_tile, first_row, shared_tile, first_row);
  tile.mma_abt_rows %accumulator, %shared_tile, %first_row, %shared_tile, %first_row : (!accumulator, !shared_tile, i32, !shared_tile, i32) -> ()
  // CHECK: mma_abt_pair(accumulator, accumulator_2, left_operand, left_operand_2, shared_tile);
  tile.mma_abt_pair %accumulator, %accumulator_2, %left_operand, %left_operand_2, %shared_tile : (!accumulator, !accumulator, !left_operand, !left_operand, !shared_tile) -> ()
  // CHECK: mma_ab(accumulator, left_operand, shared_tile);
  tile.mma_ab %accumulator, %left_operand, %shared_tile : (!accumulator, !left_operand, !shared_tile) -> ()
  // CHECK: mma_ab_pair(accumulator, accumulator_2, left_operand, left_operand_2, shared_tile);
  tile.mma_ab_pair %accumulator, %accumulator_2, %left_operand, %left_operand_2, %shared_tile : (!accumulator, !accumulator, !left_operand, !left_operand, !shared_tile) -> ()
  // CHECK: start_abt(accumulator, panel_tile, panel_tile);
  tile.start_abt %accumulator, %panel_tile, %panel_tile : (!accumulator, !panel_tile, !panel_tile) -> ()
  // CHECK: start_ab(accumulator, left_operand, panel_tile);
  tile.start_ab %accumulator, %left_operand, %panel_tile : (!accumulator, !left_operand, !panel_tile) -> ()
  // CHECK: wait_products<1>(accumulator);
  tile.wait_products %accumulator {pending = 1 : i32} : (!accumulator) -> ()
  // CHECK: warp_abt<kDim / 16>(accumulator, panel_tile, first_row, panel_tile);
  tile.warp_abt %accumulator, %panel_tile, %first_row, %panel_tile {unroll = "kDim / 16"} : (!accumulator, !panel_tile, i32, !panel_tile) -> ()
  // CHECK: warp_ab(accumulator, left_operand, panel_tile);
  tile.warp_ab %accumulator, %left_operand, %panel_tile : (!accumulator, !left_operand, !panel_tile) -> ()
}
