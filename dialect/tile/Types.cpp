// Types of device objects (Types.td): how they are written, which C++ types and template arguments
// there are, what their members are, and how the printed text spells them.
#include "dialect/tile/Tile.h"

using namespace mlir;
using namespace winnow::tile;

std::optional<StringRef> winnow::tile::elementName(Type type) {
  if (type.isBF16())
    return "bf16";
  if (type.isF16())
    return "fp16";
  if (isa<Float8E4M3FNType>(type))
    return "e4m3";
  if (type.isF32())
    return "float";
  if (type.isInteger(32))
    return "int";
  return std::nullopt;
}

//===-- Template arguments -------------------------------------------------------------------===//

static bool isConstantName(StringRef text) {
  return text.size() > 1 && text[0] == 'k' && llvm::isUpper(text[1]) &&
         llvm::all_of(text, [](char c) { return llvm::isAlnum(c); });
}

Attribute winnow::tile::templateArgument(MLIRContext *context, StringRef text) {
  Builder builder(context);
  int number;
  if (!text.getAsInteger(10, number))
    return builder.getI32IntegerAttr(number);
  if (text == "true" || text == "false")
    return builder.getBoolAttr(text == "true");
  for (Type type : {Type(builder.getBF16Type()), Type(builder.getF16Type()),
                    Type(builder.getType<Float8E4M3FNType>()), Type(builder.getF32Type()),
                    Type(builder.getI32Type())})
    if (text == *elementName(type))
      return TypeAttr::get(type);
  StringRef constant = text;
  if (constant.consume_front("@") || isConstantName(text))
    return FlatSymbolRefAttr::get(context, constant);
  return builder.getStringAttr(text);
}

bool winnow::tile::isTemplateArgument(Attribute argument) {
  if (auto type = dyn_cast<TypeAttr>(argument))
    return isa<ObjectType>(type.getValue()) || elementName(type.getValue());
  if (auto number = dyn_cast<IntegerAttr>(argument))
    return number.getType().isInteger(32) || isa<BoolAttr>(argument);
  if (auto text = dyn_cast<StringAttr>(argument))
    return !text.empty() && templateArgument(text.getContext(), text) == text;
  return isa<FlatSymbolRefAttr>(argument);
}

std::string winnow::tile::cppSpelling(Attribute argument) {
  if (auto flag = dyn_cast<BoolAttr>(argument))
    return flag.getValue() ? "true" : "false";
  if (auto number = dyn_cast<IntegerAttr>(argument))
    return std::to_string(number.getInt());
  if (auto constant = dyn_cast<FlatSymbolRefAttr>(argument))
    return constant.getValue().str();
  if (auto text = dyn_cast<StringAttr>(argument))
    return text.str();
  Type type = cast<TypeAttr>(argument).getValue();
  if (auto object = dyn_cast<ObjectType>(type))
    return object.cppName();
  return elementName(type)->str(); // verified
}

//===-- Device objects -----------------------------------------------------------------------===//

// !tile.fragment<Accumulator<16, @kKeys>>: a number needs no type here.
static ParseResult parseDeviceObject(AsmParser &parser, std::string &name, ArrayAttr &arguments) {
  StringRef keyword;
  if (parser.parseKeyword(&keyword))
    return failure();
  name = keyword.str();
  SmallVector<Attribute> list;
  auto parseArgument = [&]() -> ParseResult {
    int number;
    OptionalParseResult found = parser.parseOptionalInteger(number);
    if (!found.has_value())
      return parser.parseAttribute(list.emplace_back());
    list.push_back(parser.getBuilder().getI32IntegerAttr(number));
    return *found;
  };
  if (succeeded(parser.parseOptionalLess()) &&
      (parser.parseCommaSeparatedList(parseArgument) || parser.parseGreater()))
    return failure();
  arguments = parser.getBuilder().getArrayAttr(list);
  return success();
}

static void printDeviceObject(AsmPrinter &printer, StringRef name, ArrayAttr arguments) {
  printer << name;
  if (arguments.empty())
    return;
  printer << "<";
  llvm::interleaveComma(arguments, printer, [&](Attribute argument) {
    if (auto number = dyn_cast<IntegerAttr>(argument); number && !isa<BoolAttr>(argument))
      printer << number.getInt();
    else
      printer << argument;
  });
  printer << ">";
}

/// Whether `name` is one of the words of `list`, which has a space on each side of every word.
static bool isListed(StringRef list, StringRef name) {
  return list.contains((" " + name + " ").str());
}

static LogicalResult verifyObject(function_ref<InFlightDiagnostic()> error, StringRef keyword,
                                  StringRef devices, StringRef name, ArrayAttr arguments) {
  if (!isListed(devices, name))
    return error() << "there is no " << keyword << " '" << name << "'; there is" << devices.rtrim();
  for (Attribute argument : arguments)
    if (!isTemplateArgument(argument))
      return error() << "an argument of '" << name << "' is " << argument
                     << ": it may be a number, true or false, a constant of the kernel, bf16, f16, "
                        "f8E4M3FN, f32, i32, an object, or the text of another expression";
  return success();
}

#include "dialect/tile/TileTypeInterfaces.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "dialect/tile/TileTypes.cpp.inc"

void TileDialect::registerTypes() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialect/tile/TileTypes.cpp.inc"
      >();
}

template <typename... Classes>
static ObjectType objectOf(MLIRContext *context, StringRef name, ArrayAttr arguments) {
  ObjectType object;
  ((isListed(Classes::devices(), name)
        ? void(object = cast<ObjectType>(Type(Classes::get(context, name, arguments))))
        : void()),
   ...);
  return object;
}

ObjectType ObjectType::get(MLIRContext *context, StringRef name, ArrayAttr arguments) {
  return objectOf<
#define GET_TYPEDEF_LIST
#include "dialect/tile/TileTypes.cpp.inc"
      >(context, name, arguments);
}

bool winnow::tile::isDevice(Type type, StringRef name) {
  auto object = dyn_cast<ObjectType>(type);
  return object && object.getName() == name;
}

std::string ObjectType::cppName() {
  std::string text = getName().str();
  llvm::raw_string_ostream stream(text);
  llvm::ListSeparator comma;
  if (getArguments().empty())
    return text;
  stream << "<";
  for (Attribute argument : getArguments())
    stream << comma << cppSpelling(argument);
  stream << ">";
  return text;
}

namespace {
/// Members of one type of a device object.
struct Members {
  StringRef object, type, names;
};
} // namespace

static constexpr Members kMembers[] = {
    {"Params", "Pointer",
     " q k v out lse ids cu_q cu_k buffer q_stride out_stride k_stride v_stride k_scale v_scale "
     "dout "
     "dq dk dv "},
    {"Params", "TensorMap", " map "},
    {"Params", "i32",
     " batch total_q total_k max_q max_k token_begin token_end score_stride parts selects "
     "box_rows dense_length step "},
    {"TokenTile", "i32", " sequence tokens first row position q_length k_row k_length "},
    {"QueryRows", "i32", " first_position "},
    {"KeyBlock", "i32", " sequence first keys row k_row q_row q_length history k_length "},
    {"TokenList", "i32", " count "},
    {"KeyItem", "i32", " kv_head row q_row "},
    {"ItemTile", "KeyBlock", " block "},
    {"ItemTile", "i32", " kv_head range place "},
    {"ItemTile", "i1", " works continues closes "},
    {"RowTokens", "i32", " kind "},
    {"RowTokens", "i1", " run "},
    {"WorkHeader", "TokenTile", " tile "},
    {"WorkHeader", "i32", " select_head shared length "},
    {"WorkHeader", "i1", " opens closes "},
    {"StepItem", "TokenTile", " tile "},
    {"StepItem", "i32",
     " token select_head selection begin end all rows visible normalizer_visible scored_end "
     "tiles "},
    {"Cursor", "i32", " stage phase "},
    {"ThresholdSearch", "i32", " threshold wanted "},
};

Type ObjectType::member(StringRef path) {
  auto [first, rest] = path.split('.');
  const StringRef name = first.split('[').first; // of an array any element
  for (const Members &members : kMembers) {
    if (members.object != getName() || !isListed(members.names, name))
      continue;
    MLIRContext *context = getContext();
    if (auto object = get(context, members.type, ArrayAttr::get(context, {})))
      return rest.empty() ? Type(object) : object.member(rest);
    return rest.empty() ? IntegerType::get(context, members.type == "i1" ? 1 : 32) : Type();
  }
  return {};
}
