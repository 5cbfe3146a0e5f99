// The tile dialect's types, attributes and structure ops. Leaf ops need no code here: they are
// declared in TileLeaves.td and printed by one rule of the emitter.
#include "dialect/Tile.h"

using namespace mlir;
using namespace winnow::tile;

#include "dialect/TileDialect.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "dialect/TileAttrs.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "dialect/TileTypes.cpp.inc"
#define GET_OP_CLASSES
#include "dialect/TileOps.cpp.inc"

void TileDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialect/TileAttrs.cpp.inc"
      >();
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialect/TileTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialect/TileOps.cpp.inc"
      >();
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
  if (type.isBF16())
    return "bf16";
  return type.isF16() ? "fp16" : type.isF32() ? "float" : "int";
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
