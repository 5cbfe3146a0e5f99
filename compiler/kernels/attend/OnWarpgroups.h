// The skeleton of attention on warpgroups. OnWarpgroups.cpp: sizes and launch; Compute.cpp: the
// warpgroups that compute. Who feeds them: WarpgroupWalk.h.
#pragma once
#include "compiler/kernels/attend/Frame.h"
#include "compiler/kernels/attend/WarpgroupWalk.h"

namespace winnow {

class AttendOnWarpgroups : AttendFrame {
public:
  AttendOnWarpgroups(mlir::ModuleOp module, const AttendPlan &plan, const AttendSizes &sizes,
                     const Config &config, std::vector<TensorMapRecipe> &maps);
  BuiltKernel build();

private:
  // Compute.cpp
  void consume();
  void attendShared();
  void attendFirst(Value entry);
  void attendNext(Value entry);
  void attendSingles();
  void finishPending();
  void storeResults();
  Value step(Value entry);
  void makeLogits(Value keyTile, TemplateArgument unroll);
  void hideKeys();
  void skip(Value from, Value to);
  /// The tile of keys, or of values, of the stage that a cursor stands on.
  Value keyTileAt(llvm::StringRef name, Value at) { return walk.stage(name, ring.keys, at); }
  Value valueTileAt(llvm::StringRef name, Value at) { return walk.stage(name, ring.values, at); }

  WarpgroupWalk walk;
  WarpgroupWalk::Ring &ring; ///< the walk's only one
  // Of the consumers.
  Value warpOfGroup, pending; ///< the stage whose values are still to be multiplied
  RowTile rows;
  KeysAtHand keys;
};

} // namespace winnow
