// Part: where keys and values lie in global memory, and how a tile of them comes to shared memory;
// no skeleton and no other part knows. Here: packed rows [total_k, kv_heads, dim] of a ragged
// batch, 16 bits per element. Serves attend. Two ways: many threads by cp.async (load), or one lane
// by the copy engine (describe, copy). Waiting for room and saying that a tile is full is the
// skeleton's.
#pragma once
#include "compiler/kernels/parts/Tokens.h"

namespace winnow {

class KeySource {
public:
  /// SharedTile for mma.sync, filled by load; PanelTile for wgmma, filled by copy.
  enum class Tiles { Shared, Panels };
  KeySource(TileBuilder &t, const AttendPlan &plan, Tiles tiles) : t(t), plan(plan), tiles(tiles) {}

  /// Bytes of a tile of keys and of one of values in shared memory.
  static int keyBytes(const AttendPlan &plan, Tiles tiles, int keys);
  static int valueBytes(const AttendPlan &plan, Tiles tiles, int keys);
  tile::ObjectType keyTile() { return tileType("@kDim"); }
  tile::ObjectType valueTile() { return tileType("@kValueDim"); }

  /// Turns to the sequence of a tile of tokens and to one head of it.
  void locate(mlir::Value tile, mlir::Value kvHead);
  /// Starts loading one key tile and its values by `threads` threads; rows behind the sequence's
  /// end become zero.
  void load(mlir::Value keyTile, mlir::Value valueTile, mlir::Value firstKey, int threads);

  /// Adds the maps that copy reads; a box is `tileKeys` rows.
  void describe(std::vector<TensorMapRecipe> &maps, int tileKeys);
  /// Starts copying kPartKeys keys and values from `firstKey` on into rows of the tiles from `row`
  /// on; the barrier counts their bytes. By one lane.
  void copy(mlir::Value keyTile, mlir::Value valueTile, mlir::Value row, mlir::Value barrier,
            mlir::Value firstKey);
  /// The first key that the copy engine may take from behind the sequence's end: it knows the end
  /// of the tensor, not that of a sequence. What lies there may be anything, and a weight of 0
  /// times NaN is NaN, so values that overrun must be cleared before anyone reads them.
  mlir::Value overrun();
  /// Clears the copied values that lie behind the sequence's end. By one warp.
  void clearOverrun(mlir::Value valueTile, mlir::Value row, mlir::Value firstKey);

private:
  tile::ObjectType tileType(const char *columns) {
    return t.type(tiles == Tiles::Shared ? "SharedTile" : "PanelTile",
                  {"@kKeys", columns, plan.element});
  }

  TileBuilder &t;
  const AttendPlan &plan;
  const Tiles tiles;
  std::string keyMap, valueMap; ///< members of params
  mlir::Value tile, kvHead, keys, values;
};

} // namespace winnow
