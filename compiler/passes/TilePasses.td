// The passes over tile.kernel, in the order in which they run; each small, each with its own before/after test.
#ifndef WINNOW_COMPILER_TILE_PASSES
#define WINNOW_COMPILER_TILE_PASSES
include "mlir/Pass/PassBase.td"

def SpecializeWarps : Pass<"winnow-specialize-warps", "::winnow::tile::KernelOp"> {
  let summary = "Split a loop into producer warps that load and consumer warps that compute";
  let description = [{
    Takes the loop marked `tile.pipeline = "specialize_warps"`, or several of one block. The shared tiles that its asynchronous loads fill become
    rings of `tile.stages` tiles with a full and an empty mbarrier per stage; `tile.producer_warps` further warps run the loads
    and what these need, all of them together for each tile or, with `tile.producers_take_turns`, one of them for each, so
    that what a tile's addresses wait for is waited for side by side; the kernel's own warps run the rest, all of them
    for each tile or, with `tile.consumers_take_turns`, one of them for each. Statements elsewhere that touch the consumers' registers
    are guarded, so that producers pass them by.
  }];
}

def RotateLoads : Pass<"winnow-rotate-loads", "::winnow::tile::KernelOp"> {
  let summary = "Start the next iteration's load as soon as this iteration's last reader is done";
  let description = [{
    Takes loops marked `tile.pipeline = "rotate"`, whose load fills a single shared tile that is read into registers early in
    the body: the load moves behind the last reader and fetches the next iteration's tile, which then travels under the
    arithmetic. The first tile is loaded before the loop, or, where a loop over the same tile that runs at least once
    stands before, in that loop's last iteration.
  }];
}

def PlanSharedMemory : Pass<"winnow-plan-shared-memory", "::winnow::tile::KernelOp"> {
  let summary = "Give every shared object its offset; objects that are never live together share bytes";
}

def InsertBarriers : Pass<"winnow-insert-barriers", "::winnow::tile::KernelOp"> {
  let summary = "Order the threads' accesses to shared memory";
  let description = [{
    Inserts sync_threads between conflicting accesses to overlapping bytes of shared memory, and wait_copies before it
    where the earlier access is an asynchronous copy. Conditionals are never entered, since threads may diverge there,
    except those marked `tile.uniform`. Rings synchronise through their own barriers and only conflict with other objects.
  }];
}
#endif
