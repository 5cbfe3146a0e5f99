// The leaves of dialect/tile/leaves/tokens.td: what each prints as. leaves.test wants a line for every leaf.
// RUN: winnow-translate %s | FileCheck %s

!key_lengths = !tile.value<KeyLengths>
!params = !tile.value<Params>
!pointer = !tile.view<Pointer>
!query_rows = !tile.value<QueryRows>
!tile_slot = !tile.table<TileSlot>
!token_tile = !tile.value<TokenTile>

tile.kernel @tokens attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !params) {
  %i = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !params -> !pointer
  %pointer = tile.id_row %ids, %i, %i, %i {topk = @kTopK} : (!pointer, i32, i32, i32) -> !pointer
  %batch = tile.block_index "x" : i32
  %begin = tile.block_index "x" : i32
  %end = tile.block_index "x" : i32
  %slot = tile.block_index "x" : i32
  %row = tile.block_index "x" : i32
  %token_tile = tile.find_token %pointer, %pointer, %i, %i : (!pointer, !pointer, i32, i32) -> !token_tile
  %tile_slot = tile.shared bytes 16 : !tile_slot
  %row_tile = tile.block_index "x" : i32
  %token_group = tile.block_index "x" : i32
  %set = tile.block_index "x" : i32
  %mma_tile = tile.block_index "x" : i32
  %half = tile.block_index "x" : i32
  // CHECK: const int index = thread_index();
  %index = tile.thread_index : () -> i32
  // CHECK: const int index_2 = lane_index();
  %index_2 = tile.lane_index : () -> i32
  // CHECK: const int index_3 = warp_index();
  %index_3 = tile.warp_index : () -> i32
  // CHECK: const int index_4 = warpgroup_index();
  %index_4 = tile.warpgroup_index : () -> i32
  // CHECK: const int same = warp_uniform(index_3);
  %same = tile.warp_uniform %index_3 : (i32) -> i32
  // CHECK: const int zero = varying_zero();
  %zero = tile.varying_zero : () -> i32
  // CHECK: const auto tile = find_token_tile<kTokens>(pointer, pointer, batch, begin, end, slot);
  %tile = tile.find_token_tile %pointer, %pointer, %batch, %begin, %end, %slot {tokens = @kTokens} : (!pointer, !pointer, i32, i32, i32, i32) -> !token_tile
  // CHECK: const auto segment_tile = find_segment_tile<kTokens>(pointer, pointer, batch, begin);
  %segment_tile = tile.find_segment_tile %pointer, %pointer, %batch, %begin {tokens = @kTokens} : (!pointer, !pointer, i32, i32) -> !token_tile
  // CHECK: const auto lengths = key_lengths(params);
  %lengths = tile.key_lengths %params : (!params) -> !key_lengths
  // CHECK: const auto keys = find_key_tile<kTokens>(lengths, batch, slot);
  %keys = tile.find_key_tile %lengths, %batch, %slot {tokens = @kTokens} : (!key_lengths, i32, i32) -> !token_tile
  // CHECK: const auto tile_2 = find_token(pointer, pointer, batch, row);
  %tile_2 = tile.find_token %pointer, %pointer, %batch, %row : (!pointer, !pointer, i32, i32) -> !token_tile
  // CHECK: const int position = last_position(token_tile);
  %position = tile.last_position %token_tile : (!token_tile) -> i32
  // CHECK: park(tile_slot, token_tile);
  tile.park %tile_slot, %token_tile : (!tile_slot, !token_tile) -> ()
  // CHECK: const auto tile_3 = parked(tile_slot);
  %tile_3 = tile.parked %tile_slot : (!tile_slot) -> !token_tile
  // CHECK: const auto rows = query_rows<kTileHeads>(token_tile, row_tile);
  %rows = tile.query_rows %token_tile, %row_tile {tile_heads = @kTileHeads} : (!token_tile, i32) -> !query_rows
  // CHECK: const int token = set_token<kSets>(token_group, set);
  %token = tile.set_token %token_group, %set {sets = @kSets} : (i32, i32) -> i32
  // CHECK: const int token_2 = tile_token<kGroup>(mma_tile, half);
  %token_2 = tile.tile_token %mma_tile, %half {group = @kGroup} : (i32, i32) -> i32
}
