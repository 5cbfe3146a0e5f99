// C++ face of the select dialect (see Select.td): the step "what to compute".
#pragma once
#include "cmake/MlirPch.h"
#include "mlir/IR/SymbolTable.h"

#include "dialect/SelectDialect.h.inc"
#define GET_TYPEDEF_CLASSES
#include "dialect/SelectTypes.h.inc"
#define GET_OP_CLASSES
#include "dialect/SelectOps.h.inc"

namespace winnow::select {
/// What a setting may refer to beside the method's parameters: numbers of the spec.
inline constexpr llvm::StringLiteral kSpecNames[] = {"block", "topk", "group", "head_dim",
                                                     "value_dim"};
std::string specNames(); ///< joined by commas
} // namespace winnow::select
