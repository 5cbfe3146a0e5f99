// Barriers between conflicting accesses to shared memory, and none where there is no conflict.
// RUN: winnow-opt %s -split-input-file -pass-pipeline="builtin.module(tile.kernel(winnow-insert-barriers))" | FileCheck %s

!params = !tile.value<Params>
!counts = !tile.table<WarpCounts<4>>

// A write, then reads: one barrier, before the first read only.
// CHECK-LABEL: tile.kernel @write_then_reads
// CHECK: tile.store_count
// CHECK-NEXT: tile.sync_threads
// CHECK-NEXT: tile.total_count
// CHECK-NEXT: tile.total_count
// CHECK-NOT: tile.sync_threads
tile.kernel @write_then_reads attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = "t"} (%params: !params) {
  %counts = tile.shared bytes 16 : !counts
  %warp = tile.warp_index : () -> i32
  tile.store_count %counts, %warp, %warp : (!counts, i32, i32) -> ()
  %a = tile.total_count %counts : (!counts) -> i32
  %b = tile.total_count %counts : (!counts) -> i32
}

// -----
!params = !tile.value<Params>
!counts = !tile.table<WarpCounts<4>>

// A barrier of the cluster is one of the block too.
// CHECK-LABEL: tile.kernel @cluster
// CHECK: tile.store_count
// CHECK-NEXT: tile.sync_cluster
// CHECK-NEXT: tile.total_count
// CHECK-NOT: tile.sync_threads
tile.kernel @cluster attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = "t"} (%params: !params) {
  %counts = tile.shared bytes 16 : !counts
  %warp = tile.warp_index : () -> i32
  tile.store_count %counts, %warp, %warp : (!counts, i32, i32) -> ()
  tile.sync_cluster : () -> ()
  %a = tile.total_count %counts : (!counts) -> i32
}

// -----
!params = !tile.value<Params>
!counts = !tile.table<WarpCounts<4>>

// In a loop the next iteration's write conflicts with this one's read.
// CHECK-LABEL: tile.kernel @loop_carried
// CHECK: scf.for
// CHECK-NEXT: tile.sync_threads
// CHECK-NEXT: tile.store_count
// CHECK-NEXT: tile.sync_threads
// CHECK-NEXT: tile.total_count
// CHECK-NEXT: }
tile.kernel @loop_carried attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = "t"} (%params: !params) {
  %counts = tile.shared bytes 16 : !counts
  %warp = tile.warp_index : () -> i32
  %zero = arith.constant 0 : i32
  %one = arith.constant 1 : i32
  scf.for %i = %zero to %warp step %one : i32 {
    tile.store_count %counts, %warp, %i : (!counts, i32, i32) -> ()
    %a = tile.total_count %counts : (!counts) -> i32
  }
}

// -----
!params = !tile.value<Params>
!counts = !tile.table<WarpCounts<4>>

// Threads may diverge inside a conditional: the barrier stands before it, unless it is marked uniform.
// CHECK-LABEL: tile.kernel @conditionals
// CHECK: tile.store_count
// CHECK-NEXT: tile.sync_threads
// CHECK-NEXT: scf.if
// CHECK-NEXT: tile.total_count
// CHECK: tile.sync_threads
// CHECK-NEXT: tile.store_count
// CHECK-NEXT: scf.if
// CHECK-NEXT: tile.sync_threads
// CHECK-NEXT: tile.total_count
// CHECK: uniform
tile.kernel @conditionals attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = "t"} (%params: !params) {
  %counts = tile.shared bytes 16 : !counts
  %warp = tile.warp_index : () -> i32
  %zero = arith.constant 0 : i32
  %first = arith.cmpi eq, %warp, %zero : i32
  %block = tile.block_index "x" : i32
  %same = arith.cmpi eq, %block, %zero : i32
  tile.store_count %counts, %warp, %warp : (!counts, i32, i32) -> ()
  scf.if %first {
    %a = tile.total_count %counts : (!counts) -> i32
  }
  tile.store_count %counts, %warp, %warp : (!counts, i32, i32) -> ()
  scf.if %same {
    %a = tile.total_count %counts : (!counts) -> i32
  } {tile.uniform}
}

// -----
!params = !tile.value<Params>
!rows = !tile.view<GlobalRows<bf16, 512>>
!shared = !tile.shared_tile<SharedTile<64, 128, bf16>>
!operand = !tile.fragment<RightOperand<32, 128, bf16>>

// An asynchronous copy is waited for by every thread, then published by the barrier.
// CHECK-LABEL: tile.kernel @async
// CHECK: tile.load_rows
// CHECK-NEXT: tile.wait_copies
// CHECK-NEXT: tile.sync_threads
// CHECK-NEXT: tile.load_operand
tile.kernel @async attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = "t"} (%params: !params) {
  %tile = tile.shared bytes 16384 : !shared
  %operand = tile.register : !operand
  %k = tile.field %params "k" : !params -> !tile.view<Pointer>
  %zero = arith.constant 0 : i32
  %keys = tile.global_rows %k, %zero, %zero {type = bf16, stride = 512 : i32} : (!tile.view<Pointer>, i32, i32) -> !rows
  tile.load_rows %tile, %keys, %zero, %zero, %zero {threads = 128 : i32} : (!shared, !rows, i32, i32, i32) -> ()
  tile.load_operand %operand, %tile, %zero : (!operand, !shared, i32) -> ()
}

// -----
!params = !tile.value<Params>
!counts = !tile.table<WarpCounts<4>>

// Objects that share bytes conflict like one object; neighbours in memory do not.
// CHECK-LABEL: tile.kernel @shared_bytes
// CHECK: tile.total_count
// CHECK-NEXT: tile.sync_threads
// CHECK-NEXT: tile.store_count
// CHECK-NEXT: tile.store_count
// CHECK-NOT: tile.sync_threads
tile.kernel @shared_bytes attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = "t"} (%params: !params) {
  %a = tile.shared bytes 16 offset 0 : !counts
  %b = tile.shared bytes 16 offset 8 : !counts
  %c = tile.shared bytes 16 offset 32 : !counts
  %warp = tile.warp_index : () -> i32
  %x = tile.total_count %a : (!counts) -> i32
  tile.store_count %b, %warp, %warp : (!counts, i32, i32) -> ()
  tile.store_count %c, %warp, %warp : (!counts, i32, i32) -> ()
}

// -----
!params = !tile.value<Params>
!counts = !tile.table<WarpCounts<4>>

// A team meets at its own barrier, inside of its branch, and another one beside it at another; what all threads would be
// told to wait for there it waits for.
// CHECK-LABEL: tile.kernel @team
// CHECK: scf.if
// CHECK-NEXT: tile.store_count
// CHECK: arith.constant 3
// CHECK-NEXT: arith.constant 64
// CHECK-NEXT: tile.sync_some
// CHECK-NEXT: tile.total_count
// CHECK: tile.sync_some
// CHECK-NEXT: tile.store_count
// CHECK: } else {
// CHECK: scf.if
// CHECK-NEXT: tile.store_count
// CHECK: arith.constant 4
// CHECK: tile.sync_some
// CHECK-NEXT: tile.total_count
// CHECK-NOT: tile.sync_threads
tile.kernel @team attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = "t"} (%params: !params) {
  %counts = tile.shared bytes 16 : !counts
  %others = tile.shared bytes 16 : !counts
  %warp = tile.warp_index : () -> i32
  %two = arith.constant 2 : i32
  %mine = arith.cmpi slt, %warp, %two : i32
  scf.if %mine {
    tile.store_count %counts, %warp, %warp : (!counts, i32, i32) -> ()
    %a = tile.total_count %counts : (!counts) -> i32
    tile.sync_threads : () -> ()
    tile.store_count %counts, %warp, %a : (!counts, i32, i32) -> ()
  } else {
    %three = arith.constant 3 : i32
    %next = arith.cmpi slt, %warp, %three : i32
    scf.if %next {
      tile.store_count %others, %warp, %warp : (!counts, i32, i32) -> ()
      %b = tile.total_count %others : (!counts) -> i32
    } {tile.team = array<i32: 4, 32>}
  } {tile.team = array<i32: 3, 64>}
}
