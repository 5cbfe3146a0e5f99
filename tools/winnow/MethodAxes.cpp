// Walks a method's select ops and fills in the axes of the reference; elementwise regions become
// functions on doubles.
#include "tools/winnow/MethodAxes.h"
#include "dialect/MethodText.h"
#include <cmath>
#include <fmt/format.h>

namespace winnow {
namespace {

using namespace mlir;

/// An elementwise region as straight-line code over doubles, independent of the MLIR context it
/// came from.
class ScalarCode {
public:
  /// Error: the name of an op that is not known here.
  static Result<ScalarCode> of(Region &region) {
    ScalarCode code;
    llvm::DenseMap<Value, size_t> slots;
    for (BlockArgument argument : region.front().getArguments())
      slots[argument] = slots.size();
    code.inputs = slots.size();
    for (Operation &op : region.front()) {
      if (op.hasTrait<OpTrait::IsTerminator>()) {
        code.result = slots.lookup(op.getOperand(0));
        break;
      }
      std::vector<size_t> operands;
      for (Value operand : op.getOperands())
        operands.push_back(slots.lookup(operand));
      Function function = functionOf(op);
      if (!function)
        return fail(ErrorKind::Unsupported,
                    fmt::format("the reference does not know {} in an elementwise region",
                                op.getName().getStringRef().str()));
      code.steps.push_back({std::move(function), std::move(operands)});
      slots[op.getResult(0)] = code.inputs + code.steps.size() - 1;
    }
    return code;
  }

  double operator()(double value, int position, int row) const {
    std::vector<double> values = {value, static_cast<double>(position), static_cast<double>(row)};
    values.resize(inputs);
    for (const Step &step : steps) {
      double x[3] = {0, 0, 0};
      for (size_t i = 0; i < step.operands.size() && i < 3; ++i)
        x[i] = values[step.operands[i]];
      values.push_back(step.function(x));
    }
    return values[result];
  }

private:
  using Function = std::function<double(const double *)>;
  struct Step {
    Function function;
    std::vector<size_t> operands;
  };

  static Function functionOf(Operation &op) {
    if (auto constant = dyn_cast<arith::ConstantOp>(op)) {
      double value = 0;
      if (auto number = dyn_cast<FloatAttr>(constant.getValue()))
        value = number.getValueAsDouble();
      else if (auto number = dyn_cast<IntegerAttr>(constant.getValue()))
        value = static_cast<double>(number.getInt());
      return [value](const double *) { return value; };
    }
    if (auto compare = dyn_cast<arith::CmpFOp>(op))
      return comparison(static_cast<int>(compare.getPredicate()), /*isFloat=*/true);
    if (auto compare = dyn_cast<arith::CmpIOp>(op))
      return comparison(static_cast<int>(compare.getPredicate()), /*isFloat=*/false);
    return llvm::StringSwitch<Function>(op.getName().getStringRef())
        .Cases({"arith.addf", "arith.addi"}, [](const double *x) { return x[0] + x[1]; })
        .Cases({"arith.subf", "arith.subi"}, [](const double *x) { return x[0] - x[1]; })
        .Cases({"arith.mulf", "arith.muli"}, [](const double *x) { return x[0] * x[1]; })
        .Case("arith.divf", [](const double *x) { return x[0] / x[1]; })
        .Cases({"arith.divsi", "arith.divui"},
               [](const double *x) { return std::trunc(x[0] / x[1]); })
        .Case("arith.negf", [](const double *x) { return -x[0]; })
        .Cases({"arith.maximumf", "arith.maxnumf", "arith.maxsi"},
               [](const double *x) { return std::fmax(x[0], x[1]); })
        .Cases({"arith.minimumf", "arith.minnumf", "arith.minsi"},
               [](const double *x) { return std::fmin(x[0], x[1]); })
        .Case("arith.select", [](const double *x) { return x[0] != 0 ? x[1] : x[2]; })
        .Cases({"arith.sitofp", "arith.uitofp", "arith.extf", "arith.truncf"},
               [](const double *x) { return x[0]; })
        .Case("math.fma", [](const double *x) { return x[0] * x[1] + x[2]; })
        .Case("math.absf", [](const double *x) { return std::fabs(x[0]); })
        .Case("math.exp", [](const double *x) { return std::exp(x[0]); })
        .Case("math.exp2", [](const double *x) { return std::exp2(x[0]); })
        .Case("math.log", [](const double *x) { return std::log(x[0]); })
        .Case("math.log2", [](const double *x) { return std::log2(x[0]); })
        .Case("math.sqrt", [](const double *x) { return std::sqrt(x[0]); })
        .Case("math.rsqrt", [](const double *x) { return 1 / std::sqrt(x[0]); })
        .Case("math.tanh", [](const double *x) { return std::tanh(x[0]); })
        .Case("math.powf", [](const double *x) { return std::pow(x[0], x[1]); })
        .Default(Function());
  }

  /// Predicates by MLIR's numbering; the ordered and unordered forms agree on numbers that are not
  /// NaN.
  static Function comparison(int predicate, bool isFloat) {
    enum { Equal, NotEqual, Less, LessEqual, Greater, GreaterEqual } kind;
    if (isFloat) {
      switch (static_cast<arith::CmpFPredicate>(predicate)) {
      case arith::CmpFPredicate::OEQ:
      case arith::CmpFPredicate::UEQ:
        kind = Equal;
        break;
      case arith::CmpFPredicate::ONE:
      case arith::CmpFPredicate::UNE:
        kind = NotEqual;
        break;
      case arith::CmpFPredicate::OLT:
      case arith::CmpFPredicate::ULT:
        kind = Less;
        break;
      case arith::CmpFPredicate::OLE:
      case arith::CmpFPredicate::ULE:
        kind = LessEqual;
        break;
      case arith::CmpFPredicate::OGT:
      case arith::CmpFPredicate::UGT:
        kind = Greater;
        break;
      case arith::CmpFPredicate::OGE:
      case arith::CmpFPredicate::UGE:
        kind = GreaterEqual;
        break;
      default:
        return {};
      }
    } else {
      switch (static_cast<arith::CmpIPredicate>(predicate)) {
      case arith::CmpIPredicate::eq:
        kind = Equal;
        break;
      case arith::CmpIPredicate::ne:
        kind = NotEqual;
        break;
      case arith::CmpIPredicate::slt:
        kind = Less;
        break;
      case arith::CmpIPredicate::sle:
        kind = LessEqual;
        break;
      case arith::CmpIPredicate::sgt:
        kind = Greater;
        break;
      case arith::CmpIPredicate::sge:
        kind = GreaterEqual;
        break;
      default:
        return {};
      }
    }
    return [kind](const double *x) -> double {
      switch (kind) {
      case Equal:
        return x[0] == x[1];
      case NotEqual:
        return x[0] != x[1];
      case Less:
        return x[0] < x[1];
      case LessEqual:
        return x[0] <= x[1];
      case Greater:
        return x[0] > x[1];
      case GreaterEqual:
        return x[0] >= x[1];
      }
      return 0;
    };
  }

  size_t inputs = 0, result = 0;
  std::vector<Step> steps;
};

/// Reads one method, op by op.
class AxesReader {
public:
  AxesReader(select::MethodOp method, const Spec &spec) : method(method), spec(spec) {}

  Result<reference::Method> run() {
    for (const auto &[name, value] : spec.params)
      if (!method.getParams().get(name))
        return fail(ErrorKind::Usage, fmt::format("--set {}: @{} declares no such parameter", name,
                                                  method.getSymName().str()));
    axes.lse = reference::Lse::None;
    axes.combine = reference::Combine::None;
    axes.selects = false;
    axes.init = axes.local = 0;
    for (Operation &op : method.getBody().front())
      if (Status status = read(op); !status)
        return tl::unexpected(status.error());
    if (!outOfRange.empty())
      return fail(ErrorKind::Usage, outOfRange);
    return axes;
  }

private:
  Status read(Operation &op) {
    return llvm::TypeSwitch<Operation *, Status>(&op)
        .Case([&](select::ScoreOp score) { return readScore(score); })
        .Case([&](select::CombineHeadsOp combine) {
          axes.combine =
              combine.getKind() == "sum" ? reference::Combine::Sum : reference::Combine::Max;
          return known(combine.getKind(), {"sum", "max"});
        })
        .Case([&](select::PoolOp pool) {
          axes.pool = pool.getKind() == "sum"   ? reference::Pool::Sum
                      : pool.getKind() == "max" ? reference::Pool::Max
                                                : reference::Pool::Overlap;
          return known(pool.getKind(), {"sum", "max", "overlap"});
        })
        .Case([&](select::ForceOp force) {
          axes.init = number(force.getInit());
          axes.local = number(force.getLocal());
          return Status{};
        })
        .Case([&](select::TopKOp) {
          axes.selects = true;
          return Status{};
        })
        .Case([&](select::AttendOp attend) {
          if (std::optional<Attribute> denseLen = attend.getDenseLen())
            axes.denseLen = number(*denseLen);
          return readRewrite(attend.getRewrite(), axes.mapLogit);
        })
        .Case<select::SummarizeOp, select::LogSumExpOp, select::ReturnOp>(
            [](auto) { return Status{}; })
        .Default([](Operation *other) -> Status {
          return fail(ErrorKind::Unsupported, fmt::format("the reference does not know {}",
                                                          other->getName().getStringRef().str()));
        });
  }

  /// A score names its rows and its normaliser; what they are is read from where they are made.
  Status readScore(select::ScoreOp score) {
    auto rows = score.getRows().getDefiningOp<select::SummarizeOp>();
    if (!rows || rows.getKind() != "mean")
      return fail(ErrorKind::Unsupported, "the reference knows summaries by mean only");
    axes.window = number(rows.getWindow());
    axes.stride = number(rows.getStride());
    std::string visible = word(score.getVisible());
    axes.visibility =
        visible == "infllmv2" ? reference::Visibility::Infllmv2 : reference::Visibility::Absolute;
    if (Status status = known(visible, {"none", "infllmv2"}); !status)
      return status;
    if (score.getLse()) {
      auto lse = score.getLse().getDefiningOp<select::LogSumExpOp>();
      std::string mode = word(lse.getMode());
      axes.lse = mode == "coarse"  ? reference::Lse::Coarse
                 : mode == "exact" ? reference::Lse::Exact
                                   : reference::Lse::None;
      if (Status status = known(mode, {"coarse", "exact", "none"}); !status)
        return status;
      if (lse.getCoarse()) {
        auto coarse = lse.getCoarse().getDefiningOp<select::SummarizeOp>();
        axes.coarseWindow = number(coarse.getWindow());
        axes.coarseStride = number(coarse.getStride());
      }
    }
    return readRewrite(score.getRewrite(), axes.mapScore);
  }

  static Status readRewrite(Region &region, reference::Map &map) {
    if (region.empty())
      return {};
    Result<ScalarCode> code = ScalarCode::of(region);
    if (!code)
      return tl::unexpected(code.error());
    map = *code;
    return {};
  }

  static Status known(StringRef value, std::initializer_list<StringRef> words) {
    if (llvm::is_contained(words, value))
      return {};
    return fail(ErrorKind::Unsupported,
                fmt::format("the reference does not know the kind '{}'", value.str()));
  }

  /// The text of a setting: a literal, the value given by --set, the method's default, or a number
  /// of the spec.
  std::string text(Attribute setting) {
    auto literal = [](Attribute attribute) {
      if (auto number = dyn_cast<IntegerAttr>(attribute))
        return std::to_string(number.getInt());
      return cast<StringAttr>(attribute).getValue().str();
    };
    auto reference = dyn_cast<FlatSymbolRefAttr>(setting);
    if (!reference)
      return literal(setting);
    std::string name = reference.getValue().str();
    if (auto given = spec.params.find(name); given != spec.params.end())
      return given->second;
    if (Attribute value = method.getParams().get(name))
      return literal(value);
    int value = name == "block"       ? spec.block
                : name == "topk"      ? spec.topk
                : name == "group"     ? spec.group()
                : name == "value_dim" ? spec.valueWidth()
                                      : spec.headDim;
    return std::to_string(value);
  }
  std::string word(Attribute setting) { return text(setting); }
  int number(Attribute setting) {
    int value = 0; // literals and defaults are verified by the dialect, what --set gives is not
    if (std::string number = text(setting); StringRef(number).getAsInteger(10, value))
      outOfRange = fmt::format("@{}: '{}' is no number that fits 32 bits",
                               method.getSymName().str(), number);
    return value;
  }

  select::MethodOp method;
  const Spec &spec;
  reference::Method axes;
  std::string outOfRange; ///< what a setting would be that is none
};

/// A context, and the one method in a text.
class MethodText {
public:
  MethodText() : context(MLIRContext::Threading::DISABLED) {
    context.loadDialect<select::SelectDialect, arith::ArithDialect, math::MathDialect>();
  }
  Result<select::MethodOp> parse(const std::string &text, const std::string &name) {
    parsed = parseMethod(context, text, name);
    if (!parsed.method)
      return fail(parsed.unsupported ? ErrorKind::Unsupported : ErrorKind::Usage, parsed.complaint);
    return parsed.method;
  }

private:
  MLIRContext context;
  ParsedMethod parsed;
};

} // namespace

Result<reference::Method> axesOfText(const std::string &text, const std::string &name,
                                     const Spec &spec) {
  MethodText source;
  Result<select::MethodOp> method = source.parse(text, name);
  if (!method)
    return tl::unexpected(method.error());
  return AxesReader(*method, spec).run();
}

Result<std::map<std::string, std::string>> methodParameters(const std::string &text,
                                                            const std::string &name) {
  MethodText source;
  Result<select::MethodOp> method = source.parse(text, name);
  if (!method)
    return tl::unexpected(method.error());
  std::map<std::string, std::string> parameters;
  for (NamedAttribute parameter : method->getParams())
    if (auto number = dyn_cast<IntegerAttr>(parameter.getValue()))
      parameters[parameter.getName().str()] = std::to_string(number.getInt());
    else
      parameters[parameter.getName().str()] = cast<StringAttr>(parameter.getValue()).str();
  return parameters;
}

} // namespace winnow
