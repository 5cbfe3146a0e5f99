// Part: the block scores of tokens, from the heads' sum to the row in device memory and back.
// Serves score on both levels, which pools and stores them, and top_k, which reads them; device
// functions: templates/select/{head_scores,pooling,score_row}.cuh.
#pragma once
#include "compiler/kernels/parts/SelectionPart.h"
#include <limits>

namespace winnow {

class BlockScores : public SelectionPart {
public:
  using SelectionPart::SelectionPart;

  const char *combine() const { return t.reduction(plan.combine == Reduction::Max); }
  const char *pool() const { return deviceType(plan.pool); }

  /// What makes a logit a score where there is no softmax.
  Value rewrite() {
    return plan.scoreHook ? t.hook("rewrite", *plan.scoreHook) : t.identityHook("rewrite");
  }
  /// Scores of a thread's token for its summaries, of device type `type`: no head yet.
  Value cleared(StringRef type) {
    Value tokenScores = t.fragment("scores", t.type(type));
    t.leaf("clear_scores", {tokenScores}, {combine()});
    return tokenScores;
  }
  /// Adds the heads of a pair: two, but one in the last pair of an odd group.
  void overHeads(Value pair, llvm::function_ref<void(int heads)> add) {
    if (plan.group == 1 || plan.group % 2 == 0)
      return add(std::min(plan.group, 2));
    t.when(t.less(pair, t.sub(t.named("kPairs"), t.number(1))), [&] { add(2); }, [&] { add(1); });
  }
  /// Hides the summaries that the token does not see, if the tile [firstRow, behind) has any in
  /// front of `end` that not every token sees, which is from `all` on. Rarely so: where local
  /// blocks are few, or many tokens share a tile. `visible`: of the `rows`, how many the token
  /// sees.
  void hide(Value tokenScores, Value firstRow, Value behind, Value end, Value all, Value rows,
            llvm::function_ref<Value()> visible) {
    t.when(t.greater(t.min(behind, end), all), [&] {
      const double hidden = plan.normalizer >= 0 ? 0.0 : -std::numeric_limits<double>::infinity();
      t.leaf("mask_scores", {tokenScores, firstRow, visible(), rows, t.real(hidden)}, {pool()});
    });
  }
  /// Pools to blocks and stores them at `row`, where the token `exists`.
  void store(Value row, Value tokenScores, Value firstRow, Value rows, Value exists) {
    t.leaf("store_block_scores", {row, tokenScores, firstRow, rows, padded(), exists},
           {pool(), "@kRowsPerBlock", "@kPad"});
  }

  /// The same where threads follow each other in summaries, 8 of each.
  void storeOfThread(Value row, Value threadScores, Value firstRow, Value rows, Value exists) {
    t.leaf("store_thread_scores", {row, threadScores, firstRow, rows, padded(), exists},
           {pool(), "@kRowsPerBlock", "@kPad", scores.blocksPerEdge * plan.rowsPerBlock()});
  }

  /// The same to a row of the cluster's first block, at the address `ranks`, by messages that
  /// `barriers` count; `sent` counts them too.
  void postOfThread(Value ranks, Value sent, Value barriers, Value threadScores, Value firstRow,
                    Value rows, Value exists) {
    t.leaf("post_thread_scores",
           {ranks, sent, barriers, threadScores, firstRow, rows, padded(), exists},
           {pool(), "@kRowsPerBlock", "@kPad", scores.blocksPerEdge * plan.rowsPerBlock()});
  }

  /// The row of a selection and a query row, one of the chunk.
  Value row(Value selectHead, Value queryRow, StringRef hint) {
    Value begin = t.field(t.params(), "token_begin"), end = t.field(t.params(), "token_end");
    return rowAt(selectHead, t.sub(queryRow, begin), t.sub(end, begin), hint);
  }
  /// Row `index` of the `count` of each selection.
  Value rowAt(Value selectHead, Value index, Value count, StringRef hint) {
    return t.value(hint, "score_row",
                   {t.pointer(t.bufferMember(plan.scoreBuffer())), selectHead, index, count,
                    t.field(t.params(), "score_stride")},
                   {scores.element()});
  }
  Value edges(Value row) {
    return t.value("edges", scores.edgeWords ? "edge_words" : "edge_row", {row, padded()},
                   {"@kPad"});
  }

  /// Blocks of a row in front of its edges.
  Value padded() {
    return t.value("", "padded_blocks", {t.field(t.params(), "max_k")},
                   {"@kBlock", "@kRowsPerBlock"});
  }
};

} // namespace winnow
