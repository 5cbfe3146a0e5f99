// A region op without a derivative is refused by its name and place.
// RUN: winnow-opt %s -split-input-file -winnow-specialize="topk=16" -verify-diagnostics -winnow-derive-backward

// expected-error @+1 {{math.floor has no derivative, so that this method has no gradients; `winnow methods --ops` lists which ops have one}}
select.method @steps params() (%q, %k, %v) {
  %output = select.attend %q, %k, %v rewrite {
  ^bb0(%logit: f32, %query: i32, %key: i32):
    %x = math.floor %logit : f32
    select.yield %x : f32
  }
  select.return %output
}

// -----

// expected-error @+1 {{arith.fptosi has no derivative}}
select.method @whole params() (%q, %k, %v) {
  %output = select.attend %q, %k, %v rewrite {
  ^bb0(%logit: f32, %query: i32, %key: i32):
    %half = arith.mulf %logit, %logit : f32
    %whole = arith.fptosi %half : f32 to i32
    %x = arith.sitofp %whole : i32 to f32
    select.yield %x : f32
  }
  select.return %output
}

// -----

select.method @alone params() (%q, %k, %v) {
  %output = select.attend %q, %k, %v
  // expected-error @+1 {{'select.attend_backward' op has one of 'rewrite' and 'derivative'; they go together}}
  %gradients = "select.attend_backward"(%q, %k, %v, %output) <{operandSegmentSizes = array<i32: 1, 1, 1, 0, 1>}> ({
  ^bb0(%logit: f32, %query: i32, %key: i32):
    "select.yield"(%logit) : (f32) -> ()
  }, {}) : (!select.query, !select.key, !select.value, !select.output) -> !select.gradients
  select.return %output gradients %gradients
}
