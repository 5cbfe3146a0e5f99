// C++ face of the select dialect (see Select.td): the step "what to compute".
#pragma once
#include "cmake/MlirPch.h"
#include "mlir/IR/SymbolTable.h"

#include "dialect/select/SelectDialect.h.inc"
#define GET_TYPEDEF_CLASSES
#include "dialect/select/SelectTypes.h.inc"
#define GET_OP_CLASSES
#include "dialect/select/SelectOps.h.inc"

namespace winnow::select {
/// What a setting may refer to beside the method's parameters: numbers of the spec.
inline constexpr llvm::StringLiteral kSpecNames[] = {"block", "topk", "group", "head_dim",
                                                     "value_dim"};
std::string specNames(); ///< joined by commas
} // namespace winnow::select
