// The two pipelining passes: producer and consumer warps around a ring, and loads rotated behind the last reader.
// RUN: winnow-opt %s -split-input-file -pass-pipeline="builtin.module(tile.kernel(winnow-specialize-warps,winnow-rotate-loads))" | FileCheck %s
// What the passes print reads back as it was printed.
// RUN: winnow-opt %s -split-input-file -pass-pipeline="builtin.module(tile.kernel(winnow-specialize-warps,winnow-rotate-loads))" > %t
// RUN: winnow-opt -split-input-file %t | diff %t -

!params = !tile.value<Params>
!rows = !tile.view<GlobalRows<bf16, 512>>
!shared = !tile.shared_tile<SharedTile<64, 128, bf16>>
!query = !tile.fragment<LeftOperand<16, 128, bf16>>
!sums = !tile.fragment<Accumulator<16, 64>>

// The tile becomes a ring with barriers; consumers wait, use and release, producers wait, load and report. The statement
// on the consumers' registers behind the loop is guarded.
// CHECK-LABEL: tile.kernel @roles
// CHECK-SAME: threads = 128 : i32
// CHECK: tile.shared bytes 49152 : !tile.ring<Ring<
// CHECK: tile.shared bytes 48 pinned : !tile.barriers<RingBarriers<
// CHECK: tile.init_ring
// CHECK: scf.if
// CHECK: scf.for
// CHECK-NEXT: tile.wait_full
// CHECK-NEXT: tile.stage
// CHECK-NEXT: tile.mma_abt
// CHECK-NEXT: tile.arrive_empty
// CHECK-NEXT: tile.advance
// CHECK: } else {
// CHECK: scf.for
// CHECK: tile.wait_empty
// CHECK-NEXT: tile.stage
// CHECK: tile.load_rows {{.*}}threads = @kProducerThreads
// CHECK-NEXT: tile.arrive_full
// CHECK-NEXT: tile.advance
// CHECK: scf.if
// CHECK-NEXT: tile.clear
tile.kernel @roles attributes {constants = [], min_blocks = 1 : i32, threads = 64 : i32, title = "t"} (%params: !params) {
  %tile = tile.shared bytes 16384 : !shared
  %query = tile.register : !query
  %sums = tile.register : !sums
  %warp = tile.warp_index : () -> i32
  %k = tile.field %params "k" : !params -> !tile.view<Pointer>
  %n = tile.field %params "total_k" : !params -> i32
  %zero = arith.constant 0 : i32
  %keys = tile.global_rows %k, %zero, %zero {type = bf16, stride = 512 : i32} : (!tile.view<Pointer>, i32, i32) -> !rows
  %one = arith.constant 1 : i32
  scf.for %i = %zero to %n step %one : i32 {
    %thread = tile.thread_index : () -> i32
    tile.load_rows %tile, %keys, %i, %n, %thread {threads = 64 : i32} : (!shared, !rows, i32, i32, i32) -> ()
    tile.mma_abt %sums, %query, %tile : (!sums, !query, !shared) -> ()
  } {tile.pipeline = "specialize_warps", tile.stages = 3 : i32, tile.producer_warps = 2 : i32}
  tile.clear %sums : (!sums) -> ()
}

// -----
!params = !tile.value<Params>
!rows = !tile.view<GlobalRows<bf16, 512>>
!shared = !tile.shared_tile<SharedTile<64, 128, bf16>>
!query = !tile.fragment<LeftOperand<16, 128, bf16>>
!sums = !tile.fragment<Accumulator<16, 64>>

// Producers that take turns: each begins at its own tile and stage, and passes by those of the others. Two loops go over
// one ring: the second begins behind a barrier, where the first one has ended.
// CHECK-LABEL: tile.kernel @turns
// CHECK-SAME: "kProducerWarps" = 2
// CHECK-SAME: "kProducerThreads" = 32
// CHECK-SAME: threads = 128 : i32
// CHECK: tile.init_ring
// CHECK: tile.wait_full %{{[0-9]+}}, %[[CURSOR:[0-9]+]]
// CHECK: } else {
// CHECK: tile.follow %[[PLACE:[0-9]+]], %[[CURSOR]]
// CHECK: %[[TURN:[0-9]+]] = arith.divsi
// CHECK: %[[LANE:[0-9]+]] = arith.remsi
// CHECK: tile.advance_by %[[PLACE]], %[[TURN]]
// CHECK: %[[STEP:[0-9]+]] = arith.muli
// CHECK: scf.for {{.*}} step %[[STEP]]
// CHECK: tile.wait_empty %{{[0-9]+}}, %[[PLACE]]
// CHECK: tile.load_rows {{.*}}, %[[LANE]] {threads = @kProducerThreads}
// CHECK: tile.arrive_full %{{[0-9]+}}, %[[PLACE]]
// CHECK: tile.advance_by %[[PLACE]]
// CHECK: tile.advance_by %[[CURSOR]]
// CHECK: tile.sync_threads
// CHECK-NOT: tile.init_ring
// CHECK: tile.wait_full %{{[0-9]+}}, %[[CURSOR]]
// CHECK: } else {
// CHECK: tile.follow %[[NEXT:[0-9]+]], %[[CURSOR]]
// CHECK: tile.load_rows
// CHECK-NOT: tile.advance_by %[[CURSOR]]
tile.kernel @turns attributes {constants = [], min_blocks = 1 : i32, threads = 64 : i32, title = "t"} (%params: !params) {
  %tile = tile.shared bytes 16384 : !shared
  %query = tile.register : !query
  %sums = tile.register : !sums
  %k = tile.field %params "k" : !params -> !tile.view<Pointer>
  %n = tile.field %params "total_k" : !params -> i32
  %m = tile.field %params "total_q" : !params -> i32
  %zero = arith.constant 0 : i32
  %keys = tile.global_rows %k, %zero, %zero {type = bf16, stride = 512 : i32} : (!tile.view<Pointer>, i32, i32) -> !rows
  %one = arith.constant 1 : i32
  scf.for %i = %zero to %m step %one : i32 {
    %thread = tile.thread_index : () -> i32
    tile.load_rows %tile, %keys, %i, %m, %thread {threads = 64 : i32} : (!shared, !rows, i32, i32, i32) -> ()
    tile.mma_abt %sums, %query, %tile : (!sums, !query, !shared) -> ()
  } {tile.pipeline = "specialize_warps", tile.stages = 3 : i32, tile.producer_warps = 2 : i32, tile.producers_take_turns}
  scf.for %i = %zero to %n step %one : i32 {
    %thread = tile.thread_index : () -> i32
    tile.load_rows %tile, %keys, %i, %n, %thread {threads = 64 : i32} : (!shared, !rows, i32, i32, i32) -> ()
    tile.mma_abt %sums, %query, %tile : (!sums, !query, !shared) -> ()
  } {tile.pipeline = "specialize_warps", tile.stages = 3 : i32, tile.producer_warps = 2 : i32, tile.producers_take_turns}
}

// -----
!params = !tile.value<Params>
!rows = !tile.view<PagedRows<bf16>>
!shared = !tile.shared_tile<SharedTile<32, 128, bf16>>
!query = !tile.fragment<LeftOperand<16, 128, bf16>>
!sums = !tile.fragment<Accumulator<16, 32>>

// Consumers that take turns have a stage each, which one warp alone releases; producers look pages up, and do what is
// theirs, before they wait for a stage.
// CHECK-LABEL: tile.kernel @both_turns
// CHECK-SAME: threads = 128 : i32
// CHECK: %[[ONE:[a-z0-9_]+]] = arith.constant 1 : i32
// CHECK: tile.init_ring %{{[0-9]+}}, %{{[0-9]+}}, %{{[a-z0-9_]+}}
// CHECK: %[[WARP:[0-9]+]] = tile.warp_index
// CHECK: tile.follow %[[NEXT:[0-9]+]], %[[CURSOR:[0-9]+]]
// CHECK: tile.advance_by %[[NEXT]], %[[WARP]]
// CHECK: scf.for
// CHECK-NOT: tile.wait_earlier_kernels
// CHECK: tile.wait_full %{{[0-9]+}}, %[[NEXT]]
// CHECK: tile.arrive_empty %{{[0-9]+}}, %[[NEXT]]
// CHECK: tile.advance_by %[[NEXT]]
// CHECK: } else {
// CHECK: scf.for
// CHECK: tile.wait_earlier_kernels
// CHECK-NOT: of_producers
// CHECK: %[[PAGE:[0-9]+]] = tile.find_page
// CHECK: tile.wait_empty
// CHECK: tile.load_found_rows {{.*}}, %[[PAGE]],
// CHECK-NOT: tile.load_rows
tile.kernel @both_turns attributes {constants = [], min_blocks = 1 : i32, threads = 64 : i32, title = "t"} (%params: !params) {
  %warp = tile.warp_index : () -> i32
  %tile = tile.shared bytes 8192 : !shared
  %query = tile.register : !query
  %sums = tile.register : !sums
  %k = tile.field %params "k" : !params -> !tile.view<Pointer>
  %stride = tile.field %params "k_stride" : !params -> !tile.view<Pointer>
  %cu = tile.field %params "cu_q" : !params -> !tile.view<Pointer>
  %n = tile.field %params "total_k" : !params -> i32
  %zero = arith.constant 0 : i32
  %one = arith.constant 1 : i32
  %lengths = tile.key_lengths %params : (!params) -> !tile.value<KeyLengths>
  %token = tile.find_token %cu, %lengths, %one, %zero : (!tile.view<Pointer>, !tile.value<KeyLengths>, i32, i32) -> !tile.value<TokenTile>
  %keys = tile.paged_rows %params, %k, %stride, %token, %zero {type = bf16} : (!params, !tile.view<Pointer>, !tile.view<Pointer>, !tile.value<TokenTile>, i32) -> !rows
  scf.for %i = %zero to %n step %one : i32 {
    %late = arith.cmpi sgt, %i, %one : i32
    scf.if %late {
      tile.wait_earlier_kernels : () -> ()
    } {tile.of_producers}
    %thread = tile.thread_index : () -> i32
    tile.load_rows %tile, %keys, %i, %n, %thread {threads = 64 : i32} : (!shared, !rows, i32, i32, i32) -> ()
    tile.mma_abt %sums, %query, %tile : (!sums, !query, !shared) -> ()
  } {tile.pipeline = "specialize_warps", tile.stages = 4 : i32, tile.producer_warps = 2 : i32, tile.producers_take_turns, tile.consumers_take_turns, tile.look_ahead}
}

// -----
!params = !tile.value<Params>
!rows = !tile.view<GlobalRows<bf16, 512>>
!shared = !tile.shared_tile<SharedTile<64, 128, bf16>>
!operand = !tile.fragment<RightOperand<32, 128, bf16>>

// The first tile is loaded before the first loop; each loop fetches its next tile behind the reader; the second loop's
// first tile is fetched by the last iteration of the first loop, which surely runs.
// CHECK-LABEL: tile.kernel @rotate
// CHECK: tile.load_rows
// CHECK: scf.for
// CHECK-NEXT: tile.load_operand
// CHECK: scf.if
// CHECK: tile.load_rows
// CHECK: } else {
// CHECK: tile.load_rows
// CHECK: }
// CHECK-NOT: tile.load_rows
// CHECK: scf.for
// CHECK-NEXT: tile.load_operand
// CHECK: scf.if
// CHECK: tile.load_rows
// CHECK-NOT: tile.load_rows
tile.kernel @rotate attributes {constants = [], min_blocks = 1 : i32, threads = 64 : i32, title = "t"} (%params: !params) {
  %tile = tile.shared bytes 16384 : !shared
  %operand = tile.register : !operand
  %k = tile.field %params "k" : !params -> !tile.view<Pointer>
  %n = tile.field %params "total_k" : !params -> i32
  %zero = arith.constant 0 : i32
  %keys = tile.global_rows %k, %zero, %zero {type = bf16, stride = 512 : i32} : (!tile.view<Pointer>, i32, i32) -> !rows
  %step = arith.constant 64 : i32
  scf.for %i = %zero to %n step %step : i32 {
    tile.load_rows %tile, %keys, %i, %n, %zero {threads = 64 : i32} : (!shared, !rows, i32, i32, i32) -> ()
    tile.load_operand %operand, %tile, %zero : (!operand, !shared, i32) -> ()
  } {tile.pipeline = "rotate", tile.at_least_once}
  scf.for %i = %zero to %n step %step : i32 {
    tile.load_rows %tile, %keys, %i, %n, %zero {threads = 64 : i32} : (!shared, !rows, i32, i32, i32) -> ()
    tile.load_operand %operand, %tile, %zero : (!operand, !shared, i32) -> ()
  } {tile.pipeline = "rotate"}
}
