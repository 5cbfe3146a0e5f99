// Part: which key tiles a tile of tokens wants: those of the blocks that any of its tokens
// selected, or all up to the last token, where the method selects nothing or a sequence is shorter
// than dense_len. Serves attend. A bitmap of kWindow key tiles holds a mask of tokens each; a list
// of its marked tiles is what the skeleton walks.
#pragma once
#include "compiler/kernels/parts/Tokens.h"

namespace winnow {

/// Bits of a mask of tokens, and bytes of what holds them, as templates/wanted.cuh and
/// work_list.cuh lay them out.
int maskBits(int tokens);
inline int bitmapBytes(int window, int maskBits) { return window * maskBits / 8; }
inline int wantedListBytes(int entries, int maskBits) { return 16 + entries * (2 + maskBits / 8); }
inline int workListBytes(int entries, int maskBits) {
  return 64 + entries * (maskBits <= 16 ? 4 : 4 + maskBits / 8);
}

class TileList {
public:
  /// Who marks: all threads of the block, in a bitmap that was cleared before, or one warp while
  /// the others compute, in a bitmap that the list's maker leaves clear.
  enum class By { Block, Warp };
  TileList(TileBuilder &t, const AttendPlan &plan, By by, const char *tileKeys)
      : t(t), plan(plan), by(by), tileKeys(tileKeys) {}

  void constants(int tilesPerBlock);
  void declare(int bytes, bool pinned) {
    wanted = t.shared("wanted", t.type("WantedBitmap", {"@kWindow", "@kTokens"}), bytes, pinned);
  }
  mlir::Value bitmap() const { return wanted; }

  /// Marks the wanted ones among the `tiles` key tiles from `window` on.
  void mark(mlir::Value tile, mlir::Value selectHead, mlir::Value window, mlir::Value tiles);
  /// How many key tiles of the sequence are listed at a time: kEntries where all are wanted, since
  /// each then takes an entry, else kWindow.
  mlir::Value tilesAtOnce(mlir::Value tile);

private:
  mlir::Value isDense(mlir::Value tile) {
    return t.less(t.field(tile, "k_length"), t.named("kDenseLength"));
  }

  TileBuilder &t;
  const AttendPlan &plan;
  const By by;
  const char *tileKeys;
  mlir::Value wanted;
};

} // namespace winnow
