// What the verifier refuses of the dialect's attributes on scf ops.
// RUN: winnow-opt %s -split-input-file -verify-diagnostics

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.value<Params>) {
  %thread = tile.thread_index : () -> i32
  %zero = arith.constant 0 : i32
  %sum = arith.addi %thread, %zero : i32
  // expected-note@-3 {{it comes from this index}}
  %first = arith.cmpi eq, %sum, %zero : i32
  // expected-error@+1 {{is marked tile.uniform, but its condition differs among the threads of a block}}
  scf.if %first {
    tile.sync_threads : () -> ()
  } {tile.uniform}
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.value<Params>) {
  %zero = arith.constant 0 : i32
  // expected-error@+1 {{tile.uniform is a mark of scf.if, without a value}}
  scf.for %i = %zero to %zero step %zero : i32 {
  } {tile.uniform}
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.value<Params>) {
  %zero = arith.constant 0 : i32
  // expected-error@+1 {{tile.pipeline = "specialize_warps" needs tile.producer_warps}}
  scf.for %i = %zero to %zero step %zero : i32 {
  } {tile.pipeline = "specialize_warps", tile.stages = 3 : i32}
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.value<Params>) {
  %zero = arith.constant 0 : i32
  // expected-error@+1 {{tile.pipeline is "specialize_warps" or "rotate", and stands on scf.for}}
  scf.for %i = %zero to %zero step %zero : i32 {
  } {tile.pipeline = "unroll"}
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.value<Params>) {
  %zero = arith.constant 0 : i32
  // expected-error@+1 {{tile.unroll is a number of 1 or more}}
  scf.for %i = %zero to %zero step %zero : i32 {
  } {tile.unroll = 0 : i32}
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.value<Params>) {
  %zero = arith.constant 0 : i32
  // expected-error@+1 {{there is no attribute tile.unrolled}}
  scf.for %i = %zero to %zero step %zero : i32 {
  } {tile.unrolled}
}
