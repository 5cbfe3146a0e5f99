// What the verifiers refuse of the leaves of dialect/tile/leaves/scores.td.
// RUN: winnow-opt %s -split-input-file -verify-diagnostics

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %sums = tile.register : !tile.fragment<Accumulator<16, 64>>
  %sum = tile.register : !tile.state<LogSumExp<8>>
  // expected-error@+1 {{operand #0 must be LogSumExp (state), but got '!tile.fragment<Accumulator<16, 64>>'}}
  tile.add_powers %sums, %i, %sums : (!tile.fragment<Accumulator<16, 64>>, i32, !tile.fragment<Accumulator<16, 64>>) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %sums = tile.register : !tile.fragment<Accumulator<16, 64>>
  %table = tile.shared bytes 64 : !tile.table<NormalizerTable<16>>
  // expected-error@+1 {{operand #0 must be RowScores (state) or TokenScores (state), but got '!tile.table<NormalizerTable<16>>'}}
  tile.clear_scores %table {combine = "Sum"} : (!tile.table<NormalizerTable<16>>) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %sums = tile.register : !tile.fragment<Accumulator<16, 64>>
  %scores = tile.register : !tile.state<RowScores>
  // expected-error@+1 {{operand #2 must be NormalizerTable (table), but got '!tile.fragment<Accumulator<16, 64>>'}}
  tile.add_weighted_heads %scores, %sums, %sums, %i {group = 16 : i32} : (!tile.state<RowScores>, !tile.fragment<Accumulator<16, 64>>, !tile.fragment<Accumulator<16, 64>>, i32) -> ()
}

// -----

// An element type is no text.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !tile.value<Params> -> !tile.view<Pointer>
  // expected-error@+1 {{attribute 'element' failed to satisfy constraint}}
  %row = tile.score_row %ids, %i, %i, %i, %i {element = "float"} : (!tile.view<Pointer>, i32, i32, i32, i32) -> !tile.view<Pointer>
}

// -----

// A lane of the warp that pools takes 32 scores.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %scores = tile.register : !tile.state<RowScores>
  %tile_scores = tile.shared bytes 512 : !tile.table<TileScores<128>>
  // expected-error@+1 {{operand #0 must be TokenScores (state), but got '!tile.state<RowScores>'}}
  tile.take_tile_scores %scores, %tile_scores : (!tile.state<RowScores>, !tile.table<TileScores<128>>) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %table = tile.shared bytes 64 : !tile.table<NormalizerTable<16>>
  %buffer = tile.field %params "buffer[0]" : !tile.value<Params> -> !tile.view<Pointer>
  // expected-error@+1 {{operand #1 must be NormalizerSums (state), but got '!tile.table<NormalizerTable<16>>'}}
  tile.store_normalizer_share %buffer, %table, %i, %i, %i, %i {heads = 32 : i32, tile_heads = 16 : i32} : (!tile.view<Pointer>, !tile.table<NormalizerTable<16>>, i32, i32, i32, i32) -> ()
}
