// Part: how results leave: output rows divided by their sums, and the rows' log-sum-exp; a null
// `out` or `lse` is not written. Entry: every key of the row tile has been added.
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
    t.leaf("reduce_sum", {r.state});
    t.leaf("store_output", {t.heads("out", plan.paged), r.output, r.state, r.rows, firstHead},
           {"@kHeads", plan.element});
    t.leaf("store_lse", {t.pointer("lse"), r.state, r.rows, firstHead,
                         t.field(t.params(), "total_q"), t.namedReal("kScale")});
  }
};

} // namespace winnow
