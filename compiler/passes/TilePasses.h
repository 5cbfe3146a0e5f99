// The tile passes (TilePasses.td) and what they share about loops and shared memory.
#pragma once
#include "dialect/tile/Tile.h"

namespace winnow {
#define GEN_PASS_DECL
#include "compiler/passes/TilePasses.h.inc"
#define GEN_PASS_REGISTRATION
#include "compiler/passes/TilePasses.h.inc"

/// The passes from built tile kernels to printable ones, in order.
void addTilePasses(mlir::OpPassManager &manager);

/// The shared-memory object behind a value: itself, or the ring that tile.stage took it from; null
/// for registers.
tile::SharedOp sharedObject(mlir::Value value);
/// True for rings and their barriers, whose accesses mbarriers order.
bool isRing(tile::SharedOp shared);
} // namespace winnow
