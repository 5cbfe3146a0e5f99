// The race on simulated timers whose true times are known: cold clocks, drift, slow neighbours and
// noise must not change who wins (F27), and the default wins unless another one is faster beyond
// doubt (F41).
#include "autotune/search/Race.h"
#include <algorithm>
#include <array>
#include <cmath>
#include <gtest/gtest.h>
#include <random>

namespace winnow {
namespace {

/// A card that starts cold, slows down as it warms, and shares its machine.
class DriftingTimer {
public:
  DriftingTimer(std::vector<double> truth, uint64_t seed) : truth(std::move(truth)), random(seed) {}

  double operator()(size_t i) {
    ++launches;
    double cold = 1 + 0.6 * std::exp(-launches / 40.0);
    double drift = 1 + 0.25 * (1 - std::exp(-launches / 300.0));
    double neighbour = launches % 37 < 3 ? 1.8 : 1;
    return truth[i] * cold * drift * neighbour * std::normal_distribution<double>(1, 0.01)(random);
  }

  std::vector<double> truth;
  std::mt19937_64 random;
  int launches = 0;
};

RaceOptions quickRace(uint64_t seed) {
  RaceOptions options;
  options.warmSeconds = 0;
  options.seed = seed;
  return options;
}

/// Twenty candidates; number `best` is 4 % faster than the default, the others up to 30 % slower.
std::vector<double> truthWith(size_t best) {
  std::vector<double> truth(20);
  for (size_t i = 0; i < truth.size(); ++i)
    truth[i] = 10 * (1 + 0.3 * static_cast<double>(i * 7 % 20) / 20);
  truth[0] = 10;
  truth[best] = 9.6;
  return truth;
}

TEST(Race, F27ADriftingTimerDoesNotHideTheTrueBest) {
  int naiveWrong = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    size_t best = 1 + seed % 19;
    DriftingTimer timer(truthWith(best), seed);
    auto result = race(
        std::vector<Standing>(20), [&](size_t i) -> Result<double> { return timer(i); },
        quickRace(seed));
    ASSERT_TRUE(result);
    EXPECT_EQ(result->best, best) << "seed " << seed;
    EXPECT_NEAR(result->standings[best].ratio, 0.96, 0.02);

    // Whoever times one candidate after the other is fooled: the test can fail.
    DriftingTimer naive(truthWith(best), seed);
    std::vector<double> times;
    for (size_t i = 0; i < 20; ++i) {
      double fastest = 1e9;
      for (int n = 0; n < 10; ++n)
        fastest = std::min(fastest, naive(i));
      times.push_back(fastest);
    }
    naiveWrong +=
        static_cast<size_t>(std::min_element(times.begin(), times.end()) - times.begin()) != best;
  }
  EXPECT_GT(naiveWrong, 4);
}

TEST(Race, F41TheDefaultWinsUnlessAnotherIsFasterBeyondDoubt) {
  int others = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    std::vector<double> truth(12, 10.0); // nobody is faster
    DriftingTimer timer(truth, seed);
    auto result = race(
        std::vector<Standing>(12), [&](size_t i) -> Result<double> { return timer(i); },
        quickRace(seed));
    ASSERT_TRUE(result);
    others += result->best != 0;
    EXPECT_GT(result->standings[result->best].ratio, 0.98);
  }
  EXPECT_LE(others, 5); // one sweep in twenty, whatever the number of finalists
  std::vector<double> slower(12, 10.5);
  slower[0] = 10;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    DriftingTimer timer(slower, seed);
    auto result = race(
        std::vector<Standing>(12), [&](size_t i) -> Result<double> { return timer(i); },
        quickRace(seed));
    ASSERT_TRUE(result);
    EXPECT_EQ(result->best, 0u);
  }
}

// What costs memory has to be worth it.
TEST(Race, ACandidateMayHaveToGainMore) {
  for (auto [most, best] : {std::pair(1.0, 1u), {0.9, 1u}, {0.7, 2u}}) {
    std::vector<Standing> start(3);
    start[1].mostRatio = most;
    auto result = race(
        start, [&](size_t i) -> Result<double> { return std::array{10.0, 8.0, 9.0}[i]; },
        quickRace(1));
    ASSERT_TRUE(result);
    EXPECT_EQ(result->best, best) << most;
  }
}

TEST(Race, SlowCandidatesDropOutEarly) {
  std::vector<double> truth(50, 30.0);
  truth[0] = 10;
  int launches = 0;
  auto result = race(
      std::vector<Standing>(50),
      [&](size_t i) -> Result<double> {
        ++launches;
        return truth[i] * (1 + 1e-4 * (launches % 7));
      },
      quickRace(1));
  ASSERT_TRUE(result);
  EXPECT_LT(launches, 5 * 50);
  EXPECT_EQ(result->standings[7].outcome, Outcome::Dropped);
}

TEST(Race, F29AFailingCandidateIsRejectedAndTheOthersGoOn) {
  std::vector<Standing> start(5);
  start[4].outcome = Outcome::Rejected;
  start[4].reason = "did not compile";
  int calls = 0;
  auto result = race(
      start,
      [&](size_t i) -> Result<double> {
        EXPECT_NE(i, 4u);
        if (i == 2 && ++calls > 3)
          return fail(ErrorKind::DeviceFailed, "the worker died");
        return i == 3 ? NAN : 10.0 - static_cast<double>(i == 1);
      },
      quickRace(1));
  ASSERT_TRUE(result);
  EXPECT_EQ(result->best, 1u);
  EXPECT_EQ(result->standings[2].outcome, Outcome::Rejected);
  EXPECT_EQ(result->standings[2].reason, "the worker died");
  EXPECT_EQ(result->standings[3].outcome, Outcome::Rejected);
  EXPECT_EQ(result->standings[4].reason, "did not compile");
}

TEST(Race, F41WithoutTheDefaultTheRestStillRaces) {
  std::vector<Standing> start(3);
  start[0].outcome = Outcome::Rejected;
  auto result =
      race(start, [&](size_t i) -> Result<double> { return i == 2 ? 5.0 : 6.0; }, quickRace(1));
  ASSERT_TRUE(result);
  EXPECT_EQ(result->best, 2u);
}

TEST(Race, F41AllFailedIsAnErrorThatSaysWhy) {
  auto result = race(
      std::vector<Standing>(3),
      [](size_t) -> Result<double> { return fail(ErrorKind::DeviceFailed, "no GPU"); },
      quickRace(1));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::DeviceFailed);
  EXPECT_NE(result.error().message.find("the default: no GPU"), std::string::npos);
  EXPECT_FALSE(race({}, [](size_t) -> Result<double> { return 1.0; }, quickRace(1)));
}

TEST(Race, F41WhereTheDefaultFailsInTheFinalTheLeaderWins) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    int calls = 0;
    auto result = race(
        std::vector<Standing>(5),
        [&](size_t i) -> Result<double> {
          if (i == 0 && ++calls > 12) // the warm-up, five rounds and some of the final
            return fail(ErrorKind::DeviceFailed, "the worker died");
          return 10.0 - static_cast<double>(i) / 100;
        },
        quickRace(seed));
    ASSERT_TRUE(result);
    EXPECT_EQ(result->best, 4u) << "seed " << seed;
    EXPECT_EQ(result->standings[0].outcome, Outcome::Rejected);
  }
}

TEST(Race, AloneOrAmongItsLikesTheDefaultWins) {
  for (size_t count : {1, 7}) {
    auto result = race(
        std::vector<Standing>(count), [](size_t) -> Result<double> { return 3.0; }, quickRace(1));
    ASSERT_TRUE(result);
    EXPECT_EQ(result->best, 0u);
    EXPECT_EQ(result->standings[0].outcome, Outcome::Best);
    EXPECT_EQ(result->standings[0].ms, 3.0);
    EXPECT_GE(result->standings[0].rounds, 5);
  }
}

TEST(Race, F27WithoutTimeLeftTheFinalistsAreStillTheFastest) {
  RaceOptions options = quickRace(1);
  options.budgetSeconds = 0;
  int launches = 0;
  auto result = race(
      std::vector<Standing>(20),
      [&](size_t i) -> Result<double> {
        ++launches;
        return i == 17 ? 8.0 : 10.0 + static_cast<double>(i);
      },
      options);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->best, 17u);
  EXPECT_LE(launches, 20 + 20 + 6 * 5);
}

/// Options of a race whose first part has exactly `rounds` rounds.
RaceOptions raceOf(int rounds, int finalRounds) {
  RaceOptions options = quickRace(1);
  options.minRounds = options.maxRounds = rounds;
  options.finalRounds = finalRounds;
  return options;
}

/// Calls that a candidate gets before the final: one of the warm-up, then one each round.
bool isFinal(int call, const RaceOptions &options) { return call > 1 + options.maxRounds; }

TEST(Race, F27FinalistsStandByTheFinalAlone) {
  // Fast until the final, slow in it: the rounds that chose a finalist say nothing about it.
  const RaceOptions options = raceOf(40, 9);
  std::vector<int> calls(3);
  auto result = race(
      std::vector<Standing>(3),
      [&](size_t i) -> Result<double> {
        const bool final = isFinal(++calls[i], options);
        return i == 1 ? (final ? 12.0 : 8.0) : 10.0;
      },
      options);
  ASSERT_TRUE(result);
  EXPECT_EQ(calls[0], 1 + 40 + 9);
  EXPECT_EQ(result->best, 0u);
  EXPECT_EQ(result->standings[1].outcome, Outcome::Kept);
  EXPECT_EQ(result->standings[1].rounds, 9);
  EXPECT_EQ(result->standings[1].ms, 12.0);
  EXPECT_EQ(result->standings[1].ratio, 1.2);
}

TEST(Race, F41SeveralFinalistsShareTheDoubt) {
  // 8 of 9 rounds of the final are faster, one is slower: the interval of 19 in 20 leaves the slow
  // round out, that of 59 in 60 does not.
  for (size_t challengers : {1, 3}) {
    const RaceOptions options = raceOf(5, 9);
    std::vector<int> calls(1 + challengers);
    auto result = race(
        std::vector<Standing>(1 + challengers),
        [&](size_t i) -> Result<double> {
          const int call = ++calls[i] - 1 - options.maxRounds; // of the final, from 1
          return i == 0 ? 10.0 : call == 4 ? 11.0 : 9.0;
        },
        options);
    ASSERT_TRUE(result);
    EXPECT_EQ(result->best == 0, challengers == 3) << challengers;
  }
}

TEST(Race, F41OneFasterRoundIsNoProof) {
  const RaceOptions options = raceOf(5, 9);
  std::vector<int> calls(2);
  auto result = race(
      std::vector<Standing>(2),
      [&](size_t i) -> Result<double> {
        return i == 0 ? 10.0 : ++calls[1] % 3 == 0 ? 10.5 : 9.5; // a third of the rounds is slower
      },
      options);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->best, 0u);
  EXPECT_LT(result->standings[1].ratio, 1);
}

TEST(Race, WhoMayBeAsFastAsTheLeaderStays) {
  // Candidate 2 is slower in most rounds of the first part, and faster in two of them.
  RaceOptions options = raceOf(8, 6);
  options.finalists = 1;
  std::vector<int> calls(4);
  auto result = race(
      std::vector<Standing>(4),
      [&](size_t i) -> Result<double> {
        const int call = ++calls[i];
        return i == 2 ? (call % 4 == 0 ? 9.0 : 10.4) : i == 1 ? 9.5 : i == 3 ? 10.2 : 10.0;
      },
      options);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->standings[3].outcome, Outcome::Dropped);
  EXPECT_EQ(result->standings[2].outcome, Outcome::Kept);
}

TEST(MedianInterval, RanksAreThoseOfTheBinomialDistribution) {
  std::vector<double> values;
  for (int n = 1; n <= 20; ++n) {
    values.push_back(n);
    // The smallest rank whose interval misses the median more often than once in twenty.
    double below = 0, term = std::pow(0.5, n);
    int rank = 0;
    while (2 * (below + term) <= 0.05) {
      below += term;
      ++rank;
      term *= static_cast<double>(n - rank + 1) / rank;
    }
    const Interval interval = medianInterval(values);
    EXPECT_EQ(interval.low, std::max(1, rank)) << n;
    EXPECT_EQ(interval.high, n + 1 - std::max(1, rank)) << n;
  }
}

TEST(MedianInterval, CoversTheMedianAsOftenAsItSays) {
  std::mt19937_64 random(3);
  std::exponential_distribution<double> times(1);
  for (int n : {6, 9, 15, 25, 40}) {
    int covered = 0, trials = 2000;
    for (int t = 0; t < trials; ++t) {
      std::vector<double> values;
      for (int i = 0; i < n; ++i)
        values.push_back(times(random));
      Interval interval = medianInterval(values);
      covered += interval.low <= std::log(2.0) && std::log(2.0) <= interval.high;
    }
    EXPECT_GE(covered, 0.94 * trials) << n;
    EXPECT_LE(covered, 0.998 * trials) << n;
  }
  EXPECT_EQ(medianInterval({3, 1, 2}).low, 1);
  EXPECT_EQ(medianInterval({3, 1, 2}).high, 3);
}

} // namespace
} // namespace winnow
