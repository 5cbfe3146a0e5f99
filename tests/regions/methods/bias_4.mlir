select.method @m doc "a region" params() (%q, %k, %v) {
  %o = select.attend %q, %k, %v rewrite {
  ^bb0(%value: f32, %query: i32, %key: i32):
    %c0 = arith.constant 5.50 : f32
    %c1 = arith.constant 32 : i32
    %c2 = arith.constant -0.75 : f32
    %c3 = arith.constant -1 : i32
    %c4 = arith.constant 0.50 : f32
    %c5 = arith.constant 7 : i32
    %x6 = math.log2 %c2 : f32
    %x7 = arith.divui %c5, %c1 : i32
    %x8 = arith.xori %x7, %x7 : i32
    %x9 = arith.subi %x8, %key : i32
    %x10 = arith.negf %x6 : f32
    %x11 = arith.cmpi ugt, %x9, %c3 : i32
    %x12 = arith.maximumf %x6, %x10 : f32
    %x13 = arith.minui %x7, %c5 : i32
    %x14 = arith.xori %x8, %x8 : i32
    %x15 = arith.maxui %x9, %x9 : i32
    %x16 = arith.cmpi sge, %key, %x9 : i32
    %x17 = arith.cmpi eq, %key, %x7 : i32
    %x18 = arith.minimumf %x6, %x6 : f32
    %x19 = arith.negf %x18 : f32
    %x20 = arith.minnumf %x10, %x6 : f32
    %x21 = arith.minui %x14, %x7 : i32
    %x22 = arith.cmpi ne, %c3, %x21 : i32
    %x23 = arith.cmpi ult, %x21, %x14 : i32
    %x24 = arith.xori %x14, %x13 : i32
    %x25 = arith.cmpi slt, %x24, %x24 : i32
    %x26 = arith.minnumf %x6, %x20 : f32
    %x27 = arith.ori %x23, %x17 : i1
    %x28 = arith.cmpi ugt, %x21, %x7 : i32
    %x29 = arith.extui %x22 : i1 to i32
    %x30 = arith.cmpi eq, %x14, %x14 : i32
    %x31 = arith.cmpi ugt, %x29, %x21 : i32
    %c32 = arith.constant 33 : i32
    %x33 = arith.xori %c32, %query : i32
    %x34 = arith.extui %x11 : i1 to i32
    %x35 = arith.xori %x33, %x34 : i32
    %x36 = arith.xori %x35, %x15 : i32
    %x37 = arith.extui %x16 : i1 to i32
    %x38 = arith.xori %x36, %x37 : i32
    %x39 = arith.extui %x25 : i1 to i32
    %x40 = arith.xori %x38, %x39 : i32
    %x41 = arith.extui %x27 : i1 to i32
    %x42 = arith.xori %x40, %x41 : i32
    %x43 = arith.extui %x28 : i1 to i32
    %x44 = arith.xori %x42, %x43 : i32
    %x45 = arith.extui %x30 : i1 to i32
    %x46 = arith.xori %x44, %x45 : i32
    %x47 = arith.extui %x31 : i1 to i32
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
