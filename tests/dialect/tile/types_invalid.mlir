// What the verifiers refuse of types of device objects, of declarations and of members.
// RUN: winnow-opt %s -split-input-file -verify-diagnostics

// A class has its C++ types.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  // expected-error@+1 {{there is no fragment 'Cursor'; there is Accumulator LeftOperand RightOperand}}
  %cursor = tile.register : !tile.fragment<Cursor<3>>
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  // expected-error@+1 {{there is no fragment 'auto'; there is}}
  %sums = tile.register : !tile.fragment<auto>
}

// -----

// One argument, one spelling.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  // expected-error@+1 {{an argument of 'RingBarriers' is "1": it may be a number}}
  %barriers = tile.shared bytes 16 : !tile.barriers<RingBarriers<"1">>
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  // expected-error@+1 {{an argument of 'Accumulator' is "kKeys": it may be a number}}
  %sums = tile.register : !tile.fragment<Accumulator<16, "kKeys">>
}

// -----

// Element types that device code has no name for.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  // expected-error@+1 {{an argument of 'Accumulator' is f8E5M2: it may be a number, true or false, a constant of the kernel, bf16, f16, f8E4M3FN, f32, i32, an object, or the text of another expression}}
  %sums = tile.register : !tile.fragment<Accumulator<16, f8E5M2>>
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  // expected-error@+1 {{result #0 must be an object in registers (fragment, state or cursor), but got '!tile.shared_tile<SharedTile<64, 128, bf16>>'}}
  %tile = tile.register : !tile.shared_tile<SharedTile<64, 128, bf16>>
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  // expected-error@+1 {{result #0 must be an object in shared memory (shared_tile, table, ring, barriers or list), but got '!tile.fragment<Accumulator<16, 64>>'}}
  %sums = tile.shared bytes 16 : !tile.fragment<Accumulator<16, 64>>
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  // expected-error@+2 {{failed to infer returned types}}
  // expected-error@+1 {{'Params' has no member 'total'}}
  %n = tile.field %params "total" : !tile.value<Params> -> i32
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  // expected-error@+2 {{failed to infer returned types}}
  // expected-error@+1 {{inferred type(s) '!tile.view<Pointer>' are incompatible with return type(s)}}
  %q = tile.field %params "q" : !tile.value<Params> -> i32
}

// -----

// Numbers of types that device code has no name for.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  // expected-error@+1 {{has a result of type 'f64', which device code has no name for}}
  %x = arith.constant 1.0 : f64
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  // expected-error@+1 {{has a result of type 'f16', which device code has no name for}}
  %x = arith.constant 1.0 : f16
}
