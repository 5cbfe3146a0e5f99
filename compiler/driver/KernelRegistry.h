// The registry of generated kernels: who builds a select.kernel, and what each builder declares to
// serve. The fuse pass decides what is launched; what is launched is built from its result: each
// select.kernel by the first row of its name whose declaration holds what the program needs.
//
// To add a kernel (decode, append, merge, a gradient):
//   1. FuseKernels.cpp: the step that a select.kernel of its name ends with;
//   2. compiler/select/plans: a plan of what its builder needs to know, read off its steps, and a
//      member of MethodPlans that holds it;
//   3. compiler/kernels/NAME: the builder, declared in compiler/kernels/Kernels.h;
//   4. KernelRegistry.cpp: a row with its name, what it serves, and the call of the builder.
// Another way to build a kernel that exists, for a feature of targets or of programs, is 3 and 4;
// the rows of one kernel stand in the order in which they are preferred.
#pragma once
#include "compiler/kernels/Kernels.h"
#include "compiler/select/Features.h"
#include "compiler/select/plans/MethodPlans.h"

namespace winnow {

/// What the kernels of one program are built from, and the image that they are built into.
struct KernelContext {
  mlir::ModuleOp module;
  const MethodPlans &plans;
  const Target &target;
  ProgramImage &image;
  ScorePlan scores; ///< of the kernels of a selection
};

struct KernelEntry {
  const char *kernel; ///< the name of the select.kernel
  bool warpgroups;    ///< needs a target with products of warpgroups and bulk copies
  Features features;
  /// Its launches: one or several, of which the recipe says when each runs.
  Result<std::vector<BuiltKernel>> (*build)(KernelContext &context);
};

llvm::ArrayRef<KernelEntry> kernelEntries();
/// The row that builds `kernel` for a program. Error: Unsupported, with the kernel and what no row
/// serves.
Result<const KernelEntry *> findKernel(llvm::StringRef kernel, const Spec &spec,
                                       const Target &target, const Config &config);

/// Builds what a specialised and fused method launches, in the order of its kernels: appends
/// tile.kernel ops to `module`, and workspace, tensor maps and the choices of the builders to
/// `image`, whose spec and config are given. Errors (Usage, Unsupported): nobody serves it.
Result<std::vector<BuiltKernel>> buildKernels(select::MethodOp method, const Target &target,
                                              mlir::ModuleOp module, ProgramImage &image);

} // namespace winnow
