// MoBA (arXiv 2502.13189): raw product with the mean of each block, one selection per query head, own block forced.
select.method @moba doc "raw scores of block means, top-k per query head, own block forced (arXiv 2502.13189)"
    params(init = 0, local = 1) (%q, %k, %v) {
  %mean = select.summarize mean %k window @block stride @block
  %s    = select.score %q, %mean visible none
  %b    = select.pool max %s
  %f    = select.force %b init @init local @local
  %ids  = select.top_k %f
  %o    = select.attend %q, %k, %v, %ids
  select.return %o
}
