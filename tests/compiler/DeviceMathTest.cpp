// Arithmetic of single lanes in the device headers that neither a conformance case nor a golden
// text looks at closely: the powers of 2 on the FMA units, and the order of scores as 32-bit keys.
// The headers are compiled here with stand-ins for CUDA's own names (the keywords: see
// CMakeLists.txt).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>

namespace {

#include "tests/compiler/HostDevice.h"

// NOLINTBEGIN(readability-identifier-naming,bugprone-reserved-identifier): CUDA's names and ours
[[maybe_unused]] float fmaxf(float a, float b) { return std::fmax(a, b); }
[[maybe_unused]] float fminf(float a, float b) { return std::fmin(a, b); }
[[maybe_unused]] unsigned __float_as_uint(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
[[maybe_unused]] float __uint_as_float(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
// Of one lane; what the warp's functions do is not looked at here.
constexpr unsigned kFullWarp = 0xffffffffu;
[[maybe_unused]] int lane_index() { return 0; }
[[maybe_unused]] int warp_sum(int value) { return value; }
[[maybe_unused]] unsigned __ballot_sync(unsigned, bool vote) { return vote; }
[[maybe_unused]] int __popc(unsigned bits) { return __builtin_popcount(bits); }
[[maybe_unused]] float load_if(bool condition, const float *pointer, float otherwise) {
  return condition ? *pointer : otherwise;
}
// NOLINTEND(readability-identifier-naming,bugprone-reserved-identifier)

#include "templates/core/powers.cuh"
#include "templates/select/score_row.cuh"
#include "templates/select/top_k.cuh"

#include "templates/core/order_range.cuh" // builds on top_k.cuh

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// The largest relative error over [-125, 126]: at the very end of the range fp32 has no whole
/// mantissa.
double errorOf(float (*power)(float)) {
  double largest = 0;
  for (int i = -125 * 4096; i <= 126 * 4096; ++i) {
    const float x = static_cast<float>(i) / 4096;
    const double exact = std::exp2(static_cast<double>(x));
    largest = std::max(largest, std::fabs(power(x) - exact) / exact);
  }
  return largest;
}

TEST(Exponential, OfScoresIsAsExactAsItSays) {
  EXPECT_LE(errorOf(exp2_cubic), 7.6e-5);
  EXPECT_GE(errorOf(exp2_cubic), 7.3e-5); // the bound is that of the polynomial
  for (float low : {-127.f, -1000.f, -kInfinity})
    EXPECT_EQ(exp2_cubic(low), exp2_cubic(-126.f)) << low;
  for (float high : {127.f, 128.f, 300.f, 600.f, 1e9f, kInfinity}) // nor does it wrap
    EXPECT_NEAR(exp2_cubic(high) / 0x1p127f, 1, 1e-4) << high;
}

TEST(Exponential, OfWeightsIsAsExactAsItSays) {
  EXPECT_LE(errorOf(exp2_by_fma), 1.02e-4);
  EXPECT_GE(errorOf(exp2_by_fma), 0.98e-4);
  EXPECT_EQ(exp2_by_fma(0.f), 1.f);
  for (float none : {-127.f, -128.f, -1000.f, -kInfinity}) // the weight of what nobody wants
    EXPECT_EQ(exp2_by_fma(none), 0.f) << none;
  EXPECT_GT(exp2_by_fma(-126.f), 0.f);
  for (float high : {126.f, 127.f, 1000.f, kInfinity, std::nanf("")})
    EXPECT_EQ(exp2_by_fma(high), 0x1p126f) << high;
}

TEST(OrderKey, OrdersLikeScores) {
  const float scores[] = {-kInfinity, -3e38f, -1.5f, -1.f, -1e-38f, -1e-45f,  0.f,
                          1e-45f,     1e-38f, 1.f,   1.5f, 3e38f,   kInfinity};
  for (size_t i = 1; i < std::size(scores); ++i)
    EXPECT_LT(order_rank(scores[i - 1]), order_rank(scores[i])) << scores[i];
}

TEST(OrderKey, EqualScoresHaveEqualKeys) { EXPECT_EQ(order_rank(-0.f), order_rank(0.f)); }

TEST(OrderKey, LeavesTheEndsToForcedAndExcludedBlocks) {
  for (float score : {-kInfinity, kInfinity, std::nanf(""), -std::nanf("")}) {
    EXPECT_GE(order_rank(score), 1u) << score;
    EXPECT_LE(order_rank(score), 0xfffffffeu) << score;
  }
}

TEST(ThresholdSearch, KeepsAThresholdThatExactlyAsManyReachAsAreWanted) {
  ThresholdSearch search;
  start_search<4>(search, 9);
  EXPECT_EQ(search.wanted, 4);
  EXPECT_TRUE(is_open(search));
  narrow(search, next_threshold(search, 0), 3);
  EXPECT_EQ(search.threshold, 0u);
  narrow(search, next_threshold(search, 1), 5);
  EXPECT_EQ(search.threshold, 0x40000000u);
  EXPECT_TRUE(is_open(search));
  narrow(search, next_threshold(search, 2), 4);
  EXPECT_EQ(search.threshold, 0x60000000u);
  EXPECT_FALSE(is_open(search));
  start_search<4>(search, 2);
  EXPECT_EQ(search.wanted, 3); // all blocks up to the token's own
  start_search<4>(search, -1);
  EXPECT_EQ(search.wanted, 0);
}

TEST(ThresholdSearch, TheLastLocalBlocksAreForced) {
  EXPECT_EQ((first_forced<4, 2>(3)), 0); // all of them can be selected
  EXPECT_EQ((first_forced<4, 2>(4)), 3);
  EXPECT_EQ((first_forced<4, 0>(9)), 10);
}

ThresholdSearch found(unsigned threshold) {
  ThresholdSearch search;
  search.threshold = threshold;
  return search;
}

TEST(OrderRange, OfWholeKeysEndsWhereItSays) {
  auto leaves = [](float score) { return leaves_order<4>(found(order_rank(score)), 9); };
  for (float inside : {0x1p-63f, 0x1p-62f, 1.f, 0x1p59f, 0x1p60f})
    EXPECT_FALSE(leaves(inside)) << inside;
  for (float outside : {0.f, -1.f, 0x1p-64f, 0x1.fffffep-64f, 0x1.000002p60f, 0x1p61f})
    EXPECT_TRUE(leaves(outside)) << outside;
  EXPECT_FALSE(leaves_order<4>(found(0xffffffffu), 9));     // forced blocks alone
  EXPECT_FALSE(leaves_order<4>(found(order_rank(0.f)), 3)); // all blocks: no threshold
  EXPECT_TRUE(leaves_order<4>(found(order_rank(0.f)), 4));
}

TEST(OrderRange, OfFoldedKeysEndsWhereItSays) {
  const unsigned lowest = score_rank(0x1p-60f), highest = score_rank(0x1p60f);
  ASSERT_LT(lowest, 0x8000u);
  ASSERT_GT(highest, 0x8000u);
  EXPECT_FALSE(folded_leaves_order(found(lowest), false));
  EXPECT_TRUE(folded_leaves_order(found(lowest - 1), false));
  EXPECT_FALSE(folded_leaves_order(found(0x7ffe), false));
  EXPECT_FALSE(folded_leaves_order(found(highest - 0x8000), true));
  EXPECT_TRUE(folded_leaves_order(found(highest - 0x8000 + 1), true));
  EXPECT_FALSE(folded_leaves_order(found(1), true));
}

} // namespace
