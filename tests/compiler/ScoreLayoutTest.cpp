// What host code can check of the device headers' score layout: the order of 16-bit ranks and the
// order of summaries in a tile. The headers are compiled here with stand-ins for CUDA's own names
// (the keywords: see CMakeLists.txt).
#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <set>

namespace {

#include "tests/compiler/HostDevice.h"

#include "templates/select/score_row.cuh"
#include "templates/select/summary_order.cuh"

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(ScoreRank, SpecialScoresHaveTheirPlaces) {
  EXPECT_EQ(score_rank(-kInfinity), 1u);
  EXPECT_EQ(score_rank(0.f), 2u);
  EXPECT_EQ(score_rank(-0.f), 2u);
  EXPECT_EQ(score_rank(1e-39f), 2u); // fades into 0
  EXPECT_EQ(score_rank(kInfinity), 0xffffu);
  EXPECT_EQ(score_rank(std::nanf("")), 2u);
}

TEST(ScoreRank, OrdersLikeScoresAndLeavesTheFoldOut) {
  unsigned last = 0;
  for (int step = -70 * 4096; step < 40 * 4096; ++step) {
    unsigned key = score_rank(static_cast<float>(std::exp2(step / 4096.0)));
    EXPECT_GE(key, last);
    EXPECT_LE(key, 0xffffu);
    EXPECT_NE(key, 0x7fffu);
    EXPECT_NE(key, 0x8000u);
    last = key;
  }
}

// Scores of one key differ by less than the comparison with the reference accepts (1 / 256), and by
// a tenth of that where the k-th best of many similar blocks lies.
TEST(ScoreRank, StepsAreFine) {
  auto sameKey = [](double score, double ratio) {
    return score_rank(static_cast<float>(score)) == score_rank(static_cast<float>(score * ratio));
  };
  for (int step = -340; step < 343; ++step)
    EXPECT_FALSE(sameKey(std::exp2(0.37 * step), 1 + 1.0 / 256)) << step;
  for (int step = -32; step < -6; ++step)
    EXPECT_FALSE(sameKey(std::exp2(0.37 * step), 1 + 1.0 / 2560)) << step;
}

TEST(SummaryOrder, AThreadOwnsConsecutiveSummaries) {
  // Column of a thread's j-th sum: mma and wgmma hold columns 8i + 2c + e in lanes c.
  auto column = [](int c, int j) { return j / 2 * 8 + 2 * c + j % 2; };
  for (int c = 0; c < 4; ++c) {
    for (int j = 0; j < 32; ++j)
      EXPECT_EQ(image_row(32 * c + j), column(c, j));
    for (int j = 0; j < 8; ++j)
      EXPECT_EQ(summary_order(column(c, j)), 8 * c + j);
  }
}

} // namespace
