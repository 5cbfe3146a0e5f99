// Which key tiles are wanted; see TileList.h.
#include "compiler/kernels/parts/TileList.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace winnow {

int maskBits(int tokens) {
  return static_cast<int>(std::max<uint64_t>(8, llvm::PowerOf2Ceil(tokens)));
}

void TileList::constants(int tilesPerBlock) {
  if (!plan.selects())
    return;
  t.constant("kTopK", plan.topk, "selected blocks per token, at most");
  if (plan.denseLength > 0)
    t.constant("kDenseLength", plan.denseLength, "shorter sequences attend to every key");
  t.constant("kTilesPerBlock", tilesPerBlock, "key tiles of one selectable block");
}

void TileList::mark(Value tile, Value selectHead, Value window, Value tiles) {
  auto all = [&] {
    t.leaf(by == By::Block ? "mark_causal" : "mark_all", {wanted, tile, window, tiles}, {tileKeys});
  };
  auto selected = [&] {
    t.leaf(by == By::Block ? "mark_wanted" : "mark_selected",
           {wanted, t.pointer("ids"), selectHead, t.field(t.params(), "total_q"), tile, window},
           {"@kTopK", "@kTilesPerBlock", tileKeys});
  };
  if (!plan.selects())
    all();
  else if (plan.denseLength <= 0)
    selected();
  else
    t.when(isDense(tile), all, selected);
}

Value TileList::tilesAtOnce(Value tile) {
  if (!plan.selects())
    return t.named("kEntries");
  if (plan.denseLength <= 0)
    return t.named("kWindow");
  return t.select(isDense(tile), t.named("kEntries"), t.named("kWindow"), "step");
}

} // namespace winnow
