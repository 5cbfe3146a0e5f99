// A tile.kernel as text, as `winnow compile --emit tile` and winnow-opt print it: read back for
// tools and for programs one of whose kernels is given. A value's name in the text is its name in
// CUDA.
#pragma once
#include "dialect/tile/Tile.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace winnow {

/// Parses and verifies; names of values become their locations, where the printer looks for them.
/// Null after an error, which has been reported at its place in `file`.
mlir::OwningOpRef<mlir::ModuleOp> parseKernels(mlir::MLIRContext &context, llvm::StringRef text,
                                               llvm::StringRef file);

} // namespace winnow
