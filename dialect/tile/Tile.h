// C++ face of the tile dialect (see Types.td, Structure.td, Leaf.td): the step "how" of the way of
// a kernel.
#pragma once
#include "cmake/MlirPch.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"

namespace winnow::tile {
/// The order of threads and copies: barriers, waits, arrivals, fences.
struct OrderResource : mlir::SideEffects::Resource::Base<OrderResource> {
  mlir::StringRef getName() final { return "order"; }
};
/// Global memory that a kernel writes.
struct GlobalResource : mlir::SideEffects::Resource::Base<GlobalResource> {
  mlir::StringRef getName() final { return "global memory"; }
};

/// What device code calls an element type; nothing for one that it does not have.
std::optional<mlir::StringRef> elementName(mlir::Type type);
/// The attribute of a template argument that is written as C++, or as "@kName" for a constant.
mlir::Attribute templateArgument(mlir::MLIRContext *context, mlir::StringRef text);
/// Whether an attribute is one, in the one spelling that it has.
bool isTemplateArgument(mlir::Attribute argument);
/// Its C++ text.
std::string cppSpelling(mlir::Attribute argument);

/// Whether a type is that of a device object of this C++ type.
bool isDevice(mlir::Type type, mlir::StringRef name);

/// Refuses a leaf whose declared effects cannot be true (it takes a register object, which changes,
/// as if it were a value; or it does nothing), and one whose cursor is of another ring.
mlir::LogicalResult verifyLeaf(mlir::Operation *leaf);

/// Is printed where its result is used, as long as nothing it reads has changed by then.
template <typename ConcreteOp>
class Inline : public mlir::OpTrait::TraitBase<ConcreteOp, Inline> {};
/// Fills its first operand, a shared tile, by asynchronous copies.
template <typename ConcreteOp>
class AsyncLoad : public mlir::OpTrait::TraitBase<ConcreteOp, AsyncLoad> {};
/// Its result differs among the threads of a block even where its operands do not.
template <typename ConcreteOp>
class Varies : public mlir::OpTrait::TraitBase<ConcreteOp, Varies> {};
} // namespace winnow::tile

#include "dialect/tile/TileDialect.h.inc"
#define GET_ATTRDEF_CLASSES
#include "dialect/tile/TileAttrs.h.inc"
#include "dialect/tile/TileTypeInterfaces.h.inc"
#define GET_TYPEDEF_CLASSES
#include "dialect/tile/TileInterfaces.h.inc"
#include "dialect/tile/TileTypes.h.inc"
#define GET_OP_CLASSES
#include "dialect/tile/TileOps.h.inc"
