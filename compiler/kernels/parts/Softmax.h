// Part: the online softmax in base 2. Entry: logits are rewritten and masked. Exit: weights
// relative to the rows' maxima in their place, their row sums in the state, and the output rescaled
// where a maximum was raised, or due to be. Leaves exist for a key tile that every row wants, for
// one that some rows want, and for a step of tiles that different rows want.
#pragma once
#include "compiler/kernels/parts/Part.h"

namespace winnow {

class Softmax : public Part {
public:
  struct Options {
    bool someWant = false; ///< rows may stand for tokens that do not want the key tile at hand
    bool lazy = false;     ///< after the first step a maximum is taken only where it is needed
    int fmaColumns = 0;    ///< of every 4, those whose exponentials the FMA units make
  };
  Softmax(KernelBuilder &t, const AttendPlan &plan, Options options)
      : Part(t, plan), options(options) {}

  void declare(RowTile &r) { r.state = t.fragment("state" + r.suffix, t.type("SoftmaxState")); }

  /// One step; nothing is on its way to the output, which follows a raised maximum at once.
  void step(const RowTile &r, const KeysAtHand &keys) {
    rescale(r, raise(r, keys));
    exponentiate(r, keys);
    addSums(r, keys);
  }

  /// One step while a product adds to the output. Returns whether the output must follow, by
  /// rescale, once the product is there. `remake` makes the logits anew, for one warp: the lazy
  /// maximum asks for it where the weights have left the range that they hold well.
  Value stepBesideProduct(const RowTile &r, const KeysAtHand &keys,
                          llvm::function_ref<void()> remake) {
    auto raiseFirst = [&] {
      Value raised = raise(r, keys);
      exponentiate(r, keys);
      return raised;
    };
    auto raiseIfNeeded = [&] {
      exponentiate(r, keys);
      Value leaves = t.value("", "leaves_range", {keys.sums}, {plan.element});
      return t.choose(
          "raised", leaves,
          [&] {
            remake();
            return raiseFirst();
          },
          [&] { return t.flag(false); });
    };
    Value raised = options.lazy ? raiseIfNeeded() : raiseFirst();
    addSums(r, keys);
    return raised;
  }
  void rescale(const RowTile &r, Value raised) {
    t.when(raised, [&] { t.leaf("rescale_rows", {r.output, r.state}); });
  }

private:
  Value raise(const RowTile &r, const KeysAtHand &keys) {
    Value scale = scaleOf(r, "kScale");
    if (keys.step)
      return t.value("raised", "raise_step_maximum", {r.state, r.logits, r.rows, keys.step, scale});
    if (!options.someWant)
      return t.value("", "raise_maximum", {r.state, r.logits, scale});
    return t.value("", "raise_wanted_maximum", {r.state, r.logits, r.rows, r.wants, scale});
  }
  void exponentiate(const RowTile &r, const KeysAtHand &keys) {
    Value scale = scaleOf(r, "kScale");
    if (keys.step)
      return t.leaf("exponentiate_step", {keys.sums, r.logits, r.state, r.rows, keys.step, scale},
                    {options.fmaColumns});
    if (!options.someWant)
      return t.leaf("exponentiate", {r.logits, r.state, scale});
    t.leaf("exponentiate_wanted", {r.logits, r.state, r.rows, r.wants, scale});
  }
  /// Of steps only; of a key tile exponentiate has added them.
  void addSums(const RowTile &r, const KeysAtHand &keys) {
    if (keys.step)
      t.leaf("add_step", {r.state, keys.sums});
  }

  const Options options;
};

} // namespace winnow
