// What the verifiers refuse of the leaves of dialect/tile/leaves/order.td.
// RUN: winnow-opt %s -split-input-file -verify-diagnostics

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %tile = tile.shared bytes 16384 : !tile.shared_tile<SharedTile<64, 128, bf16>>
  %cursor = tile.register : !tile.cursor<Cursor<@kStages>>
  // expected-error@+1 {{operand #0 must be RingBarriers (barriers), but got '!tile.shared_tile<SharedTile<64, 128, bf16>>'}}
  tile.wait_full %tile, %cursor : (!tile.shared_tile<SharedTile<64, 128, bf16>>, !tile.cursor<Cursor<@kStages>>) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %barriers = tile.shared bytes 16 : !tile.barriers<RingBarriers<@kStages>>
  %sums = tile.register : !tile.fragment<Accumulator<16, 64>>
  // expected-error@+1 {{operand #0 must be Cursor (cursor), but got '!tile.fragment<Accumulator<16, 64>>'}}
  tile.advance %sums : (!tile.fragment<Accumulator<16, 64>>) -> ()
}

// -----

// A cursor walks one ring.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %barriers = tile.shared bytes 16 : !tile.barriers<RingBarriers<@kStages>>
  %other = tile.register : !tile.cursor<Cursor<1>>
  // expected-error@+1 {{brings together @kStages stages and 1 : i32}}
  tile.arrive_empty %barriers, %other : (!tile.barriers<RingBarriers<@kStages>>, !tile.cursor<Cursor<1>>) -> ()
}

// -----

// The tile of a ring is of the type that the ring says.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %ring = tile.shared bytes 16 : !tile.ring<Ring<@kStages, !tile.shared_tile<SharedTile<64, 128, bf16>>>>
  %cursor = tile.register : !tile.cursor<Cursor<@kStages>>
  // expected-error@+2 {{failed to infer returned types}}
  // expected-error@+1 {{inferred type(s) '!tile.shared_tile<SharedTile<64, 128, bf16>>' are incompatible with return type(s)}}
  %stage = tile.stage %ring, %cursor : (!tile.ring<Ring<@kStages, !tile.shared_tile<SharedTile<64, 128, bf16>>>>, !tile.cursor<Cursor<@kStages>>) -> !tile.shared_tile<SharedTile<32, 128, bf16>>
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  // expected-error@+1 {{requires attribute 'registers'}}
  tile.claim_registers : () -> ()
}
