// A method's elementwise region on the CPU: a function over vectors, with the meanings of the table
// in dialect/select/RegionOps.cpp.
#pragma once
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringRef.h"

namespace winnow::cpu {

constexpr int kLanes = 16;

/// Adds `name`(value: vector<16xf32>, query: vector<16xi32>, key: vector<16xi32>) ->
/// vector<16xf32>, private, to the module: the region element by element, or the value as it is
/// where there is no region.
void addRegionFunction(mlir::ModuleOp module, llvm::StringRef name, mlir::Region *region);
/// The same of a region's derivative; 1 where there is none.
void addSlopeFunction(mlir::ModuleOp module, llvm::StringRef name, mlir::Region *derivative);

} // namespace winnow::cpu
