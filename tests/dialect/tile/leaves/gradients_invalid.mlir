// What the verifiers refuse of the leaves of dialect/tile/leaves/gradients.td.
// RUN: winnow-opt %s -split-input-file -verify-diagnostics

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %changes = tile.register : !tile.fragment<Accumulator<16, 64>>
  %columns = tile.register : !tile.state<QueryColumns<64>>
  // expected-error@+1 {{operand #1 must be RowStatistics (state), but got '!tile.state<QueryColumns<64>>'}}
  tile.subtract_deltas %changes, %columns : (!tile.fragment<Accumulator<16, 64>>, !tile.state<QueryColumns<64>>) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !tile.value<Params> -> !tile.view<Pointer>
  %tokens = tile.find_token %ids, %ids, %i, %i : (!tile.view<Pointer>, !tile.view<Pointer>, i32, i32) -> !tile.value<TokenTile>
  // expected-error@+1 {{operand #0 must be KeyBlock (value), but got '!tile.value<TokenTile>'}}
  %list = tile.later_tokens %tokens : (!tile.value<TokenTile>) -> !tile.value<TokenList>
}
