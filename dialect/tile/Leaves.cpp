// What holds for leaf ops beyond the classes of their operands (leaves/*.td), and the types of
// their results. Every leaf is printed by one rule of the printer and needs no code of its own.
#include "dialect/tile/Tile.h"

using namespace mlir;
using namespace winnow::tile;

/// A leaf must do something, and must not take what changes for a value.
static LogicalResult verifyEffects(Operation *leaf) {
  auto effects = dyn_cast<MemoryEffectOpInterface>(leaf);
  if (leaf->getNumResults() == 0 && effects && !effects.hasEffect<MemoryEffects::Write>())
    return leaf->emitOpError(
        "has neither a result nor an effect: its definition must say what it writes");
  for (Value operand : leaf->getOperands())
    if (operand.getDefiningOp<RegisterOp>() &&
        (!effects || (!effects.getEffectOnValue<MemoryEffects::Read>(operand) &&
                      !effects.getEffectOnValue<MemoryEffects::Write>(operand))))
      return leaf->emitOpError("takes a register object, which changes, as if it were a value: "
                               "its definition must say that it reads or writes this operand");
  return success();
}

/// A cursor walks rings of as many stages as it counts.
static LogicalResult verifyStages(Operation *leaf) {
  Attribute stages;
  for (Type type : leaf->getOperandTypes()) {
    if (!isa<RingType, BarriersType>(type) && !isDevice(type, "Cursor"))
      continue;
    ArrayAttr arguments = cast<ObjectType>(type).getArguments();
    if (arguments.empty())
      return leaf->emitOpError() << "has an operand " << type << " without a number of stages";
    if (stages && stages != arguments[0])
      return leaf->emitOpError() << "brings together " << stages << " stages and " << arguments[0];
    stages = arguments[0];
  }
  return success();
}

/// Whether two template arguments may be the same: numbers are compared, a constant by its value.
static bool mayEqual(Attribute a, Attribute b, KernelOp kernel) {
  auto valueOf = [&](Attribute argument) {
    auto name = dyn_cast<FlatSymbolRefAttr>(argument);
    if (!name || !kernel)
      return name || isa<StringAttr>(argument) ? Attribute() : argument;
    for (auto constant : kernel.getConstants().getAsRange<ConstantAttr>())
      if (constant.getName() == name.getValue())
        return constant.getValue();
    return Attribute();
  };
  a = valueOf(a), b = valueOf(b);
  return !a || !b || a == b;
}

/// Whether the elements of a left factor go with those of the right one: the same, or fp16 with fp8
/// that is converted as it is loaded.
static bool elementsFit(Attribute left, Attribute right) {
  auto isType = [](Attribute element, auto is) {
    auto type = dyn_cast<TypeAttr>(element);
    return type && is(type.getValue());
  };
  return left == right || (isType(left, [](Type type) { return type.isF16(); }) &&
                           isType(right, [](Type type) { return isa<Float8E4M3FNType>(type); }));
}

/// Rows, depths, columns and elements of a product's factors and sums fit each other: sums [rows,
/// columns], left [rows, depth], right [columns, depth] or, of a product a b, [depth, columns].
static LogicalResult verifyProduct(Operation *leaf) {
  const bool isTransposed = isa<MmaAbtOp, MmaAbtPairOp, StartAbtOp, WarpAbtOp>(leaf);
  if (!isTransposed && !isa<MmaAbOp, MmaAbPairOp, StartAbOp, WarpAbOp>(leaf))
    return success();
  auto kernel = leaf->getParentOfType<KernelOp>();
  const Value last = leaf->getOperands().back();
  ArrayRef<Attribute> right = cast<ObjectType>(last.getType()).getArguments().getValue();
  for (Value operand : leaf->getOperands().drop_back()) {
    auto object = dyn_cast<ObjectType>(operand.getType());
    if (!object || object.getArguments().size() < 2 || right.size() < 3)
      continue;
    ArrayRef<Attribute> own = object.getArguments().getValue();
    const bool isSum = object.getName() == "Accumulator";
    if (!mayEqual(own[1], right[isSum == isTransposed ? 0 : 1], kernel) ||
        (own.size() > 2 && !elementsFit(own[2], right[2])))
      return leaf->emitOpError() << "has " << operand.getType() << " beside the right factor "
                                 << last.getType() << ": they do not fit each other";
  }
  return success();
}

LogicalResult winnow::tile::verifyLeaf(Operation *leaf) {
  return success(succeeded(verifyEffects(leaf)) && succeeded(verifyStages(leaf)) &&
                 succeeded(verifyProduct(leaf)));
}

LogicalResult MmaAbtOp::verify() {
  const bool isShared = isDevice(getLeft().getType(), "SharedTile");
  if (isShared != bool(getFirstRow()) || isShared != isDevice(getRight().getType(), "RightOperand"))
    return emitOpError("multiplies a LeftOperand by a SharedTile, or a SharedTile from a first row "
                       "on by a RightOperand");
  return success();
}

//===-- Types of results ---------------------------------------------------------------------===//

LogicalResult FieldOp::inferReturnTypes(MLIRContext *, std::optional<Location> location,
                                        FieldOp::Adaptor field, SmallVectorImpl<Type> &types) {
  auto object = cast<ObjectType>(field.getObject().getType());
  types.push_back(object.member(field.getName()));
  if (types.back())
    return success();
  return emitOptionalError(location, "'", object.getName(), "' has no member '", field.getName(),
                           "'");
}

LogicalResult StageOp::inferReturnTypes(MLIRContext *context, std::optional<Location> location,
                                        StageOp::Adaptor stage, SmallVectorImpl<Type> &types) {
  auto ring = cast<ObjectType>(stage.getRing().getType());
  ArrayRef<Attribute> arguments = ring.getArguments().getValue();
  if (ring.getName() == "WorkRing" && arguments.size() == 3)
    types.push_back(
        ObjectType::get(context, "WorkList", ArrayAttr::get(context, arguments.drop_front())));
  else if (auto tile = arguments.size() == 2 ? dyn_cast<TypeAttr>(arguments[1]) : TypeAttr())
    types.push_back(tile.getValue());
  else
    return emitOptionalError(location, "'", ring.cppName(), "' is no ring of anything");
  return success();
}

/// Object `index` of the two of an Overlay.
static LogicalResult objectOf(Value both, int index, std::optional<Location> location,
                              SmallVectorImpl<Type> &types) {
  auto overlay = cast<ObjectType>(both.getType());
  ArrayRef<Attribute> arguments = overlay.getArguments().getValue();
  auto object = arguments.size() == 2 ? dyn_cast<TypeAttr>(arguments[index]) : TypeAttr();
  if (!object)
    return emitOptionalError(location, "'", overlay.cppName(), "' is no overlay of two objects");
  types.push_back(object.getValue());
  return success();
}
LogicalResult FirstOfOp::inferReturnTypes(MLIRContext *, std::optional<Location> location,
                                          FirstOfOp::Adaptor overlay,
                                          SmallVectorImpl<Type> &types) {
  return objectOf(overlay.getBoth(), 0, location, types);
}
LogicalResult SecondOfOp::inferReturnTypes(MLIRContext *, std::optional<Location> location,
                                           SecondOfOp::Adaptor overlay,
                                           SmallVectorImpl<Type> &types) {
  return objectOf(overlay.getBoth(), 1, location, types);
}

LogicalResult GlobalRowsOp::inferReturnTypes(MLIRContext *context, std::optional<Location>,
                                             GlobalRowsOp::Adaptor rows,
                                             SmallVectorImpl<Type> &types) {
  types.push_back(ObjectType::get(context, "GlobalRows",
                                  ArrayAttr::get(context, {rows.getType(), rows.getStride()})));
  return success();
}

LogicalResult PagedRowsOp::inferReturnTypes(MLIRContext *context, std::optional<Location>,
                                            PagedRowsOp::Adaptor rows,
                                            SmallVectorImpl<Type> &types) {
  types.push_back(ObjectType::get(context, "PagedRows", ArrayAttr::get(context, {rows.getType()})));
  return success();
}

LogicalResult TokenRowsOp::inferReturnTypes(MLIRContext *context, std::optional<Location>,
                                            TokenRowsOp::Adaptor rows,
                                            SmallVectorImpl<Type> &types) {
  types.push_back(ObjectType::get(context, "TokenRows",
                                  ArrayAttr::get(context, {rows.getType(), rows.getHeads(),
                                                           rows.getGroup(), rows.getTokens()})));
  return success();
}

LogicalResult ReadOnceOp::inferReturnTypes(MLIRContext *context, std::optional<Location> location,
                                           ReadOnceOp::Adaptor once, SmallVectorImpl<Type> &types) {
  auto rows = dyn_cast<ObjectType>(once.getRows().getType());
  if (!rows)
    return emitOptionalError(location, "read_once takes rows");
  types.push_back(ObjectType::get(context, "StreamedRows", rows.getArguments()));
  return success();
}

LogicalResult InSummaryOrderOp::inferReturnTypes(MLIRContext *context,
                                                 std::optional<Location> location,
                                                 InSummaryOrderOp::Adaptor ordered,
                                                 SmallVectorImpl<Type> &types) {
  auto rows = dyn_cast<ObjectType>(ordered.getRows().getType());
  if (!rows)
    return emitOptionalError(location, "in_summary_order takes rows");
  types.push_back(ObjectType::get(context, "OrderedRows", rows.getArguments()));
  return success();
}

LogicalResult KeptRowsOp::inferReturnTypes(MLIRContext *context, std::optional<Location>,
                                           KeptRowsOp::Adaptor rows, SmallVectorImpl<Type> &types) {
  types.push_back(ObjectType::get(context, "PagedRows", ArrayAttr::get(context, {rows.getType()})));
  return success();
}

LogicalResult SummaryOfOp::inferReturnTypes(MLIRContext *context, std::optional<Location>,
                                            SummaryOfOp::Adaptor rows,
                                            SmallVectorImpl<Type> &types) {
  types.push_back(ObjectType::get(context, "GlobalRows",
                                  ArrayAttr::get(context, {rows.getType(), rows.getDim()})));
  return success();
}

LogicalResult ImagesOfOp::inferReturnTypes(MLIRContext *context, std::optional<Location>,
                                           ImagesOfOp::Adaptor images,
                                           SmallVectorImpl<Type> &types) {
  types.push_back(ObjectType::get(context, "SummaryImages",
                                  ArrayAttr::get(context, {images.getType(), images.getDim()})));
  return success();
}
