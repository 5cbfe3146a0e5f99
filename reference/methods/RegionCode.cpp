// See RegionCode.h. Values of every type are doubles: fp32 and 16-bit numbers as they are, i32 as
// the signed number, i1 as 0 or 1.
#include "reference/methods/RegionCode.h"
#include "dialect/select/MethodText.h"
#include "reference/Half.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>

using namespace mlir;

namespace winnow {
namespace {

using Function = std::function<double(const double *)>;
using Real = double (*)(const double *);
using Whole = uint32_t (*)(uint32_t, uint32_t);

constexpr double kTwo31 = 2147483648.0, kTwo32 = 4294967296.0;

int32_t signedOf(uint32_t bits) { return static_cast<int32_t>(bits); }
uint32_t bitsOf(double x) { return static_cast<uint32_t>(static_cast<int64_t>(x)); }
double unsignedOf(double x) { return x < 0 ? x + kTwo32 : x; }

/// NaN to 0, else towards zero and into [low, high].
double clamped(double x, double low, double high) {
  return std::isnan(x) ? 0 : std::min(high, std::max(low, std::trunc(x)));
}
double wrapped(double x) { return x >= kTwo31 ? x - kTwo32 : x; }

double larger(double a, double b) { return a > b || (a == b && std::signbit(b)) ? a : b; }
double smaller(double a, double b) { return a < b || (a == b && std::signbit(a)) ? a : b; }

Function realFunction(StringRef name) {
  return llvm::StringSwitch<Real>(name)
      .Case("arith.addf", [](const double *x) { return x[0] + x[1]; })
      .Case("arith.subf", [](const double *x) { return x[0] - x[1]; })
      .Case("arith.mulf", [](const double *x) { return x[0] * x[1]; })
      .Case("arith.divf", [](const double *x) { return x[0] / x[1]; })
      .Case("arith.negf", [](const double *x) { return -x[0]; })
      .Case("arith.maximumf",
            [](const double *x) {
              return std::isnan(x[0]) ? x[0] : std::isnan(x[1]) ? x[1] : larger(x[0], x[1]);
            })
      .Case("arith.minimumf",
            [](const double *x) {
              return std::isnan(x[0]) ? x[0] : std::isnan(x[1]) ? x[1] : smaller(x[0], x[1]);
            })
      .Case("arith.maxnumf",
            [](const double *x) {
              return std::isnan(x[0]) ? x[1] : std::isnan(x[1]) ? x[0] : larger(x[0], x[1]);
            })
      .Case("arith.minnumf",
            [](const double *x) {
              return std::isnan(x[0]) ? x[1] : std::isnan(x[1]) ? x[0] : smaller(x[0], x[1]);
            })
      .Case("arith.sitofp", [](const double *x) { return x[0]; })
      .Case("arith.uitofp", [](const double *x) { return unsignedOf(x[0]); })
      .Case("arith.extf", [](const double *x) { return x[0]; })
      .Case("math.fma", [](const double *x) { return x[0] * x[1] + x[2]; })
      .Case("math.absf", [](const double *x) { return std::fabs(x[0]); })
      .Case("math.floor", [](const double *x) { return std::floor(x[0]); })
      .Case("math.ceil", [](const double *x) { return std::ceil(x[0]); })
      .Case("math.trunc", [](const double *x) { return std::trunc(x[0]); })
      .Case("math.roundeven", [](const double *x) { return std::nearbyint(x[0]); })
      .Case("math.exp", [](const double *x) { return std::exp(x[0]); })
      .Case("math.exp2", [](const double *x) { return std::exp2(x[0]); })
      .Case("math.log", [](const double *x) { return std::log(x[0]); })
      .Case("math.log2", [](const double *x) { return std::log2(x[0]); })
      .Case("math.sqrt", [](const double *x) { return std::sqrt(x[0]); })
      .Case("math.rsqrt", [](const double *x) { return 1 / std::sqrt(x[0]); })
      .Case("math.powf", [](const double *x) { return std::pow(x[0], x[1]); })
      .Case("math.tanh", [](const double *x) { return std::tanh(x[0]); })
      .Case("math.erf", [](const double *x) { return std::erf(x[0]); })
      .Case("math.sin", [](const double *x) { return std::sin(x[0]); })
      .Case("math.cos", [](const double *x) { return std::cos(x[0]); })
      .Default(nullptr);
}

/// On 32 bits; of i1 operands the lowest bit counts.
Whole wholeFunction(StringRef name) {
  return llvm::StringSwitch<Whole>(name)
      .Case("arith.addi", [](uint32_t a, uint32_t b) { return a + b; })
      .Case("arith.subi", [](uint32_t a, uint32_t b) { return a - b; })
      .Case("arith.muli", [](uint32_t a, uint32_t b) { return a * b; })
      .Case("arith.divsi",
            [](uint32_t a, uint32_t b) {
              return b == 0 ? 0u : static_cast<uint32_t>(int64_t(signedOf(a)) / signedOf(b));
            })
      .Case("arith.remsi",
            [](uint32_t a, uint32_t b) {
              return b == 0 ? 0u : static_cast<uint32_t>(int64_t(signedOf(a)) % signedOf(b));
            })
      .Case("arith.divui", [](uint32_t a, uint32_t b) { return b == 0 ? 0u : a / b; })
      .Case("arith.remui", [](uint32_t a, uint32_t b) { return b == 0 ? 0u : a % b; })
      .Case("arith.maxsi", [](uint32_t a, uint32_t b) { return signedOf(a) > signedOf(b) ? a : b; })
      .Case("arith.minsi", [](uint32_t a, uint32_t b) { return signedOf(a) < signedOf(b) ? a : b; })
      .Case("arith.maxui", [](uint32_t a, uint32_t b) { return std::max(a, b); })
      .Case("arith.minui", [](uint32_t a, uint32_t b) { return std::min(a, b); })
      .Case("arith.shli", [](uint32_t a, uint32_t b) { return a << b % 32; })
      .Case("arith.shrui", [](uint32_t a, uint32_t b) { return a >> b % 32; })
      .Case("arith.shrsi",
            [](uint32_t a, uint32_t b) {
              return static_cast<uint32_t>(int64_t(signedOf(a)) >> b % 32);
            })
      .Case("arith.andi", [](uint32_t a, uint32_t b) { return a & b; })
      .Case("arith.ori", [](uint32_t a, uint32_t b) { return a | b; })
      .Case("arith.xori", [](uint32_t a, uint32_t b) { return a ^ b; })
      .Default(nullptr);
}

/// A predicate as the outcomes that it accepts.
Function comparison(bool less, bool equal, bool greater, bool unordered, bool withoutSign) {
  return [=](const double *x) -> double {
    double a = withoutSign ? unsignedOf(x[0]) : x[0], b = withoutSign ? unsignedOf(x[1]) : x[1];
    return a < b ? less : a > b ? greater : a == b ? equal : unordered;
  };
}

Function realComparison(StringRef predicate) {
  if (predicate == "ord" || predicate == "uno")
    return comparison(predicate == "ord", predicate == "ord", predicate == "ord",
                      predicate == "uno", false);
  StringRef kind = predicate.drop_front();
  bool unordered = predicate.front() == 'u', isNot = kind == "ne";
  return comparison(kind.front() == 'l' || isNot, (kind.back() == 'e' && !isNot) || kind == "eq",
                    kind.front() == 'g' || isNot, unordered, false);
}

Function wholeComparison(StringRef predicate) {
  bool withoutSign = predicate.front() == 'u';
  StringRef kind = predicate.size() == 3 ? predicate.drop_front() : predicate;
  bool isNot = kind == "ne";
  return comparison(kind.front() == 'l' || isNot, (kind.back() == 'e' && !isNot) || kind == "eq",
                    kind.front() == 'g' || isNot, false, withoutSign);
}

double constantOf(arith::ConstantOp constant) {
  if (auto number = dyn_cast<FloatAttr>(constant.getValue()))
    return number.getValueAsDouble();
  auto number = cast<IntegerAttr>(constant.getValue());
  return number.getType().isInteger(1) ? !number.getValue().isZero()
                                       : static_cast<double>(number.getInt());
}

} // namespace

RegionCode::Function RegionCode::functionOf(Operation &op) {
  StringRef name = op.getName().getStringRef();
  Type type = op.getResult(0).getType();
  if (auto constant = dyn_cast<arith::ConstantOp>(op))
    return [value = constantOf(constant)](const double *) { return value; };
  if (auto compare = dyn_cast<arith::CmpFOp>(op))
    return realComparison(arith::stringifyCmpFPredicate(compare.getPredicate()));
  if (auto compare = dyn_cast<arith::CmpIOp>(op))
    return wholeComparison(arith::stringifyCmpIPredicate(compare.getPredicate()));
  if (name == "arith.select")
    return [](const double *x) { return x[0] != 0 ? x[1] : x[2]; };
  if (name == "arith.fptosi")
    return [](const double *x) { return clamped(x[0], -kTwo31, kTwo31 - 1); };
  if (name == "arith.fptoui")
    return [](const double *x) { return wrapped(clamped(x[0], 0, kTwo32 - 1)); };
  if (name == "arith.extsi")
    return [](const double *x) { return -x[0]; };
  if (name == "arith.extui")
    return [](const double *x) { return x[0]; };
  if (name == "arith.trunci")
    return [](const double *x) -> double { return bitsOf(x[0]) & 1; };
  if (name == "arith.truncf")
    return [dtype = type.isBF16() ? Dtype::BF16 : Dtype::FP16](const double *x) {
      return reference::rounded(x[0], dtype);
    };
  if (Whole whole = wholeFunction(name)) {
    bool isFlag = type.isInteger(1);
    return [=](const double *x) -> double {
      uint32_t bits = whole(bitsOf(x[0]), bitsOf(x[1]));
      return isFlag ? signedOf(bits & 1) : signedOf(bits);
    };
  }
  if (Function real = realFunction(name))
    return [real](const double *x) -> double { return static_cast<float>(real(x)); };
  return {};
}

Result<RegionCode> RegionCode::of(Region &region) {
  auto refuse = [](Operation &op, const std::string &why) {
    return fail(ErrorKind::Unsupported, place(&op) + ": " + why);
  };
  if (std::optional<RegionFault> fault = findRegionFault(region))
    return refuse(*fault->op, fault->why);
  RegionCode code;
  llvm::DenseMap<Value, size_t> slots;
  llvm::DenseSet<Value> varying = {region.getArgument(0)}; // reals that depend on the value
  for (BlockArgument argument : region.front().getArguments())
    slots.try_emplace(argument, slots.size());
  for (Operation &op : region.front().without_terminator()) {
    std::vector<size_t> operands;
    for (Value operand : op.getOperands())
      operands.push_back(slots.lookup(operand));
    Function function = functionOf(op);
    if (!function)
      return refuse(
          op, fmt::format("the reference does not know {}", op.getName().getStringRef().str()));
    RegionSlope slope = regionSlope(op.getName().getStringRef().str());
    const bool varies =
        llvm::any_of(op.getOperands(), [&](Value operand) { return varying.contains(operand); });
    if (varies && isa<FloatType>(op.getResult(0).getType()))
      varying.insert(op.getResult(0));
    code.differentiable &= slope || !varies;
    code.steps.push_back({std::move(function), varies ? slope : nullptr, std::move(operands)});
    slots.try_emplace(op.getResult(0), slots.size());
  }
  code.result = slots.lookup(region.front().getTerminator()->getOperand(0));
  return code;
}

std::vector<double> RegionCode::run(double value, int position, int row) const {
  std::vector<double> values = {static_cast<float>(value), static_cast<double>(position),
                                static_cast<double>(row)};
  values.reserve(values.size() + steps.size());
  for (const Step &step : steps) {
    double x[3] = {0, 0, 0};
    for (size_t i = 0; i < step.operands.size(); ++i)
      x[i] = values[step.operands[i]];
    values.push_back(step.function(x));
  }
  return values;
}

double RegionCode::operator()(double value, int position, int row) const {
  return run(value, position, row)[result];
}

double RegionCode::slope(double value, int position, int row) const {
  const std::vector<double> values = run(value, position, row);
  std::vector<double> slopes = {1, 0, 0};
  for (size_t s = 0; s < steps.size(); ++s) {
    const std::vector<size_t> &operands = steps[s].operands;
    double x[3] = {0, 0, 0}, dx[3] = {0, 0, 0};
    for (size_t i = 0; i < operands.size(); ++i) {
      x[i] = values[operands[i]];
      dx[i] = slopes[operands[i]];
    }
    slopes.push_back(steps[s].slope ? steps[s].slope(x, dx, values[3 + s]) : 0);
  }
  return slopes[result];
}

} // namespace winnow
