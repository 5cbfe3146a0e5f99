// Barriers, rings and cursors: who may go on, and when. How leaves are declared: Leaf.td.
#ifndef WINNOW_DIALECT_TILE_ORDER
#define WINNOW_DIALECT_TILE_ORDER

include "dialect/tile/Leaf.td"

def Tile_OrderGroup : OpDocGroup {
  let summary = "Leaves: order";
  let description = "Barriers, rings and cursors: who may go on, and when.";
}

let opDocGroup = Tile_OrderGroup in {
def Tile_SyncThreadsOp : Tile_Leaf<"sync_threads", "arch/", [Orders]> {
  let summary = "Barrier of all threads of the block (inserted by the insert-barriers pass)";
  let source = "PTX ISA 9.0, bar.sync";
}
def Tile_SyncClusterOp : Tile_Leaf<"sync_cluster", "arch/", [Orders]> {
  let summary = "Barrier of all threads of the cluster's blocks";
  let source = "PTX ISA 9.0, barrier.cluster";
}
def Tile_EnterClusterOp : Tile_Leaf<"enter_cluster", "arch/", [Orders]> {
  let summary = "Says that this block of threads of the cluster has begun";
  let source = "PTX ISA 9.0, barrier.cluster.arrive.relaxed";
}
def Tile_WaitClusterOp : Tile_Leaf<"wait_cluster", "arch/", [Orders]> {
  let summary = "Waits until all blocks of threads of the cluster have begun: before the first access to another one's shared memory";
  let source = "PTX ISA 9.0, barrier.cluster.wait";
}
def Tile_ClusterBlocksOp : Tile_Leaf<"cluster_blocks", "arch/", [Pure]> {
  let summary = "Blocks of threads of the cluster";
  let source = "PTX ISA 9.0, %cluster_nctarank";
  let results = (outs I32:$blocks);
}
def Tile_ClusterBlockOp : Tile_Leaf<"cluster_block", "arch/", [Pure]> {
  let summary = "The place of this block of threads in its cluster";
  let source = "PTX ISA 9.0, %cluster_ctarank";
  let results = (outs I32:$block);
}
def Tile_StartLaterKernelsOp : Tile_Leaf<"start_later_kernels", "arch/", [Orders]> {
  let summary = "Lets the next kernel start once every block of threads of this one has";
  let source = "PTX ISA 9.0, griddepcontrol";
}
def Tile_WaitEarlierKernelsOp : Tile_Leaf<"wait_earlier_kernels", "arch/", [Orders]> {
  let summary = "Waits until the kernels before have ended; by every thread, before it ends, reads what they wrote or writes what they read";
  let source = "PTX ISA 9.0, griddepcontrol";
}
def Tile_SyncThreadsAnyOp : Tile_Leaf<"sync_threads_any", "arch/", [Orders]> {
  let summary = "Barrier of all threads; true where the vote holds in any";
  let source = "PTX ISA 9.0, bar.red.or";
  let arguments = (ins I1:$vote);
  let results = (outs I1:$any);
}
def Tile_SyncSomeOp : Tile_Leaf<"sync_some", "arch/", [Orders]> {
  let summary = "Barrier of the threads that name it";
  let source = "PTX ISA 9.0, bar.sync of a number of threads";
  let arguments = (ins I32:$id, I32:$threads);
}
def Tile_SyncAnyOp : Tile_Leaf<"sync_any", "arch/", [Orders]> {
  let summary = "Barrier of the threads that name it; true in all where the vote holds in any";
  let source = "PTX ISA 9.0, bar.red.or of a number of threads";
  let arguments = (ins I32:$id, I32:$threads, I1:$vote);
  let results = (outs I1:$any);
}
def Tile_WaitCopiesOp : Tile_Leaf<"wait_copies", "arch/", [Orders]> {
  let summary = "Waits until this thread's asynchronous copies have landed";
  let source = "PTX ISA 9.0, cp.async.wait_all";
}
def Tile_InitRingOp : Tile_Leaf<"init_ring", "core/pipeline.cuh"> {
  let summary = "Sets up a ring's full and empty barriers";
  let source = "PTX ISA 9.0, mbarrier.init";
  let arguments = (ins Writes<RingBarriers>:$barriers, I32:$producers, I32:$consumers);
}
def Tile_InitBarriersOp : Tile_Leaf<"init_barriers", "core/pipeline.cuh"> {
  let summary = "Sets up a ring's barriers for bulk copies: arrivals that fill and that release a stage";
  let source = "PTX ISA 9.0, mbarrier.init";
  let arguments = (ins Writes<RingBarriers>:$barriers, I32:$fills, I32:$releases);
}
def Tile_FenceBarriersOp : Tile_Leaf<"fence_barriers", "arch/", [Orders]> {
  let summary = "Makes initialised barriers visible to the copy engine";
  let source = "PTX ISA 9.0, fence.mbarrier_init";
}
def Tile_WaitFullOp : Tile_Leaf<"wait_full", "core/pipeline.cuh", [Orders]> {
  let summary = "Waits until the cursor's stage has been filled";
  let source = "PTX ISA 9.0, mbarrier.test_wait or mbarrier.try_wait";
  let arguments = (ins Reads<RingBarriers>:$barriers, Reads<Cursor>:$cursor);
}
def Tile_WaitEmptyOp : Tile_Leaf<"wait_empty", "core/pipeline.cuh", [Orders]> {
  let summary = "Waits until all consumers have released the cursor's stage";
  let source = "PTX ISA 9.0, mbarrier.test_wait or mbarrier.try_wait";
  let arguments = (ins Reads<RingBarriers>:$barriers, Reads<Cursor>:$cursor);
}
def Tile_WaitAllEmptyOp : Tile_Leaf<"wait_all_empty", "core/pipeline.cuh", [Orders]> {
  let summary = "Waits until all stages that a producer has filled are empty, when it fills no more";
  let source = "PTX ISA 9.0, mbarrier.test_wait or mbarrier.try_wait";
  let arguments = (ins Reads<RingBarriers>:$barriers, Reads<Cursor>:$cursor);
}
def Tile_ArriveFullOp : Tile_Leaf<"arrive_full", "core/pipeline.cuh", [Orders]> {
  let summary = "Reports the stage full once this thread's copies have landed";
  let source = "PTX ISA 9.0, cp.async.mbarrier.arrive.noinc";
  let arguments = (ins Reads<RingBarriers>:$barriers, Reads<Cursor>:$cursor);
}
def Tile_ArriveEmptyOp : Tile_Leaf<"arrive_empty", "core/pipeline.cuh", [Orders]> {
  let summary = "Releases the cursor's stage, every lane for itself";
  let source = "PTX ISA 9.0, mbarrier.arrive";
  let arguments = (ins Reads<RingBarriers>:$barriers, Reads<Cursor>:$cursor);
}
def Tile_ArriveExpectingOp : Tile_Leaf<"arrive_expecting", "arch/", [Orders]> {
  let summary = "Arrives on a barrier and announces bytes of bulk copies";
  let source = "PTX ISA 9.0, mbarrier.arrive.expect_tx";
  let arguments = (ins I32:$barrier, I32:$bytes);
}
def Tile_FullBarrierOp : Tile_Leaf<"full_barrier", "core/pipeline.cuh", [Inline]> {
  let summary = "The address of the cursor's full barrier";
  let arguments = (ins Takes<RingBarriers>:$barriers, Reads<Cursor>:$cursor);
  let results = (outs I32:$address);
}
def Tile_ReportFullOp : Tile_Leaf<"report_full", "core/pipeline.cuh", [Orders]> {
  let summary = "Reports the stage full, every lane for itself";
  let source = "PTX ISA 9.0, mbarrier.arrive";
  let arguments = (ins Reads<RingBarriers>:$barriers, Reads<Cursor>:$cursor);
}
def Tile_PublishOp : Tile_Leaf<"publish", "core/pipeline.cuh", [Orders]> {
  let summary = "One arrival on the full barrier for the warp";
  let source = "PTX ISA 9.0, mbarrier.arrive";
  let arguments = (ins Reads<RingBarriers>:$barriers, Reads<Cursor>:$cursor);
}
def Tile_ReleaseOp : Tile_Leaf<"release", "core/pipeline.cuh", [Orders]> {
  let summary = "One arrival on the empty barrier for the warp";
  let source = "PTX ISA 9.0, mbarrier.arrive";
  let arguments = (ins Reads<RingBarriers>:$barriers, Reads<Cursor>:$cursor);
}
def Tile_ReleaseTimesOp : Tile_Leaf<"release_times", "select/scoring_warpgroup.cuh", [Orders]> {
  let summary = "Several arrivals on the empty barrier for the warp";
  let source = "PTX ISA 9.0, mbarrier.arrive with a count";
  let arguments = (ins Reads<RingBarriers>:$barriers, Reads<Cursor>:$cursor, I32:$times);
}
def Tile_StageOp : Tile_Leaf<"stage", "attend/work_list.cuh, core/pipeline.cuh", [Inline, InferTypeOpAdaptor]> {
  let summary = "The cursor's tile of a ring";
  let arguments = (ins Takes<AnyTypeOf<[Ring, WorkRing]>>:$ring, Reads<Cursor>:$cursor);
  let results = (outs Tile_Object:$tile);
}
def Tile_AdvanceOp : Tile_Leaf<"advance", "core/pipeline.cuh"> {
  let summary = "Moves the cursor to the next stage";
  let arguments = (ins Updates<Cursor>:$cursor);
}
def Tile_AdvanceByOp : Tile_Leaf<"advance_by", "core/pipeline.cuh"> {
  let summary = "Moves the cursor on by some stages";
  let arguments = (ins Updates<Cursor>:$cursor, I32:$count);
}
def Tile_MoveToOp : Tile_Leaf<"move_to", "core/pipeline.cuh"> {
  let summary = "Puts the cursor on a stage of the same turn";
  let arguments = (ins Updates<Cursor>:$cursor, I32:$stage);
}
def Tile_NextTurnOp : Tile_Leaf<"next_turn", "core/pipeline.cuh"> {
  let summary = "Moves the cursor to the same stage, one turn of the ring later";
  let arguments = (ins Updates<Cursor>:$cursor);
}
def Tile_FollowOp : Tile_Leaf<"follow", "core/pipeline.cuh"> {
  let summary = "Puts the cursor where another one is";
  let arguments = (ins Writes<Cursor>:$cursor, Reads<Cursor>:$other);
}
def Tile_SkipOp : Tile_Leaf<"skip", "select/scoring_warpgroup.cuh"> {
  let summary = "Moves the cursor over stages, at most a whole turn";
  let arguments = (ins Updates<Cursor>:$cursor, I32:$stages);
}
def Tile_FirstDealtOp : Tile_Leaf<"first_dealt", "select/scoring_warpgroup.cuh"> {
  let summary = "The first of the coming tiles that the consumer gets";
  let arguments = (ins Reads<Deal>:$deal, I32:$consumer);
  let results = (outs I32:$tile);
}
def Tile_DealOutOp : Tile_Leaf<"deal_out", "select/scoring_warpgroup.cuh"> {
  let summary = "Deals tiles to the consumers in turn";
  let arguments = (ins Updates<Deal>:$deal, I32:$tiles);
}
def Tile_ClaimRegistersOp : Tile_Leaf<"claim_registers", "arch/", [Orders]> {
  let summary = "The warpgroup takes more registers per thread, once others have released them";
  let source = "PTX ISA 9.0, setmaxnreg.inc";
  let arguments = (ins Template:$registers);
}
def Tile_ReleaseRegistersOp : Tile_Leaf<"release_registers", "arch/", [Orders]> {
  let summary = "The warpgroup gives registers back";
  let source = "PTX ISA 9.0, setmaxnreg.dec";
  let arguments = (ins Template:$registers);
}
} // opDocGroup

#endif
