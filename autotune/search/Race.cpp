// The rounds. All ratios are to the default of the same round, so a drift of the clock cancels;
// leaders and losers are told apart by intervals of those ratios.
#include "autotune/search/Race.h"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <fmt/format.h>
#include <numeric>
#include <random>

namespace winnow {

namespace {

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class Racer {
public:
  Racer(std::vector<Standing> start, const CandidateTimer &timer, const RaceOptions &options,
        const std::function<void(double)> &progress)
      : standings(std::move(start)), times(standings.size()), timer(timer), options(options),
        progress(progress), random(options.seed), began(seconds()) {
    for (size_t i = 0; i < standings.size(); ++i)
      if (standings[i].outcome != Outcome::Rejected)
        running.push_back(i);
  }

  Result<RaceResult> run() {
    warmUp();
    // One round whatever the budget: without a time of everybody the finalists would be drawn
    // blindly.
    for (int round = 0; round < options.maxRounds && (round == 0 || !over()); ++round) {
      if (running.empty())
        break;
      runRound(round);
      dropLosers(round + 1);
      tell(round + 1, options.maxRounds + options.finalRounds);
      if (static_cast<int>(running.size()) <= 1 + options.finalists &&
          round + 1 >= options.minRounds)
        break;
    }
    if (running.empty())
      return allFailed();
    runFinal();
    return finish();
  }

private:
  bool over() const { return running.empty() || seconds() - began > options.budgetSeconds; }

  tl::unexpected<Error> allFailed() const {
    std::string why = standings.empty() ? "there is none" : "the default: " + standings[0].reason;
    return fail(ErrorKind::DeviceFailed,
                fmt::format("every candidate failed; nothing is stored; {}", why));
  }

  void reject(size_t i, const std::string &reason) {
    standings[i].outcome = Outcome::Rejected;
    standings[i].reason = reason;
    running.erase(std::remove(running.begin(), running.end(), i), running.end());
  }

  bool time(size_t i, double &milliseconds) {
    Result<double> result = timer(i);
    if (result && std::isfinite(*result) && *result > 0) {
      milliseconds = *result;
      return true;
    }
    reject(i, result ? "its time is no number above 0" : result.error().message);
    return false;
  }

  /// Clocks rise and caches fill under the load that will be measured. Candidates that are so slow
  /// that a few of them warm the card are not all run for it.
  void warmUp() {
    double until = seconds() + options.warmSeconds, ignored;
    do
      for (size_t i : std::vector<size_t>(running)) {
        time(i, ignored);
        if (options.warmSeconds > 0 && seconds() >= until)
          return;
      }
    while (!running.empty() && seconds() < until);
  }

  /// One time of everybody; the order is another one each round. Rounds where somebody failed count
  /// for the others.
  void runRound(int round) {
    std::vector<size_t> order(running);
    if (round % 2)
      std::reverse(order.begin(), order.end());
    if (round % 4 >= 2)
      std::shuffle(order.begin(), order.end(), random);
    std::vector<double> row(standings.size(), NAN);
    for (size_t i : order)
      time(i, row[i]);
    for (size_t i = 0; i < row.size(); ++i)
      times[i].push_back(row[i]);
  }

  /// Of the rounds that both took part in, from `from` on.
  std::vector<double> ratios(size_t a, size_t b, size_t from = 0) const {
    std::vector<double> list;
    for (size_t r = from; r < times[a].size(); ++r)
      if (!std::isnan(times[a][r]) && !std::isnan(times[b][r]))
        list.push_back(times[a][r] / times[b][r]);
    return list;
  }

  /// The default, or the first candidate where the default failed: what ratios are taken to.
  size_t yardstick() const {
    return defaultFailed() ? *std::min_element(running.begin(), running.end()) : 0;
  }
  bool defaultFailed() const { return standings[0].outcome == Outcome::Rejected; }

  size_t leader(size_t from = 0) const {
    size_t best = yardstick(), reference = best;
    double bestRatio = 1;
    for (size_t i : running)
      if (std::vector<double> list = ratios(i, reference, from); !list.empty())
        if (double ratio = medianInterval(list).median;
            ratio < bestRatio && ratio < standings[i].mostRatio)
          best = i, bestRatio = ratio;
    return best;
  }

  void dropLosers(int rounds) {
    if (running.empty())
      return;
    size_t first = leader();
    for (size_t i : std::vector<size_t>(running)) {
      if (i == 0 || i == first)
        continue;
      std::vector<double> list = ratios(i, first);
      Interval interval = medianInterval(list);
      // With fewer rounds a hiccup may be all that was seen: twice the distance is asked for.
      bool far = interval.low > options.farBehind * (rounds < 3 ? 2 : 1);
      bool behind = rounds >= options.minRounds && list.size() >= 5 && interval.low > 1;
      if (far || behind) {
        standings[i].outcome = Outcome::Dropped;
        running.erase(std::remove(running.begin(), running.end(), i), running.end());
      }
    }
  }

  /// The best few and the default, again: what led by luck falls back here (fault F27).
  void runFinal() {
    size_t reference = yardstick();
    auto key = [&](size_t i) {
      std::vector<double> list = ratios(i, reference);
      const double ratio = list.empty() ? 1.0 : medianInterval(list).median;
      // Behind all others if it could not win with that.
      return i == reference || ratio < standings[i].mostRatio ? ratio : 1 + ratio;
    };
    std::sort(running.begin(), running.end(), [&](size_t a, size_t b) {
      double first = key(a), second = key(b);
      return first != second ? first < second : a < b;
    });
    std::vector<size_t> kept;
    for (size_t i : running)
      if (i == reference || static_cast<int>(kept.size()) < options.finalists + 1)
        kept.push_back(i);
    running = std::move(kept);
    finalFrom = times[reference].size();
    if (running.size() == 1)
      return;
    for (int round = 0; round < options.finalRounds && !running.empty(); ++round) {
      // Rounds of the final never repeat an order of the first part.
      std::shuffle(running.begin(), running.end(), random);
      runRound(0);
      tell(options.maxRounds + round + 1, options.maxRounds + options.finalRounds);
      if (round >= 5 && seconds() - began > 2 * options.budgetSeconds)
        break;
    }
  }

  Result<RaceResult> finish() {
    if (running.empty())
      return allFailed();
    RaceResult result;
    size_t reference = yardstick();
    // Without a default to keep, whoever leads is taken.
    result.best = defaultFailed() ? leader(finalFrom) : reference;
    double bestRatio = 1;
    // Several finalists, several chances to seem faster by luck: the doubt is shared among them
    // (Bonferroni), so the default is replaced by no faster one in one sweep of twenty at most.
    double doubt = 0.05 / static_cast<double>(std::max<size_t>(1, running.size() - 1));
    const double referenceMs = medianInterval(timesOf(reference)).median;
    for (size_t i = 0; i < standings.size(); ++i) {
      Standing &standing = standings[i];
      const std::vector<double> own = timesOf(i), list = ratios(i, reference, firstRound(i));
      standing.rounds = static_cast<int>(own.size());
      if (own.empty() || list.empty())
        continue;
      Interval ratio = medianInterval(list), time = medianInterval(own);
      // Who dropped out ran on another clock than the finalists: its ratio is what compares.
      if (!isFinalist(i))
        time = {referenceMs * ratio.median, referenceMs * ratio.low, referenceMs * ratio.high};
      standing.ms = time.median, standing.low = time.low, standing.high = time.high;
      standing.ratio = ratio.median, standing.ratioLow = ratio.low, standing.ratioHigh = ratio.high;
      if (isFinalist(i) && i != reference && !defaultFailed() && ratio.median < bestRatio &&
          medianInterval(list, doubt).high < standing.mostRatio)
        result.best = i, bestRatio = ratio.median;
    }
    standings[result.best].outcome = Outcome::Best;
    result.standings = std::move(standings);
    return result;
  }

  bool isFinalist(size_t i) const {
    return std::find(running.begin(), running.end(), i) != running.end();
  }
  /// A finalist stands by the rounds of the final alone: the earlier ones chose it.
  size_t firstRound(size_t i) const {
    return isFinalist(i) && finalFrom < times[i].size() ? finalFrom : 0;
  }
  std::vector<double> timesOf(size_t i) const {
    std::vector<double> own;
    for (size_t r = firstRound(i); r < times[i].size(); ++r)
      if (!std::isnan(times[i][r]))
        own.push_back(times[i][r]);
    return own;
  }

  void tell(int done, int expected) const {
    if (progress)
      progress(static_cast<double>(done) / expected);
  }

  std::vector<Standing> standings;
  std::vector<std::vector<double>> times; ///< per candidate and round; NaN where it did not run
  std::vector<size_t> running;
  const CandidateTimer &timer;
  RaceOptions options;
  const std::function<void(double)> &progress;
  std::mt19937_64 random;
  double began;
  size_t finalFrom = 0; ///< first round of the final
};

} // namespace

const char *name(Outcome outcome) {
  return outcome == Outcome::Best      ? "best"
         : outcome == Outcome::Kept    ? "kept"
         : outcome == Outcome::Dropped ? "dropped"
                                       : "rejected";
}

Result<RaceResult> race(std::vector<Standing> standings, const CandidateTimer &timer,
                        const RaceOptions &options, const std::function<void(double)> &progress) {
  return Racer(std::move(standings), timer, options, progress).run();
}

Interval medianInterval(std::vector<double> values, double doubt) {
  if (values.empty())
    return {};
  std::sort(values.begin(), values.end());
  size_t n = values.size();
  Interval interval;
  interval.median = n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
  // Ranks r and n + 1 - r (from 1) hold the median with the chance 1 - 2 P(Binomial(n, 1/2) < r).
  size_t rank = 1;
  double below = std::pow(0.5, static_cast<double>(n)), term = below;
  for (size_t r = 1; r <= n / 2; ++r) {
    term *= static_cast<double>(n - r + 1) / static_cast<double>(r);
    if (below + term > doubt / 2)
      break;
    below += term;
    rank = r + 1;
  }
  interval.low = values[rank - 1];
  interval.high = values[n - rank];
  return interval;
}

} // namespace winnow
