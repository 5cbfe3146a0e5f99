// InfLLM-V2: compressed keys scored with a softmax whose normaliser comes from coarser keys; top blocks per token and KV head.
// Source: arXiv 2509.24663. Counting rules: window and stride in tokens; local counts the query's own block.
select.method @infllm_v2 doc "coarse-normalised softmax scores of mean-pooled keys, max-pooled to blocks, top-k per KV head (arXiv 2509.24663)"
    params(window = 32, stride = 16, coarse_window = 128, coarse_stride = 64, lse = "coarse",
           init = 1, local = 33, compat = "none", dense_len = -1) (%q, %k, %v) {
  %k1  = select.summarize mean %k window @window stride @stride
  %k2  = select.summarize mean %k window @coarse_window stride @coarse_stride
  %lse = select.logsumexp %q, %k1 coarse %k2 mode @lse visible @compat
  %s   = select.score %q, %k1 softmax %lse visible @compat
  %h   = select.combine_heads sum %s
  %b   = select.pool max %h
  %f   = select.force %b init @init local @local
  %ids = select.top_k %f
  %o   = select.attend %q, %k, %v, %ids dense_len @dense_len
  select.return %o
}
