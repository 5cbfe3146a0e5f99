// The leaves of dialect/tile/leaves/copies.td: what each prints as. leaves.test wants a line for every leaf.
// RUN: winnow-translate %s | FileCheck %s

!global_rows = !tile.view<GlobalRows<bf16, @kDim>>
!panel_tile = !tile.shared_tile<PanelTile<@kKeys, @kDim, bf16>>
!paged_rows = !tile.view<PagedRows<bf16>>
!params = !tile.value<Params>
!pointer = !tile.view<Pointer>
!ordered_rows = !tile.view<OrderedRows<bf16>>
!streamed_rows = !tile.view<StreamedRows<bf16>>
!shared_tile = !tile.shared_tile<SharedTile<@kKeys, @kDim, bf16>>
!strided_heads = !tile.view<StridedHeads>
!summary_images = !tile.view<SummaryImages<bf16, @kDim>>
!tensor_map = !tile.view<TensorMap>
!token_tile = !tile.value<TokenTile>

tile.kernel @copies attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !params) {
  %i = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !params -> !pointer
  %pointer = tile.id_row %ids, %i, %i, %i {topk = @kTopK} : (!pointer, i32, i32, i32) -> !pointer
  %row = tile.block_index "x" : i32
  %column = tile.block_index "x" : i32
  %shared_tile = tile.shared bytes 16 : !shared_tile
  %global_rows = tile.global_rows %pointer, %i, %i {stride = @kDim, type = bf16} : (!pointer, i32, i32) -> !global_rows
  %first_row = tile.block_index "x" : i32
  %row_limit = tile.block_index "x" : i32
  %thread = tile.block_index "x" : i32
  %token_tile = tile.find_token %pointer, %pointer, %i, %i : (!pointer, !pointer, i32, i32) -> !token_tile
  %first_head = tile.block_index "x" : i32
  %panel_tile = tile.shared bytes 16 : !panel_tile
  %tile_row = tile.block_index "x" : i32
  %tensor_map = tile.field %params "map[0]" : !params -> !tensor_map
  %barrier = tile.block_index "x" : i32
  %head = tile.block_index "x" : i32
  %summary_images = tile.images_of %pointer, %i, %i, %i, %token_tile {dim = @kDim, stride = @kStride, type = bf16} : (!pointer, i32, i32, i32, !token_tile) -> !summary_images
  %index = tile.block_index "x" : i32
  %end_row = tile.block_index "x" : i32
  // CHECK: const auto rows = global_rows<bf16, kStride>(pointer, row, column);
  %rows = tile.global_rows %pointer, %row, %column {stride = @kStride, type = bf16} : (!pointer, i32, i32) -> !tile.view<GlobalRows<bf16, @kStride>>
  %k = tile.field %params "k" : !params -> !pointer
  %stride = tile.field %params "k_stride" : !params -> !pointer
  // CHECK: const auto keys = paged_rows<bf16>(params, k, stride, token_tile, head);
  %keys = tile.paged_rows %params, %k, %stride, %token_tile, %head {type = bf16} : (!params, !pointer, !pointer, !token_tile, i32) -> !paged_rows
  // CHECK: const int page = find_page({{.*}}, first_row, row_limit, thread);
  %page = tile.find_page %keys, %first_row, %row_limit, %thread : (!paged_rows, i32, i32, i32) -> i32
  // CHECK: load_found_rows(shared_tile, {{.*}}, page, first_row, row_limit, thread);
  tile.load_found_rows %shared_tile, %keys, %page, %first_row, %row_limit, %thread : (!shared_tile, !paged_rows, i32, i32, i32, i32) -> ()
  // CHECK: load_rows<kThreads>(shared_tile, keys, first_row, row_limit, thread);
  tile.load_rows %shared_tile, %keys, %first_row, %row_limit, %thread {threads = @kThreads} : (!shared_tile, !paged_rows, i32, i32, i32) -> ()
  %k_scale = tile.field %params "k_scale" : !params -> !pointer
  %scale = tile.constant @kScale : f32
  // CHECK: const float factor = head_factor(k_scale, head, kScale);
  %factor = tile.head_factor %k_scale, %head, %scale : (!pointer, i32, f32) -> f32
  // CHECK: const auto bytes = paged_rows<e4m3>(params, k, stride, token_tile, head);
  %bytes = tile.paged_rows %params, %k, %stride, %token_tile, %head {type = f8E4M3FN} : (!params, !pointer, !pointer, !token_tile, i32) -> !tile.view<PagedRows<f8E4M3FN>>
  // CHECK: const auto once = read_once(keys);
  %once = tile.read_once %keys : (!paged_rows) -> !streamed_rows
  // CHECK: load_rows<kThreads>(shared_tile, once, first_row, row_limit, thread);
  tile.load_rows %shared_tile, %once, %first_row, %row_limit, %thread {threads = @kThreads} : (!shared_tile, !streamed_rows, i32, i32, i32) -> ()
  // CHECK: const auto ordered = in_summary_order(once);
  %ordered = tile.in_summary_order %once : (!streamed_rows) -> !ordered_rows
  // CHECK: load_rows<kThreads>(shared_tile, ordered, first_row, row_limit, thread);
  tile.load_rows %shared_tile, %ordered, %first_row, %row_limit, %thread {threads = @kThreads} : (!shared_tile, !ordered_rows, i32, i32, i32) -> ()
  // CHECK: const auto heads = strided_heads(k, stride);
  %heads = tile.strided_heads %k, %stride : (!pointer, !pointer) -> !strided_heads
  // CHECK: load_rows<kThreads>(shared_tile, global_rows, first_row, row_limit, thread);
  tile.load_rows %shared_tile, %global_rows, %first_row, %row_limit, %thread {threads = @kThreads} : (!shared_tile, !global_rows, i32, i32, i32) -> ()
  // CHECK: load_queries<kThreads, kHeads, kGroup, kSets>(shared_tile, pointer, token_tile, first_head);
  tile.load_queries %shared_tile, %pointer, %token_tile, %first_head {group = @kGroup, heads = @kHeads, sets = @kSets, threads = @kThreads} : (!shared_tile, !pointer, !token_tile, i32) -> ()
  // CHECK: load_summaries<kThreads>(shared_tile, global_rows, first_row, row_limit);
  tile.load_summaries %shared_tile, %global_rows, %first_row, %row_limit {threads = @kThreads} : (!shared_tile, !global_rows, i32, i32) -> ()
  // CHECK: load_summaries<kThreads>(shared_tile, once, first_row, row_limit);
  tile.load_summaries %shared_tile, %once, %first_row, %row_limit {threads = @kThreads} : (!shared_tile, !streamed_rows, i32, i32) -> ()
  // CHECK: load_head_rows<kThreads, kHeads, kGroup>(shared_tile, pointer, row, first_head);
  tile.load_head_rows %shared_tile, %pointer, %row, %first_head {group = @kGroup, heads = @kHeads, threads = @kThreads} : (!shared_tile, !pointer, i32, i32) -> ()
  // CHECK: copy_rows<kRows>(panel_tile, tile_row, tensor_map, barrier, head, first_row);
  tile.copy_rows %panel_tile, %tile_row, %tensor_map, %barrier, %head, %first_row {rows = @kRows} : (!panel_tile, i32, !tensor_map, i32, i32, i32) -> ()
  // CHECK: const auto box = row_box<kRows>(keys, box_rows, first_row, row_limit);
  %box_rows = tile.block_index "x" : i32
  %box = tile.row_box %keys, %box_rows, %first_row, %row_limit {rows = @kRows} : (!paged_rows, i32, i32, i32) -> !tile.value<RowBox>
  // CHECK: const int count = rows_in_boxes<kRows>(box_rows, first_row, row_limit);
  %count = tile.rows_in_boxes %box_rows, %first_row, %row_limit {rows = @kRows} : (i32, i32, i32) -> i32
  // CHECK: copy_row_boxes(panel_tile, tile_row, tensor_map, barrier, head, box);
  tile.copy_row_boxes %panel_tile, %tile_row, %tensor_map, %barrier, %head, %box : (!panel_tile, i32, !tensor_map, i32, i32, !tile.value<RowBox>) -> ()
  // CHECK: copy_queries<kTileHeads, kWarpTokens>(panel_tile, tensor_map, barrier, first_head, row);
  tile.copy_queries %panel_tile, %tensor_map, %barrier, %first_head, %row {tile_heads = @kTileHeads, warp_tokens = @kWarpTokens} : (!panel_tile, !tensor_map, i32, i32, i32) -> ()
  // CHECK: copy_query_tile<kGroup>(panel_tile, tensor_map, barrier, head, row);
  tile.copy_query_tile %panel_tile, %tensor_map, %barrier, %head, %row {group = @kGroup} : (!panel_tile, !tensor_map, i32, i32, i32) -> ()
  // CHECK: copy_image(panel_tile, summary_images, index, barrier);
  tile.copy_image %panel_tile, %summary_images, %index, %barrier : (!panel_tile, !summary_images, i32, i32) -> ()
  // CHECK: clear_rows<kThreads>(panel_tile, first_row, end_row);
  tile.clear_rows %panel_tile, %first_row, %end_row {threads = @kThreads} : (!panel_tile, i32, i32) -> ()
}
