// The dialects that text given to winnow-opt or to an editor may hold: ours, and those that regions
// and kernels use.
#pragma once
#include "dialect/select/Select.h"
#include "dialect/tile/Tile.h"

namespace winnow {

inline void registerDialects(mlir::DialectRegistry &registry) {
  registry.insert<select::SelectDialect, tile::TileDialect, mlir::arith::ArithDialect,
                  mlir::math::MathDialect, mlir::scf::SCFDialect>();
}

} // namespace winnow
