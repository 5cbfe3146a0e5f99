// Pass winnow-specialize: a method and a spec become a method with numbers in it. Numbers that no
// method can have, or a step not, are refused here; what steps decide together is refused by their
// kernel's plan (compiler/select/plans), and what nobody serves by whoever would build it
// (Features.h).
#include "compiler/select/SelectPasses.h"
#include "mlir/IR/Verifier.h"
#include "runtime/program/CrossingPoints.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
#define GEN_PASS_DEF_SPECIALIZE
#include "compiler/select/SelectPasses.h.inc"

namespace {

using ParameterValues = llvm::StringMap<Attribute>;

/// Whether a parameter is the method's dense_len, which may be a number or `auto`.
bool isDenseLength(select::MethodOp method, StringRef param) {
  bool found = false;
  method.walk([&](select::AttendOp attend) {
    auto name = dyn_cast_or_null<FlatSymbolRefAttr>(attend.getDenseLenAttr());
    found |= name && name.getValue() == param;
  });
  return found;
}

/// The values of the method's parameters: defaults, overridden by the spec's settings.
Result<ParameterValues> parameterValues(select::MethodOp method, const Spec &spec) {
  Builder b(method.getContext());
  ParameterValues values;
  for (NamedAttribute param : method.getParams())
    values[param.getName().getValue()] = param.getValue();
  for (const auto &[name, text] : spec.params) {
    auto known = values.find(name);
    if (known == values.end()) {
      std::string names = llvm::join(
          llvm::map_range(method.getParams(), [](NamedAttribute p) { return p.getName().str(); }),
          ", ");
      return fail(ErrorKind::Usage,
                  llvm::formatv("@{0} has no parameter '{1}': --set knows {2}", method.getSymName(),
                                name, names.empty() ? "none for this method" : names)
                      .str());
    }
    int64_t number;
    bool isNumber = !StringRef(text).getAsInteger(10, number);
    const bool isAuto = CrossingPoints::isAuto(text);
    if (isAuto && !isDenseLength(method, name))
      return fail(ErrorKind::Usage,
                  llvm::formatv("parameter '{0}' of @{1} cannot be auto: only one that is a "
                                "dense_len can; give a value",
                                name, method.getSymName())
                      .str());
    const bool mayBeBoth = isAuto || isDenseLength(method, name);
    if (!mayBeBoth && isNumber != isa<IntegerAttr>(known->second))
      return fail(ErrorKind::Usage,
                  llvm::formatv("parameter '{0}' of @{1} is {2}, not '{3}'", name,
                                method.getSymName(), isNumber ? "a keyword" : "a number", text)
                      .str());
    known->second =
        isNumber ? Attribute(b.getI64IntegerAttr(number)) : Attribute(b.getStringAttr(text));
  }
  const int numbers[] = {spec.block, spec.topk, spec.group(), spec.headDim, spec.valueWidth()};
  for (auto [name, value] : llvm::zip_equal(select::kSpecNames, numbers))
    values[name] = b.getI64IntegerAttr(value);
  return values;
}

void replaceReferences(select::MethodOp method, const ParameterValues &values) {
  method.walk([&](Operation *op) {
    SmallVector<NamedAttribute> attributes;
    for (NamedAttribute attribute : op->getAttrs()) {
      auto reference = dyn_cast<FlatSymbolRefAttr>(attribute.getValue());
      auto value = reference ? values.find(reference.getValue()) : values.end();
      attributes.emplace_back(attribute.getName(),
                              value == values.end() ? attribute.getValue() : value->second);
    }
    if (op != method)
      op->setAttrs(attributes);
  });
}

/// `auto` becomes the points that it stands for.
Status resolveDenseLengths(select::MethodOp method, const Spec &spec) {
  Status status;
  method.walk([&](select::AttendOp attend) {
    auto word = dyn_cast_or_null<StringAttr>(attend.getDenseLenAttr());
    if (!word || !status)
      return;
    if (Result<CrossingPoints> points = CrossingPoints::parse(word.str(), spec))
      attend.setDenseLenAttr(StringAttr::get(attend.getContext(), points->text()));
    else
      status = fail(ErrorKind::Usage, "dense_len: " + points.error().message);
  });
  return status;
}

/// coarse: sum over the coarse rows. exact: over the scored rows. none: raw scores, no log-sum-exp.
void resolveNormalizers(select::MethodOp method) {
  SmallVector<select::LogSumExpOp> ops;
  method.walk([&](select::LogSumExpOp op) { ops.push_back(op); });
  for (select::LogSumExpOp op : ops) {
    StringRef mode = cast<StringAttr>(op.getMode()).getValue();
    if (mode == "none") {
      for (Operation *user : llvm::make_early_inc_range(op->getUsers()))
        cast<select::ScoreOp>(user).getLseMutable().clear();
      op.erase();
      continue;
    }
    if (mode == "coarse" && op.getCoarse())
      op.getRowsMutable().assign(op.getCoarse());
    op.getCoarseMutable().clear();
    op.setModeAttr(StringAttr::get(op.getContext(), "exact"));
  }
}

void eraseUnused(select::MethodOp method) {
  for (Operation *op = method.getBody().front().getTerminator()->getPrevNode(); op;) {
    Operation *previous = op->getPrevNode();
    if (op->use_empty())
      op->erase();
    op = previous;
  }
}

} // namespace

Status specializeMethod(select::MethodOp method, const Spec &spec) {
  WINNOW_CHECK(spec.check());
  WINNOW_TRY(ParameterValues values, parameterValues(method, spec));
  replaceReferences(method, values);
  Builder b(method.getContext());
  auto number = [&](const char *name, int value) {
    return b.getNamedAttr(name, b.getI64IntegerAttr(value));
  };
  SmallVector<NamedAttribute> numbers = {
      number("heads", spec.heads),
      number("kv_heads", spec.kvHeads),
      number("head_dim", spec.headDim),
      number("value_dim", spec.valueWidth()),
      number("block", spec.block),
      number("topk", spec.topk),
      b.getNamedAttr("dtype", b.getStringAttr(name(spec.dtype))),
      b.getNamedAttr("scale", b.getF64FloatAttr(spec.softmaxScale()))};
  if (spec.paged)
    numbers.push_back(b.getNamedAttr("paged", b.getUnitAttr()));
  if (spec.kvDtype != KvDtype::Same)
    numbers.push_back(b.getNamedAttr("kv_dtype", b.getStringAttr(name(spec.kvDtype))));
  method.setSpecAttr(b.getDictionaryAttr(numbers));

  // Numbers may break what held for names: ask the verifiers again, and hand their words on.
  {
    Complaints complaints(*method.getContext());
    if (failed(verify(method)))
      return fail(ErrorKind::Usage, complaints.first());
  }
  WINNOW_CHECK(resolveDenseLengths(method, spec));
  resolveNormalizers(method);
  eraseUnused(method);
  return {};
}

namespace {
struct SpecializePass : impl::SpecializeBase<SpecializePass> {
  using SpecializeBase::SpecializeBase;
  void runOnOperation() override {
    Spec spec;
    spec.heads = heads, spec.kvHeads = kvHeads, spec.headDim = headDim, spec.valueDim = valueDim,
    spec.block = block, spec.topk = topk;
    spec.scale = scale;
    Result<Dtype> type = parseDtype(dtype);
    for (StringRef setting : set) {
      auto [name, value] = setting.split('=');
      spec.params[name.str()] = value.str();
    }
    for (auto method : getOperation().getOps<select::MethodOp>()) {
      Status status = type ? Status() : tl::unexpected<Error>(type.error());
      if (type) {
        spec.dtype = *type;
        status = specializeMethod(method, spec);
      }
      if (!status) {
        method.emitError(status.error().message);
        return signalPassFailure();
      }
    }
  }
};
} // namespace
} // namespace winnow
