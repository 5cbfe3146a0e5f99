// Part: the online softmax in base 2: logits become weights relative to the rows' maxima. Serves
// attend. Entry: logits are rewritten and masked. Exit: weights in their place, their row sums in
// the state, and the output rescaled where a maximum was raised, or due to be.
#pragma once
#include "compiler/kernels/parts/Tokens.h"

namespace winnow {

class Softmax {
public:
  struct Options {
    bool someWant = false; ///< rows may stand for tokens that do not want the key tile at hand
    bool lazy = false;     ///< after the first step a maximum is taken only where it is needed
    int fmaColumns = 0;    ///< of every 4, those whose exponentials the FMA units make
  };
  Softmax(TileBuilder &t, const AttendPlan &plan, Options options)
      : t(t), plan(plan), options(options) {}

  void declare(RowTile &r) { r.state = t.fragment("state" + r.suffix, t.type("SoftmaxState")); }

  /// One step; nothing is on its way to the output, which follows a raised maximum at once.
  void step(const RowTile &r, const KeysAtHand &keys);
  /// One step while a product adds to the output. Returns whether the output must follow, by
  /// rescale, once the product is there. `remake` makes the logits anew, for one warp: the lazy
  /// maximum asks for it where the weights have left the range that they hold well.
  mlir::Value stepBesideProduct(const RowTile &r, const KeysAtHand &keys,
                                llvm::function_ref<void()> remake);
  void rescale(const RowTile &r, mlir::Value raised) {
    t.when(raised, [&] { t.leaf("rescale_rows", {r.output, r.state}); });
  }

private:
  mlir::Value raise(const RowTile &r, const KeysAtHand &keys);
  void exponentiate(const RowTile &r, const KeysAtHand &keys);
  void addSums(const RowTile &r, const KeysAtHand &keys);

  TileBuilder &t;
  const AttendPlan &plan;
  const Options options;
};

} // namespace winnow
