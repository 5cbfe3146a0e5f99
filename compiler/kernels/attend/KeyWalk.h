// The way of a block of threads through the keys that its tokens want, on warps: find the tokens,
// list the key tiles that any of them wants, load one after the other, and let each warp skip what
// its own tokens do not want. Serves attention and its gradients by queries, which differ in what a
// warp does with a key tile. Written as one thread of control; the warp-specialisation pass splits
// off producers.
#pragma once
#include "compiler/kernels/attend/Sizes.h"
#include "compiler/kernels/parts/Mask.h"

namespace winnow {

class KeyWalk {
public:
  using Value = mlir::Value;
  KeyWalk(KernelBuilder &t, const AttendPlan &plan, const AttendSizes &sizes, Tokens &tokens,
          TileList &tileList, KeySource &source, Mask &mask)
      : t(t), plan(plan), sizes(sizes), tokens(tokens), tileList(tileList), source(source),
        mask(mask) {}

  void constants();
  /// Declares what is shared and turns to the block's tokens; returns from the kernel where it has
  /// none. Exit: warp, selectHead and firstHead are there.
  void locate();
  /// The tokens, heads and positions of the warp's rows.
  void findRows(llvm::MutableArrayRef<RowTile> rowTiles);
  /// Calls `step` for a key tile that some token of the warp wants: it lies in keyTile, its values
  /// in valueTile, and `wants` of the row tiles is theirs. Exit: rows are found anew.
  void walk(llvm::MutableArrayRef<RowTile> rowTiles,
            llvm::function_ref<void(const KeysAtHand &)> step);

  Value warp, selectHead, firstHead, keyTile, valueTile;

private:
  void relocate(llvm::MutableArrayRef<RowTile> rowTiles);
  void collect(Value fromTile, Value tiles);
  void visit(llvm::MutableArrayRef<RowTile> rowTiles, Value fromTile, Value entry,
             llvm::function_ref<void(const KeysAtHand &)> step);

  KernelBuilder &t;
  const AttendPlan &plan;
  const AttendSizes &sizes;
  Tokens &tokens;
  TileList &tileList;
  KeySource &source;
  Mask &mask;
  Value tile, slot, list;
};

} // namespace winnow
