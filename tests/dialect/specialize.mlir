// References become numbers, the log-sum-exp's mode picks its rows, and what nothing needs any more is dropped.
// RUN: winnow-opt %s -winnow-specialize | FileCheck %s --check-prefixes=ALL,COARSE
// RUN: winnow-opt %s -winnow-specialize="set=lse=exact" | FileCheck %s --check-prefixes=ALL,EXACT
// RUN: winnow-opt %s -winnow-specialize="set=lse=none,window=16 scale=0.5 dtype=fp16 block=128" | FileCheck %s --check-prefixes=ALL,NONE

// ALL-LABEL: select.method @modes
// COARSE-SAME: spec {block = 64 : i64, dtype = "bf16", head_dim = 128 : i64, heads = 32 : i64, kv_heads = 2 : i64, scale = 0.0883{{[0-9]*}} : f64, topk = 96 : i64, value_dim = 128 : i64}
// NONE-SAME: spec {block = 128 : i64, dtype = "fp16", {{.*}} scale = 5.000000e-01 : f64, topk = 96 : i64, value_dim = 128 : i64}
// ALL-SAME: (%[[Q:.*]], %[[K:.*]], %[[V:.*]]) {
select.method @modes params(window = 32, lse = "coarse", compat = "none", init = 1) (%q, %k, %v) {
  // COARSE-NEXT: %[[FINE:.*]] = select.summarize mean %[[K]] window 32 stride 16
  // COARSE-NEXT: %[[COARSE:.*]] = select.summarize mean %[[K]] window 64 stride 64
  // COARSE-NEXT: %[[LSE:.*]] = select.logsumexp %[[Q]], %[[COARSE]] mode exact visible none
  // COARSE-NEXT: select.score %[[Q]], %[[FINE]] softmax %[[LSE]] visible none
  // EXACT-NEXT:  %[[FINE:.*]] = select.summarize mean %[[K]] window 32 stride 16
  // EXACT-NEXT:  %[[LSE:.*]] = select.logsumexp %[[Q]], %[[FINE]] mode exact visible none
  // EXACT-NEXT:  select.score %[[Q]], %[[FINE]] softmax %[[LSE]] visible none
  // NONE-NEXT:   %[[FINE:.*]] = select.summarize mean %[[K]] window 16 stride 16
  // NONE-NEXT:   select.score %[[Q]], %[[FINE]] visible none
  // ALL-NEXT:    select.combine_heads sum
  // ALL-NEXT:    select.pool max
  // ALL-NEXT:    select.force %{{.*}} init 1 local 2
  // ALL-NEXT:    select.top_k
  // ALL-NEXT:    select.attend
  // ALL-NEXT:    select.return
  %fine = select.summarize mean %k window @window stride 16
  %coarse = select.summarize mean %k window @block stride 64
  %lse = select.logsumexp %q, %fine coarse %coarse mode @lse visible @compat
  %scores = select.score %q, %fine softmax %lse visible @compat
  %combined = select.combine_heads sum %scores
  %pooled = select.pool max %combined
  %forced = select.force %pooled init @init local 2
  %ids = select.top_k %forced
  %output = select.attend %q, %k, %v, %ids
  select.return %output
}
