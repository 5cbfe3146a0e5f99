// C++ text of the kernels' own pure scalar ops (arith, tile.field): the part of the CUDA printer
// that knows operators. Expressions carry their precedence, so that the text has the parentheses a
// person would write and no more.
#pragma once
#include "dialect/tile/Tile.h"
#include <optional>
#include <string>

namespace winnow {

enum class Precedence {
  Ternary,
  LogicalOr,
  LogicalAnd,
  BitOr,
  BitXor,
  BitAnd,
  Equality,
  Relational,
  Shift,
  Sum,
  Product,
  Unary,
  Primary
};

struct Expression {
  std::string text;
  Precedence precedence = Precedence::Primary;
  /// The text as an operand of an operator of precedence `outer`; `strict` for the right operand.
  std::string inside(Precedence outer, bool strict = false) const;
};

/// How a value of a scalar or object type is declared.
std::string cppType(mlir::Type type);
std::string floatLiteral(double value);
/// Text of a constant: a literal of its type.
Expression constantExpression(mlir::arith::ConstantOp op);
/// a `symbol` b.
Expression binaryExpression(llvm::ArrayRef<Expression> operands, llvm::StringRef symbol);
/// a ? b : c.
Expression choiceExpression(llvm::ArrayRef<Expression> operands);
/// Text of `op` over its operands' expressions, or nothing if the op is not a known scalar op.
std::optional<Expression> scalarExpression(mlir::Operation *op,
                                           llvm::ArrayRef<Expression> operands);

} // namespace winnow
