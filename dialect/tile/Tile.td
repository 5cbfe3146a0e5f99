// The tile dialect: what one block of threads does with tiles, in the grain of a hand-written kernel's building
// blocks. It serves the step "how": the tile-kernels pass makes it from the select dialect as one thread of control,
// the barrier, pipelining and shared-memory passes refine it, and the emitter prints it.
//
// Objects (fragments in registers, tiles in shared memory) are named places: an op writes its first operand, as the
// device function of the same name does, and declares what it reads and writes as memory effects, which is what the
// barrier and pipelining passes go by. Scalars are ordinary SSA values computed by arith; control flow is scf.
//
// This file holds the types, the structure ops and the classes of leaf ops; TileLeaves.td holds one entry per leaf.
#ifndef WINNOW_DIALECT_TILE
#define WINNOW_DIALECT_TILE

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/Interfaces.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Tile_Dialect : Dialect {
  let name = "tile";
  let cppNamespace = "::winnow::tile";
  let summary = "Kernels as building blocks of one block of threads";
  let description = [{
    Attributes of the dialect on scf ops, each verified where it stands:

    * `tile.uniform` on scf.if: all threads of the block take the same branch, so that barriers may stand inside.
    * `tile.pipeline` on scf.for: "specialize_warps" (with `tile.stages` and `tile.producer_warps`) or "rotate" (where
      the loop runs at least once, with `tile.at_least_once`): what the passes are to make of the loop.
    * `tile.unroll` on scf.for: unrolled as a whole, or by the number given.
  }];
  let useDefaultAttributePrinterParser = 1;
  let useDefaultTypePrinterParser = 1;
  let hasOperationAttrVerify = 1;
}

//===-- Types and attributes ---------------------------------------------------------------------------------------===//

def Tile_ObjectType : TypeDef<Tile_Dialect, "Object"> {
  let mnemonic = "object";
  let summary = "A device object: a fragment in registers or a tile in shared memory";
  let description = [{
    Names a class of templates/ and its template arguments, e.g. `!tile.object<"Accumulator", [16, @kKeys]>`. An
    argument is an integer, a reference to a constant of the kernel, an element type or another object type.
  }];
  let parameters = (ins StringRefParameter<"device class">:$name, "::mlir::ArrayAttr":$arguments);
  let assemblyFormat = "`<` $name `,` $arguments `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// The C++ spelling, e.g. "Accumulator<16, kKeys>".
    std::string cppName();
  }];
}

def Tile_ConstantAttr : AttrDef<Tile_Dialect, "Constant"> {
  let mnemonic = "named";
  let summary = "A named compile-time constant of a kernel, with a word of explanation";
  let parameters = (ins StringRefParameter<"name">:$name, "::mlir::Attribute":$value,
                        StringRefParameter<"comment">:$comment);
  let assemblyFormat = "`<` $name `=` $value `,` $comment `>`";
}

def Tile_Scalar : AnyTypeOf<[I1, I32, I64, F32], "a scalar">;
def Tile_Object : Type<CPred<"::mlir::isa<::winnow::tile::ObjectType>($_self)">, "a device object",
                       "::winnow::tile::ObjectType">;
def Tile_Any : AnyTypeOf<[I1, I32, I64, F32, Tile_Object]>;

//===-- Effects ----------------------------------------------------------------------------------------------------===//

// Beside the bytes of objects, which are effects on operands, two things are read and written: the order of threads and
// copies (barriers, waits, arrivals, fences), and global memory. Nothing may move across a write of the order.
def Tile_Order : Resource<"::winnow::tile::OrderResource">;
def Tile_Global : Resource<"::winnow::tile::GlobalResource">;
def Orders : MemoryEffects<[MemRead<Tile_Order>, MemWrite<Tile_Order>]>;

// Costs nothing, so that it is printed where its result is used, as long as nothing it reads has changed by then.
def Inline : NativeOpTrait<"Inline"> { let cppNamespace = "::winnow::tile"; }

//===-- Structure --------------------------------------------------------------------------------------------------===//

class Tile_Op<string mnemonic, list<Trait> traits = []> : Op<Tile_Dialect, mnemonic, traits>;

def Tile_KernelOp : Tile_Op<"kernel", [IsolatedFromAbove, Symbol, SingleBlock, NoTerminator]> {
  let summary = "One GPU kernel: the program of one block of threads";
  let description = [{
    The only block argument is the kernel's argument, `params` (templates/Params.h). `constants` are printed first, in
    order. `shared_bytes` is set by the plan-shared-memory pass.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, StrAttr:$title, I32Attr:$threads, I32Attr:$min_blocks,
                       ArrayAttr:$constants, OptionalAttr<I32Attr>:$shared_bytes);
  let regions = (region SizedRegion<1>:$body);
  let extraClassDeclaration = [{
    /// The integer value of a named constant; asserts that it exists.
    int64_t constantValue(::llvm::StringRef name);
  }];
  let hasCustomAssemblyFormat = 1;
}

def Tile_RegisterOp : Tile_Op<"register"> {
  let summary = "Declares an object in registers";
  let results = (outs Tile_Object:$object);
  let assemblyFormat = "attr-dict `:` type($object)";
}

def Tile_SharedOp : Tile_Op<"shared"> {
  let summary = "Declares an object in shared memory of `bytes` bytes";
  let description = [{
    `offset` is set by the plan-shared-memory pass. Every thread of the block sees the same object. `pinned` keeps the
    object's bytes its own for the whole kernel (barriers, whose state outlives every visible use).
  }];
  let arguments = (ins I32Attr:$bytes, OptionalAttr<I32Attr>:$offset, UnitAttr:$pinned);
  let results = (outs Tile_Object:$object);
  let assemblyFormat = "`bytes` $bytes (`offset` $offset^)? (`pinned` $pinned^)? attr-dict `:` type($object)";
}

def Tile_ConstantOp : Tile_Op<"constant", [Pure]> {
  let summary = "The value of a named constant of the kernel";
  let arguments = (ins FlatSymbolRefAttr:$name);
  let results = (outs Tile_Scalar:$value);
  let assemblyFormat = "$name attr-dict `:` type($value)";
}

def Tile_BlockIndexOp : Tile_Op<"block_index", [Pure]> {
  let summary = "blockIdx of one dimension, x or y";
  let arguments = (ins StrAttr:$dimension);
  let results = (outs I32:$index);
  let assemblyFormat = "$dimension attr-dict `:` type($index)";
}

def Tile_GridDimensionOp : Tile_Op<"grid_dimension", [Pure]> {
  let summary = "gridDim of one dimension, x or y";
  let arguments = (ins StrAttr:$dimension);
  let results = (outs I32:$extent);
  let assemblyFormat = "$dimension attr-dict `:` type($extent)";
}

def Tile_FieldOp : Tile_Op<"field", [Inline, AlwaysSpeculatable, DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  let summary = "A public member of a device object, e.g. the number of tokens of a token tile";
  let description = [{
    A read where the object is a place (tile.register, tile.shared), whose members change; of a value it has no effect.
  }];
  let arguments = (ins Tile_Object:$object, StrAttr:$name);
  let results = (outs Tile_Any:$value);
  let assemblyFormat = "$object $name attr-dict `:` type($object) `->` type($value)";
}

def Tile_HookOp : Tile_Op<"hook", [IsolatedFromAbove, SingleBlock]> {
  let summary = "An elementwise function of the method, from a region of the select dialect";
  let description = [{
    Printed as a lambda; leaves that take a hook inline it. Block arguments are (value f32, query position i32, key
    position or row i32); ends with tile.yield of the new value.
  }];
  let regions = (region SizedRegion<1>:$body);
  let results = (outs Tile_Object:$function);
  let assemblyFormat = "attr-dict `:` type($function) $body";
}

def Tile_YieldOp : Tile_Op<"yield", [Pure, Terminator, ParentOneOf<["HookOp"]>]> {
  let summary = "Ends a hook with its value";
  let arguments = (ins Tile_Scalar:$value);
  let assemblyFormat = "$value attr-dict `:` type($value)";
}

def Tile_ReturnOp : Tile_Op<"return_if"> {
  let summary = "Leaves the kernel when the condition holds; uniform over the block of threads";
  let arguments = (ins I1:$condition);
  let assemblyFormat = "$condition attr-dict";
}

//===-- Leaf ops ---------------------------------------------------------------------------------------------------===//

def Tile_LeafInterface : OpInterface<"Leaf"> {
  let cppNamespace = "::winnow::tile";
  let description = "Prints as a call to the device function of the same name.";
  let methods = [
    StaticInterfaceMethod<"Names of the template arguments that operands do not determine, in the function's order.",
                          "::llvm::ArrayRef<::llvm::StringLiteral>", "templateArguments">
  ];
  let verify = "return ::winnow::tile::verifyEffects($_op);";
}
// Fills its first operand, a shared tile, by asynchronous copies.
def AsyncLoad : NativeOpTrait<"AsyncLoad"> { let cppNamespace = "::winnow::tile"; }

// An op that prints as a call to the device function of the same name: attributes become template arguments in the
// order of definition, operands arguments, destination first; a result becomes `const auto name = leaf(...)`.
class Tile_Leaf<string mnemonic, list<Trait> traits = []>
    : Tile_Op<mnemonic, !listconcat([Tile_LeafInterface], traits)> {
  // MLIR sorts attributes by name; a call has them as they are declared.
  list<string> templates =
      !foreach(i, !filter(j, !range(!size(arguments)), !initialized(!getdagarg<AttrConstraint>(arguments, j))),
               !getdagname(arguments, i));
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let extraClassDeclaration = "static ::llvm::ArrayRef<::llvm::StringLiteral> templateArguments() { " #
                              !if(!empty(templates), "return {};",
                                  "static constexpr ::llvm::StringLiteral names[] = {\"" #
                                      !interleave(templates, "\", \"") # "\"}; return names;") # " }";
}

class Writes<string description = ""> : Arg<Tile_Object, description, [MemWrite]>;
class Reads<string description = ""> : Arg<Tile_Object, description, [MemRead]>;
class Updates<string description = ""> : Arg<Tile_Object, description, [MemRead, MemWrite]>;
// Global memory behind a pointer or a view; what a kernel only ever reads is Takes.
class Stores<string description = ""> : Arg<Tile_Object, description, [MemWrite<Tile_Global>]>;
class Loads<string description = ""> : Arg<Tile_Object, description, [MemRead<Tile_Global>]>;
// A value object: computed once, never written again (a token tile, a hook, the kernel's params); or the mere address
// of a place. That no register object is taken so is verified.
class Takes<string description = ""> : Arg<Tile_Object, description>;


#endif
