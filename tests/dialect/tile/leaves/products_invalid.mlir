// What the verifiers refuse of the leaves of dialect/tile/leaves/products.td.
// RUN: winnow-opt %s -split-input-file -verify-diagnostics

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %cursor = tile.register : !tile.cursor<Cursor<@kStages>>
  %left = tile.register : !tile.fragment<LeftOperand<16, 128, bf16>>
  %tile = tile.shared bytes 16384 : !tile.shared_tile<SharedTile<64, 128, bf16>>
  // expected-error@+1 {{operand #0 must be Accumulator (fragment), but got '!tile.cursor<Cursor<@kStages>>'}}
  tile.mma_abt %cursor, %left, %tile : (!tile.cursor<Cursor<@kStages>>, !tile.fragment<LeftOperand<16, 128, bf16>>, !tile.shared_tile<SharedTile<64, 128, bf16>>) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %sums = tile.register : !tile.fragment<Accumulator<16, 64>>
  %left = tile.register : !tile.fragment<LeftOperand<16, 128, bf16>>
  // expected-error@+1 {{operand #2 must be SharedTile (shared_tile) or RightOperand (fragment), but got '!tile.value<Params>'}}
  tile.mma_abt %sums, %left, %params : (!tile.fragment<Accumulator<16, 64>>, !tile.fragment<LeftOperand<16, 128, bf16>>, !tile.value<Params>) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %sums = tile.register : !tile.fragment<Accumulator<16, 32>>
  %left = tile.register : !tile.fragment<LeftOperand<16, 128, bf16>>
  %right = tile.register : !tile.fragment<RightOperand<32, 128, bf16>>
  // expected-error@+1 {{multiplies a LeftOperand by a SharedTile, or a SharedTile from a first row on by a RightOperand}}
  tile.mma_abt %sums, %left, %right : (!tile.fragment<Accumulator<16, 32>>, !tile.fragment<LeftOperand<16, 128, bf16>>, !tile.fragment<RightOperand<32, 128, bf16>>) -> ()
}

// -----

// wgmma reads panels, not the tiles of ldmatrix.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %sums = tile.register : !tile.fragment<Accumulator<16, 64>>
  %tile = tile.shared bytes 16384 : !tile.shared_tile<SharedTile<64, 128, bf16>>
  // expected-error@+1 {{operand #1 must be PanelTile (shared_tile), but got '!tile.shared_tile<SharedTile<64, 128, bf16>>'}}
  tile.start_abt %sums, %tile, %tile : (!tile.fragment<Accumulator<16, 64>>, !tile.shared_tile<SharedTile<64, 128, bf16>>, !tile.shared_tile<SharedTile<64, 128, bf16>>) -> ()
}

// -----

// The destination comes first.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %sums = tile.register : !tile.fragment<Accumulator<16, 64>>
  %left = tile.register : !tile.fragment<LeftOperand<16, 128, bf16>>
  %tile = tile.shared bytes 16384 : !tile.shared_tile<SharedTile<64, 128, bf16>>
  // expected-error@+1 {{operand #0 must be Accumulator (fragment), but got '!tile.fragment<LeftOperand<16, 128, bf16>>'}}
  tile.mma_ab %left, %sums, %tile : (!tile.fragment<LeftOperand<16, 128, bf16>>, !tile.fragment<Accumulator<16, 64>>, !tile.shared_tile<SharedTile<64, 128, bf16>>) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %tile = tile.shared bytes 16384 : !tile.shared_tile<SharedTile<64, 128, bf16>>
  // expected-error@+1 {{operand #0 must be Accumulator (fragment) or LogSumExp (state) or SoftmaxState (state), but got '!tile.shared_tile<SharedTile<64, 128, bf16>>'}}
  tile.clear %tile : (!tile.shared_tile<SharedTile<64, 128, bf16>>) -> ()
}

// -----

// The depths of the factors agree, by number or by the constant's value; so do columns and element types.
tile.kernel @k attributes {constants = [#tile.named<"kDim" = 64 : i32, "">], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %sums = tile.register : !tile.fragment<Accumulator<16, 32>>
  %left = tile.register : !tile.fragment<LeftOperand<16, @kDim, bf16>>
  %fits = tile.shared bytes 4096 : !tile.shared_tile<SharedTile<32, 64, bf16>>
  %deep = tile.shared bytes 8192 : !tile.shared_tile<SharedTile<32, 128, bf16>>
  tile.mma_abt %sums, %left, %fits : (!tile.fragment<Accumulator<16, 32>>, !tile.fragment<LeftOperand<16, @kDim, bf16>>, !tile.shared_tile<SharedTile<32, 64, bf16>>) -> ()
  // expected-error@+1 {{has '!tile.fragment<LeftOperand<16, @kDim, bf16>>' beside the right factor '!tile.shared_tile<SharedTile<32, 128, bf16>>': they do not fit each other}}
  tile.mma_abt %sums, %left, %deep : (!tile.fragment<Accumulator<16, 32>>, !tile.fragment<LeftOperand<16, @kDim, bf16>>, !tile.shared_tile<SharedTile<32, 128, bf16>>) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %sums = tile.register : !tile.fragment<Accumulator<16, 32>>
  %left = tile.register : !tile.fragment<LeftOperand<16, 64, f16>>
  %tile = tile.shared bytes 4096 : !tile.shared_tile<SharedTile<64, 32, bf16>>
  // expected-error@+1 {{has '!tile.fragment<LeftOperand<16, 64, f16>>' beside the right factor '!tile.shared_tile<SharedTile<64, 32, bf16>>': they do not fit each other}}
  tile.mma_ab %sums, %left, %tile : (!tile.fragment<Accumulator<16, 32>>, !tile.fragment<LeftOperand<16, 64, f16>>, !tile.shared_tile<SharedTile<64, 32, bf16>>) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %sums = tile.register : !tile.fragment<Accumulator<16, 64>>
  %left = tile.register : !tile.fragment<LeftOperand<16, 64, bf16>>
  %tile = tile.shared bytes 4096 : !tile.shared_tile<PanelTile<64, 32, bf16>>
  // expected-error@+1 {{has '!tile.fragment<Accumulator<16, 64>>' beside the right factor '!tile.shared_tile<PanelTile<64, 32, bf16>>': they do not fit each other}}
  tile.start_ab %sums, %left, %tile : (!tile.fragment<Accumulator<16, 64>>, !tile.fragment<LeftOperand<16, 64, bf16>>, !tile.shared_tile<PanelTile<64, 32, bf16>>) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %sums = tile.register : !tile.fragment<Accumulator<16, 32>>
  %left = tile.register : !tile.fragment<LeftOperand<16, 64, bf16>>
  %tile = tile.shared bytes 4096 : !tile.shared_tile<SharedTile<32, 64, bf16>>
  // expected-error@+1 {{operand #1 must be SharedTile (shared_tile), but got '!tile.fragment<LeftOperand<16, 64, bf16>>'}}
  tile.mma_abt_rows %sums, %left, %i, %tile, %i : (!tile.fragment<Accumulator<16, 32>>, !tile.fragment<LeftOperand<16, 64, bf16>>, i32, !tile.shared_tile<SharedTile<32, 64, bf16>>, i32) -> ()
}

// -----

// What is converted as it is loaded becomes fp16.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %sums = tile.register : !tile.fragment<Accumulator<16, 64>>
  %left = tile.register : !tile.fragment<LeftOperand<16, 128, bf16>>
  %tile = tile.shared bytes 8192 : !tile.shared_tile<SharedTile<64, 128, f8E4M3FN>>
  // expected-error@+1 {{has '!tile.fragment<LeftOperand<16, 128, bf16>>' beside the right factor '!tile.shared_tile<SharedTile<64, 128, f8E4M3FN>>': they do not fit each other}}
  tile.mma_abt %sums, %left, %tile : (!tile.fragment<Accumulator<16, 64>>, !tile.fragment<LeftOperand<16, 128, bf16>>, !tile.shared_tile<SharedTile<64, 128, f8E4M3FN>>) -> ()
}
