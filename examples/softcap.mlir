// A method of one's own: InfLLM-V2's selection with a soft cap on the attention logits (Gemma 2, arXiv 2408.00118):
// logit = 30 tanh(logit / 30). Try: winnow run examples/softcap.mlir --seq 4096 --topk 40
select.method @softcap doc "InfLLM-V2's selection, attention logits capped softly at 30"
    params(window = 32, stride = 16, init = 1, local = 33) (%q, %k, %v) {
  %k1  = select.summarize mean %k window @window stride @stride
  %lse = select.logsumexp %q, %k1 mode exact visible none
  %s   = select.score %q, %k1 softmax %lse visible none
  %h   = select.combine_heads sum %s
  %b   = select.pool max %h
  %f   = select.force %b init @init local @local
  %ids = select.top_k %f
  %o   = select.attend %q, %k, %v, %ids rewrite {
  ^bb0(%logit: f32, %query: i32, %key: i32):
    %cap    = arith.constant 30.0 : f32
    %ratio  = arith.divf %logit, %cap : f32
    %bent   = math.tanh %ratio : f32
    %capped = arith.mulf %bent, %cap : f32
    select.yield %capped : f32
  }
  select.return %o
}
