// The selection of one token from its row of 16-bit ranks, as both kernels build it that select
// from ranks: the top_k kernels, one warp or several per row, and the fused score kernel, one warp
// per row. Device functions: templates/select/block_ranks.cuh.
#pragma once
#include "compiler/kernels/parts/BlockScores.h"
#include "compiler/kernels/parts/RowSearch.h"

namespace winnow {

class RowSelection {
public:
  using Value = mlir::Value;
  static constexpr int kChunkBlocks = 256; ///< blocks of a warp per chunk of registers
  static constexpr int kMostChunks = 8;    ///< of one warp
  static constexpr int kWarpBlocks = kMostChunks * kChunkBlocks;

  /// `warps` of one row, each with up to `chunks` of it; rows of several need declare().
  /// `together`: rows that one warp holds are searched by several warps, each of which holds all of
  /// it; for rows in shared memory.
  RowSelection(KernelBuilder &t, const SelectionPlan &plan, const ScorePlan &scores, int warps,
               int chunks = kMostChunks, bool together = false)
      : t(t), plan(plan), scores(scores), warps(warps), chunks(chunks), together(together),
        searched(plan.topk - plan.init - plan.local), blockScores(t, plan, scores), row(t, warps) {}

  /// The constants that only the selection needs; kBlock, kTopK, kLocal, kDenseLength and, where
  /// scores are looked at, kRowsPerBlock and kPad are the kernel's.
  void constants();
  /// The warps' counts in shared memory.
  void declare() { row.declare(); }
  /// Writes the ids of a token whose own block is `own`. `rankRow` gives the address of its ranks,
  /// where they are needed; `warp` is the warp's place in the row.
  /// `first`: a number that counts as 0, of which the places in the row are made.
  void select(Value tile, Value own, Value ids, Value warp, llvm::function_ref<Value()> rankRow,
              Value first = {});

private:
  void selectSome(llvm::function_ref<Value()> rankRow);
  /// Ranks in a warp's registers, `chunks` of each lane, from a block on.
  struct Held {
    Value ranks, firstBlock;
    int chunks;
  };
  Held load(int chunksOfWarp, Value firstBlock);
  Value reaching(Value held, Value threshold);
  void search(int chunks);
  void searchTogether();
  void store(const Held &held, Value isUpper, Value state);

  KernelBuilder &t;
  const SelectionPlan &plan;
  const ScorePlan &scores;
  const int warps, chunks;
  const bool together;
  const int searched;
  BlockScores blockScores;
  RowSearch row;
  Value warp, own, ids, forcedFrom, ranks, edges, start;
};

} // namespace winnow
