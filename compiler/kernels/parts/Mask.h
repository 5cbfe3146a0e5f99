// Part: which keys a query row sees, and which key tiles need a look. Causal: the keys up to the
// row's own position.
#pragma once
#include "compiler/kernels/parts/Part.h"

namespace winnow {

class Mask : public Part {
public:
  /// `tileKeys`: the constant that counts the keys of one key tile.
  Mask(KernelBuilder &t, const AttendPlan &plan, const char *tileKeys)
      : Part(t, plan), tileKeys(tileKeys) {}

  /// How many key tiles, from the sequence's first on, hold keys that a token of `tile` sees.
  Value visibleTiles(Value tile, llvm::StringRef name = "") {
    return t.add(t.div(t.value("", "last_position", {tile}), t.named(tileKeys)), t.number(1), name);
  }

  /// logit = -inf where a row does not see the key. Key tiles that every row sees whole cost one
  /// comparison.
  void hide(llvm::ArrayRef<RowTile> rowTiles, const KeysAtHand &keys) {
    auto leaf = [&](const char *name, Value where) {
      for (const RowTile &r : rowTiles)
        t.leaf(name, {r.logits, r.rows, where});
    };
    if (keys.step)
      return leaf("mask_step", keys.step);
    Value last = t.sub(t.add(keys.first, t.named(tileKeys)), t.number(1));
    t.when(t.greater(last, t.field(rowTiles[0].rows, "first_position")),
           [&] { leaf("mask_causal", keys.first); });
  }

private:
  const char *tileKeys;
};

} // namespace winnow
