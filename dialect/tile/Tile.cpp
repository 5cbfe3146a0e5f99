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
