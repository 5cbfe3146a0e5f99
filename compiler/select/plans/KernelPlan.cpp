// The numbers of the spec as a plan, and the readers that the plans of all kernels share.
#include "compiler/select/plans/KernelPlan.h"
#include "dialect/select/MethodText.h"
#include "dialect/select/RegionCheck.h"

using namespace mlir;

namespace winnow {

int number(Attribute setting) { return static_cast<int>(cast<IntegerAttr>(setting).getInt()); }

KernelPlan::KernelPlan(select::AttendOp attend) {
  auto op = attend->getParentOfType<select::MethodOp>();
  DictionaryAttr spec = op.getSpecAttr();
  method = op.getSymName().str();
  auto entry = [&](const char *name) { return number(spec.get(name)); };
  heads = entry("heads"), kvHeads = entry("kv_heads"), headDim = entry("head_dim");
  block = entry("block"), topk = entry("topk");
  isBf16 = cast<StringAttr>(spec.get("dtype")).getValue() == "bf16";
  element =
      isBf16 ? Type(BFloat16Type::get(op.getContext())) : Type(Float16Type::get(op.getContext()));
  keyElement = spec.contains("kv_dtype") ? Type(Float8E4M3FNType::get(op.getContext())) : element;
  productElement = hasFp8Keys() ? Type(Float16Type::get(op.getContext())) : element;
  scale = cast<FloatAttr>(spec.get("scale")).getValueAsDouble();
  paged = spec.contains("paged");
  group = heads / kvHeads;
  const Attribute dense = attend.getDenseLen().value_or(Attribute());
  if (auto points = dyn_cast_or_null<StringAttr>(dense))
    crossing = *CrossingPoints::parse(points.str(), Spec());
  else if (dense)
    denseLength = number(dense);
}

Operation *origin(Value value) {
  auto result = cast<OpResult>(value);
  if (auto kernel = dyn_cast<select::KernelOp>(result.getOwner()))
    return kernel.getBody()
        .front()
        .getTerminator()
        ->getOperand(result.getResultNumber())
        .getDefiningOp();
  return result.getOwner();
}

tl::unexpected<Error> refuse(Operation *op, ErrorKind kind, const std::string &why) {
  return fail(kind, place(op) + ": " + why);
}

Status checkHook(Region *region) {
  if (std::optional<RegionFault> fault = region ? findRegionFault(*region) : std::nullopt)
    return refuse(fault->op, ErrorKind::Unsupported, fault->why);
  return {};
}

} // namespace winnow
