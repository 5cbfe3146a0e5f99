// Part: which keys a query row sees, and which key tiles need a look. Causal: the keys up to the
// row's own position. Serves attend.
#pragma once
#include "compiler/kernels/parts/Tokens.h"

namespace winnow {

class Mask {
public:
  /// `tileKeys`: the constant that counts the keys of one key tile.
  Mask(TileBuilder &t, const char *tileKeys) : t(t), tileKeys(tileKeys) {}

  /// How many key tiles, from the sequence's first on, hold keys that a token of `tile` sees.
  mlir::Value visibleTiles(mlir::Value tile, llvm::StringRef name = "") {
    return t.add(t.div(t.value("", "last_position", {tile}), t.named(tileKeys)), t.number(1), name);
  }

  /// logit = -inf where a row does not see the key. Key tiles that every row sees whole cost one
  /// comparison.
  void hide(llvm::ArrayRef<RowTile> rowTiles, const KeysAtHand &keys) {
    if (keys.step) {
      for (const RowTile &r : rowTiles)
        t.leaf("mask_step", {r.logits, r.rows, keys.step});
      return;
    }
    mlir::Value last = t.sub(t.add(keys.first, t.named(tileKeys)), t.number(1));
    t.when(t.greater(last, t.field(rowTiles[0].rows, "first_position")), [&] {
      for (const RowTile &r : rowTiles)
        t.leaf("mask_causal", {r.logits, r.rows, keys.first});
    });
  }

private:
  TileBuilder &t;
  const char *tileKeys;
};

} // namespace winnow
