// The builder of the score kernel on warpgroups, shared by the files that hold its parts: the frame
// and the producers (OnWarpgroups.cpp, with the protocol) and the consumers
// (Compute.cpp).
#pragma once
#include "compiler/kernels/Kernels.h"
#include "compiler/kernels/parts/Summaries.h"
#include "compiler/kernels/top_k/SelectRow.h"

namespace winnow {

class ScoreWarpgroupsBuilder {
public:
  ScoreWarpgroupsBuilder(mlir::ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores,
                         std::vector<TensorMapRecipe> &maps, bool selects);
  BuiltKernel build();

private:
  bool softmax() const { return plan.normalizer >= 0; }
  bool isPair() const { return plan.group > 1; } ///< an mma tile holds two heads
  KernelFacts facts() const;
  void declareMap(std::vector<TensorMapRecipe> &maps);
  void constants();
  void declare();
  /// Over the items of the block of threads that need scores; with `all`, over those with tokens,
  /// and the body is told which are scored.
  void overItems(llvm::function_ref<void()> body);
  void overItems(bool all, llvm::function_ref<void(mlir::Value scored)> body);
  void feedSummaries();
  void feedQueries();
  void consume();
  void selectRows();
  /// The row of scores of an item's token.
  mlir::Value scoreRow(mlir::Value token, llvm::StringRef hint);
  void overQueries(llvm::function_ref<void(mlir::Value)> body);
  /// How many tiles of summaries the item has, of the normaliser and to be scored.
  void countTiles();
  void normalize();
  void score();
  void scoreSet(mlir::Value fineTile, mlir::Value firstRow, mlir::Value set);
  /// Adds the heads in halves [firstHalf, firstHalf + halves) of an mma tile to the scores.
  void addHeads(mlir::Value tokenScores, mlir::Value logits, mlir::Value mmaTile, mlir::Value token,
                mlir::Value firstRow, int firstHalf, int halves);
  /// Logits of a mma tile against the cursor's stage.
  mlir::Value product(mlir::Value mmaTile);
  /// The mma tile's logits, then its release where this is its last use.
  mlir::Value scoreProduct(mlir::Value fineTile, mlir::Value mmaTile);
  void storeScores(mlir::Value tokenScores, mlir::Value token, mlir::Value firstRow);
  mlir::Value tokenOf(mlir::Value mmaTile, int half) {
    return t.value("token", "tile_token", {mmaTile, t.number(half)}, {"@kGroup"});
  }
  mlir::Value tiles(mlir::Value end, llvm::StringRef hint) {
    return t.div(t.add(end, t.sub(t.named("kRows"), t.number(1))), t.named("kRows"), hint);
  }

  const SelectionPlan &plan;
  const ScorePlan &scores;
  const bool selects;
  const int ownTiles; ///< mma tiles whose normalisers a warpgroup makes
  std::string map;
  KernelBuilder t;
  Summaries summaries;
  BlockScores blockScores;
  RowSelection selection;
  mlir::Value queries, ring, table, barriers, queryBarriers, scoreBarriers, warpgroup, slots, items;
  // Of the role: its places in the rings, and the item in work.
  mlir::Value cursor, queryCursor, scoreCursor, deal, hook, large;
  mlir::Value tile, selectHead, firstHead, own, coarseRows, coarseTiles, fineRows, fineEnd,
      fineTiles;
};

} // namespace winnow
