// Who touches shared memory where: the view of a kernel that planning and barrier insertion share.
#pragma once
#include "compiler/passes/TilePasses.h"

namespace winnow {

/// One access of an op to a shared object.
struct SharedAccess {
  tile::SharedOp object;
  bool reads = false, writes = false;
  bool async = false; ///< an asynchronous copy: complete only after wait_copies
};

/// The accesses of `op` itself, not of ops in its regions, from its memory effects.
llvm::SmallVector<SharedAccess> sharedAccesses(mlir::Operation *op);
/// The accesses of `op` and of everything inside it.
llvm::SmallVector<SharedAccess> sharedAccessesWithin(mlir::Operation *op);

} // namespace winnow
