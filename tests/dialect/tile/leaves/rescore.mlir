// The leaves of dialect/tile/leaves/rescore.td: what each prints as. leaves.test wants a line for every leaf.
// RUN: winnow-translate %s | FileCheck %s

!global_rows = !tile.view<GlobalRows<bf16, @kDim>>
!head_normalizers = !tile.table<HeadNormalizers<@kGroup>>
!head_queries = !tile.table<HeadQueries<@kGroup, @kDim>>
!params = !tile.value<Params>
!pointer = !tile.view<Pointer>
!row_marks = !tile.table<RowMarks<@kThreads>>
!summary_images = !tile.view<SummaryImages<bf16, @kDim>>
!threshold_search = !tile.cursor<ThresholdSearch>
!token_tile = !tile.value<TokenTile>

tile.kernel @rescore attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !params) {
  %i = tile.block_index "x" : i32
  %threshold_search = tile.register : !threshold_search
  %own = tile.block_index "x" : i32
  %upper = arith.cmpi slt, %i, %i : i32
  %ids = tile.field %params "ids" : !params -> !pointer
  %pointer = tile.id_row %ids, %i, %i, %i {topk = @kTopK} : (!pointer, i32, i32, i32) -> !pointer
  // CHECK: is_unordered(pointer)
  %unordered = tile.is_unordered %pointer : (!pointer) -> i1
  %row_marks = tile.shared bytes 16 : !row_marks
  %first = tile.block_index "x" : i32
  %rows = tile.block_index "x" : i32
  %index = tile.block_index "x" : i32
  %head_queries = tile.shared bytes 16 : !head_queries
  %row = tile.block_index "x" : i32
  %first_head = tile.block_index "x" : i32
  %head_normalizers = tile.shared bytes 16 : !head_normalizers
  %global_rows = tile.global_rows %pointer, %i, %i {stride = @kDim, type = bf16} : (!pointer, i32, i32) -> !global_rows
  %visible = tile.block_index "x" : i32
  %scale = tile.constant @kScale : f32
  %token_tile = tile.find_token %pointer, %pointer, %i, %i : (!pointer, !pointer, i32, i32) -> !token_tile
  %summary_images = tile.images_of %pointer, %i, %i, %i, %token_tile {dim = @kDim, stride = @kStride, type = bf16} : (!pointer, i32, i32, i32, !token_tile) -> !summary_images
  %first_block = tile.block_index "x" : i32
  %end = tile.block_index "x" : i32
  %threshold = tile.block_index "x" : i32
  %at = tile.block_index "x" : i32
  %ties = tile.block_index "x" : i32
  // CHECK: const bool leaves = leaves_order<kTopK>(threshold_search, own);
  %leaves = tile.leaves_order %threshold_search, %own {topk = @kTopK} : (!threshold_search, i32) -> i1
  // CHECK: const bool leaves_2 = folded_leaves_order(threshold_search, upper);
  %leaves_2 = tile.folded_leaves_order %threshold_search, %upper : (!threshold_search, i1) -> i1
  // CHECK: mark_unordered(pointer);
  tile.mark_unordered %pointer : (!pointer) -> ()
  // CHECK: find_unordered<kTopK>(row_marks, pointer, first, rows);
  tile.find_unordered %row_marks, %pointer, %first, %rows {topk = @kTopK} : (!row_marks, !pointer, i32, i32) -> ()
  // CHECK: const int count = count_unordered(row_marks);
  %count = tile.count_unordered %row_marks : (!row_marks) -> i32
  // CHECK: const int place = nth_unordered(row_marks, index);
  %place = tile.nth_unordered %row_marks, %index : (!row_marks, i32) -> i32
  // CHECK: load_head_queries<bf16, kThreads, kHeads>(head_queries, pointer, row, first_head);
  tile.load_head_queries %head_queries, %pointer, %row, %first_head {heads = @kHeads, threads = @kThreads, type = bf16} : (!head_queries, !pointer, i32, i32) -> ()
  // CHECK: make_head_normalizers<kThreads>(head_normalizers, head_queries, global_rows, visible, kScale);
  tile.make_head_normalizers %head_normalizers, %head_queries, %global_rows, %visible, %scale {threads = @kThreads} : (!head_normalizers, !head_queries, !global_rows, i32, f32) -> ()
  // CHECK: make_head_normalizers<kThreads>(head_normalizers, head_queries, summary_images, visible, kScale);
  tile.make_head_normalizers %head_normalizers, %head_queries, %summary_images, %visible, %scale {threads = @kThreads} : (!head_normalizers, !head_queries, !summary_images, i32, f32) -> ()
  // CHECK: store_octaves<Sum, Max, kThreads, kRowsPerBlock, kPad>(pointer, head_normalizers, head_queries, global_rows, first_block, end, rows, visible, kScale);
  tile.store_octaves %pointer, %head_normalizers, %head_queries, %global_rows, %first_block, %end, %rows, %visible, %scale {combine = "Sum", pad = @kPad, pool = "Max", rows_per_block = @kRowsPerBlock, threads = @kThreads} : (!pointer, !head_normalizers, !head_queries, !global_rows, i32, i32, i32, i32, f32) -> ()
  // CHECK: store_octaves<Sum, Max, kThreads, kRowsPerBlock, kPad>(pointer, head_normalizers, head_queries, summary_images, first_block, end, rows, visible, kScale);
  tile.store_octaves %pointer, %head_normalizers, %head_queries, %summary_images, %first_block, %end, %rows, %visible, %scale {combine = "Sum", pad = @kPad, pool = "Max", rows_per_block = @kRowsPerBlock, threads = @kThreads} : (!pointer, !head_normalizers, !head_queries, !summary_images, i32, i32, i32, i32, f32) -> ()
  // CHECK: const int count_2 = count_octaves<kThreads>(pointer, first_block, end, threshold);
  %count_2 = tile.count_octaves %pointer, %first_block, %end, %threshold {threads = @kThreads} : (!pointer, i32, i32, i32) -> i32
  // CHECK: store_octave_ids(pointer, pointer, at, first_block, end, threshold, ties);
  tile.store_octave_ids %pointer, %pointer, %at, %first_block, %end, %threshold, %ties : (!pointer, !pointer, i32, i32, i32, i32, i32) -> ()
}
