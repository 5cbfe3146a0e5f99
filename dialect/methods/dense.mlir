// Dense causal attention: every key at or before the query. The baseline of every comparison.
select.method @dense doc "causal attention over every key, no selection" params() (%q, %k, %v) {
  %o = select.attend %q, %k, %v
  select.return %o
}
