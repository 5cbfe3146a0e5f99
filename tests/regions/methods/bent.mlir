// Logits bent towards 8, those of keys 40 and more tokens back hidden, every third bent the other way: a slope that is not 1.
select.method @bent doc "x / sqrt(1 + x^2 / 64), nearby keys alone" params() (%q, %k, %v) {
  %o = select.attend %q, %k, %v rewrite {
  ^bb0(%value: f32, %query: i32, %key: i32):
    %one = arith.constant 1.0 : f32
    %share = arith.constant 0.015625 : f32
    %square = arith.mulf %value, %value : f32
    %under = math.fma %square, %share, %one : f32
    %root = math.rsqrt %under : f32
    %bent = arith.mulf %value, %root : f32
    %other = arith.negf %bent : f32
    %three = arith.constant 3 : i32
    %third = arith.remsi %key, %three : i32
    %zero = arith.constant 0 : i32
    %turns = arith.cmpi eq, %third, %zero : i32
    %turned = arith.select %turns, %other, %bent : f32
    %distance = arith.subi %query, %key : i32
    %far = arith.constant 40 : i32
    %is_far = arith.cmpi sge, %distance, %far : i32
    %hidden = arith.constant 0xFF800000 : f32
    %x = arith.select %is_far, %hidden, %turned : f32
    select.yield %x : f32
  }
  select.return %o
}
