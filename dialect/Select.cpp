// The select dialect: registration, and the text form of settings and methods. Verifiers are in
// SelectVerify.cpp.
#include "dialect/Select.h"

using namespace mlir;
using namespace winnow::select;

//===-- Settings: a number, a keyword or @name ---------------------------------------------===//

static ParseResult parseSetting(OpAsmParser &parser, Attribute &setting) {
  StringAttr name;
  if (succeeded(parser.parseOptionalSymbolName(name))) {
    setting = FlatSymbolRefAttr::get(name);
    return success();
  }
  StringRef word;
  if (succeeded(parser.parseOptionalKeyword(&word))) {
    setting = parser.getBuilder().getStringAttr(word);
    return success();
  }
  int64_t number;
  if (parser.parseInteger(number))
    return failure();
  setting = parser.getBuilder().getI64IntegerAttr(number);
  return success();
}

static void printSetting(OpAsmPrinter &printer, Operation *, Attribute setting) {
  if (auto reference = dyn_cast<FlatSymbolRefAttr>(setting))
    printer.printSymbolName(reference.getValue());
  else if (auto word = dyn_cast<StringAttr>(setting))
    printer << word.getValue();
  else
    printer << cast<IntegerAttr>(setting).getInt();
}

static ParseResult parseWord(OpAsmParser &parser, StringAttr &word) {
  StringRef text;
  if (parser.parseKeyword(&text))
    return failure();
  word = parser.getBuilder().getStringAttr(text);
  return success();
}

static void printWord(OpAsmPrinter &printer, Operation *, StringAttr word) {
  printer << word.getValue();
}

//===-- Registration -----------------------------------------------------------------------===//

#include "dialect/SelectDialect.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "dialect/SelectTypes.cpp.inc"
#define GET_OP_CLASSES
#include "dialect/SelectOps.cpp.inc"

void SelectDialect::initialize() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialect/SelectTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialect/SelectOps.cpp.inc"
      >();
}

//===-- Methods ----------------------------------------------------------------------------===//

// select.method @name doc "..." params(a = 1, b = "word") spec {...} (%q, %k, %v) { ... }
ParseResult MethodOp::parse(OpAsmParser &parser, OperationState &result) {
  Builder &b = parser.getBuilder();
  StringAttr name, doc = b.getStringAttr("");
  if (parser.parseSymbolName(name, SymbolTable::getSymbolAttrName(), result.attributes))
    return failure();
  if (succeeded(parser.parseOptionalKeyword("doc")) && parser.parseAttribute(doc))
    return failure();
  NamedAttrList params;
  auto parameter = [&]() -> ParseResult {
    StringRef key;
    Attribute value;
    SMLoc where = parser.getCurrentLocation();
    if (parser.parseKeyword(&key) || parser.parseEqual() || parser.parseAttribute(value))
      return failure();
    if (!isa<IntegerAttr, StringAttr>(value))
      return parser.emitError(where, "the default of parameter '")
             << key << "' is neither an integer nor a keyword in quotes";
    if (params.get(key))
      return parser.emitError(where, "parameter '") << key << "' is declared twice";
    params.append(key, value);
    return success();
  };
  if (succeeded(parser.parseOptionalKeyword("params")) &&
      parser.parseCommaSeparatedList(AsmParser::Delimiter::Paren, parameter))
    return failure();
  if (succeeded(parser.parseOptionalKeyword("spec"))) {
    DictionaryAttr spec;
    if (parser.parseAttribute(spec))
      return failure();
    result.addAttribute("spec", spec);
  }
  result.addAttribute("doc", doc);
  result.addAttribute("params", params.getDictionary(b.getContext()));
  SMLoc where = parser.getCurrentLocation();
  SmallVector<OpAsmParser::Argument> inputs;
  if (parser.parseArgumentList(inputs, AsmParser::Delimiter::Paren))
    return failure();
  if (inputs.size() != 3)
    return parser.emitError(where, "a method takes three inputs (queries, keys, values), not ")
           << inputs.size();
  inputs[0].type = b.getType<QueryType>();
  inputs[1].type = b.getType<KeyType>();
  inputs[2].type = b.getType<ValueType>();
  return parser.parseRegion(*result.addRegion(), inputs);
}

void MethodOp::print(OpAsmPrinter &printer) {
  printer << ' ';
  printer.printSymbolName(getSymName());
  if (!getDoc().empty())
    printer << " doc " << getDocAttr();
  llvm::interleaveComma(getParams(), printer << " params(", [&](NamedAttribute param) {
    printer << param.getName().getValue() << " = ";
    printer.printAttributeWithoutType(param.getValue());
  });
  printer << ')';
  if (getSpec())
    printer << " spec " << getSpecAttr();
  llvm::interleaveComma(getBody().getArguments(), printer << " (",
                        [&](BlockArgument input) { printer << input; });
  printer << ") ";
  printer.printRegion(getBody(), /*printEntryBlockArgs=*/false);
}
