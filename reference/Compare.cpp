// Comparison of selections (as sets, ties within rounding accepted) and of outputs with the fp64
// reference.
#include "reference/Compare.h"
#include "reference/Half.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>

namespace winnow::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Compares one row of ids with one row of the reference.
class RowComparison {
public:
  /// `exact`: the row's selection on unrounded summaries, or null.
  RowComparison(const Method &method, const Problem &problem, const RowSelection &expected,
                const RowSelection *exact, int row, int head, SelectionReport &report)
      : method(method), problem(problem), expected(expected), exact(exact), row(row), head(head),
        report(report) {}

  void run(const int32_t *ids, double tolerance, bool strictTies) {
    auto count = static_cast<int>(expected.ids.size());
    report.rows++;
    report.picks += count;
    if (!wellFormed(ids, count))
      return;
    std::vector<int32_t> got(ids, ids + count), extra, missing;
    std::set_difference(got.begin(), got.end(), expected.ids.begin(), expected.ids.end(),
                        std::back_inserter(extra));
    std::set_difference(expected.ids.begin(), expected.ids.end(), got.begin(), got.end(),
                        std::back_inserter(missing));
    int position = placeOf(problem, row).position;
    const char *measure = expected.logarithmic ? "score's logarithm" : "score";
    for (int32_t b : missing)
      if (isForced(method, problem, position, b))
        wrong(fmt::format("forced block {} is missing", b));
      else if (!near(expected, b, tolerance) && !rightOnExactWindows(b, true, tolerance))
        wrong(fmt::format("block {} is missing: its {} {:.6g} is above the threshold {:.6g}", b,
                          measure, expected.scores[b], expected.threshold));
      else
        report.ties++;
    for (int32_t b : extra) {
      if (!near(expected, b, tolerance) && !rightOnExactWindows(b, false, tolerance))
        wrong(fmt::format("block {} was picked: its {} {:.6g} is below the threshold {:.6g}", b,
                          measure, expected.scores[b], expected.threshold));
      bool breaksRule = std::any_of(missing.begin(), missing.end(), [&](int32_t m) {
        return m < b && expected.scores[m] == expected.scores[b];
      });
      if (strictTies && breaksRule)
        wrong(fmt::format("block {} was picked before a smaller id of equal score", b));
    }
  }

private:
  /// Whether leaving block b out (`missing`), or taking it, is right by the scores of the exact
  /// windows, within the rounding of 16-bit summaries.
  bool rightOnExactWindows(int32_t b, bool missing, double tolerance) const {
    if (!exact)
      return false;
    bool right =
        missing ? exact->scores[b] < exact->threshold : exact->scores[b] > exact->threshold;
    return right || near(*exact, b, tolerance, exact->rounding);
  }

  bool wellFormed(const int32_t *ids, int count) {
    auto causal = static_cast<int32_t>(expected.scores.size());
    for (int i = 0; i < problem.topk; ++i) {
      if (i >= count && ids[i] != -1)
        return wrong(fmt::format("entry {} is {} and should be padding (-1)", i, ids[i])), false;
      if (i < count && (ids[i] < 0 || ids[i] >= causal))
        return wrong(fmt::format("entry {} is {}, not one of the {} causal blocks", i, ids[i],
                                 causal)),
               false;
      if (i > 0 && i < count && ids[i] <= ids[i - 1])
        return wrong(fmt::format("entries {} and {} are not ascending: {}, {}", i - 1, i,
                                 ids[i - 1], ids[i])),
               false;
    }
    return true;
  }

  /// `rounding`: of logarithms, beside the tolerance.
  static bool near(const RowSelection &selection, int32_t block, double tolerance,
                   double rounding = 0) {
    double score = selection.scores[block], threshold = selection.threshold;
    if (score == threshold)
      return true;
    if (std::isinf(score) || std::isinf(threshold))
      return false;
    const double largest = std::max(std::fabs(score), std::fabs(threshold));
    // A logit of any size is a sum of fp32 products, whose rounding grows with it.
    const double accepted = selection.logarithmic
                                ? std::log1p(tolerance) + rounding + largest * 0x1p-18
                                : tolerance * largest + selection.slack;
    return std::fabs(score - threshold) <= accepted;
  }

  void wrong(const std::string &what) {
    report.wrong++;
    if (report.first.empty())
      report.first = fmt::format("token {}, select head {}: {}", row, head, what);
  }

  const Method &method;
  const Problem &problem;
  const RowSelection &expected, *exact;
  int row, head;
  SelectionReport &report;
};

void add(SelectionReport &report, const SelectionReport &row) {
  report.rows += row.rows;
  report.picks += row.picks;
  report.ties += row.ties;
  report.wrong += row.wrong;
  if (report.first.empty())
    report.first = row.first;
}

} // namespace

SelectionReport compareSelection(const Method &method, const Problem &problem,
                                 const Selection &expected, const int32_t *ids, double tolerance,
                                 bool strictTies) {
  SelectionReport report;
  auto idsOf = [&](int head, int row) {
    return ids + (static_cast<size_t>(head) * problem.totalQ() + row) * problem.topk;
  };
  // Rows that differ beyond rounding are judged again, on unrounded summaries as well.
  Options again;
  again.exactWindows = true;
  std::vector<size_t> indices;
  for (size_t i = 0; i < expected.rows.size(); ++i) {
    SelectionReport row;
    for (int head = 0; head < expected.selectHeads; ++head)
      if (const RowSelection &entry = expected.at(head, i); !entry.ids.empty())
        RowComparison(method, problem, entry, nullptr, expected.rows[i], head, row)
            .run(idsOf(head, expected.rows[i]), tolerance, strictTies);
    if (row.wrong > 0 && method.selects) {
      again.rows.push_back(expected.rows[i]);
      indices.push_back(i);
      continue;
    }
    add(report, row);
  }
  if (indices.empty())
    return report;
  Selection exact = select(method, problem, again);
  for (size_t i = 0; i < indices.size(); ++i) {
    SelectionReport row;
    for (int head = 0; head < expected.selectHeads; ++head)
      if (const RowSelection &entry = expected.at(head, indices[i]); !entry.ids.empty())
        RowComparison(method, problem, entry, &exact.at(head, i), again.rows[i], head, row)
            .run(idsOf(head, again.rows[i]), tolerance, strictTies);
    add(report, row);
  }
  return report;
}

FreePicks countFreePicks(const Method &method, const Problem &problem, const Selection &expected,
                         const int32_t *ids) {
  FreePicks picks;
  for (size_t i = 0; i < expected.rows.size(); ++i)
    for (int head = 0; head < expected.selectHeads; ++head) {
      const int row = expected.rows[i], position = placeOf(problem, row).position;
      const int32_t *got =
          ids + (static_cast<size_t>(head) * problem.totalQ() + row) * problem.topk;
      for (int32_t b : expected.at(head, i).ids)
        if (!isForced(method, problem, position, b)) {
          picks.expected++;
          picks.found += std::count(got, got + problem.topk, b);
        }
    }
  return picks;
}

static void noteLse(double error, double bound, OutputReport &report) {
  report.lseError = std::max(report.lseError, error);
  report.lseExcess = std::max(report.lseExcess, error / bound);
}

OutputReport compareOutput(const Problem &problem, const Attention &expected, const uint16_t *out,
                           const float *lse) {
  OutputReport report;
  size_t width = static_cast<size_t>(expected.heads) * expected.valueDim;
  report.elements = static_cast<long>(expected.rows.size() * width);
  for (size_t i = 0; i < expected.rows.size(); ++i) {
    auto row = static_cast<size_t>(expected.rows[i]);
    auto isUndefined = [&](size_t head) {
      return std::isnan(expected.lse[head * expected.rows.size() + i]);
    };
    for (int head = 0; head < expected.heads; ++head)
      if (isUndefined(head) && report.undefined++ == 0)
        report.firstUndefined = fmt::format("token {}, head {}", row, head);
    for (size_t e = 0; e < width; ++e) {
      if (isUndefined(e / expected.valueDim))
        continue;
      double exact = expected.out[i * width + e];
      double got = fromWord(out[row * width + e], problem.dtype);
      if (!std::isfinite(got)) {
        report.bad++;
        continue;
      }
      report.maxError = std::max(report.maxError, std::fabs(got - exact));
      report.excess =
          std::max(report.excess, std::fabs(got - exact) / expected.bound[i * width + e]);
      report.plainError =
          std::max(report.plainError, std::fabs(expected.plain[i * width + e] - exact));
    }
    for (int head = 0; lse && head < expected.heads; ++head) {
      if (isUndefined(head))
        continue;
      double exact = expected.lse[head * expected.rows.size() + i];
      double got = lse[static_cast<size_t>(head) * problem.totalQ() + row];
      if (exact == -kInfinity || !std::isfinite(got))
        report.bad += got != exact;
      else
        noteLse(std::fabs(got - exact), expected.lseBound[head * expected.rows.size() + i], report);
    }
  }
  return report;
}

bool OutputReport::withinBars() const {
  // Of few elements the largest error is a matter of chance, and so is a comparison of two such.
  constexpr long few = 4096;
  bool likePlain = elements < few || maxError <= 2 * plainError;
  return bad == 0 && undefined == 0 && likePlain && excess <= 1 && lseExcess <= 1;
}

std::string OutputReport::text() const {
  std::string line = fmt::format("max abs error {:.3g} (plain 16-bit {:.3g}), {:.0f} % of the "
                                 "rounding bound, LSE error {:.2g}",
                                 maxError, plainError, excess * 100, lseError);
  if (bad)
    line += fmt::format(", {} NaN or infinite values", bad);
  if (undefined)
    line +=
        fmt::format(", {} rows without a defined result, since the method's region gives NaN or "
                    "+inf (first: {})",
                    undefined, firstUndefined);
  return line;
}

} // namespace winnow::reference
