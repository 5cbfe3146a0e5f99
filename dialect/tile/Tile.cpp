// The tile dialect's attributes and the ops around leaves (Structure.td). Types: Types.cpp; leaves:
// Leaves.cpp.
#include "dialect/tile/Tile.h"

using namespace mlir;
using namespace winnow::tile;

#include "dialect/tile/TileDialect.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "dialect/tile/TileAttrs.cpp.inc"
#include "dialect/tile/TileInterfaces.cpp.inc"
#define GET_OP_CLASSES
#include "dialect/tile/TileOps.cpp.inc"

void TileDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialect/tile/TileAttrs.cpp.inc"
      >();
  registerTypes();
  addOperations<
#define GET_OP_LIST
#include "dialect/tile/TileOps.cpp.inc"
      >();
}

void FieldOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &effects) {
  if (getObject().getDefiningOp<RegisterOp>() || getObject().getDefiningOp<SharedOp>())
    effects.emplace_back(MemoryEffects::Read::get(), &getObjectMutable());
}

//===-- Attributes of scf ops ----------------------------------------------------------------===//

/// A value on which the threads of a block differ, among those that `value` is computed from; null:
/// there is none.
static Value varyingSource(Value value, SmallPtrSetImpl<Operation *> &seen) {
  Operation *op = value.getDefiningOp();
  if (!op || !seen.insert(op).second)
    return {};
  if (isa<ThreadIndexOp, LaneIndexOp, WarpIndexOp, WarpgroupIndexOp>(op))
    return value;
  // A vote is the same for everybody, whatever each thread has said.
  if (isa<SyncThreadsAnyOp>(op))
    return {};
  for (Value operand : op->getOperands())
    if (Value source = varyingSource(operand, seen))
      return source;
  return {};
}

static LogicalResult verifyUniform(Operation *op, Attribute value) {
  auto branch = dyn_cast<scf::IfOp>(op);
  if (!branch || !isa<UnitAttr>(value))
    return op->emitOpError("tile.uniform is a mark of scf.if, without a value");
  SmallPtrSet<Operation *, 16> seen;
  if (Value source = varyingSource(branch.getCondition(), seen)) {
    InFlightDiagnostic error = op->emitOpError(
        "is marked tile.uniform, but its condition differs among the threads of a block");
    error.attachNote(source.getLoc()) << "it comes from this index";
    return error;
  }
  return success();
}

static LogicalResult verifyPipeline(Operation *op, Attribute value) {
  auto kind = dyn_cast<StringAttr>(value);
  if (!isa<scf::ForOp>(op) || !kind ||
      (kind.getValue() != "specialize_warps" && kind.getValue() != "rotate"))
    return op->emitOpError(
        "tile.pipeline is \"specialize_warps\" or \"rotate\", and stands on scf.for");
  for (StringRef name : {"tile.stages", "tile.producer_warps"})
    if (kind.getValue() == "specialize_warps" && !op->hasAttr(name))
      return op->emitOpError("tile.pipeline = \"specialize_warps\" needs ") << name;
  return success();
}

static LogicalResult verifyCount(Operation *op, StringRef name, Attribute value) {
  auto count = dyn_cast<IntegerAttr>(value);
  const bool isUnroll = name == "tile.unroll";
  if (isUnroll ? !isa<scf::ForOp>(op) : !op->hasAttr("tile.pipeline"))
    return op->emitOpError() << name << " stands on "
                             << (isUnroll ? "scf.for" : "a loop with tile.pipeline");
  if (isUnroll && isa<UnitAttr>(value))
    return success();
  if (!count || !count.getType().isInteger(32) || count.getInt() < 1)
    return op->emitOpError() << name << " is a number of 1 or more";
  return success();
}

LogicalResult TileDialect::verifyOperationAttribute(Operation *op, NamedAttribute attribute) {
  const StringRef name = attribute.getName();
  if (name == "tile.uniform")
    return verifyUniform(op, attribute.getValue());
  if (name == "tile.pipeline")
    return verifyPipeline(op, attribute.getValue());
  if (name == "tile.stages" || name == "tile.producer_warps" || name == "tile.unroll")
    return verifyCount(op, name, attribute.getValue());
  if (name == "tile.at_least_once")
    return isa<scf::ForOp>(op) && isa<UnitAttr>(attribute.getValue())
               ? success()
               : op->emitOpError("tile.at_least_once is a mark of scf.for, without a value");
  return op->emitOpError() << "there is no attribute " << name;
}

LogicalResult KernelOp::verifyRegions() {
  // A hook rounds to 16 bits; everywhere else such numbers lie in objects.
  auto isKnown = [](Type type, Operation *op) {
    return type.isSignlessInteger(1) || type.isSignlessInteger(32) || type.isSignlessInteger(64) ||
           type.isF32() || isa<ObjectType>(type) ||
           (elementName(type) && op->getParentOfType<HookOp>());
  };
  const WalkResult result = walk([&](Operation *op) -> WalkResult {
    for (Type type : op->getResultTypes())
      if (!isKnown(type, op))
        return op->emitOpError() << "has a result of type " << type
                                 << ", which device code has no name for";
    return WalkResult::advance();
  });
  return failure(result.wasInterrupted());
}

int64_t KernelOp::constantValue(StringRef name) {
  for (Attribute attribute : getConstants())
    if (auto constant = cast<ConstantAttr>(attribute); constant.getName() == name)
      return cast<IntegerAttr>(constant.getValue()).getInt();
  llvm_unreachable("a kernel names only constants that it declares");
}

// tile.kernel @name title "..." threads 384 min_blocks 1 constants [...] (%params : type) { ... }
void KernelOp::print(OpAsmPrinter &printer) {
  printer << ' ';
  printer.printSymbolName(getSymName());
  printer.printOptionalAttrDictWithKeyword((*this)->getAttrs(), {getSymNameAttrName()});
  printer << " (";
  printer.printRegionArgument(getBody().getArgument(0));
  printer << ") ";
  printer.printRegion(getBody(), /*printEntryBlockArgs=*/false);
}

ParseResult KernelOp::parse(OpAsmParser &parser, OperationState &result) {
  StringAttr name;
  OpAsmParser::Argument params;
  if (parser.parseSymbolName(name, SymbolTable::getSymbolAttrName(), result.attributes) ||
      parser.parseOptionalAttrDictWithKeyword(result.attributes) || parser.parseLParen() ||
      parser.parseArgument(params, /*allowType=*/true) || parser.parseRParen())
    return failure();
  return parser.parseRegion(*result.addRegion(), {params});
}
