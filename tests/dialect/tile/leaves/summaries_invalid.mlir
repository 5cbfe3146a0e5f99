// What the verifiers refuse of the leaves of dialect/tile/leaves/summaries.td.
// RUN: winnow-opt %s -split-input-file -verify-diagnostics

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %sums = tile.register : !tile.fragment<Accumulator<16, 64>>
  // expected-error@+1 {{operand #0 must be ChannelSums (state), but got '!tile.fragment<Accumulator<16, 64>>'}}
  tile.add_row %sums, %params, %i, %i : (!tile.fragment<Accumulator<16, 64>>, !tile.value<Params>, i32, i32) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %channels = tile.register : !tile.state<ChannelSums>
  %tile = tile.shared bytes 16384 : !tile.shared_tile<SharedTile<64, 128, bf16>>
  // expected-error@+1 {{operand #1 must be GlobalRows (view) or PagedRows (view) or SummaryImages (view), but got '!tile.shared_tile<SharedTile<64, 128, bf16>>'}}
  tile.add_row %channels, %tile, %i, %i : (!tile.state<ChannelSums>, !tile.shared_tile<SharedTile<64, 128, bf16>>, i32, i32) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !tile.value<Params> -> !tile.view<Pointer>
  // expected-error@+1 {{result #0 must be GlobalRows (view), but got '!tile.view<SummaryImages<bf16, 128>>'}}
  %rows = tile.summary_of %ids, %i, %i, %i {dim = 128 : i32, stride = 16 : i32, type = bf16} : (!tile.view<Pointer>, i32, i32, i32) -> !tile.view<SummaryImages<bf16, 128>>
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  // expected-error@+1 {{requires attribute 'stride'}}
  %rows = tile.summary_rows %i {window = 32 : i32} : (i32) -> i32
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !tile.value<Params> -> !tile.view<Pointer>
  %tile = tile.find_token %ids, %ids, %i, %i : (!tile.view<Pointer>, !tile.view<Pointer>, i32, i32) -> !tile.value<TokenTile>
  %images = tile.images_of %ids, %i, %i, %i, %tile {dim = 128 : i32, stride = 16 : i32, type = bf16} : (!tile.view<Pointer>, i32, i32, i32, !tile.value<TokenTile>) -> !tile.view<SummaryImages<bf16, 128>>
  %sums = tile.register : !tile.state<ChannelSums>
  %one = arith.constant 1.0 : f32
  // expected-error@+1 {{operand #0 must be GlobalRows (view) or PagedRows (view), but got '!tile.view<SummaryImages<bf16, 128>>'}}
  tile.store_mean %images, %i, %i, %sums, %one, %one : (!tile.view<SummaryImages<bf16, 128>>, i32, i32, !tile.state<ChannelSums>, f32, f32) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !tile.value<Params> -> !tile.view<Pointer>
  // expected-error@+1 {{operand #2 must be TokenTile (value), but got '!tile.view<Pointer>'}}
  %rows = tile.kept_rows %params, %i, %ids, %i {stride = 16 : i32, type = bf16, window = 32 : i32} : (!tile.value<Params>, i32, !tile.view<Pointer>, i32) -> !tile.view<PagedRows<bf16>>
}
