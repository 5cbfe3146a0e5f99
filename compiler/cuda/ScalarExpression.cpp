// Operators of the CUDA printer's scalar expressions; see ScalarExpression.h.
#include "compiler/cuda/ScalarExpression.h"
#include "llvm/Support/FormatVariadic.h"
#include <cmath>

using namespace mlir;

namespace winnow {

std::string Expression::inside(Precedence outer, bool strict) const {
  bool wrap = precedence < outer || (strict && precedence == outer);
  return wrap ? "(" + text + ")" : text;
}

std::string cppType(Type type) {
  if (isa<tile::ObjectType>(type))
    return "auto";
  if (type.isInteger(1))
    return "bool";
  if (type.isInteger(64))
    return "long long";
  return isa<FloatType>(type) ? "float"
                              : "int"; // 16-bit numbers of a region live in fp32 registers
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

Expression binaryExpression(ArrayRef<Expression> operands, StringRef symbol) {
  using P = Precedence;
  P precedence = llvm::StringSwitch<P>(symbol)
                     .Case("||", P::LogicalOr)
                     .Case("&&", P::LogicalAnd)
                     .Case("|", P::BitOr)
                     .Case("^", P::BitXor)
                     .Case("&", P::BitAnd)
                     .Cases({"==", "!="}, P::Equality)
                     .Cases({"<", "<=", ">", ">="}, P::Relational)
                     .Cases({"<<", ">>"}, P::Shift)
                     .Cases({"+", "-"}, P::Sum)
                     .Default(P::Product);
  return {operands[0].inside(precedence) + " " + symbol.str() + " " +
              operands[1].inside(precedence, true),
          precedence};
}

Expression choiceExpression(ArrayRef<Expression> operands) {
  using P = Precedence;
  return {operands[0].inside(P::Ternary, true) + " ? " + operands[1].inside(P::Ternary, true) +
              " : " + operands[2].inside(P::Ternary),
          P::Ternary};
}

Expression constantExpression(arith::ConstantOp op) {
  if (auto real = dyn_cast<FloatAttr>(op.getValue())) {
    double value = real.getValueAsDouble();
    if (std::isnan(value))
      return {"__int_as_float(0x7fffffff)", Precedence::Primary};
    return {floatLiteral(value), std::signbit(value) ? Precedence::Unary : Precedence::Primary};
  }
  auto integer = cast<IntegerAttr>(op.getValue());
  if (integer.getType().isInteger(1))
    return {integer.getValue().isZero() ? "false" : "true", Precedence::Primary};
  if (integer.getInt() == INT32_MIN) // the literal alone would be a long
    return {"(-2147483647 - 1)", Precedence::Primary};
  return {std::to_string(integer.getInt()),
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
    return constantExpression(value);
  if (isa<arith::SelectOp>(op))
    return choiceExpression(operands);
  if (isa<arith::MinSIOp, arith::MaxSIOp>(op))
    return Expression{std::string(isa<arith::MinSIOp>(op) ? "min(" : "max(") + operands[0].text +
                          ", " + operands[1].text + ")",
                      P::Primary};

  StringRef symbol;
  if (auto compare = dyn_cast<arith::CmpIOp>(op))
    symbol = llvm::StringSwitch<StringRef>(arith::stringifyCmpIPredicate(compare.getPredicate()))
                 .Case("eq", "==")
                 .Case("ne", "!=")
                 .Case("slt", "<")
                 .Case("sle", "<=")
                 .Case("sgt", ">")
                 .Case("sge", ">=")
                 .Default("");
  else
    symbol = llvm::StringSwitch<StringRef>(op->getName().getStringRef())
                 .Cases({"arith.addi", "arith.addf"}, "+")
                 .Cases({"arith.subi", "arith.subf"}, "-")
                 .Cases({"arith.muli", "arith.mulf"}, "*")
                 .Cases({"arith.divsi", "arith.divf"}, "/")
                 .Case("arith.remsi", "%")
                 .Case("arith.shli", "<<")
                 .Cases({"arith.shrsi", "arith.shrui"}, ">>")
                 .Case("arith.andi", "&")
                 .Case("arith.ori", "|")
                 .Case("arith.xori", "^")
                 .Default("");
  if (symbol.empty())
    return std::nullopt;
  bool isBool = op->getResult(0).getType().isInteger(1);
  if (isBool && (symbol == "&" || symbol == "|"))
    symbol = symbol == "&" ? "&&" : "||";
  return binaryExpression(operands, symbol);
}

} // namespace winnow
