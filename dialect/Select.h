// C++ face of the select dialect (see Select.td): the step "what to compute".
#pragma once
#include "cmake/MlirPch.h"
#include "mlir/IR/SymbolTable.h"

#include "dialect/SelectDialect.h.inc"
#define GET_TYPEDEF_CLASSES
#include "dialect/SelectTypes.h.inc"
#define GET_OP_CLASSES
#include "dialect/SelectOps.h.inc"
