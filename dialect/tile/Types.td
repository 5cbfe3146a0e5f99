// The tile dialect itself, its types and its attributes. A device object's type says two things: its class, which is
// what leaf ops ask for and verifiers check, and the C++ type that the printed text names. Serves the step "how"
// (Structure.td: the ops around leaves; leaves/: the leaves).
#ifndef WINNOW_DIALECT_TILE_TYPES
#define WINNOW_DIALECT_TILE_TYPES

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/OpBase.td"

def Tile_Dialect : Dialect {
  let name = "tile";
  let cppNamespace = "::winnow::tile";
  let summary = "Kernels as building blocks of one block of threads";
  let description = [{
    Attributes of the dialect on scf ops, each verified where it stands:

    * `tile.uniform` on scf.if: all threads of the block take the same branch, so that barriers may stand inside.
    * `tile.team` on scf.if, [the number of a barrier, threads]: whole warps take the branch, and meet at that barrier
      where all threads of a block would otherwise: what is `tile.uniform` inside is so among them.
    * `tile.pipeline` on scf.for: "specialize_warps" (with `tile.stages` and `tile.producer_warps`; with
      `tile.producers_take_turns` each of these warps loads whole tiles, one in turn, whose pages it looks up ahead with
      `tile.look_ahead`; with `tile.consumers_take_turns` each of the kernel's warps computes with whole tiles) or "rotate" (where the loop runs
      at least once, with `tile.at_least_once`): what the passes are to make of the loop.
    * `tile.of_producers` on an op of such a loop: producers do it, in front of their loads.
    * `tile.unroll` on scf.for: unrolled as a whole, or by the number given.
  }];
  let useDefaultAttributePrinterParser = 1;
  let useDefaultTypePrinterParser = 1;
  let hasOperationAttrVerify = 1;
  let extraClassDeclaration = "void registerTypes();";
}

//===-- Device objects, by class -----------------------------------------------------------------------------------===//

def Tile_ObjectInterface : TypeInterface<"ObjectType"> {
  let cppNamespace = "::winnow::tile";
  let description = "The type of a device object, whatever its class.";
  let methods = [
    InterfaceMethod<"The C++ type, without its template arguments.", "::llvm::StringRef", "getName">,
    InterfaceMethod<"Its template arguments.", "::mlir::ArrayAttr", "getArguments">
  ];
  let extraClassDeclaration = [{
    /// The type of a device object by its C++ name, which has one class; null where no class has that name.
    static ObjectType get(::mlir::MLIRContext *context, ::llvm::StringRef name, ::mlir::ArrayAttr arguments);
    /// The type of a member, e.g. "tokens", "buffer[2]" or "tile.row"; null where there is none.
    ::mlir::Type member(::llvm::StringRef path);
    /// The C++ spelling, e.g. "Accumulator<16, kKeys>".
    std::string cppName();
  }];
}

// A class of device objects and the C++ types of templates/ that belong to it: the one table of them. What is not in it
// has no type in this dialect.
class Tile_Class<string cppClass, string keyword, string what, list<string> deviceNames>
    : TypeDef<Tile_Dialect, cppClass, [Tile_ObjectInterface]> {
  let mnemonic = keyword;
  let summary = what;
  let description = "Written `!tile." # keyword # "<NAME<ARGUMENTS>>`; NAME is one of " #
                    !interleave(deviceNames, ", ") # ". An argument is a number, a constant of the kernel, an element " #
                    "type, another object or an expression.";
  let parameters = (ins StringRefParameter<"C++ type">:$name, "::mlir::ArrayAttr":$arguments);
  let assemblyFormat = "`<` custom<DeviceObject>($name, $arguments) `>`";
  let genVerifyDecl = 1;
  let extraClassDefinition = [{
    ::llvm::LogicalResult $cppClass::verify(::llvm::function_ref<::mlir::InFlightDiagnostic()> error,
                                            ::llvm::StringRef name, ::mlir::ArrayAttr arguments) {
      return verifyObject(error, getMnemonic(), devices(), name, arguments);
    }
  }];
  list<string> devices = deviceNames;
  let extraClassDeclaration =
      "static ::llvm::StringRef devices() { return \" " # !interleave(deviceNames, " ") # " \"; }";
}

def Tile_Fragment : Tile_Class<"Fragment", "fragment", "a fragment of a product, in the registers of a warp",
                               ["Accumulator", "LeftOperand", "RightOperand"]>;
def Tile_State : Tile_Class<"State", "state", "numbers that a thread keeps in registers",
                            ["SoftmaxState", "LogitScale", "StepSums", "StepKeys", "LogSumExp", "ChannelSums", "RowScores",
                             "TokenScores", "NormalizerSums", "RangeVote", "BlockRanks", "RankPairs", "BlockMarks",
                             "RowStatistics", "QueryColumns", "StageColumns", "TokenFeed", "SentBytes", "NewRow"]>;
def Tile_Cursor : Tile_Class<"Cursor", "cursor", "a place that is moved on: in a ring, among dealt tiles, in a search",
                             ["Cursor", "Deal", "ThresholdSearch"]>;
def Tile_SharedTile : Tile_Class<"SharedTile", "shared_tile", "a tile of rows in shared memory",
                                 ["SharedTile", "PanelTile", "ChangeTile"]>;
def Tile_Table : Tile_Class<"Table", "table", "what the threads of a block tell each other in shared memory",
                            ["NormalizerTable", "WantedBitmap", "WarpCounts", "RowMarks", "HeadQueries",
                             "HeadNormalizers", "TileSlot", "WarpValues", "TileScores", "TileWeights", "OpenSums",
                             "WarpShares", "ClusterShares", "RankRow", "WarpVotes", "TokenMarks", "KindCounts", "ChangeTable", "ProductHints", "StepTable",
                              "JoinedSums", "IdLists", "ChunkList", "Overlay"]>;
def Tile_Ring : Tile_Class<"Ring", "ring", "stages in shared memory, one behind the other", ["Ring", "WorkRing", "ItemRing", "RowHeaders"]>;
def Tile_Barriers : Tile_Class<"Barriers", "barriers", "full and empty barriers of a ring's stages, or those that count messages",
                               ["RingBarriers", "MessageBarriers"]>;
def Tile_List : Tile_Class<"List", "list", "a list of key tiles in shared memory", ["WantedList", "WorkList", "BlockList"]>;
def Tile_View : Tile_Class<"View", "view", "where something lies in global memory",
                           ["Pointer", "GlobalRows", "PagedRows", "StreamedRows", "OrderedRows", "StridedHeads",
                            "SummaryImages", "TensorMap", "TokenRows"]>;
def Tile_Value : Tile_Class<"Value", "value", "a plain value: computed once, never changed",
                            ["Params", "TokenTile", "KeyLengths", "QueryRows", "RowBox", "WorkHeader",
                             "KeyBlock", "TokenList", "PairLists", "KeyItem", "ItemTile", "RowTokens", "ChangePlaces",
                             "StepParts", "StepItem",
                             "Exchange", "Hook"]>;

// One of a class's C++ types, as the type of a leaf's operand or result: `Accumulator`, `SharedTile`, ...
class Tile_Device<Tile_Class kind, string device_>
    : Type<CPred<"::winnow::tile::isDevice($_self, \"" # device_ # "\")">, device_ # " (" # kind.mnemonic # ")",
           "::winnow::tile::" # kind.cppClassName> {
  string device = device_;
}
foreach kind = [Tile_Fragment, Tile_State, Tile_Cursor, Tile_SharedTile, Tile_Table, Tile_Ring, Tile_Barriers, Tile_List,
                 Tile_View, Tile_Value] in
  foreach device = kind.devices in
    def device : Tile_Device<kind, device>;

// The same as the type of a result, of a device type without template arguments: it needs not be told.
class Whole<Tile_Device type>
    : Type<type.predicate, type.summary, type.cppType>,
      BuildableType<"::winnow::tile::ObjectType::get($_builder.getContext(), \"" # type.device #
                    "\", $_builder.getArrayAttr({}))">;

def Tile_Scalar : AnyTypeOf<[I1, I32, I64, F32], "a scalar">;
def Tile_Object : Type<CPred<"::mlir::isa<::winnow::tile::ObjectType>($_self)">, "a device object",
                       "::winnow::tile::ObjectType">;
def Tile_Any : AnyTypeOf<[I1, I32, I64, F32, Tile_Object]>;
// Device types that some leaves take alike.
defvar Scores = AnyTypeOf<[RowScores, TokenScores]>;
defvar Ranks = AnyTypeOf<[BlockRanks, RankPairs]>;
defvar Summaries = AnyTypeOf<[GlobalRows, PagedRows, SummaryImages]>;
defvar AnyRows = AnyTypeOf<[GlobalRows, PagedRows, SummaryImages]>;
defvar KeyRows = AnyTypeOf<[GlobalRows, PagedRows]>;
defvar SummaryRows = AnyTypeOf<[GlobalRows, StreamedRows]>;
defvar LoadedRows = AnyTypeOf<[GlobalRows, PagedRows, StreamedRows, OrderedRows, TokenRows]>;
defvar Heads = AnyTypeOf<[Pointer, StridedHeads]>;
defvar Columns = AnyTypeOf<[QueryColumns, StageColumns]>;
defvar Lengths = AnyTypeOf<[Pointer, KeyLengths]>;
def Tile_InRegisters : Type<CPred<"::mlir::isa<::winnow::tile::FragmentType, ::winnow::tile::StateType, "
                                  "::winnow::tile::CursorType>($_self)">,
                            "an object in registers (fragment, state or cursor)", "::winnow::tile::ObjectType">;
def Tile_InShared
    : Type<CPred<"::mlir::isa<::winnow::tile::SharedTileType, ::winnow::tile::TableType, ::winnow::tile::RingType, "
                 "::winnow::tile::BarriersType, ::winnow::tile::ListType>($_self)">,
           "an object in shared memory (shared_tile, table, ring, barriers or list)", "::winnow::tile::ObjectType">;

//===-- Attributes -------------------------------------------------------------------------------------------------===//

// A template argument has one spelling: `@kName` for a constant of the kernel, never its name as text; a number never as
// text.
def Template : Attr<CPred<"::winnow::tile::isTemplateArgument($_self)">,
                    "a template argument (a number, true, false, @kName, an element type, an object, other C++ text)"> {
  let storageType = "::mlir::Attribute";
  let returnType = "::mlir::Attribute";
  let convertFromStorage = "$_self";
}

def Tile_ConstantAttr : AttrDef<Tile_Dialect, "Constant"> {
  let mnemonic = "named";
  let summary = "A named compile-time constant of a kernel, with a word of explanation";
  let parameters = (ins StringRefParameter<"name">:$name, "::mlir::Attribute":$value,
                        StringRefParameter<"comment">:$comment);
  let assemblyFormat = "`<` $name `=` $value `,` $comment `>`";
}

#endif
