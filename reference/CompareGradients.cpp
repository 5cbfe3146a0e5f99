// Comparison of gradients with the fp64 reference: element by element, and as a whole, since errors
// of single elements may each be as large as their bound but not all at once.
#include "reference/Compare.h"
#include "reference/Half.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>

namespace winnow::reference {

namespace {

/// One tensor, rows of `width` elements of `heads` heads.
GradientReport::Tensor compareTensor(const char *name, const Gradient &expected,
                                     const uint16_t *words, Dtype dtype, int heads, int width,
                                     std::string &first) {
  GradientReport::Tensor report;
  double errors = 0, bounds = 0;
  for (size_t i = 0; i < expected.exact.size(); ++i) {
    const double exact = expected.exact[i], bound = expected.bound[i],
                 got = fromWord(words[i], dtype), error = std::fabs(got - exact);
    if (std::isnan(exact)) // a row for which the method's region defines no result
      continue;
    const bool isBad = !std::isfinite(got) || (bound == 0 && got != 0);
    report.bad += isBad;
    if (isBad || error > bound) {
      const size_t row = i / width, place = row / heads;
      if (first.empty())
        first = fmt::format("{} of token {}, head {}, element {} is {:.6g}, not {:.6g}", name,
                            expected.tokens.empty() ? place : expected.tokens[place], row % heads,
                            i % width, got, exact);
    }
    if (isBad || bound == 0)
      continue;
    report.maxError = std::max(report.maxError, error);
    report.largest = std::max(report.largest, std::fabs(exact));
    report.excess = std::max(report.excess, error / bound);
    errors += error * error;
    bounds += bound * bound;
  }
  report.rmsExcess = bounds > 0 ? std::sqrt(errors / bounds) : 0;
  return report;
}

} // namespace

GradientReport compareGradients(const Problem &problem, const Gradients &expected,
                                const uint16_t *dq, const uint16_t *dk, const uint16_t *dv) {
  GradientReport report;
  auto compare = [&](const char *name, const Gradient &gradient, const uint16_t *words, int heads,
                     int width) {
    return compareTensor(name, gradient, words, problem.dtype, heads, width, report.first);
  };
  report.q = compare("dq", expected.q, dq, problem.heads, problem.headDim);
  report.k = compare("dk", expected.k, dk, problem.kvHeads, problem.headDim);
  report.v = compare("dv", expected.v, dv, problem.kvHeads, problem.valueWidth());
  return report;
}

bool GradientReport::withinBars() const {
  auto within = [](const Tensor &tensor) {
    return tensor.bad == 0 && tensor.excess <= 1 && tensor.rmsExcess <= 0.5;
  };
  return within(q) && within(k) && within(v);
}

std::string GradientReport::text() const {
  std::string line;
  const std::pair<const char *, const Tensor *> tensors[] = {{"dq", &q}, {"dk", &k}, {"dv", &v}};
  for (const auto &[name, tensor] : tensors) {
    line +=
        fmt::format("{}{} off by {:.2g} of {:.2g} ({:.0f} % of the bound, {:.0f} % in the mean)",
                    line.empty() ? "" : ", ", name, tensor->maxError, tensor->largest,
                    tensor->excess * 100, tensor->rmsExcess * 100);
    if (tensor->bad)
      line += fmt::format(" with {} values that are NaN, infinite or not the exact 0", tensor->bad);
  }
  return line;
}

} // namespace winnow::reference
