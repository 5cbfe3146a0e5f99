// ReLU scores summed over heads, as lightning indexers use them (DeepSeek V3.2), on mean-pooled keys: shows how a method
// rewrites each score with an elementwise region.
select.method @relu_select doc "sum over heads of ReLU scores, max-pooled to blocks, top-k per KV head"
    params(window = 32, stride = 16, init = 1, local = 2) (%q, %k, %v) {
  %k1  = select.summarize mean %k window @window stride @stride
  %s   = select.score %q, %k1 visible none rewrite {
  ^bb0(%score: f32, %query: i32, %row: i32):
    %zero = arith.constant 0.0 : f32
    %relu = arith.maxnumf %score, %zero : f32
    select.yield %relu : f32
  }
  %h   = select.combine_heads sum %s
  %b   = select.pool max %h
  %f   = select.force %b init @init local @local
  %ids = select.top_k %f
  %o   = select.attend %q, %k, %v, %ids
  select.return %o
}
