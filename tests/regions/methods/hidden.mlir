// Every 8th query has hidden keys only: its output is 0 and its log-sum-exp -inf. The others attend to the last 100 keys
// and, through a logit below -1e30, to no multiple of 3.
select.method @hidden doc "queries without any key, and a window" params() (%q, %k, %v) {
  %o = select.attend %q, %k, %v rewrite {
  ^bb0(%value: f32, %query: i32, %key: i32):
    %ninf    = arith.constant 0xFF800000 : f32
    %deep    = arith.constant -2.0e38 : f32
    %window  = arith.constant 100 : i32
    %three   = arith.constant 3 : i32
    %eight   = arith.constant 8 : i32
    %zero    = arith.constant 0 : i32
    %distance = arith.subi %query, %key : i32
    %far     = arith.cmpi sge, %distance, %window : i32
    %rest3   = arith.remsi %key, %three : i32
    %third   = arith.cmpi eq, %rest3, %zero : i32
    %rest8   = arith.remsi %query, %eight : i32
    %eighth  = arith.cmpi eq, %rest8, %zero : i32
    %hide    = arith.ori %far, %eighth : i1
    %a       = arith.select %third, %deep, %value : f32
    %x       = arith.select %hide, %ninf, %a : f32
    select.yield %x : f32
  }
  select.return %o
}
