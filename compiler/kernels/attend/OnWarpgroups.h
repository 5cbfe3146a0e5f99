// The skeleton of attention on warpgroups. OnWarpgroups.cpp: what is shared, and who does what;
// Feed.cpp: the warps that build lists and feed tiles; Compute.cpp: the warpgroups that compute.
#pragma once
#include "compiler/kernels/attend/Frame.h"

namespace winnow {

class AttendOnWarpgroups : AttendFrame {
public:
  AttendOnWarpgroups(mlir::ModuleOp module, const AttendPlan &plan, const AttendSizes &sizes,
                     const Config &config, std::vector<TensorMapRecipe> &maps);
  BuiltKernel build();

private:
  // OnWarpgroups.cpp
  void constants();
  void declare();
  // Feed.cpp
  void feedKeys();
  void copyStage(Value entry, Value overrun);
  void feedQueries();
  void buildLists();
  void buildList(Value tile, Value head);
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

  /// Runs `body` for one list after the other until there is no more work.
  void overWork(llvm::function_ref<void()> body);
  void forOneLane(llvm::function_ref<void()> body);
  Value stage(llvm::StringRef name, Value ring, Value cursor) {
    return t.value(name, "stage", {ring, cursor});
  }
  /// A member of the current list's header.
  Value about(llvm::StringRef member) { return t.field(header, member); }
  Value named(llvm::StringRef name) { return t.named(name); }

  const bool split; ///< tiles that single warps want have a part of the list
  // Shared objects.
  Value keyRing, valueRing, queryRing, work, barriers, landing, workBarriers, queryBarriers;
  // Who this thread is, and where it stands.
  Value warpgroup, warp, warpOfGroup, turn, cursor, pending, queryCursor, list, header;
  // Of the consumers.
  RowTile rows;
  KeysAtHand keys;
};

} // namespace winnow
