// Part: softmax weights of a token's heads for the summaries that the host keeps, from the kernel
// that makes them to the one that adds them up: where they lie, in how many parts, and which plans
// they serve. Serves weigh and top_k at decode; device functions:
// templates/select/head_weights.cuh.
#pragma once
#include "compiler/kernels/parts/BlockScores.h"
#include "compiler/kernels/parts/Summaries.h"

namespace winnow {

/// Formula: bytes of one token's weights and references.
std::string headWeightBytes(const SelectionPlan &plan);

class HeadWeights : public SelectionPart {
public:
  static constexpr int kRows = 32;              ///< summaries of one tile
  static constexpr int kMostParts = 128;        ///< of a token's summaries
  static constexpr int kPartsPerAttendPart = 2; ///< the GPU has room for as many blocks of threads
  static constexpr int kLeastRowTiles = 2;      ///< of a part, about

  HeadWeights(KernelBuilder &t, const SelectionPlan &plan, const ScorePlan &scores)
      : SelectionPart(t, plan, scores), compressed(t, plan, scores), blockScores(t, plan, scores) {}

  static int headTiles(const SelectionPlan &plan) { return std::max(1, plan.group / 16); }
  static int tileHeads(const SelectionPlan &plan) { return plan.group / headTiles(plan); }
  /// Keys from one row tile to the next.
  static int tileKeys(const SelectionPlan &plan) {
    return kRows * plan.summaries[plan.fine].stride;
  }
  /// Formula: parts of a token's summaries.
  static std::string parts(const SelectionPlan &plan);

  void constants() {
    t.constant("kTileHeads", tileHeads(plan), "heads of one mma tile");
    t.constant("kTileKeys", tileKeys(plan), "keys from one tile of 32 summaries to the next");
  }
  /// Of a kernel that multiplies: kRows, and how the normaliser's summaries lie among the scored.
  void tileConstants();
  /// The operand of the token's heads from `firstHead` on, for the warps that multiply.
  Value query(Value tile, Value firstHead);
  /// What a token sees of the summaries.
  struct Seen {
    Value source;                           ///< where they lie, for load_rows
    Value rows, visible, normalizerVisible; ///< that exist, and are seen, of the scored ones; that
                                            ///< are seen of the normaliser's
    Value scoredEnd;                        ///< behind the scored rows that it needs
    Value tiles; ///< with such rows, or summaries of the normaliser that it sees
  };
  /// Of a token whose own block is `own`; `hint` names the tiles.
  Seen seen(Value tile, Value own, Value firstHead, StringRef hint);
  /// Rows of old keys, which were there before this launch: append writes those behind them.
  Value oldRows(Value tile);
  /// Hides a thread's scores of summaries that the token does not see; `end`: of scored rows.
  void hideTile(Value scores, Value firstRow, Value end, Value visible, Value rows);
  /// Hides and pools a thread's scores and stores them at `row`, where they `exist`.
  void storeTile(Value row, Value scores, Value firstRow, Value exist, Value end, Value visible,
                 Value rows);

  /// The same number, in the kernel.
  Value parts();
  /// Tiles of 32 summaries of the longest sequence.
  Value rowTiles() {
    Value keys = t.named("kTileKeys");
    return t.div(t.add(t.field(t.params(), "max_k"), t.sub(keys, t.number(1))), keys, "row_tiles");
  }
  /// One of a token's tiles of heads among those of the chunk.
  Value column(Value token, Value headTile) {
    const int columns = plan.selectHeads() * headTiles(plan);
    return t.add(t.mul(token, t.number(columns)), headTile, "column");
  }
  Value shares() { return buffer(2); }
  Value weights() { return buffer(3); }

  /// Of a kernel that fills: all but those of the row's selection.
  void constants(int threads) {
    planConstants(t, plan, {"kHeads", "kGroup"});
    compressed.constants();
    constants();
    t.constant("kThreads", threads);
  }
  /// The normalisers in shared memory, of a kernel that fills.
  void declare() {
    const int rows = 16 * headTiles(plan);
    table = t.shared("normalizers", t.type("NormalizerTable", {rows}), 4 * rows);
  }
  /// By all kThreads threads of a block: the block scores of a token whose own block is `own`, to
  /// `scoreRow`, where they then lie for all of them. Of a token that takes every block there are
  /// none. Returns whether fp32 may not hold them: then octaves decide.
  Value fill(Value tile, Value own, Value selectHead, Value queryRow, Value scoreRow);

private:
  Value fillScored(Value tile, Value own, Value selectHead, Value queryRow, Value scoreRow);
  Value buffer(int behindScores) {
    return t.pointer(t.bufferMember(plan.scoreBuffer() + behindScores));
  }

  Summaries compressed;
  BlockScores blockScores;
  Value table;
};

} // namespace winnow
