// The ops around leaves: the kernel, declarations of objects, constants, members, hooks. Scalars are ordinary SSA values
// computed by arith; control flow is scf. Objects (fragments in registers, tiles in shared memory) are named places: an
// op writes its first operand, as the device function of the same name does, and declares what it reads and writes as
// memory effects, which is what the barrier and pipelining passes go by.
#ifndef WINNOW_DIALECT_TILE_STRUCTURE
#define WINNOW_DIALECT_TILE_STRUCTURE

include "dialect/tile/Types.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class Tile_Op<string mnemonic, list<Trait> traits = []> : Op<Tile_Dialect, mnemonic, traits>;

// Costs nothing, so that it is printed where its result is used, as long as nothing it reads has changed by then.
def Inline : NativeOpTrait<"Inline"> { let cppNamespace = "::winnow::tile"; }

def Tile_KernelOp : Tile_Op<"kernel", [IsolatedFromAbove, Symbol, SingleBlock, NoTerminator]> {
  let summary = "One GPU kernel: the program of one block of threads";
  let description = [{
    The only block argument is the kernel's argument, `params` (templates/Params.h). `constants` are printed first, in
    order. `shared_bytes` is set by the plan-shared-memory pass.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, StrAttr:$title, I32Attr:$threads, I32Attr:$min_blocks,
                       ArrayAttr:$constants, OptionalAttr<I32Attr>:$shared_bytes);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let hasRegionVerifier = 1;
}

def Tile_RegisterOp : Tile_Op<"register"> {
  let summary = "Declares an object in registers";
  let results = (outs Tile_InRegisters:$object);
  let assemblyFormat = "attr-dict `:` type($object)";
}

def Tile_SharedOp : Tile_Op<"shared"> {
  let summary = "Declares an object in shared memory of `bytes` bytes";
  let description = [{
    `offset` is set by the plan-shared-memory pass. Every thread of the block sees the same object. `pinned` keeps the
    object's bytes its own for the whole kernel (barriers, whose state outlives every visible use).
  }];
  let arguments = (ins I32Attr:$bytes, OptionalAttr<I32Attr>:$offset, UnitAttr:$pinned);
  let results = (outs Tile_InShared:$object);
  let assemblyFormat = "`bytes` $bytes (`offset` $offset^)? (`pinned` $pinned^)? attr-dict `:` type($object)";
}

def Tile_KeepOp : Tile_Op<"keep"> {
  let summary = "Keeps an object's bytes its own up to here, where it is read through pointers that no pass watches over";
  let arguments = (ins Arg<Tile_InShared, "read", [MemRead]>:$object);
  let assemblyFormat = "$object attr-dict `:` type($object)";
}

def Tile_ConstantOp : Tile_Op<"constant", [Pure]> {
  let summary = "The value of a named constant of the kernel";
  let arguments = (ins FlatSymbolRefAttr:$name);
  let results = (outs Tile_Scalar:$value);
  let assemblyFormat = "$name attr-dict `:` type($value)";
}

def Tile_BlockIndexOp : Tile_Op<"block_index", [Pure]> {
  let summary = "Index of the block of threads in one dimension, x or y (blockIdx)";
  let arguments = (ins StrAttr:$dimension);
  let results = (outs I32:$index);
  let assemblyFormat = "$dimension attr-dict `:` type($index)";
}

def Tile_GridDimensionOp : Tile_Op<"grid_dimension", [Pure]> {
  let summary = "Blocks of threads in one dimension, x or y (gridDim)";
  let arguments = (ins StrAttr:$dimension);
  let results = (outs I32:$extent);
  let assemblyFormat = "$dimension attr-dict `:` type($extent)";
}

def Tile_FieldOp : Tile_Op<"field", [Inline, AlwaysSpeculatable, InferTypeOpAdaptor,
                                     DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  let summary = "A public member of a device object, e.g. the number of tokens of a token tile";
  let description = [{
    A read where the object is a place (tile.register, tile.shared), whose members change; of a value it has no effect.
    Members and their types: ObjectType::member.
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
  let results = (outs Whole<Hook>:$function);
  let assemblyFormat = "attr-dict-with-keyword $body";
}

def Tile_YieldOp : Tile_Op<"yield", [Pure, Terminator, ParentOneOf<["HookOp"]>]> {
  let summary = "Ends a hook with its value";
  let arguments = (ins Tile_Scalar:$value);
  let assemblyFormat = "$value attr-dict `:` type($value)";
}

def Tile_ReturnOp : Tile_Op<"return_if"> {
  let summary = "Leaves the kernel where the condition holds, each thread for itself: behind it no barrier of all threads may stand "
                "unless all leave";
  let arguments = (ins I1:$condition);
  let assemblyFormat = "$condition attr-dict";
  let hasVerifier = 1;
}

#endif
