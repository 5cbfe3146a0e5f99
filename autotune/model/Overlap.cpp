// The union of neighbours' lists, by the statistics of normal scores.
//
// Scores of neighbouring tokens are standard normal with correlation cos(a), a = pi / (2 overlap):
// see overlappingIds in tools/winnow/commands/bench/BenchInputs.h. A token selects the blocks whose
// score exceeds the bound u that a share p of all open blocks exceeds. The chance that the next
// token selects a block that this one did not is
//   d = P(x <= u, y > u) = 1 / (2 pi) * integral over s from 0 to a of exp(-u^2 / (1 + cos s))
// (Plackett 1954, the derivative of the bivariate normal distribution by its correlation). Taking
// the steps from token to token as a Markov chain, a block stays outside all of n lists with
// probability (1 - p) (1 - d / (1 - p))^(n - 1): exact for independent tokens, and within 3 % of
// the measured unions.
#include "autotune/model/Overlap.h"
#include <algorithm>
#include <cmath>

namespace winnow {

namespace {

constexpr double kPi = 3.14159265358979323846;

/// The bound that a share `p` of a standard normal population exceeds.
double boundOf(double p) {
  double low = -8, high = 8;
  for (int i = 0; i < 50; ++i) {
    double middle = (low + high) / 2;
    (std::erfc(middle / std::sqrt(2.0)) / 2 > p ? low : high) = middle;
  }
  return low;
}

/// P(x <= u, y > u) of two standard normal numbers with correlation cos(angle), angle at most a
/// right one. Simpson's rule: the integrand is smooth.
double entering(double u, double angle) {
  constexpr int kSteps = 8;
  double sum = 0;
  for (int i = 0; i <= kSteps; ++i) {
    double weight = i == 0 || i == kSteps ? 1 : i % 2 == 1 ? 4 : 2;
    sum += weight * std::exp(-u * u / (1 + std::cos(angle * i / kSteps)));
  }
  return sum * angle / kSteps / 3 / (2 * kPi);
}

} // namespace

double unionOfLists(const ListShape &lists, double tokens, int own) {
  const double causal = own + 1;
  if (causal <= lists.topk)
    return causal;
  // Each token has its own window of local blocks; those of neighbours differ at block borders.
  const double forced = lists.init + lists.local + (tokens - 1) / lists.block;
  const double searched = lists.topk - lists.init - lists.local;
  const double open = causal - lists.init - lists.local;
  if (searched <= 0 || open <= searched)
    return std::min(causal, std::max<double>(forced, lists.topk));
  const double p = searched / open;
  const double step = entering(boundOf(p), kPi / 2 / std::max(1, lists.overlap));
  const double outside = (1 - p) * std::pow(std::max(0.0, 1 - step / (1 - p)), tokens - 1);
  return std::min(causal, forced + open * (1 - outside));
}

} // namespace winnow
