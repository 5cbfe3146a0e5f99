// See RegionExpression.h. A spelling is an operator between two operands, a choice, a change of
// sign, or anything that has its operands between parentheses or commas.
#include "compiler/cuda/RegionExpression.h"
#include "dialect/select/RegionCheck.h"
#include <cmath>

using namespace mlir;

namespace winnow {

/// The operands in their places.
static std::string filled(StringRef spelling, ArrayRef<Expression> operands) {
  std::string text;
  for (size_t i = 0; i < spelling.size(); ++i) {
    if (spelling[i] != '$') {
      text += spelling[i];
      continue;
    }
    bool opens = i > 0 && (spelling[i - 1] == '(' || spelling.take_front(i).ends_with(", "));
    bool closes = i + 2 < spelling.size() && (spelling[i + 2] == ')' || spelling[i + 2] == ',');
    const Expression &operand = operands[spelling[++i] - '0'];
    text += opens && closes ? operand.text : operand.inside(Precedence::Unary, true);
  }
  return text;
}

/// 1 / divisor where a product with it is within one unit in the last place of the quotient: a
/// method divides by a constant once per logit, and a product is eight instructions shorter.
static std::optional<double> reciprocalOf(Value divisor) {
  auto constant = divisor.getDefiningOp<arith::ConstantOp>();
  if (!constant)
    return std::nullopt;
  auto value = static_cast<float>(cast<FloatAttr>(constant.getValue()).getValueAsDouble());
  auto reciprocal = static_cast<float>(1.0 / value);
  if (!std::isnormal(value) || !std::isnormal(reciprocal))
    return std::nullopt;
  return 1.0 / value;
}

Expression regionExpression(Operation *op, ArrayRef<Expression> operands) {
  if (auto constant = dyn_cast<arith::ConstantOp>(op))
    return constantExpression(constant);
  if (isa<arith::DivFOp>(op))
    if (std::optional<double> factor = reciprocalOf(op->getOperand(1)))
      return binaryExpression(
          {operands[0],
           {floatLiteral(*factor), *factor < 0 ? Precedence::Unary : Precedence::Primary}},
          "*");
  std::string text = spellingOf(*regionOpOf(op), signatureOf(op));
  StringRef spelling = text;
  if (spelling == "$0")
    return operands[0];
  if (spelling == "$0 ? $1 : $2")
    return choiceExpression(operands);
  if (spelling.starts_with("$0 ") && spelling.ends_with(" $1"))
    return binaryExpression(operands, spelling.drop_front(3).drop_back(3));
  StringRef symbol = spelling.split(") ").second.split(' ').first; // f($0) < f($1)
  if (!symbol.empty())
    return {filled(spelling, operands), Precedence::Relational};
  bool isSign = spelling.starts_with("-") || spelling.starts_with("!");
  return {filled(spelling, operands), isSign ? Precedence::Unary : Precedence::Primary};
}

} // namespace winnow
