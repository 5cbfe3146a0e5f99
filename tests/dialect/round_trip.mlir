// Every op of the select dialect is printed, read back, and printed the same.
// RUN: winnow-opt %s > %t.once
// RUN: winnow-opt %t.once > %t.twice
// RUN: diff %t.once %t.twice
// RUN: FileCheck %s < %t.once
// RUN: winnow-opt %s -mlir-print-op-generic | winnow-opt | diff %t.once -

// CHECK-LABEL: select.method @everything doc "one of each" params(compat = "none", init = 1, mode = "coarse", window = 32)
// CHECK-SAME:    (%[[Q:.*]], %[[K:.*]], %[[V:.*]]) {
select.method @everything doc "one of each" params(window = 32, init = 1, mode = "coarse", compat = "none") (%q, %k, %v) {
  // CHECK-NEXT: %[[FINE:.*]] = select.summarize mean %[[K]] window @window stride 16
  %fine = select.summarize mean %k window @window stride 16
  // CHECK-NEXT: %[[COARSE:.*]] = select.summarize mean %[[K]] window @block stride @block
  %coarse = select.summarize mean %k window @block stride @block
  // CHECK-NEXT: %[[LSE:.*]] = select.logsumexp %[[Q]], %[[FINE]] coarse %[[COARSE]] mode @mode visible @compat
  %lse = select.logsumexp %q, %fine coarse %coarse mode @mode visible @compat
  // CHECK-NEXT: %[[SCORES:.*]] = select.score %[[Q]], %[[FINE]] softmax %[[LSE]] visible @compat
  %scores = select.score %q, %fine softmax %lse visible @compat
  // CHECK-NEXT: %[[COMBINED:.*]] = select.combine_heads sum %[[SCORES]]
  %combined = select.combine_heads sum %scores
  // CHECK-NEXT: %[[POOLED:.*]] = select.pool max %[[COMBINED]]
  %pooled = select.pool max %combined
  // CHECK-NEXT: %[[FORCED:.*]] = select.force %[[POOLED]] init @init local 2
  %forced = select.force %pooled init @init local 2
  // CHECK-NEXT: %[[IDS:.*]] = select.top_k %[[FORCED]]
  %ids = select.top_k %forced
  // CHECK-NEXT: %[[OUTPUT:.*]] = select.attend %[[Q]], %[[K]], %[[V]], %[[IDS]] dense_len -1 rewrite {
  // CHECK-NEXT: ^bb0(%[[LOGIT:.*]]: f32, %{{.*}}: i32, %{{.*}}: i32):
  // CHECK-NEXT:   %[[CAPPED:.*]] = math.tanh %[[LOGIT]] : f32
  // CHECK-NEXT:   select.yield %[[CAPPED]] : f32
  // CHECK-NEXT: }
  %output = select.attend %q, %k, %v, %ids dense_len -1 rewrite {
  ^bb0(%logit: f32, %position: i32, %key: i32):
    %capped = math.tanh %logit : f32
    select.yield %capped : f32
  }
  // CHECK-NEXT: select.return %[[OUTPUT]]
  select.return %output
}

// CHECK-LABEL: select.method @no_doc params()
select.method @no_doc params() (%q, %k, %v) {
  // CHECK: select.score {{.*}} visible none rewrite {
  %fine = select.summarize mean %k window 32 stride 16
  %scores = select.score %q, %fine visible none rewrite {
  ^bb0(%score: f32, %position: i32, %row: i32):
    %half = arith.constant 0.5 : f32
    %scaled = arith.mulf %score, %half : f32
    select.yield %scaled : f32
  }
  // CHECK: select.combine_heads max
  %combined = select.combine_heads max %scores
  // CHECK: select.pool sum
  %pooled = select.pool sum %combined
  %ids = select.top_k %pooled
  // CHECK: select.kernel "attend" -> !select.output {
  %output = select.kernel "attend" -> !select.output {
    %o = select.attend %q, %k, %v, %ids
    // CHECK: select.yield %{{.*}} : !select.output
    select.yield %o : !select.output
  }
  select.return %output
}
