// Scores that depend on where a summary lies and where the query stands: every fifth summary counts with the other sign,
// and so does every other one of queries at odd positions. A region that is told a wrong place selects other blocks.
select.method @score_by_place doc "scores by the places of summary and query"
    params(window = 32, stride = 16, init = 0, local = 1) (%q, %k, %v) {
  %k1  = select.summarize mean %k window @window stride @stride
  %s   = select.score %q, %k1 visible none rewrite {
  ^bb0(%score: f32, %query: i32, %row: i32):
    %one     = arith.constant 1 : i32
    %two     = arith.constant 2 : i32
    %five    = arith.constant 5 : i32
    %zero    = arith.constant 0 : i32
    %other   = arith.negf %score : f32
    %rest5   = arith.remsi %row, %five : i32
    %fifth   = arith.cmpi eq, %rest5, %zero : i32
    %odd     = arith.andi %query, %one : i32
    %rest2   = arith.remsi %row, %two : i32
    %second  = arith.cmpi eq, %rest2, %odd : i32
    %turned  = arith.xori %fifth, %second : i1
    %x       = arith.select %turned, %other, %score : f32
    select.yield %x : f32
  }
  %h   = select.combine_heads sum %s
  %b   = select.pool max %h
  %f   = select.force %b init @init local @local
  %ids = select.top_k %f
  %o   = select.attend %q, %k, %v, %ids
  select.return %o
}
