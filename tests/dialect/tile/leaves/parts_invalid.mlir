// What the verifiers refuse of the leaves of dialect/tile/leaves/parts.td.
// RUN: winnow-opt %s -split-input-file -verify-diagnostics

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %states = tile.field %params "buffer[2]" : !tile.value<Params> -> !tile.view<Pointer>
  %sums = tile.shared bytes 4096 : !tile.table<WarpValues<8, 128>>
  // expected-error@+1 {{operand #2 must be Pointer (view), but got 'i32'}}
  tile.add_parts %sums, %states, %i, %i, %i, %i, %i, %i, %i {heads = @kHeads} : (!tile.table<WarpValues<8, 128>>, !tile.view<Pointer>, i32, i32, i32, i32, i32, i32, i32) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %all = arith.constant false
  %list = tile.shared bytes 400 : !tile.list<WantedList<64, 8>>
  // expected-error@+1 {{operand #0 must be BlockList (list), but got '!tile.list<WantedList<64, 8>>'}}
  %key = tile.listed_key %list, %i, %all {keys = @kKeys, tiles_per_block = @kTilesPerBlock} : (!tile.list<WantedList<64, 8>>, i32, i1) -> i32
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %states = tile.field %params "buffer[2]" : !tile.value<Params> -> !tile.view<Pointer>
  %sums = tile.shared bytes 4160 : !tile.table<WarpValues<8, 128>>
  // expected-error@+1 {{requires attribute 'heads'}}
  tile.add_parts %sums, %states, %states, %i, %i, %i, %i, %i, %i : (!tile.table<WarpValues<8, 128>>, !tile.view<Pointer>, !tile.view<Pointer>, i32, i32, i32, i32, i32, i32) -> ()
}
