// What the verifier of the tile dialect refuses.
// RUN: winnow-opt %s -split-input-file -verify-diagnostics

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.object<"Params", []>) {
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

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.object<"Params", []>) {
  %zero = arith.constant 0 : i32
  // expected-error@+1 {{tile.uniform is a mark of scf.if, without a value}}
  scf.for %i = %zero to %zero step %zero : i32 {
  } {tile.uniform}
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.object<"Params", []>) {
  %zero = arith.constant 0 : i32
  // expected-error@+1 {{tile.pipeline = "specialize_warps" needs tile.producer_warps}}
  scf.for %i = %zero to %zero step %zero : i32 {
  } {tile.pipeline = "specialize_warps", tile.stages = 3 : i32}
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.object<"Params", []>) {
  %zero = arith.constant 0 : i32
  // expected-error@+1 {{tile.pipeline is "specialize_warps" or "rotate", and stands on scf.for}}
  scf.for %i = %zero to %zero step %zero : i32 {
  } {tile.pipeline = "unroll"}
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.object<"Params", []>) {
  %zero = arith.constant 0 : i32
  // expected-error@+1 {{tile.unroll is a number of 1 or more}}
  scf.for %i = %zero to %zero step %zero : i32 {
  } {tile.unroll = 0 : i32}
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.object<"Params", []>) {
  %zero = arith.constant 0 : i32
  // expected-error@+1 {{there is no attribute tile.unrolled}}
  scf.for %i = %zero to %zero step %zero : i32 {
  } {tile.unrolled}
}

// -----

// A fragment changes; what takes it must say whether it reads or writes it.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.object<"Params", []>) {
  %state = tile.register : !tile.object<"SoftmaxState", []>
  // expected-error@+1 {{takes a register object, which changes, as if it were a value}}
  %last = tile.last_position %state : (!tile.object<"SoftmaxState", []>) -> i32
}

// -----

// Element types that device code has no name for.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.object<"Params", []>) {
  // expected-error@+1 {{an argument of 'Accumulator' is f8E4M3FN: it may be a number, a constant of the kernel, bf16, f16, f32, i32 or another object}}
  %sums = tile.register : !tile.object<"Accumulator", [16 : i32, f8E4M3FN]>
}
