// What the verifiers refuse of the leaves of dialect/tile/leaves/lists.td.
// RUN: winnow-opt %s -split-input-file -verify-diagnostics

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %list = tile.shared bytes 64 : !tile.list<WantedList<64, 8>>
  // expected-error@+1 {{operand #0 must be WantedBitmap (table), but got '!tile.list<WantedList<64, 8>>'}}
  tile.clear_wanted %list, %i : (!tile.list<WantedList<64, 8>>, i32) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %list = tile.shared bytes 64 : !tile.list<WantedList<64, 8>>
  // expected-error@+1 {{operand #1 must be WantedBitmap (table), but got '!tile.list<WantedList<64, 8>>'}}
  tile.compact_list %list, %list, %i : (!tile.list<WantedList<64, 8>>, !tile.list<WantedList<64, 8>>, i32) -> ()
}

// -----

// The lists of attend on warps have no header.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %list = tile.shared bytes 64 : !tile.list<WantedList<64, 8>>
  // expected-error@+1 {{operand #0 must be WorkList (list), but got '!tile.list<WantedList<64, 8>>'}}
  %header = tile.work_header %list : (!tile.list<WantedList<64, 8>>) -> !tile.value<WorkHeader>
}

// -----

// A ring is not one of its lists.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %work = tile.shared bytes 640 : !tile.ring<WorkRing<@kStages, 64, 8>>
  // expected-error@+1 {{operand #0 must be WorkList (list), but got '!tile.ring<WorkRing<@kStages, 64, 8>>'}}
  %has = tile.has_work %work : (!tile.ring<WorkRing<@kStages, 64, 8>>) -> i1
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %list = tile.shared bytes 64 : !tile.list<WantedList<64, 8>>
  // expected-error@+1 {{result #0 must be 32-bit signless integer, but got 'i64'}}
  %length = tile.list_length %list : (!tile.list<WantedList<64, 8>>) -> i64
}
