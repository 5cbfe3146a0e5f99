// The skeleton of dK and dV on warpgroups. KeysOnWarpgroups.cpp: what is shared, who does what;
// KeysFeed.cpp: the warps that find items and feed tiles; KeysCompute.cpp: the two warpgroups that
// compute. Device text: templates/attend/key_items.cuh and row_tiles.cuh.
#pragma once
#include "compiler/kernels/backward/Backward.h"
#include "compiler/kernels/parts/Changes.h"
#include "compiler/kernels/parts/Logits.h"

namespace winnow {

/// Two warpgroups compute, one tile of a pair each; the four warps of a third one find items (1),
/// feed keys (2) and feed rows (1).
constexpr int kKeyWarpgroups = 2, kKeyThreads = 128 * (kKeyWarpgroups + 1);
constexpr int kStageRows = 64; ///< query rows of a stage
constexpr int kKeyItems = 2;   ///< items: the one in work and the next one

class BackwardKeysOnWarpgroups {
public:
  BackwardKeysOnWarpgroups(mlir::ModuleOp module, const BackwardPlan &plan,
                           const KeyWarpgroupSizes &sizes, bool stores,
                           std::vector<TensorMapRecipe> &maps);
  BuiltKernel build();

private:
  using Value = mlir::Value;
  /// Tiles of query heads that go with one key/value head.
  int headTiles() const { return plan.heads / plan.kvHeads / plan.group; }
  // KeysOnWarpgroups.cpp
  void constants();
  void declare();
  void clearUnfilled();
  // KeysFeed.cpp
  void findItems();
  Value takeItem(Value firstRange);
  Value rangeTokens();
  void describeItem(Value range, Value kvHead, Value slot);
  Value tokensOf(Value pair, Value kvHead, Value begin, Value end);
  void feedKeys(Value tile);
  void feedRows();
  void feedHeads(Value headTile, llvm::function_ref<void(Value)> announce);
  void copyRows(Value rows, Value item, Value headTile);
  // KeysCompute.cpp
  void consume();
  void overRows();
  Value isWanted(int answer);
  void pass();
  Value nextWanted();
  Value nextWantedNearby();
  void startChanges();
  void weigh();
  void storeResults();

  /// Runs `body` for one item after the other until there is no more work.
  void overItems(llvm::function_ref<void()> body);
  Value stage(llvm::StringRef name, Value ring, Value at) {
    return t.value(name, "stage", {ring, at});
  }
  Value named(llvm::StringRef name) { return t.named(name); }
  Value buffer(BackwardBuffer which) { return backwardBuffer(t, plan, which); }

  const BackwardPlan &plan;
  const KeyWarpgroupSizes &sizes;
  const bool stores; ///< changes
  KernelBuilder t;
  Logits logits;
  Changes changes;
  std::string queryMap, gradientMap, keyMap, valueMap; ///< members of params
  std::string queryRunMap, gradientRunMap; ///< of stages of neighbouring tokens; may be empty
  // Shared objects.
  Value keyRing, valueRing, queryRing, gradientRing, headers, items, hints;
  Value keyBarriers, rowBarriers, itemBarriers;
  // Who this thread is, and where it stands.
  Value warp, warpgroup, turn, keyCursor, cursor, pending;
  Value places; ///< of changes; null where none are stored
  // Of the consumers.
  Value keyTile, valueTile, firstKey, warpRow, columns;
  Value weights, change, weightFactor, changeFactor, keySums, valueSums;
};

} // namespace winnow
