// Operators and functions of the CUDA printer's scalar expressions; see ScalarExpression.h. Device
// math functions are the ones NVRTC knows without headers (CUDA C++ Programming Guide, mathematical
// functions).
#include "compiler/ScalarExpression.h"
#include "llvm/Support/FormatVariadic.h"
#include <cmath>

using namespace mlir;

namespace winnow {

std::string Expression::inside(Precedence outer, bool strict) const {
  bool wrap = precedence < outer || (strict && precedence == outer);
  return wrap ? "(" + text + ")" : text;
}

std::string cppType(Type type) {
  if (auto object = dyn_cast<tile::ObjectType>(type))
    return object.cppName();
  if (type.isInteger(1))
    return "bool";
  if (type.isInteger(64))
    return "long long";
  return type.isF32() ? "float" : "int";
}

std::string floatLiteral(double value) {
  if (std::isinf(value))
    return value < 0 ? "-kInfinity" : "kInfinity";
  std::string text = llvm::formatv("{0:f9}", value).str();
  SmallString<32> exact;
  llvm::APFloat(static_cast<float>(value)).toString(exact, 9, 4);
  text = exact.str().str();
  if (StringRef(text).find_first_of(".eE") == StringRef::npos)
    text += ".0";
  return text + "f";
}

static Expression binary(ArrayRef<Expression> operands, const char *symbol, Precedence precedence) {
  return {operands[0].inside(precedence) + " " + symbol + " " +
              operands[1].inside(precedence, true),
          precedence};
}

static Expression call(StringRef function, ArrayRef<Expression> operands) {
  std::string text = function.str() + "(";
  for (size_t i = 0; i < operands.size(); ++i)
    text += (i ? ", " : "") + operands[i].text;
  return {text + ")", Precedence::Primary};
}

static std::optional<Expression> comparison(Operation *op, ArrayRef<Expression> operands) {
  auto compare = [&](StringRef predicate) {
    const char *symbol = llvm::StringSwitch<const char *>(predicate)
                             .Cases({"eq", "oeq", "ueq"}, "==")
                             .Cases({"ne", "one", "une"}, "!=")
                             .Cases({"slt", "ult", "olt"}, "<")
                             .Cases({"sle", "ule", "ole"}, "<=")
                             .Cases({"sgt", "ugt", "ogt"}, ">")
                             .Cases({"sge", "uge", "oge"}, ">=")
                             .Default(nullptr);
    bool equality = predicate.ends_with("eq") || predicate.ends_with("ne");
    return symbol ? std::optional(binary(operands, symbol,
                                         equality ? Precedence::Equality : Precedence::Relational))
                  : std::nullopt;
  };
  if (auto integer = dyn_cast<arith::CmpIOp>(op))
    return compare(arith::stringifyCmpIPredicate(integer.getPredicate()));
  if (auto real = dyn_cast<arith::CmpFOp>(op))
    return compare(arith::stringifyCmpFPredicate(real.getPredicate()));
  return std::nullopt;
}

static std::optional<Expression> constant(arith::ConstantOp op) {
  if (auto real = dyn_cast<FloatAttr>(op.getValue())) {
    double value = real.getValueAsDouble();
    return Expression{floatLiteral(value),
                      std::signbit(value) ? Precedence::Unary : Precedence::Primary};
  }
  auto integer = cast<IntegerAttr>(op.getValue());
  if (integer.getType().isInteger(1))
    return Expression{integer.getValue().isZero() ? "false" : "true", Precedence::Primary};
  return Expression{std::to_string(integer.getInt()),
                    integer.getInt() < 0 ? Precedence::Unary : Precedence::Primary};
}

std::optional<Expression> scalarExpression(Operation *op, ArrayRef<Expression> operands) {
  using P = Precedence;
  if (auto field = dyn_cast<tile::FieldOp>(op))
    return Expression{operands[0].inside(P::Primary) + "." + field.getName().str(), P::Primary};
  if (auto index = dyn_cast<tile::BlockIndexOp>(op))
    return Expression{"blockIdx." + index.getDimension().str(), P::Primary};
  if (auto extent = dyn_cast<tile::GridDimensionOp>(op))
    return Expression{"gridDim." + extent.getDimension().str(), P::Primary};
  if (auto value = dyn_cast<arith::ConstantOp>(op))
    return constant(value);
  if (auto compared = comparison(op, operands))
    return compared;
  if (isa<arith::SelectOp>(op))
    return Expression{operands[0].inside(P::Ternary, true) + " ? " +
                          operands[1].inside(P::Ternary, true) + " : " +
                          operands[2].inside(P::Ternary),
                      P::Ternary};
  if (isa<arith::NegFOp>(op))
    return Expression{"-" + operands[0].inside(P::Unary, true), P::Unary};

  bool isBool = op->getNumResults() == 1 && op->getResult(0).getType().isInteger(1);
  struct Operator {
    const char *op, *symbol;
    Precedence precedence;
  };
  static constexpr Operator operators[] = {
      {"arith.addi", "+", P::Sum},      {"arith.addf", "+", P::Sum},
      {"arith.subi", "-", P::Sum},      {"arith.subf", "-", P::Sum},
      {"arith.muli", "*", P::Product},  {"arith.mulf", "*", P::Product},
      {"arith.divsi", "/", P::Product}, {"arith.divf", "/", P::Product},
      {"arith.remsi", "%", P::Product}, {"arith.shli", "<<", P::Shift},
      {"arith.shrui", ">>", P::Shift},  {"arith.shrsi", ">>", P::Shift},
      {"arith.andi", "&", P::BitAnd},   {"arith.ori", "|", P::BitOr},
      {"arith.xori", "^", P::BitXor},
  };
  StringRef name = op->getName().getStringRef();
  if (isBool && name == "arith.andi")
    return binary(operands, "&&", P::LogicalAnd);
  if (isBool && name == "arith.ori")
    return binary(operands, "||", P::LogicalOr);
  // A method divides by a constant once per logit: a product with the reciprocal is within one unit
  // in the last place of it, and eight instructions shorter.
  if (auto quotient = dyn_cast<arith::DivFOp>(op))
    if (auto divisor = quotient.getRhs().getDefiningOp<arith::ConstantOp>()) {
      double reciprocal = 1 / cast<FloatAttr>(divisor.getValue()).getValueAsDouble();
      Expression factor{floatLiteral(reciprocal), reciprocal < 0 ? P::Unary : P::Primary};
      if (std::isfinite(reciprocal))
        return binary({operands[0], factor}, "*", P::Product);
    }
  for (const Operator &known : operators)
    if (name == known.op)
      return binary(operands, known.symbol, known.precedence);

  const char *function = llvm::StringSwitch<const char *>(name)
                             .Cases({"arith.minsi", "arith.minui"}, "min")
                             .Cases({"arith.maxsi", "arith.maxui"}, "max")
                             .Cases({"arith.minimumf", "arith.minnumf"}, "fminf")
                             .Cases({"arith.maximumf", "arith.maxnumf"}, "fmaxf")
                             .Case("arith.sitofp", "float")
                             .Case("arith.fptosi", "int")
                             .Case("arith.extsi", "(long long)")
                             .Case("math.absf", "fabsf")
                             .Case("math.exp", "__expf")
                             .Case("math.exp2", "exp2_fast")
                             .Case("math.log", "__logf")
                             .Case("math.log2", "log2_fast")
                             .Case("math.sqrt", "sqrtf")
                             .Case("math.rsqrt", "rsqrtf")
                             .Case("math.tanh", "tanh_fast")
                             .Case("math.sin", "__sinf")
                             .Case("math.cos", "__cosf")
                             .Case("math.erf", "erff")
                             .Case("math.powf", "powf")
                             .Case("math.floor", "floorf")
                             .Case("math.fma", "fmaf")
                             .Default(nullptr);
  return function ? std::optional(call(function, operands)) : std::nullopt;
}

} // namespace winnow
