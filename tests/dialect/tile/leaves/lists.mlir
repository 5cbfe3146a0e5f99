// The leaves of dialect/tile/leaves/lists.td: what each prints as. leaves.test wants a line for every leaf.
// RUN: winnow-translate %s | FileCheck %s

!cursor = !tile.cursor<Cursor<@kStages>>
!params = !tile.value<Params>
!pointer = !tile.view<Pointer>
!token_tile = !tile.value<TokenTile>
!wanted_bitmap = !tile.table<WantedBitmap<@kBitmapTiles, @kTokens>>
!wanted_list = !tile.list<WantedList<@kEntries, @kTokens>>
!work_header = !tile.value<WorkHeader>
!work_list = !tile.list<WorkList<@kEntries, @kTokens>>
!work_ring = !tile.ring<WorkRing<@kStages, @kEntries, @kTokens>>

tile.kernel @lists attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !params) {
  %i = tile.block_index "x" : i32
  %wanted_bitmap = tile.shared bytes 16 : !wanted_bitmap
  %tiles = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !params -> !pointer
  %pointer = tile.id_row %ids, %i, %i, %i {topk = @kTopK} : (!pointer, i32, i32, i32) -> !pointer
  %select_head = tile.block_index "x" : i32
  %total_q = tile.block_index "x" : i32
  %token_tile = tile.find_token %pointer, %pointer, %i, %i : (!pointer, !pointer, i32, i32) -> !token_tile
  %from_tile = tile.block_index "x" : i32
  %wanted_list = tile.shared bytes 16 : !wanted_list
  %entry = tile.block_index "x" : i32
  %row_tile = tile.block_index "x" : i32
  %work_ring = tile.shared bytes 16 : !work_ring
  %cursor = tile.register : !cursor
  %work_list = tile.stage %work_ring, %cursor : (!work_ring, !cursor) -> !work_list
  %from = tile.block_index "x" : i32
  %opens = arith.cmpi slt, %i, %i : i32
  %closes = arith.cmpi slt, %i, %i : i32
  %limit = tile.block_index "x" : i32
  %warpgroup = tile.block_index "x" : i32
  // CHECK: clear_wanted(wanted_bitmap, tiles);
  tile.clear_wanted %wanted_bitmap, %tiles : (!wanted_bitmap, i32) -> ()
  // CHECK: mark_wanted<kTopK, kTilesPerBlock, kKeys>(wanted_bitmap, pointer, select_head, total_q, token_tile, from_tile);
  tile.mark_wanted %wanted_bitmap, %pointer, %select_head, %total_q, %token_tile, %from_tile {keys = @kKeys, tiles_per_block = @kTilesPerBlock, topk = @kTopK} : (!wanted_bitmap, !pointer, i32, i32, !token_tile, i32) -> ()
  // CHECK: mark_causal<kKeys>(wanted_bitmap, token_tile, from_tile, tiles);
  tile.mark_causal %wanted_bitmap, %token_tile, %from_tile, %tiles {keys = @kKeys} : (!wanted_bitmap, !token_tile, i32, i32) -> ()
  // CHECK: compact_list(wanted_list, wanted_bitmap, tiles);
  tile.compact_list %wanted_list, %wanted_bitmap, %tiles : (!wanted_list, !wanted_bitmap, i32) -> ()
  // CHECK: const int length = list_length(wanted_list);
  %length = tile.list_length %wanted_list : (!wanted_list) -> i32
  // CHECK: const int tile = list_tile(wanted_list, entry);
  %tile = tile.list_tile %wanted_list, %entry : (!wanted_list, i32) -> i32
  // CHECK: const int wants = list_wants<kRowTokens>(wanted_list, entry, row_tile);
  %wants = tile.list_wants %wanted_list, %entry, %row_tile {row_tokens = @kRowTokens} : (!wanted_list, i32, i32) -> i32
  // CHECK: clear_bitmap(wanted_bitmap);
  tile.clear_bitmap %wanted_bitmap : (!wanted_bitmap) -> ()
  // CHECK: mark_selected<kTopK, kTilesPerBlock, kKeys>(wanted_bitmap, pointer, select_head, total_q, token_tile, from_tile);
  tile.mark_selected %wanted_bitmap, %pointer, %select_head, %total_q, %token_tile, %from_tile {keys = @kKeys, tiles_per_block = @kTilesPerBlock, topk = @kTopK} : (!wanted_bitmap, !pointer, i32, i32, !token_tile, i32) -> ()
  // CHECK: mark_all<kKeys>(wanted_bitmap, token_tile, from_tile, tiles);
  tile.mark_all %wanted_bitmap, %token_tile, %from_tile, %tiles {keys = @kKeys} : (!wanted_bitmap, !token_tile, i32, i32) -> ()
  // CHECK: const int next = fill_list<true, false, kParts, kWarpTokens>(work_list, wanted_bitmap, from_tile, from, tiles);
  %next = tile.fill_list %work_list, %wanted_bitmap, %from_tile, %from, %tiles {parts = @kParts, split = true, warp_tokens = @kWarpTokens, whole = false} : (!work_list, !wanted_bitmap, i32, i32, i32) -> i32
  // CHECK: describe_work(work_list, token_tile, select_head, opens, closes);
  tile.describe_work %work_list, %token_tile, %select_head, %opens, %closes : (!work_list, !token_tile, i32, i1, i1) -> ()
  // CHECK: end_work(work_list);
  tile.end_work %work_list : (!work_list) -> ()
  // CHECK: const bool has = has_work(work_list);
  %has = tile.has_work %work_list : (!work_list) -> i1
  // CHECK: const auto header = work_header(work_list);
  %header = tile.work_header %work_list : (!work_list) -> !work_header
  // CHECK: const int tile_2 = work_tile(work_list, entry);
  %tile_2 = tile.work_tile %work_list, %entry : (!work_list, i32) -> i32
  // CHECK: const int entry_2 = next_wanted<kParts, kWarpTokens>(work_list, from, limit, warpgroup);
  %entry_2 = tile.next_wanted %work_list, %from, %limit, %warpgroup {parts = @kParts, warp_tokens = @kWarpTokens} : (!work_list, i32, i32, i32) -> i32
  // CHECK: const bool wants_2 = warpgroup_wants<kParts, kWarpTokens>(work_list, entry, warpgroup);
  %wants_2 = tile.warpgroup_wants %work_list, %entry, %warpgroup {parts = @kParts, warp_tokens = @kWarpTokens} : (!work_list, i32, i32) -> i1
}
