// What the verifiers refuse of the leaves of dialect/tile/leaves/topk.td.
// RUN: winnow-opt %s -split-input-file -verify-diagnostics

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %sums = tile.register : !tile.fragment<Accumulator<16, 64>>
  // expected-error@+1 {{operand #0 must be BlockRanks (state) or RankPairs (state), but got '!tile.fragment<Accumulator<16, 64>>'}}
  %count = tile.count_at_least %sums, %i : (!tile.fragment<Accumulator<16, 64>>, i32) -> i32
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %pairs = tile.register : !tile.state<RankPairs<2>>
  // expected-error@+1 {{operand #0 must be BlockRanks (state), but got '!tile.state<RankPairs<2>>'}}
  %count = tile.count_above %pairs, %i : (!tile.state<RankPairs<2>>, i32) -> i32
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %cursor = tile.register : !tile.cursor<Cursor<@kStages>>
  // expected-error@+1 {{operand #0 must be ThresholdSearch (cursor), but got '!tile.cursor<Cursor<@kStages>>'}}
  %open = tile.is_open %cursor : (!tile.cursor<Cursor<@kStages>>) -> i1
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %search = tile.register : !tile.cursor<ThresholdSearch>
  // expected-error@+2 {{failed to infer returned types}}
  // expected-error@+1 {{'ThresholdSearch' has no member 'limit'}}
  %wanted = tile.field %search "limit" : !tile.cursor<ThresholdSearch> -> i32
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %counts = tile.shared bytes 16 : !tile.table<WarpCounts<4>>
  // expected-error@+1 {{operand #0 must be WarpCounts (table), but got 'i32'}}
  tile.store_count %i, %i, %i : (i32, i32, i32) -> ()
}
