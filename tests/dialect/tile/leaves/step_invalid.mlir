// What the verifiers refuse of the leaves of dialect/tile/leaves/step.td.
// RUN: winnow-opt %s -split-input-file -verify-diagnostics

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %i = tile.block_index "x" : i32
  %lists = tile.shared bytes 768 : !tile.table<IdLists<96>>
  // expected-error@+1 {{operand #0 must be StepTable (table), but got '!tile.table<IdLists<96>>'}}
  %parts = tile.step_parts %lists, %i, %i {selections = 2 : i32} : (!tile.table<IdLists<96>>, i32, i32) -> !tile.value<StepParts>
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %table = tile.shared bytes 8752 : !tile.table<StepTable<128>>
  // expected-error@+1 {{requires attribute 'kind'}}
  %total = tile.step_total %table {selections = 2 : i32} : (!tile.table<StepTable<128>>) -> i32
}

// -----

tile.kernel @k attributes {constants = [], min_blocks = 1 : i32, threads = 128 : i32, title = ""} (%params: !tile.value<Params>) {
  %overlay = tile.shared bytes 768 : !tile.table<Overlay<!tile.table<IdLists<96>>>>
  // expected-error@+2 {{'Overlay<IdLists<96>>' is no overlay of two objects}}
  // expected-error@+1 {{failed to infer returned types}}
  %second = tile.second_of %overlay : (!tile.table<Overlay<!tile.table<IdLists<96>>>>) -> !tile.table<IdLists<96>>
}
