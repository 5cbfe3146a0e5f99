// The leaves of dialect/tile/leaves/summaries.td: what each prints as. leaves.test wants a line for every leaf.
// RUN: winnow-translate %s | FileCheck %s

!channel_sums = !tile.state<ChannelSums>
!global_rows = !tile.view<GlobalRows<bf16, @kDim>>
!paged_rows = !tile.view<PagedRows<bf16>>
!key_tile = !tile.shared_tile<SharedTile<@kKeys, @kDim, bf16>>
!new_row = !tile.state<NewRow>
!params = !tile.value<Params>
!pointer = !tile.view<Pointer>
!summary_tile = !tile.shared_tile<SharedTile<32, @kDim, bf16>>
!summary_images = !tile.view<SummaryImages<bf16, @kDim>>
!token_tile = !tile.value<TokenTile>

tile.kernel @summaries attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !params) {
  %i = tile.block_index "x" : i32
  %length = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !params -> !pointer
  %pointer = tile.id_row %ids, %i, %i, %i {topk = @kTopK} : (!pointer, i32, i32, i32) -> !pointer
  %kv_head = tile.block_index "x" : i32
  %total_k = tile.block_index "x" : i32
  %k_row = tile.block_index "x" : i32
  %batch = tile.block_index "x" : i32
  %token_tile = tile.find_token %pointer, %pointer, %i, %i : (!pointer, !pointer, i32, i32) -> !token_tile
  %position = tile.block_index "x" : i32
  %rows = tile.block_index "x" : i32
  %index = tile.block_index "x" : i32
  %q_length = tile.block_index "x" : i32
  %channel_sums = tile.register : !channel_sums
  %global_rows = tile.global_rows %pointer, %i, %i {stride = @kDim, type = bf16} : (!pointer, i32, i32) -> !global_rows
  %row = tile.block_index "x" : i32
  %chunk = tile.block_index "x" : i32
  %summary_images = tile.images_of %pointer, %i, %i, %i, %token_tile {dim = @kDim, stride = @kStride, type = bf16} : (!pointer, i32, i32, i32, !token_tile) -> !summary_images
  %scale = tile.constant @kScale : f32
  // CHECK: const int rows_2 = summary_rows<kWindow, kStride>(length);
  %rows_2 = tile.summary_rows %length {stride = @kStride, window = @kWindow} : (i32) -> i32
  // CHECK: const auto rows_3 = summary_of<bf16, kDim, kStride>(pointer, kv_head, total_k, k_row);
  %rows_3 = tile.summary_of %pointer, %kv_head, %total_k, %k_row {dim = @kDim, stride = @kStride, type = bf16} : (!pointer, i32, i32, i32) -> !global_rows
  // CHECK: const auto images = images_of<bf16, kDim, kStride>(pointer, kv_head, total_k, batch, token_tile);
  %images = tile.images_of %pointer, %kv_head, %total_k, %batch, %token_tile {dim = @kDim, stride = @kStride, type = bf16} : (!pointer, i32, i32, i32, !token_tile) -> !summary_images
  // CHECK: const auto kept = kept_rows<bf16, kWindow, kStride>(params, index, token_tile, kv_head);
  %kept = tile.kept_rows %params, %index, %token_tile, %kv_head {stride = @kStride, type = bf16, window = @kWindow} : (!params, i32, !token_tile, i32) -> !paged_rows
  // CHECK: const int visible = visible_absolute<kWindow, kStride>(position, rows);
  %visible = tile.visible_absolute %position, %rows {stride = @kStride, window = @kWindow} : (i32, i32) -> i32
  // CHECK: const int visible_2 = visible_by_segment<kStride>(index, q_length, rows);
  %visible_2 = tile.visible_by_segment %index, %q_length, %rows {stride = @kStride} : (i32, i32, i32) -> i32
  // CHECK: add_row(channel_sums, global_rows, row, chunk);
  tile.add_row %channel_sums, %global_rows, %row, %chunk : (!channel_sums, !global_rows, i32, i32) -> ()
  // CHECK: add_row(channel_sums, summary_images, row, chunk);
  tile.add_row %channel_sums, %summary_images, %row, %chunk : (!channel_sums, !summary_images, i32, i32) -> ()
  %key_tile = tile.shared bytes 8192 : !key_tile
  // CHECK: add_tile_rows(channel_sums, key_tile, chunk);
  tile.add_tile_rows %channel_sums, %key_tile, %chunk : (!channel_sums, !key_tile, i32) -> ()
  // CHECK: store_mean(global_rows, row, chunk, channel_sums, kScale, kScale);
  tile.store_mean %global_rows, %row, %chunk, %channel_sums, %scale, %scale : (!global_rows, i32, i32, !channel_sums, f32, f32) -> ()
  // CHECK: store_mean(kept, row, chunk, channel_sums, kScale, kScale);
  tile.store_mean %kept, %row, %chunk, %channel_sums, %scale, %scale : (!paged_rows, i32, i32, !channel_sums, f32, f32) -> ()
  // CHECK: store_image_row(summary_images, row, chunk, channel_sums, kScale, kScale);
  tile.store_image_row %summary_images, %row, %chunk, %channel_sums, %scale, %scale : (!summary_images, i32, i32, !channel_sums, f32, f32) -> ()
  %new_row = tile.register : !new_row
  %tile = tile.shared bytes 8192 : !summary_tile
  // CHECK: make_new_row<bf16, kWindow, kStride, kDim>(new_row, kept, row, kScale);
  tile.make_new_row %new_row, %kept, %row, %scale {dim = @kDim, stride = @kStride, type = bf16, window = @kWindow} : (!new_row, !paged_rows, i32, f32) -> ()
  // CHECK: keep_mean<kWindow, kStride, kDim>(kept, kept, row, chunk, kScale);
  tile.keep_mean %kept, %kept, %row, %chunk, %scale {dim = @kDim, stride = @kStride, window = @kWindow} : (!paged_rows, !paged_rows, i32, i32, f32) -> ()
  // CHECK: put_new_row(tile, new_row, row);
  tile.put_new_row %tile, %new_row, %row : (!summary_tile, !new_row, i32) -> ()
}
