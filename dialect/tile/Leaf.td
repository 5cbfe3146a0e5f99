// What a leaf op is, and the words that leaves are declared with (leaves/*.td): one op per device function of
// templates/, same name, same operand order, destination first.
#ifndef WINNOW_DIALECT_TILE_LEAF
#define WINNOW_DIALECT_TILE_LEAF

include "dialect/tile/Structure.td"
include "mlir/IR/Interfaces.td"

//===-- Effects ----------------------------------------------------------------------------------------------------===//

// Beside the bytes of objects, which are effects on operands, two things are read and written: the order of threads and
// copies (barriers, waits, arrivals, fences), and global memory. Nothing may move across a write of the order.
def Tile_Order : Resource<"::winnow::tile::OrderResource">;
def Tile_Global : Resource<"::winnow::tile::GlobalResource">;
def Orders : MemoryEffects<[MemRead<Tile_Order>, MemWrite<Tile_Order>]>;

// An object as the operand of a leaf, with what the leaf does to it.
class Tile_Operand<Type type, string effect_, list<OpVariableDecorator> effects> : Arg<type, effect_, effects> {
  string effect = effect_;
}
class Writes<Type type> : Tile_Operand<type, "written", [MemWrite]>;
class Reads<Type type> : Tile_Operand<type, "read", [MemRead]>;
class Updates<Type type> : Tile_Operand<type, "read and written", [MemRead, MemWrite]>;
// Global memory behind a pointer or a view; what a kernel only ever reads is Takes.
class Stores<Type type> : Tile_Operand<type, "where global memory is written", [MemWrite<Tile_Global>]>;
class Loads<Type type>
    : Tile_Operand<type, "where global memory is read that the kernel writes", [MemRead<Tile_Global>]>;
// A value object: computed once, never written again (a token tile, a hook, the kernel's params); or the mere address
// of a place. That no register object is taken so is verified.
class Takes<Type type> : Tile_Operand<type, "taken as it is", []>;

// Fills its first operand, a shared tile, by asynchronous copies.
def AsyncLoad : NativeOpTrait<"AsyncLoad"> { let cppNamespace = "::winnow::tile"; }
// Its result differs among the threads of a block even where its operands do not.
def Varies : NativeOpTrait<"Varies"> { let cppNamespace = "::winnow::tile"; }

//===-- Leaves -----------------------------------------------------------------------------------------------------===//

def Tile_LeafInterface : OpInterface<"Leaf"> {
  let cppNamespace = "::winnow::tile";
  let description = "Prints as a call to the device function of the same name.";
  let methods = [
    StaticInterfaceMethod<"Names of the template arguments that operands do not determine, in the function's order.",
                          "::llvm::ArrayRef<::llvm::StringLiteral>", "templateArguments">
  ];
  let verify = "return ::winnow::tile::verifyLeaf($_op);";
}

// A leaf of the device function in these headers of templates/ (arch/: one of each level): attributes become template
// arguments in the order of definition, operands arguments; a result becomes `const auto name = leaf(...)`.
class Tile_Leaf<string mnemonic, string header, list<Trait> traits = []>
    : Tile_Op<mnemonic, !listconcat([Tile_LeafInterface], traits)> {
  list<int> places = !range(!size(arguments));
  list<string> templates =
      !foreach(i, !filter(j, places, !initialized(!getdagarg<AttrConstraint>(arguments, j))), !getdagname(arguments, i));
  list<string> values = !foreach(i, !filter(j, places, !not(!initialized(!getdagarg<AttrConstraint>(arguments, j)))),
                                 !getdagname(arguments, i));
  list<string> effects =
      !foreach(i, !filter(j, places, !initialized(!getdagarg<Tile_Operand>(arguments, j))),
               "`" # !getdagname(arguments, i) # "` is " # !getdagarg<Tile_Operand>(arguments, i).effect);
  // The instruction or formula that it stands for, by a source outside templates/.
  string source = "";
  let description = "Prints as `" # mnemonic # !if(!empty(templates), "", "<" # !interleave(templates, ", ") # ">") #
                    "(" # !interleave(values, ", ") # ")`, of templates/" # header # "." #
                    !if(!empty(effects), "", " " # !interleave(effects, ", ") # ".") #
                    !if(!empty(source), "", " Source: " # source # ".");
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let extraClassDeclaration = "static ::llvm::ArrayRef<::llvm::StringLiteral> templateArguments() { " #
                              !if(!empty(templates), "return {};",
                                  "static constexpr ::llvm::StringLiteral names[] = {\"" #
                                  !interleave(templates, "\", \"") # "\"}; return names;") # " }";
}

#endif
