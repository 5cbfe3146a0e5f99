// What the verifiers refuse of the leaves of dialect/tile/leaves/copies.td.
// RUN: winnow-opt %s -split-input-file -verify-diagnostics

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !tile.value<Params> -> !tile.view<Pointer>
  %tile = tile.shared bytes 16384 : !tile.shared_tile<SharedTile<64, 128, bf16>>
  // expected-error@+1 {{operand #1 must be GlobalRows (view) or PagedRows (view) or StreamedRows (view) or OrderedRows (view) or TokenRows (view), but got '!tile.view<Pointer>'}}
  tile.load_rows %tile, %ids, %i, %i, %i {threads = 128 : i32} : (!tile.shared_tile<SharedTile<64, 128, bf16>>, !tile.view<Pointer>, i32, i32, i32) -> ()
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !tile.value<Params> -> !tile.view<Pointer>
  // expected-error@+2 {{failed to infer returned types}}
  // expected-error@+1 {{inferred type(s) '!tile.view<GlobalRows<bf16, 256>>' are incompatible with return type(s)}}
  %rows = tile.global_rows %ids, %i, %i {stride = 256 : i32, type = bf16} : (!tile.view<Pointer>, i32, i32) -> !tile.view<GlobalRows<bf16, 512>>
}

// -----

// A number is no text.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !tile.value<Params> -> !tile.view<Pointer>
  // expected-error@+1 {{attribute 'stride' failed to satisfy constraint}}
  %rows = tile.global_rows %ids, %i, %i {stride = "512", type = bf16} : (!tile.view<Pointer>, i32, i32) -> !tile.view<GlobalRows<bf16, 512>>
}

// -----

// Nor is the name of a constant.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !tile.value<Params> -> !tile.view<Pointer>
  // expected-error@+1 {{attribute 'stride' failed to satisfy constraint}}
  %rows = tile.global_rows %ids, %i, %i {stride = "kDim", type = bf16} : (!tile.view<Pointer>, i32, i32) -> !tile.view<GlobalRows<bf16, @kDim>>
}

// -----

// Device code has no such elements.
tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %ids = tile.field %params "ids" : !tile.value<Params> -> !tile.view<Pointer>
  // expected-error@+1 {{attribute 'type' failed to satisfy constraint}}
  %rows = tile.global_rows %ids, %i, %i {stride = 512 : i32, type = f64} : (!tile.view<Pointer>, i32, i32) -> !tile.view<GlobalRows<bf16, 512>>
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %panel = tile.shared bytes 16384 : !tile.shared_tile<PanelTile<64, 128, bf16>>
  %map = tile.field %params "q" : !tile.value<Params> -> !tile.view<Pointer>
  // expected-error@+1 {{operand #2 must be TensorMap (view), but got '!tile.view<Pointer>'}}
  tile.copy_rows %panel, %i, %map, %i, %i, %i {rows = 64 : i32} : (!tile.shared_tile<PanelTile<64, 128, bf16>>, i32, !tile.view<Pointer>, i32, i32, i32) -> ()
}
