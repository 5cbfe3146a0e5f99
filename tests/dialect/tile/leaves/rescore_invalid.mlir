// What the verifiers refuse of the leaves of dialect/tile/leaves/rescore.td.
// RUN: winnow-opt %s -split-input-file -verify-diagnostics

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %counts = tile.shared bytes 16 : !tile.table<WarpCounts<4>>
  // expected-error@+1 {{operand #0 must be RowMarks (table), but got '!tile.table<WarpCounts<4>>'}}
  %count = tile.count_unordered %counts : (!tile.table<WarpCounts<4>>) -> i32
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %keys = tile.register : !tile.state<BlockRanks<4>>
  %ids = tile.field %params "ids" : !tile.value<Params> -> !tile.view<Pointer>
  // expected-error@+1 {{operand #0 must be ThresholdSearch (cursor), but got '!tile.state<BlockRanks<4>>'}}
  %leaves = tile.leaves_order %keys, %i {topk = @kTopK} : (!tile.state<BlockRanks<4>>, i32) -> i1
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %tile = tile.shared bytes 16384 : !tile.shared_tile<SharedTile<64, 128, bf16>>
  // expected-error@+1 {{operand #0 must be Pointer (view), but got '!tile.shared_tile<SharedTile<64, 128, bf16>>'}}
  %count = tile.count_octaves %tile, %i, %i, %i {threads = 128 : i32} : (!tile.shared_tile<SharedTile<64, 128, bf16>>, i32, i32, i32) -> i32
}
