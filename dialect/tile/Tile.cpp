// The tile dialect's types, attributes and structure ops. Leaf ops need no code here: they are
// declared in TileLeaves.td and printed by one rule of the emitter.
#include "dialect/tile/Tile.h"

using namespace mlir;
using namespace winnow::tile;

#include "dialect/tile/TileDialect.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "dialect/tile/TileAttrs.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "dialect/tile/TileTypes.cpp.inc"
#include "dialect/tile/TileInterfaces.cpp.inc"
#define GET_OP_CLASSES
#include "dialect/tile/TileOps.cpp.inc"

void TileDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialect/tile/TileAttrs.cpp.inc"
      >();
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialect/tile/TileTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialect/tile/TileOps.cpp.inc"
      >();
}

std::optional<StringRef> winnow::tile::elementName(Type type) {
  if (type.isBF16())
    return "bf16";
  if (type.isF16())
    return "fp16";
  if (type.isF32())
    return "float";
  if (type.isInteger(32))
    return "int";
  return std::nullopt;
}

LogicalResult ObjectType::verify(function_ref<InFlightDiagnostic()> error, StringRef name,
                                 ArrayAttr arguments) {
  for (Attribute argument : arguments) {
    if (isa<IntegerAttr, FlatSymbolRefAttr, StringAttr>(argument))
      continue;
    auto type = dyn_cast<TypeAttr>(argument);
    if (!type || (!isa<ObjectType>(type.getValue()) && !elementName(type.getValue())))
      return error() << "an argument of '" << name << "' is " << argument
                     << ": it may be a number, a constant of the kernel, bf16, f16, f32, i32 or "
                        "another object";
  }
  return success();
}

/// C++ spelling of one template argument of a device class.
static std::string cppArgument(Attribute argument) {
  if (auto integer = dyn_cast<IntegerAttr>(argument))
    return integer.getType().isInteger(1) ? (integer.getInt() ? "true" : "false")
                                          : std::to_string(integer.getInt());
  if (auto constant = dyn_cast<FlatSymbolRefAttr>(argument))
    return constant.getValue().str();
  if (auto text = dyn_cast<StringAttr>(argument))
    return text.getValue().str();
  Type type = cast<TypeAttr>(argument).getValue();
  if (auto object = dyn_cast<ObjectType>(type))
    return object.cppName();
  return elementName(type)->str(); // verified with the type
}

std::string ObjectType::cppName() {
  std::string text = getName().str();
  if (getArguments().empty())
    return text;
  llvm::ListSeparator comma;
  llvm::raw_string_ostream stream(text);
  stream << "<";
  for (Attribute argument : getArguments())
    stream << comma << cppArgument(argument);
  stream << ">";
  return text;
}

LogicalResult winnow::tile::verifyEffects(Operation *leaf) {
  auto effects = dyn_cast<MemoryEffectOpInterface>(leaf);
  if (leaf->getNumResults() == 0 && effects && effects.onlyHasEffect<MemoryEffects::Read>())
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
