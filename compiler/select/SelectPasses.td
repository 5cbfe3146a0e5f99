// The passes over select.method: specialise to numbers, then decide which steps share a kernel.
#ifndef WINNOW_COMPILER_SELECT_PASSES
#define WINNOW_COMPILER_SELECT_PASSES
include "mlir/Pass/PassBase.td"

def Specialize : Pass<"winnow-specialize", "::mlir::ModuleOp"> {
  let summary = "Replace parameters by numbers, resolve modes";
  let description = [{
    References become the numbers of the spec and of the method's parameters (defaults, or what
    `set` says); the log-sum-exp's mode picks the rows it sums over; steps that nothing needs any
    more are dropped.
  }];
  let options = [
    Option<"heads", "heads", "int", "32", "query heads">,
    Option<"kvHeads", "kv-heads", "int", "2", "key/value heads">,
    Option<"headDim", "head-dim", "int", "128", "elements of a query or key row">,
    Option<"valueDim", "value-dim", "int", "0", "elements of a value or output row; 0 means head_dim">,
    Option<"block", "block", "int", "64", "keys of a block">,
    Option<"topk", "topk", "int", "96", "selected blocks per token">,
    Option<"scale", "scale", "double", "0", "softmax scale; 0 means head_dim^-0.5">,
    Option<"dtype", "dtype", "std::string", "\"bf16\"", "bf16 or fp16">,
    ListOption<"set", "set", "std::string", "name=value of a parameter of the method">];
}

def DeriveBackward : Pass<"winnow-derive-backward", "::mlir::ModuleOp"> {
  let summary = "Add the step that makes the gradients of a method's attention";
  let description = [{
    Of a specialised method: `select.attend_backward` of what `select.attend` takes and gives, with
    the derivative of its region, op by op as the table of region ops says. A region with an op that
    has no derivative is refused by the op's name and place.
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::math::MathDialect"];
}

def FuseKernels : Pass<"winnow-fuse-kernels", "::mlir::ModuleOp"> {
  let summary = "Group the steps of a method into kernels";
  let description = [{
    summarize: all summaries. score: from the log-sum-exp to pooling, so that scores per head and
    row never leave registers. top_k: forced blocks and selection. attend: attention. backward: its
    gradients.
  }];
}
#endif
