// What makes a method wrong is said at the place in its text.
// RUN: winnow-opt %s -split-input-file -verify-diagnostics

select.method @unknown_parameter params(window = 32) (%q, %k, %v) {
  // expected-error @+1 {{'stride' refers to @stride, which is neither a parameter of @unknown_parameter nor one of block, topk, group, head_dim, value_dim}}
  %s = select.summarize mean %k window @window stride @stride
  %o = select.attend %q, %k, %v
  select.return %o
}

// -----

// expected-error @+1 {{parameter 'window' is declared twice}}
select.method @declared_twice params(window = 32, window = 16) (%q, %k, %v) {
}

// -----

// expected-error @+1 {{the default of parameter 'window' is neither a whole number nor a keyword in quotes; other numbers are written as constants into a 'rewrite' region}}
select.method @bad_default params(window = [32]) (%q, %k, %v) {
}

// -----

// expected-error @+1 {{a method takes three inputs (queries, keys, values), not 2}}
select.method @two_inputs params() (%q, %k) {
}

// -----

// expected-error @+1 {{must end with select.return}}
select.method @no_return params() (%q, %k, %v) {
  %o = select.attend %q, %k, %v
}

// -----

// expected-error @+1 {{expects a non-empty block}}
select.method @empty params() (%q, %k, %v) {
}

// -----

select.method @foreign_step params() (%q, %k, %v) {
  // expected-error @+1 {{stands among a method's steps; arith and math ops belong into a 'rewrite' region}}
  %c = arith.constant 1.0 : f32
  %o = select.attend %q, %k, %v
  select.return %o
}

// -----

select.method @values_as_keys params() (%q, %k, %v) {
  // expected-error @+2 {{use of value '%v' expects different type than prior uses}}
  // expected-note @-2 {{prior use here}}
  %o = select.attend %q, %v, %k
  select.return %o
}

// -----

select.method @unknown_kind params() (%q, %k, %v) {
  // expected-error @+1 {{has no kind 'median'; known are mean}}
  %s = select.summarize median %k window 32 stride 16
  %o = select.attend %q, %k, %v
  select.return %o
}

// -----

select.method @uneven_window params() (%q, %k, %v) {
  // expected-error @+1 {{needs a window that is a multiple of the stride, not 40 and 16}}
  %s = select.summarize mean %k window 40 stride 16
  %o = select.attend %q, %k, %v
  select.return %o
}

// -----

select.method @no_stride params() (%q, %k, %v) {
  // expected-error @+1 {{'stride' is 0; it must be at least 1 and fit 32 bits}}
  %s = select.summarize mean %k window 32 stride 0
  %o = select.attend %q, %k, %v
  select.return %o
}

// -----

select.method @wide params(window = 4294967296) (%q, %k, %v) {
  // expected-error @+1 {{'window' is 4294967296; it must be at least 1 and fit 32 bits}}
  %s = select.summarize mean %k window @window stride 16
  %o = select.attend %q, %k, %v
  select.return %o
}

// -----

select.method @keyword_for_number params(window = "wide") (%q, %k, %v) {
  // expected-error @+1 {{'window' must be a number}}
  %s = select.summarize mean %k window @window stride 16
  %o = select.attend %q, %k, %v
  select.return %o
}

// -----

select.method @number_for_keyword params() (%q, %k, %v) {
  %s = select.summarize mean %k window 32 stride 16
  // expected-error @+1 {{'visible' must be a keyword}}
  %b = select.score %q, %s visible 1
  %o = select.attend %q, %k, %v
  select.return %o
}

// -----

select.method @unknown_mode params(lse = "roughly") (%q, %k, %v) {
  %s = select.summarize mean %k window 32 stride 16
  // expected-error @+1 {{'mode' is 'roughly'; known are coarse, exact, none}}
  %l = select.logsumexp %q, %s mode @lse visible none
  %o = select.attend %q, %k, %v
  select.return %o
}

// -----

select.method @nothing_coarse params() (%q, %k, %v) {
  %s = select.summarize mean %k window 32 stride 16
  // expected-error @+1 {{of mode coarse needs coarse summaries}}
  %l = select.logsumexp %q, %s mode coarse visible none
  %o = select.attend %q, %k, %v
  select.return %o
}

// -----

select.method @unknown_rule params() (%q, %k, %v) {
  %s = select.summarize mean %k window 32 stride 16
  // expected-error @+1 {{'visible' is 'all'; known are none, infllmv2}}
  %b = select.score %q, %s visible all
  %o = select.attend %q, %k, %v
  select.return %o
}

// -----

select.method @softmax_rewritten params() (%q, %k, %v) {
  %s = select.summarize mean %k window 32 stride 16
  %l = select.logsumexp %q, %s mode exact visible none
  // expected-error @+1 {{has both 'softmax' and 'rewrite'; a region may rewrite raw scores only}}
  %b = select.score %q, %s softmax %l visible none rewrite {
  ^bb0(%score: f32, %position: i32, %row: i32):
    select.yield %score : f32
  }
  %o = select.attend %q, %k, %v
  select.return %o
}

// -----

select.method @region_arguments params() (%q, %k, %v) {
  %s = select.summarize mean %k window 32 stride 16
  // expected-error @+1 {{'rewrite' must take (value: f32, query position: i32, key position or row: i32)}}
  %b = select.score %q, %s visible none rewrite {
  ^bb0(%score: f32, %row: i32):
    select.yield %score : f32
  }
  %o = select.attend %q, %k, %v
  select.return %o
}

// -----

select.method @region_result params() (%q, %k, %v) {
  // expected-error @+1 {{'rewrite' must end with select.yield of one f32}}
  %o = select.attend %q, %k, %v rewrite {
  ^bb0(%logit: f32, %position: i32, %key: i32):
    select.yield %position : i32
  }
  select.return %o
}

// -----

select.method @region_step params() (%q, %k, %v) {
  %o = select.attend %q, %k, %v rewrite {
  ^bb0(%logit: f32, %position: i32, %key: i32):
    // expected-error @+1 {{stands in a 'rewrite' region, which may hold arith and math ops only}}
    %s = select.summarize mean %k window 32 stride 16
    select.yield %logit : f32
  }
  select.return %o
}

// -----

select.method @top_k_of_rows params() (%q, %k, %v) {
  %s = select.summarize mean %k window 32 stride 16
  %b = select.score %q, %s visible none
  // expected-error @+1 {{needs scores of blocks: put select.pool before it}}
  %i = select.top_k %b
  %o = select.attend %q, %k, %v, %i
  select.return %o
}

// -----

select.method @force_rows params() (%q, %k, %v) {
  %s = select.summarize mean %k window 32 stride 16
  %b = select.score %q, %s visible none
  %h = select.combine_heads sum %b
  // expected-error @+1 {{needs scores of blocks: put select.pool before it}}
  %f = select.force %h init 1 local 2
  %i = select.top_k %f
  %o = select.attend %q, %k, %v, %i
  select.return %o
}

// -----

select.method @force_negative params(init = -1) (%q, %k, %v) {
  %s = select.summarize mean %k window 32 stride 16
  %b = select.score %q, %s visible none
  %p = select.pool max %b
  // expected-error @+1 {{'init' is -1; it must be at least 0 and fit 32 bits}}
  %f = select.force %p init @init local 2
  %i = select.top_k %f
  %o = select.attend %q, %k, %v, %i
  select.return %o
}

// -----

select.method @pool_blocks params() (%q, %k, %v) {
  %s = select.summarize mean %k window 32 stride 16
  %b = select.score %q, %s visible none
  %p = select.pool max %b
  // expected-error @+1 {{pools scores of summary rows; these are scores of blocks already}}
  %t = select.pool max %p
  %i = select.top_k %t
  %o = select.attend %q, %k, %v, %i
  select.return %o
}

// -----

select.method @combine_blocks params() (%q, %k, %v) {
  %s = select.summarize mean %k window 32 stride 16
  %b = select.score %q, %s visible none
  %p = select.pool max %b
  // expected-error @+1 {{combines the heads of select.score's result, before pooling}}
  %h = select.combine_heads sum %p
  %i = select.top_k %h
  %o = select.attend %q, %k, %v, %i
  select.return %o
}

// -----

select.method @unknown_reduction params() (%q, %k, %v) {
  %s = select.summarize mean %k window 32 stride 16
  %b = select.score %q, %s visible none
  // expected-error @+1 {{has no kind 'min'; known are max, sum, overlap}}
  %p = select.pool min %b
  %i = select.top_k %p
  %o = select.attend %q, %k, %v, %i
  select.return %o
}

// -----

select.method @dense_length params() (%q, %k, %v) {
  // expected-error @+1 {{'dense_len' is -2; it must be at least -1 and fit 32 bits}}
  %o = select.attend %q, %k, %v dense_len -2
  select.return %o
}

// -----

select.method @dense_length_word params(short = "sometimes") (%q, %k, %v) {
  // expected-error @+1 {{'dense_len' is 'sometimes'; it must be a number or auto}}
  %o = select.attend %q, %k, %v dense_len @short
  select.return %o
}

// -----

select.method @dense_length_by_launch params(short = "auto") (%q, %k, %v) {
  %o = select.attend %q, %k, %v dense_len @short
  select.return %o
}

// -----

select.method @kernel_results params() (%q, %k, %v) {
  // expected-error @+1 {{must end with select.yield of its results}}
  %o = select.kernel "attend" -> !select.output {
    %a = select.attend %q, %k, %v
    select.yield
  }
  select.return %o
}

// -----

// expected-error @+1 {{parameter 'topk' has the name of a number of the spec (block, topk, group, head_dim, value_dim) and would hide it: choose another name}}
select.method @hides_the_spec params(topk = 4) (%q, %k, %v) {
  %o = select.attend %q, %k, %v dense_len @topk
  select.return %o
}

// -----

// expected-error @+1 {{no step refers to parameter 'far': write @far where it is meant, or leave it out}}
select.method @unused_parameter params(far = 4) (%q, %k, %v) {
  %o = select.attend %q, %k, %v
  select.return %o
}

// -----

select.method @ids_forgotten params() (%q, %k, %v) {
  %s = select.summarize mean %k window 32 stride 16
  %b = select.score %q, %s visible none
  %p = select.pool max %b
  // expected-error @+1 {{no step takes the block ids of select.top_k: write them behind the inputs of select.attend, or leave out the steps that only serve it}}
  %i = select.top_k %p
  %o = select.attend %q, %k, %v
  select.return %o
}

// -----

select.method @output_forgotten params() (%q, %k, %v) {
  // expected-error @+1 {{no step takes the output of select.attend: return it with select.return, or leave out the steps that only serve it}}
  %p = select.attend %q, %k, %v
  %o = select.attend %q, %k, %v
  select.return %o
}

// -----

select.method @two_outputs params() (%q, %k, %v) {
  %o = select.attend %q, %k, %v
  // expected-error @+1 {{a method returns one output, and its log-sum-exp comes with it}}
  select.return %o, %o
}
