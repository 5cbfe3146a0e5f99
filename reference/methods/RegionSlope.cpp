// See RegionSlope.h.
#include "reference/methods/RegionSlope.h"
#include <algorithm>
#include <cmath>
#include <map>

namespace winnow {
namespace {

/// A term without derivative counts nothing, whatever it is multiplied by.
double times(double dx, double factor) { return dx == 0 ? 0 : dx * factor; }

double zero(const double *, const double *, double) { return 0; }

/// Of two operands the larger's or the smaller's; of equal ones the first's.
template <bool kLarger> double chosen(const double *x, const double *dx, double) {
  const bool takesFirst = kLarger ? x[0] >= x[1] : x[0] <= x[1];
  return takesFirst || std::isnan(x[1]) ? dx[0] : dx[1];
}

const std::map<std::string, RegionSlope> &realSlopes() {
  static const std::map<std::string, RegionSlope> slopes = {
      {"arith.select",
       [](const double *x, const double *dx, double) { return x[0] != 0 ? dx[1] : dx[2]; }},
      {"arith.addf", [](const double *, const double *dx, double) { return dx[0] + dx[1]; }},
      {"arith.subf", [](const double *, const double *dx, double) { return dx[0] - dx[1]; }},
      {"arith.mulf", [](const double *x, const double *dx,
                        double) { return times(dx[0], x[1]) + times(dx[1], x[0]); }},
      {"arith.divf",
       [](const double *x, const double *dx, double) {
         return times(dx[0], 1 / x[1]) - times(dx[1], x[0] / (x[1] * x[1]));
       }},
      {"arith.negf", [](const double *, const double *dx, double) { return -dx[0]; }},
      {"math.fma", [](const double *x, const double *dx,
                      double) { return times(dx[0], x[1]) + times(dx[1], x[0]) + dx[2]; }},
      {"math.absf",
       [](const double *x, const double *dx, double) {
         return x[0] > 0 ? dx[0] : x[0] < 0 ? -dx[0] : 0;
       }},
      {"arith.maximumf", chosen<true>},
      {"arith.maxnumf", chosen<true>},
      {"arith.minimumf", chosen<false>},
      {"arith.minnumf", chosen<false>},
      {"math.sqrt",
       [](const double *, const double *dx, double y) { return times(dx[0], 0.5 / y); }},
      {"math.rsqrt",
       [](const double *, const double *dx, double y) { return times(dx[0], -0.5 * y * y * y); }},
      {"math.exp", [](const double *, const double *dx, double y) { return times(dx[0], y); }},
      {"math.exp2",
       [](const double *, const double *dx, double y) { return times(dx[0], y * std::log(2.0)); }},
      {"math.log",
       [](const double *x, const double *dx, double) { return times(dx[0], 1 / x[0]); }},
      {"math.log2", [](const double *x, const double *dx,
                       double) { return times(dx[0], 1 / (x[0] * std::log(2.0))); }},
      {"math.powf",
       [](const double *x, const double *dx, double y) {
         return times(dx[0], x[1] * std::pow(x[0], x[1] - 1)) + times(dx[1], y * std::log(x[0]));
       }},
      {"math.tanh",
       [](const double *x, const double *dx, double) {
         const double steep = 1 / std::cosh(x[0]);
         return times(dx[0], steep * steep);
       }},
      {"math.erf",
       [](const double *x, const double *dx, double) {
         return times(dx[0], 2 / std::sqrt(std::acos(-1.0)) * std::exp(-x[0] * x[0]));
       }},
      {"math.sin",
       [](const double *x, const double *dx, double) { return times(dx[0], std::cos(x[0])); }},
      {"math.cos",
       [](const double *x, const double *dx, double) { return times(dx[0], -std::sin(x[0])); }},
      // Rounding to 16 bits counts as leaving a number as it is.
      {"arith.truncf", [](const double *, const double *dx, double) { return dx[0]; }},
      {"arith.extf", [](const double *, const double *dx, double) { return dx[0]; }},
  };
  return slopes;
}

} // namespace

RegionSlope regionSlope(const std::string &op) {
  constexpr const char *kWithout[] = {"math.floor",     "math.ceil",    "math.trunc",
                                      "math.roundeven", "arith.fptosi", "arith.fptoui"};
  if (std::find(std::begin(kWithout), std::end(kWithout), op) != std::end(kWithout))
    return nullptr;
  auto found = realSlopes().find(op);
  return found == realSlopes().end() ? zero : found->second;
}

} // namespace winnow
