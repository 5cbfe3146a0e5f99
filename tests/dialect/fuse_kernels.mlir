// Which steps share a kernel: from log-sum-exp to pooling everything is one, so no score per head and row leaves it.
// RUN: winnow-opt %s -winnow-specialize="topk=16" -winnow-fuse-kernels | FileCheck %s
// A fused method is a method: it verifies, and reads back as it was printed.
// RUN: winnow-opt %s -winnow-specialize="topk=16" -winnow-fuse-kernels > %t
// RUN: winnow-opt %t | diff %t -

// CHECK-LABEL: select.method @softmax
// CHECK-SAME:  (%[[Q:.*]], %[[K:.*]], %[[V:.*]]) {
// CHECK-NEXT:  %[[S:.*]]:2 = select.kernel "summarize" -> !select.summary, !select.summary {
// CHECK-NEXT:    %[[FINE:.*]] = select.summarize mean %[[K]] window 32 stride 16
// CHECK-NEXT:    %[[COARSE:.*]] = select.summarize mean %[[K]] window 128 stride 64
// CHECK-NEXT:    select.yield %[[FINE]], %[[COARSE]]
// CHECK-NEXT:  }
// CHECK-NEXT:  %[[B:.*]] = select.kernel "score" -> !select.scores {
// CHECK-NEXT:    %[[LSE:.*]] = select.logsumexp %[[Q]], %[[S]]#1
// CHECK-NEXT:    %[[R:.*]] = select.score %[[Q]], %[[S]]#0 softmax %[[LSE]]
// CHECK-NEXT:    %[[H:.*]] = select.combine_heads sum %[[R]]
// CHECK-NEXT:    %[[P:.*]] = select.pool max %[[H]]
// CHECK-NEXT:    select.yield %[[P]] : !select.scores
// CHECK-NEXT:  }
// CHECK-NEXT:  %[[I:.*]] = select.kernel "top_k" -> !select.ids {
// CHECK-NEXT:    %[[F:.*]] = select.force %[[B]] init 1 local 2
// CHECK-NEXT:    %[[T:.*]] = select.top_k %[[F]]
// CHECK-NEXT:    select.yield %[[T]] : !select.ids
// CHECK-NEXT:  }
// CHECK-NEXT:  %[[O:.*]] = select.kernel "attend" -> !select.output {
// CHECK-NEXT:    %[[A:.*]] = select.attend %[[Q]], %[[K]], %[[V]], %[[I]]
// CHECK-NEXT:    select.yield %[[A]] : !select.output
// CHECK-NEXT:  }
// CHECK-NEXT:  select.return %[[O]]
select.method @softmax params() (%q, %k, %v) {
  %fine = select.summarize mean %k window 32 stride 16
  %coarse = select.summarize mean %k window 128 stride 64
  %lse = select.logsumexp %q, %fine coarse %coarse mode coarse visible none
  %scores = select.score %q, %fine softmax %lse visible none
  %combined = select.combine_heads sum %scores
  %pooled = select.pool max %combined
  %forced = select.force %pooled init 1 local 2
  %ids = select.top_k %forced
  %output = select.attend %q, %k, %v, %ids
  select.return %output
}

// Steps written in another order than kernels run in: values are still defined before they are used.
// CHECK-LABEL: select.method @late_summary
// CHECK:       %[[S:.*]]:2 = select.kernel "summarize"
// CHECK:       select.kernel "score"
// CHECK-NEXT:    %[[LSE:.*]] = select.logsumexp %{{.*}}, %[[S]]#0
// CHECK-NEXT:    select.score %{{.*}}, %[[S]]#1 softmax %[[LSE]]
select.method @late_summary params() (%q, %k, %v) {
  %coarse = select.summarize mean %k window 128 stride 64
  %lse = select.logsumexp %q, %coarse mode exact visible none
  %fine = select.summarize mean %k window 32 stride 16
  %scores = select.score %q, %fine softmax %lse visible none
  %combined = select.combine_heads sum %scores
  %pooled = select.pool max %combined
  %forced = select.force %pooled init 1 local 2
  %ids = select.top_k %forced
  %output = select.attend %q, %k, %v, %ids
  select.return %output
}

// Forced blocks fill the budget: no score is looked at, so nothing of the selection is kept but its ids.
// CHECK-LABEL: select.method @forced
// CHECK-NEXT:  %{{.*}} = select.kernel "top_k" -> !select.ids {
// CHECK-NEXT:    %{{.*}} = select.summarize
// CHECK-NEXT:    %{{.*}} = select.score
// CHECK-NEXT:    %{{.*}} = select.pool
// CHECK-NEXT:    %{{.*}} = select.force %{{.*}} init 1 local 15
// CHECK-NEXT:    %{{.*}} = select.top_k
// CHECK-NEXT:    select.yield
// CHECK-NEXT:  }
// CHECK-NEXT:  %{{.*}} = select.kernel "attend"
// CHECK-NOT:   select.kernel
// CHECK:       select.return
select.method @forced params() (%q, %k, %v) {
  %mean = select.summarize mean %k window @block stride @block
  %scores = select.score %q, %mean visible none
  %pooled = select.pool max %scores
  %forced = select.force %pooled init 1 local 15
  %ids = select.top_k %forced
  %output = select.attend %q, %k, %v, %ids
  select.return %output
}

// Nothing to select: one kernel.
// CHECK-LABEL: select.method @all
// CHECK-NEXT:  select.kernel "attend"
// CHECK-NOT:   select.kernel
// CHECK:       select.return
select.method @all params() (%q, %k, %v) {
  %output = select.attend %q, %k, %v
  select.return %output
}
