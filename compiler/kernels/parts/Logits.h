// Part: logits, and what becomes of them before the mask: the method's rewriting region, with the
// scales before and behind it.
#pragma once
#include "compiler/kernels/parts/Part.h"

namespace winnow {

class Logits : public Part {
public:
  using Part::Part;

  /// The region as a function of the kernel. `takesFactors`: its constant factors become part of
  /// the scales, which multiply anyway; constants() then has to come later.
  void declareRegion(bool takesFactors) {
    if (!plan.logitHook)
      return;
    keepsFactors = !takesFactors;
    region = takesFactors ? t.hook("rewrite", *plan.logitHook, factors)
                          : t.hook("rewrite", *plan.logitHook);
  }

  /// kScale is what turns a logit, rewritten if the method says so, into an exponent of 2.
  void constants() {
    constexpr double kLog2E = llvm::numbers::log2e;
    if (!plan.logitHook)
      return t.constant("kScale", plan.scale * kLog2E,
                        "softmax scale times log2 e: weights are powers of 2");
    t.constant("kLogitScale", plan.scale * factors.in,
               keepsFactors ? "softmax scale, before the method's rewriting of logits"
                            : "softmax scale, and the method's own factor on logits");
    t.constant("kScale", factors.out * kLog2E,
               keepsFactors ? "log2 e: weights are powers of 2"
                            : "the method's factor on rewritten logits times log2 e: weights are "
                              "powers of 2");
  }

  void declare(RowTile &r) {
    r.logits = t.fragment("logits" + r.suffix, t.type("Accumulator", {16, "@kKeys"}));
  }

  /// logit = region(kLogitScale * logit).
  void rewrite(llvm::ArrayRef<RowTile> rowTiles, const KeysAtHand &keys) {
    if (region)
      for (const RowTile &r : rowTiles)
        t.leaf(keys.step ? "map_step" : "map_logits",
               {r.logits, r.rows, keys.step ? keys.step : keys.first, scaleOf(r, "kLogitScale"),
                region});
  }

  /// The same of a tile whose columns are query rows.
  void rewriteColumns(Value logits, Value columns, Value firstKey) {
    if (region)
      t.leaf("map_column_logits", {logits, columns, firstKey, t.namedReal("kLogitScale"), region});
  }

private:
  HookScales factors;
  bool keepsFactors = true;
  Value region;
};

} // namespace winnow
