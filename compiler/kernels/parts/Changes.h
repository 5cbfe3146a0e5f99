// Part: from logits S and products dO v to softmax weights P and gradients of logits dS, with the
// derivative of the method's region. Entry of prepare: both products are there, logits are not yet
// rewritten; of weigh: they are, and masked. Exit: weights lie in the place of logits, dS in that
// of changes, neither times the softmax scale. Serves the gradients on both sides: rows of queries,
// and tiles that are turned round, whose columns are query rows.
#pragma once
#include "compiler/kernels/parts/Part.h"
#include "compiler/select/plans/BackwardPlan.h"

namespace winnow {

class Changes : public Part {
public:
  Changes(KernelBuilder &t, const BackwardPlan &plan) : Part(t, plan), derivative(plan.slopeHook) {}

  void declareRegion() {
    if (derivative)
      slope = t.hook("slope", *derivative);
  }

  /// Whether prepare reads logits; else it may come as late as multiply.
  bool readsLogits() const { return derivative != nullptr; }
  /// `statistics`: RowStatistics of the row tile.
  void prepare(const RowTile &r, const KeysAtHand &keys, Value changes, Value statistics) {
    t.leaf("subtract_deltas", {changes, statistics});
    if (slope)
      t.leaf(keys.step ? "multiply_step_slopes" : "multiply_slopes",
             {changes, r.logits, r.rows, keys.step ? keys.step : keys.first,
              t.namedReal("kLogitScale"), slope});
  }
  void weigh(const RowTile &r, Value changes, Value statistics) {
    t.leaf("weigh_changes",
           {r.logits, changes, statistics, r.rows, r.wants, t.namedReal("kScale")});
  }
  /// The two halves of weigh, of a step: weights, which need no product of changes, and dS.
  void weighStep(const RowTile &r, const KeysAtHand &keys, Value statistics) {
    t.leaf("weigh_step", {r.logits, statistics, r.rows, keys.step, t.namedReal("kScale")});
  }
  void multiply(const RowTile &r, Value changes) {
    // What a region hides may have a slope that is no number; else changes of numbers are numbers.
    t.leaf("multiply_weights", {changes, r.logits}, {slope ? "true" : "false"});
  }

  /// The same turned round; `columns`: QueryColumns, `firstKey`: of the warp's 16.
  void prepareColumns(Value logits, Value changes, Value columns, Value firstKey) {
    t.leaf("subtract_column_deltas", {changes, columns});
    if (slope)
      t.leaf("multiply_column_slopes",
             {changes, logits, columns, firstKey, t.namedReal("kLogitScale"), slope});
  }
  void weighColumns(Value logits, Value changes, Value columns, Value firstKey) {
    t.leaf("weigh_columns", {logits, changes, columns, firstKey, t.namedReal("kScale")});
  }

private:
  mlir::Region *const derivative;
  Value slope;
};

} // namespace winnow
