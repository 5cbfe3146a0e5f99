// Part: how results leave: output rows divided by their sums, and the rows' log-sum-exp, where a
// null `out` or `lse` is not written; or, of a part of the keys, sums and maxima for merge. Entry:
// every key of the row tile has been added.
#pragma once
#include "compiler/kernels/parts/Part.h"

namespace winnow {

class Epilogue : public Part {
public:
  using Part::Part;

  void declare(RowTile &r) {
    r.output = t.fragment("output" + r.suffix, t.type("Accumulator", {16, "@kValueDim"}));
  }

  void store(const RowTile &r, Value firstHead) {
    complete(r, firstHead);
    t.leaf("store_output", {t.heads("out", plan.paged), r.output, r.state, r.rows, firstHead},
           {"@kHeads", plan.element});
    t.leaf("store_lse", {t.pointer("lse"), r.state, r.rows, firstHead,
                         t.field(t.params(), "total_q"), scaleOf(r, "kScale")});
  }
  /// What one of several blocks of threads has found for the same rows, for merge to join.
  void storePart(const RowTile &r, Value firstHead, Value values, Value states, Value part) {
    complete(r, firstHead);
    t.leaf("store_part",
           {values, states, r.output, r.state, r.rows, firstHead, part,
            t.field(t.params(), "total_q"), scaleOf(r, "kScale")},
           {"@kHeads"});
  }

private:
  /// Sums of all lanes, and true values in their columns.
  void complete(const RowTile &r, Value firstHead) {
    t.leaf("reduce_sum", {r.state});
    if (plan.hasFp8Keys())
      t.leaf("order_columns",
             {r.output,
              t.value("", "head_factor", {t.pointer("v_scale"), kvHeadOf(firstHead), t.real(1)})});
  }
};

} // namespace winnow
