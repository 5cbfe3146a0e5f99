// The leaves of dialect/tile/leaves/order.td: what each prints as. leaves.test wants a line for every leaf.
// RUN: winnow-translate %s | FileCheck %s

!cursor = !tile.cursor<Cursor<@kStages>>
!deal = !tile.cursor<Deal<@kConsumers>>
!params = !tile.value<Params>
!ring_barriers = !tile.barriers<RingBarriers<@kStages>>
!shared_tile = !tile.shared_tile<SharedTile<@kKeys, @kDim, bf16>>
!work_list = !tile.list<WorkList<@kEntries, @kTokens>>
!work_ring = !tile.ring<WorkRing<@kStages, @kEntries, @kTokens>>
!ring = !tile.ring<Ring<@kStages, !tile.shared_tile<SharedTile<@kKeys, @kDim, bf16>>>>

tile.kernel @order attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !params) {
  %i = tile.block_index "x" : i32
  %vote = arith.cmpi slt, %i, %i : i32
  %id = tile.block_index "x" : i32
  %threads = tile.block_index "x" : i32
  %ring_barriers = tile.shared bytes 16 : !ring_barriers
  %producers = tile.block_index "x" : i32
  %consumers = tile.block_index "x" : i32
  %fills = tile.block_index "x" : i32
  %releases = tile.block_index "x" : i32
  %cursor = tile.register : !cursor
  %barrier = tile.block_index "x" : i32
  %bytes = tile.block_index "x" : i32
  %times = tile.block_index "x" : i32
  %ring = tile.shared bytes 16 : !ring
  %work_ring = tile.shared bytes 16 : !work_ring
  %stage = tile.block_index "x" : i32
  %cursor_2 = tile.register : !cursor
  %stages = tile.block_index "x" : i32
  %deal = tile.register : !deal
  %consumer = tile.block_index "x" : i32
  %tiles = tile.block_index "x" : i32
  // CHECK: start_later_kernels();
  tile.start_later_kernels : () -> ()
  // CHECK: wait_earlier_kernels();
  tile.wait_earlier_kernels : () -> ()
  // CHECK: sync_cluster();
  tile.sync_cluster : () -> ()
  // CHECK: enter_cluster();
  tile.enter_cluster : () -> ()
  // CHECK: wait_cluster();
  tile.wait_cluster : () -> ()
  // CHECK: const int blocks = cluster_blocks();
  %blocks = tile.cluster_blocks : () -> i32
  // CHECK: const int block = cluster_block();
  %block = tile.cluster_block : () -> i32
  %left = arith.cmpi slt, %block, %blocks : i32
  tile.return_if %left
  // CHECK: sync_threads();
  tile.sync_threads : () -> ()
  // CHECK: const bool any = sync_threads_any(vote);
  %any = tile.sync_threads_any %vote : (i1) -> i1
  // CHECK: sync_some(id, threads);
  tile.sync_some %id, %threads : (i32, i32) -> ()
  // CHECK: const bool any_2 = sync_any(id, threads, vote);
  %any_2 = tile.sync_any %id, %threads, %vote : (i32, i32, i1) -> i1
  // CHECK: wait_copies();
  tile.wait_copies : () -> ()
  // CHECK: init_ring(ring_barriers, producers, consumers);
  tile.init_ring %ring_barriers, %producers, %consumers : (!ring_barriers, i32, i32) -> ()
  // CHECK: init_barriers(ring_barriers, fills, releases);
  tile.init_barriers %ring_barriers, %fills, %releases : (!ring_barriers, i32, i32) -> ()
  // CHECK: fence_barriers();
  tile.fence_barriers : () -> ()
  // CHECK: wait_full(ring_barriers, cursor);
  tile.wait_full %ring_barriers, %cursor : (!ring_barriers, !cursor) -> ()
  // CHECK: wait_empty(ring_barriers, cursor);
  tile.wait_empty %ring_barriers, %cursor : (!ring_barriers, !cursor) -> ()
  // CHECK: wait_all_empty(ring_barriers, cursor);
  tile.wait_all_empty %ring_barriers, %cursor : (!ring_barriers, !cursor) -> ()
  // CHECK: arrive_full(ring_barriers, cursor);
  tile.arrive_full %ring_barriers, %cursor : (!ring_barriers, !cursor) -> ()
  // CHECK: arrive_empty(ring_barriers, cursor);
  tile.arrive_empty %ring_barriers, %cursor : (!ring_barriers, !cursor) -> ()
  // CHECK: arrive_expecting(barrier, bytes);
  tile.arrive_expecting %barrier, %bytes : (i32, i32) -> ()
  // CHECK: const int address = full_barrier(ring_barriers, cursor);
  %address = tile.full_barrier %ring_barriers, %cursor : (!ring_barriers, !cursor) -> i32
  // CHECK: report_full(ring_barriers, cursor);
  tile.report_full %ring_barriers, %cursor : (!ring_barriers, !cursor) -> ()
  // CHECK: publish(ring_barriers, cursor);
  tile.publish %ring_barriers, %cursor : (!ring_barriers, !cursor) -> ()
  // CHECK: release(ring_barriers, cursor);
  tile.release %ring_barriers, %cursor : (!ring_barriers, !cursor) -> ()
  // CHECK: release_times(ring_barriers, cursor, times);
  tile.release_times %ring_barriers, %cursor, %times : (!ring_barriers, !cursor, i32) -> ()
  // CHECK: const auto tile = stage(ring, cursor);
  %tile = tile.stage %ring, %cursor : (!ring, !cursor) -> !shared_tile
  // CHECK: const auto tile_2 = stage(work_ring, cursor);
  %tile_2 = tile.stage %work_ring, %cursor : (!work_ring, !cursor) -> !work_list
  // CHECK: advance(cursor);
  tile.advance %cursor : (!cursor) -> ()
  // CHECK: advance_by(cursor, stage);
  tile.advance_by %cursor, %stage : (!cursor, i32) -> ()
  // CHECK: move_to(cursor, stage);
  tile.move_to %cursor, %stage : (!cursor, i32) -> ()
  // CHECK: next_turn(cursor);
  tile.next_turn %cursor : (!cursor) -> ()
  // CHECK: follow(cursor, cursor_2);
  tile.follow %cursor, %cursor_2 : (!cursor, !cursor) -> ()
  // CHECK: skip(cursor, stages);
  tile.skip %cursor, %stages : (!cursor, i32) -> ()
  // CHECK: const int tile_3 = first_dealt(deal, consumer);
  %tile_3 = tile.first_dealt %deal, %consumer : (!deal, i32) -> i32
  // CHECK: deal_out(deal, tiles);
  tile.deal_out %deal, %tiles : (!deal, i32) -> ()
  // CHECK: claim_registers<232>();
  tile.claim_registers  {registers = 232 : i32} : () -> ()
  // CHECK: release_registers<232>();
  tile.release_registers  {registers = 232 : i32} : () -> ()
}
