// What the verifiers refuse of the leaves of dialect/tile/leaves/tokens.td.
// RUN: winnow-opt %s -split-input-file -verify-diagnostics

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %state = tile.register : !tile.state<SoftmaxState>
  // expected-error@+1 {{operand #0 must be TokenTile (value), but got '!tile.state<SoftmaxState>'}}
  %last = tile.last_position %state : (!tile.state<SoftmaxState>) -> i32
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !tile.value<Params> -> !tile.view<Pointer>
  // expected-error@+1 {{operand #1 must be Pointer (view) or KeyLengths (value), but got '!tile.value<Params>'}}
  %tokens = tile.find_token %ids, %params, %i, %i : (!tile.view<Pointer>, !tile.value<Params>, i32, i32) -> !tile.value<TokenTile>
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !tile.value<Params> -> !tile.view<Pointer>
  %tokens = tile.find_token %ids, %ids, %i, %i : (!tile.view<Pointer>, !tile.view<Pointer>, i32, i32) -> !tile.value<TokenTile>
  %state = tile.register : !tile.state<SoftmaxState>
  // expected-error@+1 {{operand #0 must be TileSlot (table), but got '!tile.state<SoftmaxState>'}}
  tile.park %state, %tokens : (!tile.state<SoftmaxState>, !tile.value<TokenTile>) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  // expected-error@+1 {{result #0 must be 32-bit signless integer, but got '!tile.value<TokenTile>'}}
  %thread = tile.thread_index : () -> !tile.value<TokenTile>
}
