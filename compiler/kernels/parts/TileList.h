// Part: which key tiles a tile of tokens wants: those of the blocks that any of its tokens
// selected, or all up to the last token, where the method selects nothing or a sequence is shorter
// than dense_len. A bitmap of kBitmapTiles key tiles holds a mask of tokens for each; the skeleton
// turns what is marked into the list that it walks.
#pragma once
#include "compiler/kernels/parts/DenseLength.h"
#include "compiler/kernels/parts/Part.h"
#include "llvm/Support/MathExtras.h"

namespace winnow {

/// Bits of a mask of tokens, and bytes of lists of masks, as templates/attend/wanted.cuh and
/// work_list.cuh lay them out.
inline int maskBits(int tokens) { return std::max<int>(8, llvm::PowerOf2Ceil(tokens)); }
inline int wantedListBytes(int entries, int maskBits) { return 16 + entries * (2 + maskBits / 8); }
inline int workListBytes(int entries, int maskBits) {
  return 64 + entries * (maskBits <= 16 ? 4 : 4 + maskBits / 8);
}

class TileList : public Part {
public:
  /// Who marks: all threads of the block, in a bitmap that was cleared before, or one warp while
  /// the others compute, in a bitmap that is left clear by whoever makes a list of it.
  enum class By { Block, Warp };
  /// `tileKeys`: the constant that counts the keys of one key tile, as a template argument.
  TileList(KernelBuilder &t, const AttendPlan &plan, By by, const char *tileKeys)
      : Part(t, plan), by(by), tileKeys(tileKeys) {}

  void constants(int tilesPerBlock) {
    if (!plan.selects())
      return;
    t.constant("kTopK", plan.topk, "selected blocks per token, at most");
    denseConstant(t, plan, "shorter sequences attend to every key");
    t.constant("kTilesPerBlock", tilesPerBlock, "key tiles of one selectable block");
    if (plan.headTiles > 1)
      t.constant("kHeadTiles", plan.headTiles,
                 "tiles of kTileHeads heads that share one selection");
  }
  void declare(int bytes, bool pinned) {
    bitmap =
        t.shared("wanted", t.type("WantedBitmap", {"@kBitmapTiles", "@kTokens"}), bytes, pinned);
  }

  /// Marks the wanted ones among the `tiles` key tiles from `fromTile` on.
  void mark(Value tile, Value selectHead, Value fromTile, Value tiles) {
    auto all = [&] {
      t.leaf(by == By::Block ? "mark_causal" : "mark_all", {bitmap, tile, fromTile, tiles},
             {tileKeys});
    };
    auto selected = [&] {
      if (plan.headTiles > 1)
        selectHead = t.div(selectHead, t.named("kHeadTiles"));
      t.leaf(by == By::Block ? "mark_wanted" : "mark_selected",
             {bitmap, t.pointer("ids"), selectHead, t.field(t.params(), "total_q"), tile, fromTile},
             {"@kTopK", "@kTilesPerBlock", tileKeys});
    };
    if (!plan.selects())
      all();
    else if (!mayBeDense(plan))
      selected();
    else
      t.when(isDense(t, plan, tile), all, selected);
  }

  /// How many key tiles of the sequence are listed at a time: kEntries where all are wanted, since
  /// each then takes an entry, else kBitmapTiles.
  Value tilesAtOnce(Value tile) {
    if (!plan.selects())
      return t.named("kEntries");
    if (!mayBeDense(plan))
      return t.named("kBitmapTiles");
    return t.select(isDense(t, plan, tile), t.named("kEntries"), t.named("kBitmapTiles"), "step");
  }

  Value bitmap;

private:
  const By by;
  const char *tileKeys;
};

} // namespace winnow
