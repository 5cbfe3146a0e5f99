// What one query row attends to, and its softmax: shared by the two halves of the fp64 reference
// that have attention in them, forward and backward.
#pragma once
#include "reference/Reference.h"

namespace winnow::reference {

/// The key indices (in the sequence) that a row attends to: the set of valid blocks of `ids`
/// [topk], or all where the row is `dense`, cut at the row's position.
std::vector<int> visibleKeys(const Problem &problem, const Place &place, const int32_t *ids,
                             bool dense);
/// A logit as the method's region makes it; below -1e30 it counts as -inf: the key is hidden.
double mappedLogit(const Method &method, double logit, int position, int key);
/// Turns logits into probabilities; returns the log of the sum of exponentials. Where all are
/// hidden, probabilities are 0 and the logarithm is -inf; where one is NaN or +inf, everything is
/// NaN: no result is defined.
double softmax(double *logits, size_t count);

/// How far a sum of gradients may be off whose terms' errors have these `squares` in all: errors of
/// many terms have either sign, so that their squares are what adds up; and it is rounded.
double gradientBound(double squares, double exact, Dtype dtype);

/// The first entry of the ids of a row, for the lists of a method that selects.
inline const int32_t *idsOfRow(const Problem &problem, const int32_t *ids, int list, int row) {
  return ids + (static_cast<size_t>(list) * problem.totalQ() + row) * problem.topk;
}
/// Whether every key up to a row's position is attended to, whatever is selected.
inline bool isDense(const Method &method, const Place &place) {
  return !method.selects || place.keyCount < method.denseLen;
}

} // namespace winnow::reference
