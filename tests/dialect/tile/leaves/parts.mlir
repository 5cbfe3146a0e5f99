// The leaves of dialect/tile/leaves/parts.td: what each prints as. leaves.test wants a line for every leaf.
// RUN: winnow-translate %s | FileCheck %s

!accumulator = !tile.fragment<Accumulator<16, @kValueDim>>
!block_list = !tile.list<BlockList<@kTopK>>
!params = !tile.value<Params>
!pointer = !tile.view<Pointer>
!query_rows = !tile.value<QueryRows>
!softmax_state = !tile.state<SoftmaxState>
!strided_heads = !tile.view<StridedHeads>
!token_tile = !tile.value<TokenTile>
!warp_values = !tile.table<WarpValues<@kWarps, @kValueDim>>

tile.kernel @parts attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !params) {
  %i = tile.block_index "x" : i32
  %accumulator = tile.register : !accumulator
  %softmax_state = tile.register : !softmax_state
  %block_list = tile.shared bytes 400 : !block_list
  %warp_values = tile.shared bytes 4096 : !warp_values
  %ids = tile.field %params "ids" : !params -> !pointer
  %out = tile.field %params "out" : !params -> !pointer
  %lse = tile.field %params "lse" : !params -> !pointer
  %values = tile.field %params "buffer[1]" : !params -> !pointer
  %states = tile.field %params "buffer[2]" : !params -> !pointer
  %stride = tile.field %params "out_stride" : !params -> !pointer
  %strided = tile.strided_heads %out, %stride : (!pointer, !pointer) -> !strided_heads
  %cu_q = tile.field %params "cu_q" : !params -> !pointer
  %token_tile = tile.find_token %cu_q, %cu_q, %i, %i : (!pointer, !pointer, i32, i32) -> !token_tile
  %query_rows = tile.query_rows %token_tile, %i {tile_heads = @kTileHeads} : (!token_tile, i32) -> !query_rows
  %scale = tile.constant @kScale : f32
  %all = arith.constant false
  // CHECK: list_blocks<kBlock>(block_list, ids, i, i, token_tile, i, i);
  tile.list_blocks %block_list, %ids, %i, %i, %token_tile, %i, %i {block = @kBlock} : (!block_list, !pointer, i32, i32, !token_tile, i32, i32) -> ()
  // CHECK: const int forced = forced_key<kInit, kTilesPerBlock, kKeys>(i, i);
  %forced = tile.forced_key %i, %i {init = @kInit, keys = @kKeys, tiles_per_block = @kTilesPerBlock} : (i32, i32) -> i32
  // CHECK: const int count = count_blocks(block_list);
  %count = tile.count_blocks %block_list : (!block_list) -> i32
  // CHECK: const int key = listed_key<kTilesPerBlock, kKeys>(block_list, count, all);
  %key = tile.listed_key %block_list, %count, %all {keys = @kKeys, tiles_per_block = @kTilesPerBlock} : (!block_list, i32, i1) -> i32
  // CHECK: const int chosen = chosen_key<kInit, kTilesPerBlock, kKeys>(block_list, ids, count, all, all);
  %chosen = tile.chosen_key %block_list, %ids, %count, %all, %all {init = @kInit, keys = @kKeys, tiles_per_block = @kTilesPerBlock} : (!block_list, !pointer, i32, i1, i1) -> i32
  // CHECK: store_part<kHeads>(values, states, accumulator, softmax_state, query_rows, key, i, chosen, kScale);
  tile.store_part %values, %states, %accumulator, %softmax_state, %query_rows, %key, %i, %chosen, %scale {heads = @kHeads} : (!pointer, !pointer, !accumulator, !softmax_state, !query_rows, i32, i32, i32, f32) -> ()
  // CHECK: add_parts<kHeads>(warp_values, values, states, i, i, i, i, i, i);
  tile.add_parts %warp_values, %values, %states, %i, %i, %i, %i, %i, %i {heads = @kHeads} : (!warp_values, !pointer, !pointer, i32, i32, i32, i32, i32, i32) -> ()
  // CHECK: store_merged<kHeads, bf16>(strided, lse, warp_values, i, i, i, i, i);
  tile.store_merged %strided, %lse, %warp_values, %i, %i, %i, %i, %i {heads = @kHeads, type = bf16} : (!strided_heads, !pointer, !warp_values, i32, i32, i32, i32, i32) -> ()
}
