// Gradients are derived from the method: the step behind its attention, and the derivative of its region.
// RUN: winnow-opt %s -split-input-file -winnow-specialize="topk=16" -winnow-derive-backward | FileCheck %s
// A method with gradients reads back as it was printed, and its kernels are one more.
// RUN: winnow-opt %s -split-input-file -winnow-specialize="topk=16" -winnow-derive-backward -winnow-fuse-kernels > %t
// RUN: winnow-opt %t -split-input-file | diff %t -
// RUN: FileCheck %s --check-prefix=FUSED < %t

// The selection carries none; ids come from it, the log-sum-exp from the output.
// CHECK-LABEL: select.method @selects
// CHECK:       %[[IDS:.*]] = select.top_k
// CHECK-NEXT:  %[[OUT:.*]] = select.attend %[[Q:.*]], %[[K:.*]], %[[V:.*]], %[[IDS]] dense_len 300
// CHECK-NEXT:  %[[G:.*]] = select.attend_backward %[[Q]], %[[K]], %[[V]], %[[IDS]] of %[[OUT]] dense_len 300
// CHECK-NEXT:  select.return %[[OUT]] gradients %[[G]]
// FUSED-LABEL: select.method @selects
// FUSED:       %[[OUT:.*]] = select.kernel "attend" -> !select.output {
// FUSED:       %[[G:.*]] = select.kernel "backward" -> !select.gradients {
// FUSED-NEXT:    %[[STEP:.*]] = select.attend_backward {{.*}} of %[[OUT]] dense_len 300
// FUSED-NEXT:    select.yield %[[STEP]] : !select.gradients
// FUSED:       select.return %[[OUT]] gradients %[[G]]
select.method @selects params() (%q, %k, %v) {
  %mean = select.summarize mean %k window @block stride @block
  %scores = select.score %q, %mean visible none
  %pooled = select.pool max %scores
  %forced = select.force %pooled init 0 local 1
  %ids = select.top_k %forced
  %output = select.attend %q, %k, %v, %ids dense_len 300
  select.return %output
}

// -----

// A soft cap: 1 - tanh^2, what it is made of, and nothing else.
// CHECK-LABEL: select.method @softcap
// CHECK:       select.attend_backward %{{.*}}, %{{.*}}, %{{.*}} of %{{.*}} rewrite {
// CHECK:       } derivative {
// CHECK-NEXT:  ^bb0(%[[X:.*]]: f32, %{{.*}}: i32, %{{.*}}: i32):
// CHECK-NEXT:    %[[CAP:.*]] = arith.constant 3.000000e+01 : f32
// CHECK-NEXT:    %[[RATIO:.*]] = arith.divf %[[X]], %[[CAP]] : f32
// CHECK-NEXT:    %[[BENT:.*]] = math.tanh %[[RATIO]] : f32
// CHECK-NEXT:    %[[ONE:.*]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT:    %[[BY_X:.*]] = arith.divf %[[ONE]], %[[CAP]] : f32
// CHECK-NEXT:    %[[SQUARE:.*]] = arith.mulf %[[BENT]], %[[BENT]] : f32
// CHECK-NEXT:    %[[STEEP:.*]] = arith.subf %[[ONE]], %[[SQUARE]] : f32
// CHECK-NEXT:    %[[BY_RATIO:.*]] = arith.mulf %[[BY_X]], %[[STEEP]] : f32
// CHECK-NEXT:    %[[SLOPE:.*]] = arith.mulf %[[BY_RATIO]], %[[CAP]] : f32
// CHECK-NEXT:    select.yield %[[SLOPE]] : f32
select.method @softcap params() (%q, %k, %v) {
  %output = select.attend %q, %k, %v rewrite {
  ^bb0(%logit: f32, %query: i32, %key: i32):
    %cap = arith.constant 30.0 : f32
    %ratio = arith.divf %logit, %cap : f32
    %bent = math.tanh %ratio : f32
    %capped = arith.mulf %bent, %cap : f32
    select.yield %capped : f32
  }
  select.return %output
}

// -----

// A mask and a bias: 1 where the key is seen. What depends on positions alone adds nothing, a whole number of them neither.
// CHECK-LABEL: select.method @masked
// CHECK:       } derivative {
// CHECK:         %[[FAR:.*]] = arith.cmpi sgt
// CHECK-NEXT:    %[[ONE:.*]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT:    %[[NONE:.*]] = arith.constant 0.000000e+00 : f32
// CHECK-NEXT:    %[[SLOPE:.*]] = arith.select %[[FAR]], %[[NONE]], %[[ONE]] : f32
// CHECK-NEXT:    select.yield %[[SLOPE]] : f32
select.method @masked params() (%q, %k, %v) {
  %output = select.attend %q, %k, %v rewrite {
  ^bb0(%logit: f32, %query: i32, %key: i32):
    %distance = arith.subi %query, %key : i32
    %far = arith.constant 512 : i32
    %hidden = arith.constant 0xFF800000 : f32
    %is_far = arith.cmpi sgt, %distance, %far : i32
    %real = arith.sitofp %distance : i32 to f32
    %steps = math.floor %real : f32
    %biased = arith.subf %logit, %steps : f32
    %x = arith.select %is_far, %hidden, %biased : f32
    select.yield %x : f32
  }
  select.return %output
}
