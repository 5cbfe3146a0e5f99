// What the verifiers refuse of the leaves of dialect/tile/leaves/softmax.td.
// RUN: winnow-opt %s -split-input-file -verify-diagnostics

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %sums = tile.register : !tile.fragment<Accumulator<16, 64>>
  %state = tile.register : !tile.state<SoftmaxState>
  %scale = tile.constant @kScale : f32
  // expected-error@+1 {{operand #0 must be SoftmaxState (state), but got '!tile.fragment<Accumulator<16, 64>>'}}
  %raised = tile.raise_maximum %sums, %sums, %scale : (!tile.fragment<Accumulator<16, 64>>, !tile.fragment<Accumulator<16, 64>>, f32) -> i1
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !tile.value<Params> -> !tile.view<Pointer>
  %tokens = tile.find_token %ids, %ids, %i, %i : (!tile.view<Pointer>, !tile.view<Pointer>, i32, i32) -> !tile.value<TokenTile>
  %sums = tile.register : !tile.fragment<Accumulator<16, 64>>
  // expected-error@+1 {{operand #1 must be QueryRows (value), but got '!tile.value<TokenTile>'}}
  tile.mask_causal %sums, %tokens, %i : (!tile.fragment<Accumulator<16, 64>>, !tile.value<TokenTile>, i32) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %sums = tile.register : !tile.fragment<Accumulator<16, 64>>
  %state = tile.register : !tile.state<SoftmaxState>
  // expected-error@+1 {{operand #0 must be Accumulator (fragment), but got '!tile.state<SoftmaxState>'}}
  tile.rescale_rows %state, %sums : (!tile.state<SoftmaxState>, !tile.fragment<Accumulator<16, 64>>) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !tile.value<Params> -> !tile.view<Pointer>
  %tokens = tile.find_token %ids, %ids, %i, %i : (!tile.view<Pointer>, !tile.view<Pointer>, i32, i32) -> !tile.value<TokenTile>
  %rows = tile.query_rows %tokens, %i {tile_heads = @kTileHeads} : (!tile.value<TokenTile>, i32) -> !tile.value<QueryRows>
  %sums = tile.register : !tile.fragment<Accumulator<16, 64>>
  // expected-error@+1 {{operand #3 must be 32-bit float, but got 'i32'}}
  tile.map_logits %sums, %rows, %i, %i, %i : (!tile.fragment<Accumulator<16, 64>>, !tile.value<QueryRows>, i32, i32, i32) -> ()
}

// -----

// Logits are in registers.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %sums = tile.register : !tile.fragment<Accumulator<16, 64>>
  %state = tile.register : !tile.state<SoftmaxState>
  %tile = tile.shared bytes 16384 : !tile.shared_tile<SharedTile<64, 128, bf16>>
  %scale = tile.constant @kScale : f32
  // expected-error@+1 {{operand #0 must be Accumulator (fragment), but got '!tile.shared_tile<SharedTile<64, 128, bf16>>'}}
  tile.exponentiate %tile, %state, %scale : (!tile.shared_tile<SharedTile<64, 128, bf16>>, !tile.state<SoftmaxState>, f32) -> ()
}
