select.method @m doc "a region" params() (%q, %k, %v) {
  %o = select.attend %q, %k, %v rewrite {
  ^bb0(%value: f32, %query: i32, %key: i32):
    %c0 = arith.constant 6.50 : f32
    %c1 = arith.constant 32 : i32
    %c2 = arith.constant -2.75 : f32
    %c3 = arith.constant 1000 : i32
    %c4 = arith.constant -4.75 : f32
    %c5 = arith.constant -5 : i32
    %x6 = arith.truncf %c4 : f32 to bf16
    %x7 = arith.cmpf ogt, %c2, %c4 : f32
    %x8 = math.exp2 %c4 : f32
    %x9 = arith.addf %c2, %c4 : f32
    %x10 = arith.minnumf %x9, %x9 : f32
    %x11 = arith.cmpi sgt, %c1, %c3 : i32
    %x12 = arith.cmpi slt, %c3, %c5 : i32
    %x13 = math.sqrt %c4 : f32
    %x14 = arith.cmpf oge, %x10, %x13 : f32
    %x15 = arith.extsi %x14 : i1 to i32
    %x16 = arith.ori %key, %c5 : i32
    %x17 = math.log %c4 : f32
    %x18 = arith.select %x14, %x14, %x14 : i1
    %x19 = math.cos %x9 : f32
    %x20 = arith.maximumf %x9, %x17 : f32
    %x21 = arith.ori %x16, %c3 : i32
    %x22 = arith.remsi %x21, %query : i32
    %x23 = arith.subi %x22, %x15 : i32
    %x24 = arith.uitofp %x14 : i1 to f32
    %x25 = arith.remui %c3, %key : i32
    %x26 = arith.xori %x12, %x12 : i1
    %x27 = arith.sitofp %x23 : i32 to f32
    %x28 = arith.cmpf oge, %x13, %x27 : f32
    %x29 = arith.cmpi ne, %x23, %x22 : i32
    %c30 = arith.constant -1 : i32
    %x31 = arith.extf %x6 : bf16 to f32
    %x32 = arith.fptosi %x31 : f32 to i32
    %x33 = arith.xori %c30, %x32 : i32
    %x34 = arith.extui %x7 : i1 to i32
    %x35 = arith.xori %x33, %x34 : i32
    %x36 = arith.extui %x11 : i1 to i32
    %x37 = arith.xori %x35, %x36 : i32
    %x38 = arith.extui %x18 : i1 to i32
    %x39 = arith.xori %x37, %x38 : i32
    %x40 = arith.fptosi %x24 : f32 to i32
    %x41 = arith.xori %x39, %x40 : i32
    %x42 = arith.xori %x41, %x25 : i32
    %x43 = arith.extui %x26 : i1 to i32
    %x44 = arith.xori %x42, %x43 : i32
    %x45 = arith.extui %x28 : i1 to i32
    %x46 = arith.xori %x44, %x45 : i32
    %x47 = arith.extui %x29 : i1 to i32
    %x48 = arith.xori %x46, %x47 : i32
    %modulus = arith.constant 9 : i32
    %x49 = arith.remsi %x48, %modulus : i32
    %x50 = arith.sitofp %x49 : i32 to f32
    %quarter = arith.constant 0.25 : f32
    %bias = arith.mulf %x50, %quarter : f32
    %sum = arith.addf %value, %bias : f32
    select.yield %sum : f32
  }
  select.return %o
}
