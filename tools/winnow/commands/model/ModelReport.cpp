// Statistics and markdown of the model's validation.
#include "tools/winnow/commands/model/ModelReport.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <map>
#include <numeric>
#include <set>

namespace winnow {

namespace {

std::vector<double> ranks(const std::vector<double> &values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> result(values.size());
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin + 1;
    while (end < order.size() && values[order[end]] == values[order[begin]])
      ++end;
    for (size_t i = begin; i < end; ++i)
      result[order[i]] = (begin + end - 1) / 2.0;
    begin = end;
  }
  return result;
}

double medianOf(std::vector<double> values) {
  if (values.empty())
    return 0;
  std::sort(values.begin(), values.end());
  size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

} // namespace

double rankCorrelation(const std::vector<double> &a, const std::vector<double> &b) {
  std::vector<double> x = ranks(a), y = ranks(b);
  const double mean = (static_cast<double>(x.size()) - 1) / 2;
  double xy = 0, xx = 0, yy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean) * (y[i] - mean);
    xx += (x[i] - mean) * (x[i] - mean);
    yy += (y[i] - mean) * (y[i] - mean);
  }
  return xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : 0;
}

ModelVerdict verdictOf(const std::vector<ModelJudgement> &judgements) {
  std::vector<double> regrets, defaults, correlations;
  for (const ModelJudgement &one : judgements) {
    regrets.push_back(one.regret());
    if (one.defaultMs > 0)
      defaults.push_back(one.defaultRegret());
    if (one.candidates > 2)
      correlations.push_back(one.rankCorrelation);
  }
  auto worst = [](const std::vector<double> &values) {
    return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
  };
  return {medianOf(regrets), worst(regrets), medianOf(defaults), worst(defaults),
          medianOf(correlations)};
}

/// What was measured, and the verdict in words.
static std::string verdictText(const std::vector<ModelJudgement> &judgements,
                               const DeviceProfile &profile) {
  std::set<std::string> archs, specs;
  for (const ModelJudgement &one : judgements) {
    archs.insert(one.key.arch);
    specs.insert(one.key.method + one.key.spec.text());
  }
  const ModelVerdict verdict = verdictOf(judgements);
  std::string text = fmt::format(
      "Measured on an {}, running code of the levels {} within the shared memory of those. The "
      "model chose by the {}'s rates among the candidates that were timed; this is how much slower "
      "its choice ran than the best of them. No A100 and no RTX 4090 was measured, here or "
      "anywhere: for those it says that the model orders candidates well where it can be checked, "
      "and nothing about their times. The model's constants were fitted on sweeps of an H200 "
      "(autotune/model/PerformanceModel.h says on which): where these are among the trials, this "
      "is no "
      "independent check.\n\n",
      profile.device, fmt::join(archs, " and "), profile.device);
  text += fmt::format(
      "{} keys of {} specs: the model's choice is {:.1f} % slower than the best in the median and "
      "{:.1f} % at worst; the default configuration {:.1f} and {:.1f} %. Rank correlation of "
      "predicted and measured times: {:.2f} in the median.\n\n",
      judgements.size(), specs.size(), 100 * verdict.median, 100 * verdict.worst,
      100 * verdict.defaultMedian, 100 * verdict.defaultWorst, verdict.correlation);
  return text;
}

/// A row per key.
static std::string keyRows(const std::vector<ModelJudgement> &judgements) {
  std::string text =
      "| phase | spec | tokens | L | level | candidates | model's choice | ms (predicted) | best "
      "| ms | slower | default slower | rank correlation |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
  for (const ModelJudgement &one : judgements) {
    const Spec &spec = one.key.spec;
    text += fmt::format(
        "| {} | {} d = {}, {}/{} heads, blocks of {}, top-{}{} | {} | {} | {} | {} | {} | {:.3f} "
        "({:.3f}) | {} | {:.3f} | {:.1f} % | {} | {:.2f} |\n",
        one.key.phase, one.key.method, spec.headDim, spec.heads, spec.kvHeads, spec.block,
        spec.topk, one.key.batch > 0 ? fmt::format(", {} sequences", one.key.batch) : "",
        one.key.tokens, one.key.overlap > 0 ? std::to_string(one.key.overlap) : "", one.key.arch,
        one.candidates, shortText(one.choice), one.choiceMs, one.predictedMs, shortText(one.best),
        one.bestMs, 100 * one.regret(),
        one.defaultMs > 0 ? fmt::format("{:.1f} %", 100 * one.defaultRegret()) : "",
        one.rankCorrelation);
  }
  return text;
}

/// A row per level and phase.
static std::string levelRows(const std::vector<ModelJudgement> &judgements) {
  std::map<std::pair<std::string, std::string>, std::vector<ModelJudgement>> parts;
  for (const ModelJudgement &one : judgements)
    parts[{one.key.arch, one.key.phase}].push_back(one);
  std::string text = "| level | phase | keys | slower, median | worst | default slower, median "
                     "| worst | rank correlation, median |\n"
                     "|---|---|---|---|---|---|---|---|\n";
  for (const auto &[part, some] : parts) {
    const ModelVerdict verdict = verdictOf(some);
    text +=
        fmt::format("| {} | {} | {} | {:.1f} % | {:.1f} % | {:.1f} % | {:.1f} % | {:.2f} |\n",
                    part.first, part.second, some.size(), 100 * verdict.median, 100 * verdict.worst,
                    100 * verdict.defaultMedian, 100 * verdict.defaultWorst, verdict.correlation);
  }
  return text;
}

std::string modelTable(const std::vector<ModelJudgement> &judgements,
                       const DeviceProfile &profile) {
  return verdictText(judgements, profile) + keyRows(judgements);
}

std::string modelSummary(const std::vector<ModelJudgement> &judgements,
                         const DeviceProfile &profile) {
  constexpr size_t kWorst = 10;
  std::vector<ModelJudgement> worst = judgements;
  std::stable_sort(worst.begin(), worst.end(),
                   [](const auto &a, const auto &b) { return a.regret() > b.regret(); });
  worst.resize(std::min(kWorst, worst.size()));
  return fmt::format("{}{}\nThe {} keys with its slowest choices:\n\n{}",
                     verdictText(judgements, profile), levelRows(judgements), worst.size(),
                     keyRows(worst));
}

} // namespace winnow
