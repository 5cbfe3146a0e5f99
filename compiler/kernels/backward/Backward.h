// The kernels of gradients, in the order of a launch: statistics of the query rows (Rows.cpp); for
// methods that select, the lists of blocks turned round (Lists.cpp); dQ by blocks of threads that
// own queries (Queries.cpp, on warpgroups QueriesOnWarpgroups.cpp); dK and dV by blocks of threads
// that own keys (Keys.cpp), and where query segments are long from the sums over ranges of tokens
// (Join.cpp). Each result is written once, by whoever owns it, who adds in a fixed order: no atomic
// touches a result.
#pragma once
#include "compiler/kernels/KernelBuilder.h"
#include "compiler/kernels/Kernels.h"

namespace winnow {

/// The buffers of a launch of gradients, by their places in ProgramImage::backwardBuffers; all but
/// the first of methods that select alone.
enum class BackwardBuffer { Statistics, Bits, Ranges, Lists, KeyParts, ValueParts };
inline mlir::Value backwardBuffer(KernelBuilder &t, BackwardBuffer which) {
  return t.pointer(KernelBuilder::bufferMember(static_cast<int>(which)));
}

/// Selections of one launch: as many lists of ids as a token has.
inline int selections(const BackwardPlan &plan) { return plan.heads / plan.group / plan.headTiles; }

BuiltKernel buildBackwardRows(mlir::ModuleOp module, const BackwardPlan &plan);
BuiltKernel buildBackwardMarks(mlir::ModuleOp module, const BackwardPlan &plan);
BuiltKernel buildBackwardLists(mlir::ModuleOp module, const BackwardPlan &plan);
/// On warpgroups where the target has them and the kernel fits, unless `config`, which holds the
/// choice on exit, says otherwise. Appends the tensor maps that the kernel reads to `maps`. Error:
/// Unsupported, where what it asks for cannot be built.
Result<BuiltKernel> buildBackwardQueries(mlir::ModuleOp module, const BackwardPlan &plan,
                                         const Target &target, Config &config,
                                         std::vector<TensorMapRecipe> &maps);
Result<BuiltKernel> buildBackwardKeys(mlir::ModuleOp module, const BackwardPlan &plan,
                                      const Target &target);
BuiltKernel buildBackwardJoin(mlir::ModuleOp module, const BackwardPlan &plan);
/// Appends the buffers of the sums over ranges of tokens, and says how many ranges there are.
void describeRanges(const BackwardPlan &plan, ProgramImage &image);
BuiltKernel buildBackwardJoin(mlir::ModuleOp module, const BackwardPlan &plan);

} // namespace winnow
