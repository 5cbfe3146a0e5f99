// How good the performance model's choices are where they can be measured: its choice among the
// candidates of a sweep, against the best one that the sweep found.
#pragma once
#include "autotune/model/PerformanceModel.h"
#include <string>
#include <vector>

namespace winnow {

/// One key of a sweep.
struct ModelJudgement {
  TuningKey key;
  int candidates = 0; ///< that were timed
  Config choice, best;
  double choiceMs = 0, bestMs = 0, defaultMs = 0; ///< measured; defaultMs 0 where it was not timed
  double predictedMs = 0;                         ///< of the choice
  double rankCorrelation = 0;                     ///< Spearman's, of predicted and measured times
  double regret() const { return choiceMs / bestMs - 1; }
  double defaultRegret() const { return defaultMs > 0 ? defaultMs / bestMs - 1 : 0; }
};

struct ModelVerdict {
  double median = 0, worst = 0;               ///< of the choices' regret
  double defaultMedian = 0, defaultWorst = 0; ///< of the defaults'
  double correlation = 0;                     ///< median
};

/// Spearman's rank correlation of two lists of equal length; ties share their mean rank. 0 where it
/// is undefined.
double rankCorrelation(const std::vector<double> &a, const std::vector<double> &b);
ModelVerdict verdictOf(const std::vector<ModelJudgement> &judgements);
/// Markdown: what was measured on which device, the verdict in words, and a row per key. `profile`
/// is that of the measuring device.
std::string modelTable(const std::vector<ModelJudgement> &judgements, const DeviceProfile &profile);
/// The same for a page: a row per level and phase, and the ten keys with the slowest choices.
std::string modelSummary(const std::vector<ModelJudgement> &judgements,
                         const DeviceProfile &profile);

} // namespace winnow
