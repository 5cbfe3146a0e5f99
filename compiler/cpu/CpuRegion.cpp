// See CpuRegion.h. Most ops are their own lowering. The others are those that LLVM leaves undefined
// for some operands (divisions, shifts, conversions to integers), and roundings to 16 bits, which
// stay in fp32 vectors.
#include "compiler/cpu/CpuRegion.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;

namespace winnow::cpu {
namespace {

class RegionBuilder {
public:
  RegionBuilder(OpBuilder &b, Location loc) : b(b), loc(loc) {}

  VectorType vectorOf(Type type) {
    if (isa<FloatType>(type))
      type = b.getF32Type();
    return VectorType::get({kLanes}, type);
  }

  /// The value of `op` over vectors.
  Value lower(Operation &op, ArrayRef<Value> x) {
    if (auto constant = dyn_cast<arith::ConstantOp>(op))
      return arith::ConstantOp::create(
          b, loc, DenseElementsAttr::get(vectorOf(constant.getType()), constant.getValue()));
    StringRef name = op.getName().getStringRef();
    bool isFlag = op.getResult(0).getType().isInteger(1);
    if (name == "arith.divsi" || name == "arith.remsi")
      return guarded(name, x, either(isZero(x[1]), both(equal(x[0], INT32_MIN), equal(x[1], -1))));
    if (name == "arith.divui" || name == "arith.remui")
      return guarded(name, x, isZero(x[1]));
    if (name == "arith.shli" || name == "arith.shrsi" || name == "arith.shrui")
      return plain(name, {x[0], plain("arith.andi", {x[1], integer(31)})});
    if (name == "arith.maxnumf")
      return numberOf("arith.maximumf", x);
    if (name == "arith.minnumf")
      return numberOf("arith.minimumf", x);
    if (name == "arith.fptosi")
      return toInteger(name, x[0], -0x1p31, INT32_MIN, 0x1p31, INT32_MAX);
    if (name == "arith.fptoui")
      return toInteger(name, x[0], 0, 0, 0x1p32, -1);
    if (name == "arith.truncf")
      return op.getResult(0).getType().isBF16() ? toBf16(x[0]) : toFp16(x[0]);
    if (name == "arith.extf")
      return x[0];
    if (name == "arith.trunci" && isFlag)
      return compare(arith::CmpIPredicate::ne, plain("arith.andi", {x[0], integer(1)}), integer(0));
    return plain(name, x, vectorOf(op.getResult(0).getType()), op.getAttr("predicate"));
  }

private:
  /// The op of that name without flags: what they promise, a region's meaning does not need.
  Value plain(StringRef name, ValueRange operands, Type type = {}, Attribute predicate = {}) {
    OperationState state(loc, name);
    state.addOperands(operands);
    state.addTypes(type ? type : operands[0].getType());
    if (predicate)
      state.addAttribute("predicate", predicate);
    return b.create(state)->getResult(0);
  }
  Value integer(int32_t value) { return constant(b.getI32IntegerAttr(value)); }
  Value real(double value) { return constant(b.getF32FloatAttr(static_cast<float>(value))); }
  Value constant(TypedAttr value) {
    return arith::ConstantOp::create(b, loc,
                                     DenseElementsAttr::get(vectorOf(value.getType()), value));
  }
  Value compare(arith::CmpIPredicate predicate, Value a, Value other) {
    return arith::CmpIOp::create(b, loc, predicate, a, other);
  }
  Value compare(arith::CmpFPredicate predicate, Value a, Value other) {
    return arith::CmpFOp::create(b, loc, predicate, a, other);
  }
  Value equal(Value a, int32_t value) {
    return compare(arith::CmpIPredicate::eq, a, integer(value));
  }
  Value isZero(Value a) { return equal(a, 0); }
  Value isNan(Value a) { return compare(arith::CmpFPredicate::UNO, a, a); }
  Value either(Value a, Value other) { return plain("arith.ori", {a, other}); }
  Value both(Value a, Value other) { return plain("arith.andi", {a, other}); }
  Value choose(Value condition, Value yes, Value no) {
    return arith::SelectOp::create(b, loc, condition, yes, no);
  }

  /// A division by 1 where the processor would trap, which is right for -2^31 by -1; 0 by zero.
  Value guarded(StringRef name, ArrayRef<Value> x, Value traps) {
    Value result = plain(name, {x[0], choose(traps, integer(1), x[1])});
    return choose(isZero(x[1]), integer(0), result);
  }

  /// The op for numbers, which propagates NaN; the other operand where one is NaN.
  Value numberOf(StringRef name, ArrayRef<Value> x) {
    return choose(isNan(x[0]), x[1], choose(isNan(x[1]), x[0], plain(name, x)));
  }

  /// Towards zero; `least` and `most` outside (low, high), 0 of NaN.
  Value toInteger(StringRef name, Value x, double low, int32_t least, double high, int32_t most) {
    Value below = compare(arith::CmpFPredicate::OLE, x, real(low)),
          above = compare(arith::CmpFPredicate::OGE, x, real(high));
    Value safe = choose(either(isNan(x), either(below, above)), real(0), x);
    Value inside = plain(name, safe, vectorOf(b.getI32Type()));
    return choose(below, integer(least), choose(above, integer(most), inside));
  }

  /// On the bits: half of what is cut off is added, less one where the last kept bit is 0.
  Value toBf16(Value x) {
    Value bits = arith::BitcastOp::create(b, loc, vectorOf(b.getI32Type()), x);
    Value last = plain("arith.andi", {plain("arith.shrui", {bits, integer(16)}), integer(1)});
    Value sum = plain("arith.addi", {bits, plain("arith.addi", {last, integer(0x7fff)})});
    Value kept = plain("arith.andi", {sum, integer(static_cast<int32_t>(0xffff0000))});
    return choose(isNan(x), x, arith::BitcastOp::create(b, loc, x.getType(), kept));
  }
  Value toFp16(Value x) {
    Value half = arith::TruncFOp::create(b, loc, VectorType::get({kLanes}, b.getF16Type()), x);
    return arith::ExtFOp::create(b, loc, x.getType(), half);
  }

  OpBuilder &b;
  Location loc;
};

} // namespace

/// Calls `body` to end a new function with its result, given its arguments.
static void
addFunction(ModuleOp module, StringRef name,
            llvm::function_ref<Value(OpBuilder &, RegionBuilder &, ValueRange arguments)> body) {
  OpBuilder b = OpBuilder::atBlockEnd(module.getBody());
  RegionBuilder lowering(b, b.getUnknownLoc());
  Type f32 = lowering.vectorOf(b.getF32Type()), i32 = lowering.vectorOf(b.getI32Type());
  auto function =
      func::FuncOp::create(b, b.getUnknownLoc(), name, b.getFunctionType({f32, i32, i32}, {f32}));
  function.setPrivate();
  Block *block = function.addEntryBlock();
  b.setInsertionPointToEnd(block);
  Value result = body(b, lowering, block->getArguments());
  func::ReturnOp::create(b, b.getUnknownLoc(), result);
}

static Value lowerRegion(Region &region, RegionBuilder &lowering, ValueRange arguments) {
  IRMapping mapping;
  mapping.map(region.getArguments(), arguments);
  for (Operation &op : region.front().without_terminator()) {
    SmallVector<Value> operands = llvm::map_to_vector(
        op.getOperands(), [&](Value operand) { return mapping.lookup(operand); });
    mapping.map(op.getResult(0), lowering.lower(op, operands));
  }
  return mapping.lookup(region.front().getTerminator()->getOperand(0));
}

void addRegionFunction(ModuleOp module, StringRef name, Region *region) {
  addFunction(module, name, [&](OpBuilder &, RegionBuilder &lowering, ValueRange arguments) {
    return region ? lowerRegion(*region, lowering, arguments) : arguments[0];
  });
}

void addSlopeFunction(ModuleOp module, StringRef name, Region *derivative) {
  addFunction(module, name, [&](OpBuilder &b, RegionBuilder &lowering, ValueRange arguments) {
    auto type = cast<ShapedType>(arguments[0].getType());
    return derivative ? lowerRegion(*derivative, lowering, arguments)
                      : Value(arith::ConstantOp::create(b, b.getUnknownLoc(),
                                                        DenseElementsAttr::get(type, 1.0f)));
  });
}

} // namespace winnow::cpu
