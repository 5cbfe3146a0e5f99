// See RegionDerivative.h. Forward mode over straight-line code: beside each value of the region
// that depends on the logit stands its derivative; ops that end up unused are dropped. A null
// derivative is 0, so that nothing is multiplied by it.
#include "compiler/select/RegionDerivative.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace winnow {
namespace {

class Derivation {
public:
  /// Ops go to the end of `body`, whose first argument is what is derived by.
  explicit Derivation(Block &body)
      : b(OpBuilder::atBlockEnd(&body)), loc(b.getUnknownLoc()), one(real(1)) {
    slopes[body.getArgument(0)] = one;
  }

  /// Notes the derivative of an op of the body, in front of the builder.
  std::optional<RegionFault> derive(Operation &op) {
    const bool varies = llvm::any_of(op.getOperands(), [&](Value x) { return slopes.lookup(x); });
    const bool isReal = isa<FloatType>(op.getResult(0).getType());
    if (!varies)
      return std::nullopt;
    if (StringRef(regionOpOf(&op)->derivative) == kNoDerivative)
      return RegionFault{&op,
                         op.getName().getStringRef().str() +
                             " has no derivative, so that this method has no gradients; `winnow "
                             "methods --ops` lists which ops have one"};
    if (isReal) // a comparison has none, and a choice that it makes has that of what is chosen
      slopes[op.getResult(0)] = slopeOf(op);
    return std::nullopt;
  }

  void yield(Value result) {
    Value slope = slopes.lookup(result);
    select::YieldOp::create(b, loc, ValueRange{slope ? slope : real(0)});
  }

private:
  Value slopeOf(Operation &op) {
    const StringRef name = op.getName().getStringRef();
    Value x = op.getOperand(0), other = op.getNumOperands() > 1 ? op.getOperand(1) : Value();
    Value dx = slopes.lookup(x), dOther = slopes.lookup(other), y = op.getResult(0);
    if (name == "arith.select")
      return choose(x, dOther, slopes.lookup(op.getOperand(2)));
    if (name == "arith.addf")
      return plus(dx, dOther);
    if (name == "arith.subf")
      return plus(dx, negated(dOther));
    if (name == "arith.mulf")
      return plus(times(dx, other), times(dOther, x));
    if (name == "arith.divf")
      return over(plus(dx, negated(times(dOther, y))), other);
    if (name == "math.fma")
      return plus(plus(times(dx, other), times(dOther, x)), slopes.lookup(op.getOperand(2)));
    if (name == "math.powf")
      return plus(times(dx, multiply(other, power(x, subtract(other, one)))),
                  times(dOther, multiply(y, math::LogOp::create(b, loc, x))));
    if (name.starts_with("arith.max"))
      return choose(compare(arith::CmpFPredicate::OGE, x, other), dx, dOther);
    if (name.starts_with("arith.min"))
      return choose(compare(arith::CmpFPredicate::OLE, x, other), dx, dOther);
    if (name == "arith.negf")
      return negated(dx);
    if (name == "math.absf")
      return choose(compare(arith::CmpFPredicate::OGT, x, real(0)), dx,
                    choose(compare(arith::CmpFPredicate::OLT, x, real(0)), negated(dx), Value()));
    if (isa<arith::TruncFOp, arith::ExtFOp>(op))
      return dx;
    return times(dx, factorOf(name, x, y));
  }

  /// The derivative of a function y of x alone, by x.
  Value factorOf(StringRef name, Value x, Value y) {
    constexpr double kLn2 = llvm::numbers::ln2;
    if (name == "math.sqrt")
      return over(real(0.5), y);
    if (name == "math.rsqrt")
      return multiply(real(-0.5), multiply(y, multiply(y, y)));
    if (name == "math.exp")
      return y;
    if (name == "math.exp2")
      return multiply(y, real(kLn2));
    if (name == "math.log")
      return over(one, x);
    if (name == "math.log2")
      return over(real(1 / kLn2), x);
    if (name == "math.tanh")
      return subtract(one, multiply(y, y));
    if (name == "math.erf")
      return multiply(real(2 * llvm::numbers::inv_sqrtpi),
                      math::ExpOp::create(b, loc, negated(multiply(x, x))));
    if (name == "math.sin")
      return math::CosOp::create(b, loc, x);
    if (name == "math.cos")
      return negated(math::SinOp::create(b, loc, x));
    llvm_unreachable("the table of region ops has a derivative for which there is no rule");
  }

  // Of derivatives, of which a null one is 0.
  Value plus(Value a, Value other) {
    return !a ? other : !other ? a : Value(arith::AddFOp::create(b, loc, a, other));
  }
  Value negated(Value a) { return a ? Value(arith::NegFOp::create(b, loc, a)) : Value(); }
  Value times(Value slope, Value factor) {
    return !slope ? Value() : slope == one ? factor : multiply(slope, factor);
  }
  Value over(Value a, Value divisor) {
    return a ? Value(arith::DivFOp::create(b, loc, a, divisor)) : Value();
  }
  Value choose(Value condition, Value a, Value other) {
    return arith::SelectOp::create(b, loc, condition, a ? a : real(0), other ? other : real(0));
  }

  // Of values.
  Value multiply(Value a, Value other) { return arith::MulFOp::create(b, loc, a, other); }
  Value subtract(Value a, Value other) { return arith::SubFOp::create(b, loc, a, other); }
  Value power(Value a, Value exponent) { return math::PowFOp::create(b, loc, a, exponent); }
  Value compare(arith::CmpFPredicate predicate, Value a, Value other) {
    return arith::CmpFOp::create(b, loc, predicate, a, other);
  }
  Value real(double value) {
    return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(static_cast<float>(value)));
  }

  OpBuilder b;
  Location loc;
  Value one;
  llvm::DenseMap<Value, Value> slopes; ///< of reals that depend on the first argument
};

/// Ops are pure, so those that nobody uses can go.
void eraseUnused(Block &body) {
  for (Operation *op = body.getTerminator()->getPrevNode(); op;) {
    Operation *previous = op->getPrevNode();
    if (op->use_empty())
      op->erase();
    op = previous;
  }
}

} // namespace

std::optional<RegionFault> deriveRegion(Region &region, Region &derivative) {
  IRMapping mapping;
  region.cloneInto(&derivative, mapping);
  Block &body = derivative.front();
  Operation *yield = body.getTerminator();
  SmallVector<Operation *> ops =
      llvm::map_to_vector(body.without_terminator(), [](Operation &op) { return &op; });
  SmallVector<Operation *> originals =
      llvm::map_to_vector(region.front().without_terminator(), [](Operation &op) { return &op; });
  Value result = yield->getOperand(0);
  yield->erase();
  Derivation derivation(body);
  for (auto [op, original] : llvm::zip_equal(ops, originals))
    if (std::optional<RegionFault> fault = derivation.derive(*op))
      return RegionFault{original, fault->why};
  derivation.yield(result);
  eraseUnused(body);
  return std::nullopt;
}

} // namespace winnow
