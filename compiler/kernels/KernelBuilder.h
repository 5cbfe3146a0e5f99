// Shorthand to write tile IR from C++ so that a builder reads like the kernel it builds: named
// values, leaf calls destination first, structured loops with lambdas for bodies.
#pragma once
#include "dialect/tile/Tile.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace winnow {

/// A template argument: a number, a constant of the kernel ("@kName"), C++ text, or a type.
struct TemplateArgument {
  TemplateArgument(int number) : number(number) {}
  TemplateArgument(const char *text) : text(text) {}
  TemplateArgument(mlir::Type type) : type(type) {}
  int number = 0;
  llvm::StringRef text;
  mlir::Type type;
  mlir::Attribute attribute(mlir::Builder &builder) const;
};

/// Constant positive factors that were taken out of a hook: hook(x) = out * inner(in * x).
struct HookScales {
  double in = 1, out = 1;
};

/// How winnow-specialize-warps splits a loop: the attributes of the tile dialect of these names.
struct WarpRoles {
  int stages, producers;
  bool producersTakeTurns = true, lookAhead = false, consumersTakeTurns = false;
};

class KernelBuilder {
public:
  using Body = llvm::function_ref<void()>;
  /// Opens a kernel at the end of `module`; statements go into its body.
  KernelBuilder(mlir::ModuleOp module, llvm::StringRef name, const std::string &title, int threads,
                int minBlocks);
  /// Writes the constants into the kernel; call last.
  tile::KernelOp finish();

  // Named constants, printed first in the order of definition.
  void constant(llvm::StringRef name, int value, llvm::StringRef comment = "");
  void constant(llvm::StringRef name, double value, llvm::StringRef comment = "");

  // Objects.
  tile::ObjectType type(llvm::StringRef name, llvm::ArrayRef<TemplateArgument> arguments = {});
  mlir::Value fragment(llvm::StringRef name, tile::ObjectType type);
  /// `pinned`: the bytes are the object's own for the whole kernel; needed where roles run side by
  /// side, whose lifetimes the program order does not show.
  mlir::Value shared(llvm::StringRef name, tile::ObjectType type, int bytes, bool pinned = false);
  /// The object's bytes stay its own up to here, whatever pointers into it are read through.
  void keep(mlir::Value object) { tile::KeepOp::create(builder, loc(""), object); }
  mlir::Value params() { return kernel.getBody().getArgument(0); }
  /// A pointer member of params; `index` for the workspace buffers.
  mlir::Value pointer(llvm::StringRef member) { return field(params(), member); }
  /// What says how many keys each sequence has, and a tensor of query or output heads: the host's
  /// array, or where a plan is `paged` the object that knows lengths and strides.
  mlir::Value keyLengths(bool paged) {
    return paged ? value("", "key_lengths", {params()}) : pointer("cu_k");
  }
  mlir::Value heads(llvm::StringRef tensor, bool paged) {
    return paged
               ? value("", "strided_heads", {pointer(tensor), pointer((tensor + "_stride").str())})
               : pointer(tensor);
  }
  /// Params::buffer[index], as a member's text.
  static std::string bufferMember(int index) { return "buffer[" + std::to_string(index) + "]"; }
  /// The device type of a reduction.
  static const char *reduction(bool isMaximum) { return isMaximum ? "Max" : "Sum"; }
  mlir::Value field(mlir::Value object, llvm::StringRef member);

  /// Calls a leaf: operands destination first, template arguments in the leaf's order.
  void leaf(llvm::StringRef name, mlir::ValueRange operands,
            llvm::ArrayRef<TemplateArgument> arguments = {});
  /// The same for a leaf with a result, which is named `hint` in the printed text ("" = may be
  /// folded).
  mlir::Value value(llvm::StringRef hint, llvm::StringRef name, mlir::ValueRange operands = {},
                    llvm::ArrayRef<TemplateArgument> arguments = {});
  /// A copy of a method's region as a hook.
  mlir::Value hook(llvm::StringRef name, mlir::Region &region);
  /// The same without its constant factors on the value and on the result, which the caller works
  /// into scales that it multiplies by anyway.
  mlir::Value hook(llvm::StringRef name, mlir::Region &region, HookScales &scales);

  /// The hook that leaves values as they are.
  mlir::Value identityHook(llvm::StringRef name);

  // Scalars: i32 unless said.
  mlir::Value number(int value);
  mlir::Value flag(bool value);
  mlir::Value real(double value);
  mlir::Value named(llvm::StringRef constantName);
  mlir::Value namedReal(llvm::StringRef constantName);
  mlir::Value blockIndex(char dimension, llvm::StringRef hint = "");
  mlir::Value gridDimension(char dimension);
  template <typename Op>
  mlir::Value compute(mlir::Value a, mlir::Value b, llvm::StringRef hint = "") {
    return Op::create(builder, loc(hint), a, b);
  }
  mlir::Value add(mlir::Value a, mlir::Value b, llvm::StringRef hint = "") {
    return compute<mlir::arith::AddIOp>(a, b, hint);
  }
  mlir::Value sub(mlir::Value a, mlir::Value b, llvm::StringRef hint = "") {
    return compute<mlir::arith::SubIOp>(a, b, hint);
  }
  mlir::Value mul(mlir::Value a, mlir::Value b, llvm::StringRef hint = "") {
    return compute<mlir::arith::MulIOp>(a, b, hint);
  }
  mlir::Value div(mlir::Value a, mlir::Value b, llvm::StringRef hint = "") {
    return compute<mlir::arith::DivSIOp>(a, b, hint);
  }
  mlir::Value rem(mlir::Value a, mlir::Value b, llvm::StringRef hint = "") {
    return compute<mlir::arith::RemSIOp>(a, b, hint);
  }
  mlir::Value min(mlir::Value a, mlir::Value b, llvm::StringRef hint = "") {
    return compute<mlir::arith::MinSIOp>(a, b, hint);
  }
  mlir::Value max(mlir::Value a, mlir::Value b, llvm::StringRef hint = "") {
    return compute<mlir::arith::MaxSIOp>(a, b, hint);
  }
  mlir::Value either(mlir::Value a, mlir::Value b) { return compute<mlir::arith::OrIOp>(a, b); }
  mlir::Value select(mlir::Value condition, mlir::Value a, mlir::Value b,
                     llvm::StringRef hint = "");
  mlir::Value less(mlir::Value a, mlir::Value b, llvm::StringRef hint = "") {
    return compare(mlir::arith::CmpIPredicate::slt, a, b, hint);
  }
  mlir::Value equal(mlir::Value a, mlir::Value b) {
    return compare(mlir::arith::CmpIPredicate::eq, a, b);
  }
  mlir::Value differ(mlir::Value a, mlir::Value b) {
    return compare(mlir::arith::CmpIPredicate::ne, a, b);
  }
  mlir::Value greater(mlir::Value a, mlir::Value b, llvm::StringRef hint = "") {
    return compare(mlir::arith::CmpIPredicate::sgt, a, b, hint);
  }
  mlir::Value atLeast(mlir::Value a, mlir::Value b, llvm::StringRef hint = "") {
    return compare(mlir::arith::CmpIPredicate::sge, a, b, hint);
  }

  // Structure.
  void returnIf(mlir::Value condition);
  mlir::scf::ForOp loop(llvm::StringRef name, mlir::Value lower, mlir::Value upper,
                        mlir::Value step, llvm::function_ref<void(mlir::Value)> body);
  /// The loop, split into warps that load and warps that compute.
  void specializeWarps(mlir::scf::ForOp loop, const WarpRoles &roles);
  mlir::scf::ForOp unrolled(llvm::StringRef name, mlir::Value upper,
                            llvm::function_ref<void(mlir::Value)> body);
  void when(mlir::Value condition, Body then, Body otherwise = nullptr);
  /// The same with a scalar result, of type i1 where no other is named.
  mlir::Value choose(llvm::StringRef hint, mlir::Value condition,
                     llvm::function_ref<mlir::Value()> then,
                     llvm::function_ref<mlir::Value()> otherwise, mlir::Type type = {});
  /// while (condition) body, with carried values. `condition` computes from them whether the loop
  /// goes on, and what it passes to `body`, which returns the next carried values. The results are
  /// what was passed last; those that are carried values can be used.
  mlir::ValueRange whileLoop(
      llvm::ArrayRef<llvm::StringRef> names, mlir::ValueRange inits,
      llvm::function_ref<mlir::Value(mlir::ValueRange, llvm::SmallVector<mlir::Value> &)> condition,
      llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::ValueRange)> body);

  mlir::OpBuilder builder;
  tile::KernelOp kernel;

private:
  mlir::Location loc(llvm::StringRef hint);
  mlir::Value compare(mlir::arith::CmpIPredicate predicate, mlir::Value a, mlir::Value b,
                      llvm::StringRef hint = "");
  mlir::Operation *call(llvm::StringRef hint, llvm::StringRef name, mlir::ValueRange operands,
                        llvm::ArrayRef<TemplateArgument> arguments);
  llvm::SmallVector<mlir::Attribute> constants;
};

} // namespace winnow
