// Part: how results leave: output rows divided by their sums, and the rows' log-sum-exp. Serves
// attend. Entry: every key of the row tile has been added. A null `out` or `lse` is not written.
#pragma once
#include "compiler/kernels/parts/Tokens.h"

namespace winnow {

class Epilogue {
public:
  Epilogue(TileBuilder &t, const AttendPlan &plan) : t(t), plan(plan) {}

  void declare(RowTile &r) {
    r.output = t.fragment("output" + r.suffix, t.type("Accumulator", {16, "@kValueDim"}));
  }

  void store(const RowTile &r, mlir::Value firstHead) {
    t.leaf("reduce_sum", {r.state});
    t.leaf("store_output", {t.pointer("out"), r.output, r.state, r.rows, firstHead},
           {"@kHeads", plan.element});
    t.leaf("store_lse", {t.pointer("lse"), r.state, r.rows, firstHead,
                         t.field(t.params(), "total_q"), t.namedReal("kScale")});
  }

private:
  TileBuilder &t;
  const AttendPlan &plan;
};

} // namespace winnow
