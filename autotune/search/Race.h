// Who is fastest, and how sure is that: candidates are timed in interleaved rounds, so that a clock
// that drifts, a neighbour on the machine or a warming card meets all of them alike (fault F27).
// What is compared are ratios of times of the same round. Those that cannot win any more drop out;
// the finalists run again in another order.
#pragma once
#include "runtime/Error.h"
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace winnow {

struct RaceOptions {
  double warmSeconds = 0.3; ///< real candidates run that long before anything counts
  int minRounds = 5;        ///< before anybody drops out, unless far behind
  int maxRounds = 25;
  int finalists = 4; ///< beside the default
  int finalRounds = 20;
  double budgetSeconds =
      60;                 ///< no new round begins after this; the final takes six rounds at least
  double farBehind = 1.4; ///< ratio to the leader that ends it after three rounds, twice it before
  uint64_t seed = 1;      ///< of the orders
};

enum class Outcome { Best, Kept, Dropped, Rejected };
const char *name(Outcome outcome);

struct Standing {
  Outcome outcome = Outcome::Kept;
  std::string reason; ///< of Rejected
  /// It wins with a ratio to the default below this alone: less than 1 where it costs what is not
  /// timed.
  double mostRatio = 1;
  /// Finalists: median of their times in the final, and its 95 % interval. Others: what their ratio
  /// to the default makes of the default's time, so that a drift of the clock does not count.
  double ms = 0, low = 0, high = 0;
  double ratio = 1; ///< median of its times over the default's, of the same rounds
  double ratioLow = 1, ratioHigh = 1;
  int rounds = 0; ///< behind these figures
};

struct RaceResult {
  size_t best = 0; ///< the default (0) unless another one is faster beyond doubt (fault F41)
  std::vector<Standing> standings;
};

/// Times one launch (or a few) of a candidate, in milliseconds. An error rejects the candidate.
using CandidateTimer = std::function<Result<double>(size_t candidate)>;

/// Runs the race. Candidate 0 is the default; it never drops out. `alive[i]` false: rejected
/// before, with `reasons[i]`. `progress` is called with the number of rounds done and expected.
/// Error: DeviceFailed where no candidate is left, with the default's reason.
Result<RaceResult> race(std::vector<Standing> standings, const CandidateTimer &timer,
                        const RaceOptions &options,
                        const std::function<void(double)> &progress = {});

struct Interval {
  double median = 0, low = 0, high = 0;
};
/// Median and its confidence interval by order statistics (Conover, Practical Nonparametric
/// Statistics, 3.2): no assumption about the distribution. `doubt`: the chance that the median lies
/// outside, at most. With too few values for that (below six for 5 %) the interval is the whole
/// range.
Interval medianInterval(std::vector<double> values, double doubt = 0.05);

} // namespace winnow
