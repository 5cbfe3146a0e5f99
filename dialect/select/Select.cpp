// The select dialect: registration, and the text form of settings and methods. Verifiers are in
// SelectVerify.cpp.
#include "dialect/select/MethodText.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"

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
  SMLoc where = parser.getCurrentLocation();
  int64_t number;
  OptionalParseResult parsed = parser.parseOptionalInteger(number);
  if (!parsed.has_value())
    return parser.emitError(where, "a whole number, a keyword or @parameter is expected here");
  if (failed(*parsed))
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

#include "dialect/select/SelectDialect.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "dialect/select/SelectTypes.cpp.inc"
#define GET_OP_CLASSES
#include "dialect/select/SelectOps.cpp.inc"

void SelectDialect::initialize() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialect/select/SelectTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialect/select/SelectOps.cpp.inc"
      >();
}

//===-- Structure --------------------------------------------------------------------------===//

ParseResult ReturnOp::parse(OpAsmParser &parser, OperationState &result) {
  OpAsmParser::UnresolvedOperand output;
  if (parser.parseOperand(output))
    return failure();
  SMLoc where = parser.getCurrentLocation();
  if (succeeded(parser.parseOptionalComma()))
    return parser.emitError(where,
                            "a method returns one output, and its log-sum-exp comes with it");
  if (parser.resolveOperand(output, parser.getBuilder().getType<OutputType>(), result.operands))
    return failure();
  OpAsmParser::UnresolvedOperand gradients;
  if (succeeded(parser.parseOptionalKeyword("gradients")) &&
      (parser.parseOperand(gradients) ||
       parser.resolveOperand(gradients, parser.getBuilder().getType<GradientsType>(),
                             result.operands)))
    return failure();
  return parser.parseOptionalAttrDict(result.attributes);
}

void ReturnOp::print(OpAsmPrinter &printer) {
  printer << ' ' << getOutput();
  if (getGradients())
    printer << " gradients " << getGradients();
  printer.printOptionalAttrDict((*this)->getAttrs());
}

//===-- Methods ----------------------------------------------------------------------------===//

std::string winnow::select::specNames() { return llvm::join(llvm::ArrayRef(kSpecNames), ", "); }

/// A parameter's name, and where it is declared.
using Declared = std::pair<StringRef, SMLoc>;

/// name = 1, or name = "word"
static ParseResult parseParameter(OpAsmParser &parser, NamedAttrList &params,
                                  SmallVectorImpl<Declared> &declared) {
  Builder &b = parser.getBuilder();
  SMLoc where = parser.getCurrentLocation();
  StringRef name;
  if (parser.parseKeyword(&name) || parser.parseEqual())
    return failure();
  if (params.get(name))
    return parser.emitError(where, "parameter '") << name << "' is declared twice";
  if (llvm::is_contained(kSpecNames, name))
    return parser.emitError(where, "parameter '")
           << name << "' has the name of a number of the spec (" << specNames()
           << ") and would hide it: choose another name";
  SMLoc place = parser.getCurrentLocation();
  int64_t number = 0;
  std::string word;
  StringRef bare; // true and false would be numbers
  OptionalParseResult parsed;
  if (failed(parser.parseOptionalKeyword(&bare)))
    parsed = parser.parseOptionalInteger(number);
  if (parsed.has_value() && failed(*parsed))
    return failure();
  if (!bare.empty() || (!parsed.has_value() && failed(parser.parseOptionalString(&word))))
    return parser.emitError(place, "the default of parameter '")
           << name
           << "' is neither a whole number nor a keyword in quotes; other numbers are written as "
              "constants into a 'rewrite' region";
  params.append(name, parsed.has_value() ? Attribute(b.getI64IntegerAttr(number))
                                         : Attribute(b.getStringAttr(word)));
  declared.emplace_back(name, where);
  return success();
}

/// Every parameter is one that a step refers to.
static ParseResult checkUse(OpAsmParser &parser, ArrayRef<Declared> declared, Region &body) {
  llvm::StringSet<> used;
  body.walk([&](Operation *op) {
    for (NamedAttribute attribute : op->getAttrs())
      if (auto reference = dyn_cast<FlatSymbolRefAttr>(attribute.getValue()))
        used.insert(reference.getValue());
  });
  for (auto [name, where] : declared)
    if (!used.contains(name))
      return parser.emitError(where, "no step refers to parameter '")
             << name << "': write @" << name << " where it is meant, or leave it out";
  return success();
}

// select.method @name doc "..." params(a = 1, b = "word") spec {...} (%q, %k, %v) { ... }
ParseResult MethodOp::parse(OpAsmParser &parser, OperationState &result) {
  Builder &b = parser.getBuilder();
  StringAttr name;
  std::string doc;
  if (parser.parseSymbolName(name, SymbolTable::getSymbolAttrName(), result.attributes))
    return failure();
  if (succeeded(parser.parseOptionalKeyword("doc")) && failed(parser.parseOptionalString(&doc)))
    return parser.emitError(parser.getCurrentLocation(),
                            "'doc' is followed by one line of text in quotes");
  NamedAttrList params;
  SmallVector<Declared> declared;
  auto parameter = [&] { return parseParameter(parser, params, declared); };
  if (succeeded(parser.parseOptionalKeyword("params")) &&
      parser.parseCommaSeparatedList(AsmParser::Delimiter::Paren, parameter))
    return failure();
  if (succeeded(parser.parseOptionalKeyword("spec"))) {
    DictionaryAttr spec;
    if (parser.parseAttribute(spec))
      return failure();
    result.addAttribute("spec", spec);
  }
  result.addAttribute("doc", b.getStringAttr(doc));
  result.addAttribute("params", params.getDictionary(b.getContext()));
  SMLoc where = parser.getCurrentLocation();
  SmallVector<OpAsmParser::Argument> inputs;
  if (parser.parseArgumentList(inputs, AsmParser::Delimiter::Paren))
    return failure();
  if (inputs.size() != 3) {
    auto error =
        parser.emitError(where, "a method takes three inputs (queries, keys, values), not ")
        << inputs.size();
    if (inputs.size() > 3) {
      error << ": further tensors, such as keys or queries of an indexer, are not served";
      markUnsupported(error);
    }
    return error;
  }
  inputs[0].type = b.getType<QueryType>();
  inputs[1].type = b.getType<KeyType>();
  inputs[2].type = b.getType<ValueType>();
  Region &body = *result.addRegion();
  if (parser.parseRegion(body, inputs))
    return failure();
  // A specialised method has numbers in place of references.
  return result.attributes.get("spec") ? success() : checkUse(parser, declared, body);
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
