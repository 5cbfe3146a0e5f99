// Text of the ops of elementwise regions: the spellings of the table in
// dialect/select/RegionOps.cpp with their operands filled in. Serves the CUDA printer's hooks.
#pragma once
#include "compiler/cuda/ScalarExpression.h"

namespace winnow {

/// C++ of an op that the table knows (findRegionFault found nothing).
Expression regionExpression(mlir::Operation *op, llvm::ArrayRef<Expression> operands);

} // namespace winnow
