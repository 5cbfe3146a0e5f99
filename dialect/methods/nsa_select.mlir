// The selection branch of NSA (arXiv 2502.11089): softmax probabilities over compressed keys, summed over the heads of a
// group and over the windows that overlap a block, each as often as it shares a stride with the block (equation 9). Its
// compressed and sliding-window branches are separate streams.
select.method @nsa_select doc "softmax scores of compressed keys, summed by their overlap with each block, top-k per KV head (arXiv 2502.11089)"
    params(window = 32, stride = 16, init = 1, local = 2) (%q, %k, %v) {
  %k1  = select.summarize mean %k window @window stride @stride
  %lse = select.logsumexp %q, %k1 mode exact visible none
  %s   = select.score %q, %k1 softmax %lse visible none
  %h   = select.combine_heads sum %s
  %b   = select.pool overlap %h
  %f   = select.force %b init @init local @local
  %ids = select.top_k %f
  %o   = select.attend %q, %k, %v, %ids
  select.return %o
}
