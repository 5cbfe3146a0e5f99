// The online softmax; see Softmax.h. Three sets of leaves: for a key tile that every row wants, for
// one that some rows want, and for a step whose parts different rows want.
#include "compiler/kernels/parts/Softmax.h"

using namespace mlir;

namespace winnow {

Value Softmax::raise(const RowTile &r, const KeysAtHand &keys) {
  Value scale = t.namedReal("kScale");
  Type flag = t.builder.getI1Type();
  if (keys.step)
    return t.value("raised", "raise_step_maximum", {r.state, r.logits, r.rows, keys.step, scale},
                   {}, flag);
  if (options.someWant)
    return t.value("", "raise_wanted_maximum", {r.state, r.logits, r.rows, r.wants, scale}, {},
                   flag);
  return t.value("", "raise_maximum", {r.state, r.logits, scale}, {}, flag);
}

void Softmax::exponentiate(const RowTile &r, const KeysAtHand &keys) {
  Value scale = t.namedReal("kScale");
  if (keys.step)
    return t.leaf("exponentiate_step", {keys.sums, r.logits, r.state, r.rows, keys.step, scale},
                  {options.fmaColumns});
  if (options.someWant)
    return t.leaf("exponentiate_wanted", {r.logits, r.state, r.rows, r.wants, scale});
  t.leaf("exponentiate", {r.logits, r.state, scale});
}

void Softmax::addSums(const RowTile &r, const KeysAtHand &keys) {
  if (keys.step) // else exponentiate has added them
    t.leaf("add_step", {r.state, keys.sums});
}

void Softmax::step(const RowTile &r, const KeysAtHand &keys) {
  rescale(r, raise(r, keys));
  exponentiate(r, keys);
  addSums(r, keys);
}

Value Softmax::stepBesideProduct(const RowTile &r, const KeysAtHand &keys,
                                 function_ref<void()> remake) {
  Value raised;
  if (options.lazy) {
    exponentiate(r, keys);
    Value leaves = t.value("", "leaves_range", {keys.sums}, {plan.element}, t.builder.getI1Type());
    auto again = [&] {
      remake();
      Value raised = raise(r, keys);
      exponentiate(r, keys);
      return raised;
    };
    raised = t.choose("raised", leaves, again, [&] { return t.flag(false); });
  } else {
    raised = raise(r, keys);
    exponentiate(r, keys);
  }
  addSums(r, keys);
  return raised;
}

} // namespace winnow
