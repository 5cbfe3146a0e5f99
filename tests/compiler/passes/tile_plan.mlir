// Offsets by lifetimes: objects that are never live together share bytes.
// RUN: winnow-opt %s -split-input-file -pass-pipeline="builtin.module(tile.kernel(winnow-plan-shared-memory))" | FileCheck %s

!params = !tile.value<Params>
!counts = !tile.table<WarpCounts<4>>

// %a is dead when %b is born; %c lives beside both.
// CHECK-LABEL: tile.kernel @lifetimes
// CHECK-SAME: shared_bytes = 32
// CHECK: tile.shared bytes 16 offset 0
// CHECK: tile.shared bytes 16 offset 0
// CHECK: tile.shared bytes 16 offset 16
tile.kernel @lifetimes attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = "t"} (%params: !params) {
  %a = tile.shared bytes 16 : !counts
  %b = tile.shared bytes 16 : !counts
  %c = tile.shared bytes 16 : !counts
  %warp = tile.warp_index : () -> i32
  tile.store_count %c, %warp, %warp : (!counts, i32, i32) -> ()
  tile.store_count %a, %warp, %warp : (!counts, i32, i32) -> ()
  %x = tile.total_count %a : (!counts) -> i32
  tile.store_count %b, %warp, %warp : (!counts, i32, i32) -> ()
  %y = tile.total_count %b : (!counts) -> i32
  %z = tile.total_count %c : (!counts) -> i32
}

// -----
!params = !tile.value<Params>
!counts = !tile.table<WarpCounts<4>>

// %a is written before the loop and read in it: it lives for the whole loop, beside %b that is fresh in each iteration.
// CHECK-LABEL: tile.kernel @loops
// CHECK-SAME: shared_bytes = 32
// CHECK: tile.shared bytes 16 offset 0
// CHECK: tile.shared bytes 16 offset 16
tile.kernel @loops attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = "t"} (%params: !params) {
  %a = tile.shared bytes 16 : !counts
  %b = tile.shared bytes 16 : !counts
  %warp = tile.warp_index : () -> i32
  %zero = arith.constant 0 : i32
  %one = arith.constant 1 : i32
  tile.store_count %a, %warp, %warp : (!counts, i32, i32) -> ()
  scf.for %i = %zero to %warp step %one : i32 {
    %x = tile.total_count %a : (!counts) -> i32
    tile.store_count %b, %warp, %i : (!counts, i32, i32) -> ()
    %y = tile.total_count %b : (!counts) -> i32
  }
}

// -----
!params = !tile.value<Params>
!counts = !tile.table<WarpCounts<4>>

// Two objects that are both fresh in each iteration share bytes inside the loop; a pinned one shares with nobody.
// CHECK-LABEL: tile.kernel @fresh_and_pinned
// CHECK-SAME: shared_bytes = 32
// CHECK: tile.shared bytes 16 offset [[FRESH:[0-9]+]]
// CHECK: tile.shared bytes 16 offset [[FRESH]]
// CHECK: tile.shared bytes 16 offset {{[0-9]+}} pinned
tile.kernel @fresh_and_pinned attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = "t"} (%params: !params) {
  %a = tile.shared bytes 16 : !counts
  %b = tile.shared bytes 16 : !counts
  %c = tile.shared bytes 16 pinned : !counts
  %warp = tile.warp_index : () -> i32
  %zero = arith.constant 0 : i32
  %one = arith.constant 1 : i32
  scf.for %i = %zero to %warp step %one : i32 {
    tile.store_count %a, %warp, %i : (!counts, i32, i32) -> ()
    %x = tile.total_count %a : (!counts) -> i32
    tile.store_count %b, %warp, %i : (!counts, i32, i32) -> ()
    %y = tile.total_count %b : (!counts) -> i32
  }
}

// -----
!params = !tile.value<Params>
!counts = !tile.table<WarpCounts<4>>

// %a lives as long as it is kept, though no op reads it there.
// CHECK-LABEL: tile.kernel @kept
// CHECK-SAME: shared_bytes = 32
// CHECK: tile.shared bytes 16 offset 0
// CHECK: tile.shared bytes 16 offset 16
tile.kernel @kept attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = "t"} (%params: !params) {
  %a = tile.shared bytes 16 : !counts
  %b = tile.shared bytes 16 : !counts
  %warp = tile.warp_index : () -> i32
  tile.store_count %a, %warp, %warp : (!counts, i32, i32) -> ()
  tile.store_count %b, %warp, %warp : (!counts, i32, i32) -> ()
  %y = tile.total_count %b : (!counts) -> i32
  tile.keep %a : !counts
}
