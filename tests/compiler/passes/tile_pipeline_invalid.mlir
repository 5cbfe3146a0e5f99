// What winnow-specialize-warps refuses.
// RUN: winnow-opt %s -split-input-file -verify-diagnostics -pass-pipeline="builtin.module(tile.kernel(winnow-specialize-warps))"

!params = !tile.value<Params>
!rows = !tile.view<GlobalRows<bf16, 512>>
!shared = !tile.shared_tile<SharedTile<64, 128, bf16>>

tile.kernel @stages attributes {constants = [], min_blocks = 1 : i32, threads = 64 : i32, title = "t"} (%params: !params) {
  %tile = tile.shared bytes 16384 : !shared
  %k = tile.field %params "k" : !params -> !tile.view<Pointer>
  %n = tile.field %params "total_k" : !params -> i32
  %zero = arith.constant 0 : i32
  %one = arith.constant 1 : i32
  %keys = tile.global_rows %k, %zero, %zero {type = bf16, stride = 512 : i32} : (!tile.view<Pointer>, i32, i32) -> !rows
  // expected-error@+1 {{producers that take turns need a stage each}}
  scf.for %i = %zero to %n step %one : i32 {
    tile.load_rows %tile, %keys, %i, %n, %zero {threads = 64 : i32} : (!shared, !rows, i32, i32, i32) -> ()
  } {tile.pipeline = "specialize_warps", tile.stages = 2 : i32, tile.producer_warps = 3 : i32, tile.producers_take_turns}
}

// -----

!params = !tile.value<Params>
!rows = !tile.view<GlobalRows<bf16, 512>>
!shared = !tile.shared_tile<SharedTile<64, 128, bf16>>

tile.kernel @steps attributes {constants = [], min_blocks = 1 : i32, threads = 64 : i32, title = "t"} (%params: !params) {
  %tile = tile.shared bytes 16384 : !shared
  %k = tile.field %params "k" : !params -> !tile.view<Pointer>
  %n = tile.field %params "total_k" : !params -> i32
  %zero = arith.constant 0 : i32
  %one = arith.constant 1 : i32
  %two = arith.constant 2 : i32
  %keys = tile.global_rows %k, %zero, %zero {type = bf16, stride = 512 : i32} : (!tile.view<Pointer>, i32, i32) -> !rows
  scf.for %i = %zero to %n step %one : i32 {
    tile.load_rows %tile, %keys, %i, %n, %zero {threads = 64 : i32} : (!shared, !rows, i32, i32, i32) -> ()
  } {tile.pipeline = "specialize_warps", tile.stages = 2 : i32, tile.producer_warps = 1 : i32}
  // expected-error@+1 {{warps are specialised for loops that load rows into the same shared tiles, one behind the other, in steps of 1, with the same stages and producers}}
  scf.for %i = %zero to %n step %two : i32 {
    tile.load_rows %tile, %keys, %i, %n, %zero {threads = 64 : i32} : (!shared, !rows, i32, i32, i32) -> ()
  } {tile.pipeline = "specialize_warps", tile.stages = 2 : i32, tile.producer_warps = 1 : i32}
}

// -----

!params = !tile.value<Params>
!rows = !tile.view<GlobalRows<bf16, 512>>
!shared = !tile.shared_tile<SharedTile<64, 128, bf16>>

tile.kernel @look_ahead attributes {constants = [], min_blocks = 1 : i32, threads = 64 : i32, title = "t"} (%params: !params) {
  %tile = tile.shared bytes 16384 : !shared
  %k = tile.field %params "k" : !params -> !tile.view<Pointer>
  %n = tile.field %params "total_k" : !params -> i32
  %zero = arith.constant 0 : i32
  %one = arith.constant 1 : i32
  %keys = tile.global_rows %k, %zero, %zero {type = bf16, stride = 512 : i32} : (!tile.view<Pointer>, i32, i32) -> !rows
  // expected-error@+1 {{pages are looked up ahead by producers that take turns, a lane for each row}}
  scf.for %i = %zero to %n step %one : i32 {
    tile.load_rows %tile, %keys, %i, %n, %zero {threads = 64 : i32} : (!shared, !rows, i32, i32, i32) -> ()
  } {tile.pipeline = "specialize_warps", tile.stages = 2 : i32, tile.producer_warps = 1 : i32, tile.look_ahead}
}

// -----

!params = !tile.value<Params>
!rows = !tile.view<GlobalRows<bf16, 512>>
!shared = !tile.shared_tile<SharedTile<64, 128, bf16>>

tile.kernel @unlike attributes {constants = [], min_blocks = 1 : i32, threads = 64 : i32, title = "t"} (%params: !params) {
  %tile = tile.shared bytes 16384 : !shared
  %k = tile.field %params "k" : !params -> !tile.view<Pointer>
  %n = tile.field %params "total_k" : !params -> i32
  %zero = arith.constant 0 : i32
  %one = arith.constant 1 : i32
  %keys = tile.global_rows %k, %zero, %zero {type = bf16, stride = 512 : i32} : (!tile.view<Pointer>, i32, i32) -> !rows
  scf.for %i = %zero to %n step %one : i32 {
    tile.load_rows %tile, %keys, %i, %n, %zero {threads = 64 : i32} : (!shared, !rows, i32, i32, i32) -> ()
  } {tile.pipeline = "specialize_warps", tile.stages = 2 : i32, tile.producer_warps = 1 : i32, tile.producers_take_turns}
  // expected-error@+1 {{warps are specialised for loops that load rows into the same shared tiles, one behind the other, in steps of 1, with the same stages and producers}}
  scf.for %i = %zero to %n step %one : i32 {
    tile.load_rows %tile, %keys, %i, %n, %zero {threads = 64 : i32} : (!shared, !rows, i32, i32, i32) -> ()
  } {tile.pipeline = "specialize_warps", tile.stages = 2 : i32, tile.producer_warps = 1 : i32, tile.producers_take_turns, tile.look_ahead}
}

// -----

!params = !tile.value<Params>
!rows = !tile.view<GlobalRows<bf16, 512>>
!shared = !tile.shared_tile<SharedTile<64, 128, bf16>>

tile.kernel @turns attributes {constants = [], min_blocks = 1 : i32, threads = 64 : i32, title = "t"} (%params: !params) {
  %tile = tile.shared bytes 16384 : !shared
  %k = tile.field %params "k" : !params -> !tile.view<Pointer>
  %n = tile.field %params "total_k" : !params -> i32
  %zero = arith.constant 0 : i32
  %one = arith.constant 1 : i32
  %keys = tile.global_rows %k, %zero, %zero {type = bf16, stride = 512 : i32} : (!tile.view<Pointer>, i32, i32) -> !rows
  // expected-error@+1 {{consumers that take turns need as many stages each, and one loop}}
  scf.for %i = %zero to %n step %one : i32 {
    tile.load_rows %tile, %keys, %i, %n, %zero {threads = 64 : i32} : (!shared, !rows, i32, i32, i32) -> ()
  } {tile.pipeline = "specialize_warps", tile.stages = 3 : i32, tile.producer_warps = 1 : i32, tile.consumers_take_turns}
}
