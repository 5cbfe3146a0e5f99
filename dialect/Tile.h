// C++ face of the tile dialect (see Tile.td): the step "how" of the way of a kernel.
#pragma once
#include "cmake/MlirPch.h"
#include "mlir/IR/SymbolTable.h"

namespace winnow::tile {
/// Prints as a call to the device function of the same name.
template <typename ConcreteOp>
class LeafCall : public mlir::OpTrait::TraitBase<ConcreteOp, LeafCall> {};
/// Fills its first operand, a shared tile, by asynchronous copies.
template <typename ConcreteOp>
class AsyncLoad : public mlir::OpTrait::TraitBase<ConcreteOp, AsyncLoad> {};
} // namespace winnow::tile

#include "dialect/TileDialect.h.inc"
#define GET_ATTRDEF_CLASSES
#include "dialect/TileAttrs.h.inc"
#define GET_TYPEDEF_CLASSES
#include "dialect/TileTypes.h.inc"
#define GET_OP_CLASSES
#include "dialect/TileOps.h.inc"
