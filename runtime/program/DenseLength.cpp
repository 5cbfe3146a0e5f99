// The formula's value as a number of keys.
#include "runtime/program/DenseLength.h"
#include <algorithm>
#include <climits>

namespace winnow {

Result<DenseLength> DenseLength::parse(const std::string &formula) {
  DenseLength length;
  if (!formula.empty()) {
    WINNOW_TRY(length.formula, Formula::parse(formula, Variable::MaxK));
  }
  return length;
}

Result<int> DenseLength::of(int batch, int maxQ) const {
  Variables launch;
  launch[Variable::Batch] = batch;
  launch[Variable::MaxQ] = maxQ;
  WINNOW_TRY(const int64_t keys, formula.evaluate(launch));
  return static_cast<int>(std::clamp<int64_t>(keys, 0, INT_MAX));
}

} // namespace winnow
