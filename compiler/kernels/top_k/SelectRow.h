// The selection of one token from its row of 16-bit keys, as both kernels build it that select from
// keys: the top_k kernels, one warp or several per row, and the fused score kernel, one warp per
// row. Device functions: templates/select/block_keys.cuh.
#pragma once
#include "compiler/kernels/KernelBuilder.h"
#include "compiler/kernels/Kernels.h"

namespace winnow {

class RowSelection {
public:
  static constexpr int kChunkBlocks = 256; ///< blocks of a warp per chunk of registers
  static constexpr int kMostChunks = 8;    ///< of one warp
  static constexpr int kWarpBlocks = kMostChunks * kChunkBlocks;

  /// `warps` of one row; rows of several need declare().
  RowSelection(TileBuilder &t, const SelectionPlan &plan, const ScorePlan &scores, int warps)
      : t(t), plan(plan), scores(scores), wide(warps > 1), warps(warps),
        searched(plan.topk - plan.init - plan.local) {}

  /// The constants that only the selection needs; kBlock, kTopK, kLocal, kDenseLength and, where
  /// scores are looked at, kRowsPerBlock and kPad are the kernel's.
  void constants();
  /// The facts of a kernel that selects.
  void describe(KernelFacts &facts) const;
  /// The warps' counts in shared memory.
  void declare();
  /// Writes the ids of a token whose own block is `own`. `keyRow` gives the address of its keys,
  /// where they are needed; `warp` is the warp's place in the row.
  /// `first`: a number that counts as 0, of which the places in the row are made.
  void select(mlir::Value tile, mlir::Value own, mlir::Value ids, mlir::Value warp,
              llvm::function_ref<mlir::Value()> keyRow, mlir::Value first = {});

private:
  void selectSome(llvm::function_ref<mlir::Value()> keyRow);
  void search(int chunks);
  /// An if that all warps of a row, and so of a block of threads with one row, take alike.
  void whenUniform(mlir::Value condition, TileBuilder::Body then,
                   TileBuilder::Body otherwise = nullptr);
  /// By one warp of the row.
  void once(TileBuilder::Body body);
  /// Over the row's warps: the sum of `count`; itself where one warp holds the row.
  mlir::Value total(mlir::Value count, llvm::StringRef hint);

  TileBuilder &t;
  const SelectionPlan &plan;
  const ScorePlan &scores;
  const bool wide;
  const int warps, searched;
  mlir::Value warp, own, ids, counts, forcedFrom, keys, edges, start;
};

} // namespace winnow
