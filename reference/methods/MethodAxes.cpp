// Walks a method's select ops and fills in the axes of the reference; elementwise regions become
// functions on doubles (RegionCode.h).
#include "reference/methods/MethodAxes.h"
#include "dialect/select/MethodText.h"
#include "reference/methods/RegionCode.h"
#include <fmt/format.h>

namespace winnow {
namespace {

using namespace mlir;

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
      WINNOW_CHECK(read(op));
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
          if (std::optional<Attribute> denseLen = attend.getDenseLen()) {
            axes.denseByLaunch = StringRef(text(*denseLen)).starts_with("auto");
            axes.denseLen = axes.denseByLaunch ? -1 : number(*denseLen);
          }
          return readLogits(attend.getRewrite());
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
    WINNOW_CHECK(known(visible, {"none", "infllmv2"}));
    if (score.getLse()) {
      auto lse = score.getLse().getDefiningOp<select::LogSumExpOp>();
      std::string mode = word(lse.getMode());
      axes.lse = mode == "coarse"  ? reference::Lse::Coarse
                 : mode == "exact" ? reference::Lse::Exact
                                   : reference::Lse::None;
      WINNOW_CHECK(known(mode, {"coarse", "exact", "none"}));
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
    WINNOW_TRY(map, RegionCode::of(region));
    return {};
  }

  Status readLogits(Region &region) {
    if (region.empty())
      return {};
    WINNOW_TRY(RegionCode code, RegionCode::of(region));
    axes.mapLogit = code;
    if (code.hasSlope())
      axes.logitSlope = [code](double logit, int position, int key) {
        return code.slope(logit, position, key);
      };
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
  WINNOW_TRY(select::MethodOp method, source.parse(text, name));
  return AxesReader(method, spec).run();
}

Result<std::map<std::string, std::string>> methodParameters(const std::string &text,
                                                            const std::string &name) {
  MethodText source;
  WINNOW_TRY(select::MethodOp method, source.parse(text, name));
  std::map<std::string, std::string> parameters;
  for (NamedAttribute parameter : method.getParams())
    if (auto number = dyn_cast<IntegerAttr>(parameter.getValue()))
      parameters[parameter.getName().str()] = std::to_string(number.getInt());
    else
      parameters[parameter.getName().str()] = cast<StringAttr>(parameter.getValue()).str();
  return parameters;
}

} // namespace winnow
