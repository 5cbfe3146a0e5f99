// What the verifier refuses of the dialect's attributes on scf ops.
// RUN: winnow-opt %s -split-input-file -verify-diagnostics

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.value<Params>) {
  %thread = tile.thread_index : () -> i32
  %zero = arith.constant 0 : i32
  %sum = arith.addi %thread, %zero : i32
  // expected-note@-3 {{it comes from this value}}
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

// -----

// What a thread keeps in registers is its own.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.value<Params>) {
  %keys = tile.register : !tile.state<StepKeys<1>>
  // expected-note@-1 {{it comes from this value}}
  %wanted = tile.is_wanted %keys : (!tile.state<StepKeys<1>>) -> i1
  // expected-error@+1 {{is marked tile.uniform, but its condition differs among the threads of a block}}
  scf.if %wanted {
  } {tile.uniform}
}

// -----

// A search goes on alike in all threads as long as all of them narrow it alike.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.value<Params>) {
  %search = tile.register : !tile.cursor<ThresholdSearch>
  %own = tile.block_index "x" : i32
  %warp = tile.warp_index : () -> i32
  // expected-note@-1 {{it comes from this value}}
  tile.start_search %search, %own {topk = 16 : i32} : (!tile.cursor<ThresholdSearch>, i32) -> ()
  %open = tile.is_open %search : (!tile.cursor<ThresholdSearch>) -> i1
  // expected-error@+1 {{is marked tile.uniform, but its condition differs among the threads of a block}}
  scf.if %open {
    tile.narrow %search, %own, %warp : (!tile.cursor<ThresholdSearch>, i32, i32) -> ()
  } {tile.uniform}
}

// -----

// A number that a loop carries.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.value<Params>) {
  %zero = arith.constant 0 : i32
  %one = arith.constant 1 : i32
  %n = tile.block_index "x" : i32
  %lane = tile.lane_index : () -> i32
  // expected-note@-1 {{it comes from this value}}
  %sum = scf.for %i = %zero to %n step %one iter_args(%carried = %zero) -> i32 : i32 {
    %next = arith.addi %carried, %lane : i32
    scf.yield %next : i32
  }
  %large = arith.cmpi sgt, %sum, %n : i32
  // expected-error@+1 {{is marked tile.uniform, but its condition differs among the threads of a block}}
  scf.if %large {
  } {tile.uniform}
}

// -----

// Inside of a branch that some threads do not take nothing is uniform.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.value<Params>) {
  %zero = arith.constant 0 : i32
  %n = tile.block_index "x" : i32
  %thread = tile.thread_index : () -> i32
  // expected-note@-1 {{it comes from this value}}
  %first = arith.cmpi eq, %thread, %zero : i32
  %some = arith.cmpi sgt, %n, %zero : i32
  scf.if %first {
    // expected-error@+1 {{is marked tile.uniform, but whether it is reached differs among the threads of a block}}
    scf.if %some {
    } {tile.uniform}
  }
}

// -----

// A barrier's vote is the same for everybody, and so is what is read from shared memory.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.value<Params>) {
  %counts = tile.shared bytes 16 : !tile.table<WarpCounts<4>>
  %thread = tile.thread_index : () -> i32
  %n = tile.total_count %counts : (!tile.table<WarpCounts<4>>) -> i32
  %mine = arith.cmpi sgt, %thread, %n : i32
  %any = tile.sync_threads_any %mine : (i1) -> i1
  scf.if %any {
    %some = arith.cmpi sgt, %n, %n : i32
    scf.if %some {
    } {tile.uniform}
  } {tile.uniform}
}

// -----

// What a warp has counted is not what another has.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %octaves = tile.field %params "ids" : !tile.value<Params> -> !tile.view<Pointer>
  %count = tile.count_octaves %octaves, %i, %i, %i {threads = 128 : i32} : (!tile.view<Pointer>, i32, i32, i32) -> i32
  // expected-note@-1 {{it comes from this value}}
  %some = arith.cmpi sgt, %count, %i : i32
  // expected-error@+1 {{is marked tile.uniform, but its condition differs among the threads of a block}}
  scf.if %some {
  } {tile.uniform}
}

// -----

// Each thread looks at normalisers of its own.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.value<Params>) {
  %table = tile.shared bytes 64 : !tile.table<NormalizerTable<512>>
  %leaves = tile.table_leaves_weights %table {threads = 128 : i32} : (!tile.table<NormalizerTable<512>>) -> i1
  // expected-note@-1 {{it comes from this value}}
  // expected-error@+1 {{is marked tile.uniform, but its condition differs among the threads of a block}}
  scf.if %leaves {
  } {tile.uniform}
}

// -----

// Threads that have left do not come to a barrier.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %warp = tile.warp_index : () -> i32
  // expected-note@-1 {{its condition comes from this value}}
  %outside = arith.cmpi sge, %warp, %i : i32
  // expected-error@+1 {{lets some threads of a block leave, which the others wait for at a barrier behind it}}
  tile.return_if %outside
  scf.for %j = %i to %i step %i : i32 {
    tile.sync_threads : () -> ()
  }
}

// -----

// A whole block may leave, and a warp where nobody waits for it.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %none = arith.cmpi sge, %i, %i : i32
  tile.return_if %none
  tile.sync_threads : () -> ()
  %warp = tile.warp_index : () -> i32
  %outside = arith.cmpi sge, %warp, %i : i32
  tile.return_if %outside
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.value<Params>) {
  %zero = arith.constant 0 : i32
  // expected-error@+1 {{tile.producers_take_turns is a mark of scf.for, without a value}}
  scf.for %i = %zero to %zero step %zero : i32 {
  } {tile.producers_take_turns = 2 : i32}
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.value<Params>) {
  %true = arith.constant true
  // expected-error@+1 {{tile.team stands on scf.if: the number of a barrier, 1 to 15, and of the threads of whole warps that meet there}}
  scf.if %true {
  } {tile.team = array<i32: 0, 128>}
}

// -----

// Of a team it is the team's threads that must agree.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params : !tile.value<Params>) {
  %warp = tile.warp_index : () -> i32
  %zero = arith.constant 0 : i32
  %mine = arith.cmpi eq, %warp, %zero : i32
  %true = arith.constant true
  scf.if %mine {
    scf.if %true {
    } {tile.uniform}
    %thread = tile.thread_index : () -> i32
    // expected-note@-1 {{it comes from this value}}
    %first = arith.cmpi eq, %thread, %zero : i32
    // expected-error@+1 {{is marked tile.uniform, but its condition differs among the threads of a block}}
    scf.if %first {
    } {tile.uniform}
  } {tile.team = array<i32: 1, 32>}
}
