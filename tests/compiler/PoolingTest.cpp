// The device's pooling of summaries to blocks (templates/select/pooling.cuh), compiled for the
// host: each thread's whole blocks and the edge that is added to the block behind, against sums
// over tokens that a window and a block share.
#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <vector>

namespace {

using std::fmaf;
float fmaxf(float a, float b) { return std::fmax(a, b); }
constexpr float kInfinity = std::numeric_limits<float>::infinity();

#include "templates/select/pooling.cuh"

/// What block b takes from the scores of all summaries, straight from the definition.
template <class Pool>
float expected(const std::vector<float> &scores, int b, int rowsPerBlock, int pad) {
  float value = Pool::kIdentity;
  bool any = false;
  for (int j = 0; j < static_cast<int>(scores.size()); ++j) {
    int shared = 0; // strides of the window, one after the other
    for (int stride = j; stride <= j + pad; ++stride)
      shared += stride / rowsPerBlock == b;
    any |= shared > 0;
    if (std::is_same_v<Pool, Max> && shared > 0)
      value = std::max(value, scores[j]);
    else
      value += (std::is_same_v<Pool, Overlap> ? shared : shared > 0) * scores[j];
  }
  return any ? value : -kInfinity;
}

/// Threads of 32 or 8 summaries: small whole numbers, which fp32 adds exactly in any order.
template <class Pool, int kRowsPerBlock, int kPad, int kRows> void check(int rows) {
  std::vector<float> scores;
  for (int j = 0; j < rows; ++j)
    scores.push_back(static_cast<float>(1 + j * 37 % 101));
  float before = Pool::kIdentity;
  for (int first = 0; first < rows + kRows; first += kRows) {
    float own[kRows], block[kRows / kRowsPerBlock];
    for (int i = 0; i < kRows; ++i)
      own[i] = first + i < rows ? scores[first + i] : Pool::kIdentity;
    pool_blocks<Pool, kRowsPerBlock, kPad>(block, own, before, first, rows);
    for (int i = 0; i < kRows / kRowsPerBlock; ++i)
      EXPECT_EQ(block[i], expected<Pool>(scores, first / kRowsPerBlock + i, kRowsPerBlock, kPad))
          << "block " << i << " from summary " << first << " of " << rows << ", " << kRowsPerBlock
          << " per block, " << kPad << " reach in";
    before = pool_edge<Pool, kRowsPerBlock, kPad>(own);
  }
}

template <class Pool, int kRowsPerBlock, int kPad> void checkThreads() {
  for (int rows : {1, 31, 64, 77}) {
    check<Pool, kRowsPerBlock, kPad, 8>(rows);
    check<Pool, kRowsPerBlock, kPad, 32>(rows);
  }
}

template <class Pool> void checkWindows() {
  checkThreads<Pool, 1, 0>();
  checkThreads<Pool, 1, 1>();
  checkThreads<Pool, 2, 1>();
  checkThreads<Pool, 2, 2>();
  checkThreads<Pool, 4, 0>();
  checkThreads<Pool, 4, 1>();
  checkThreads<Pool, 4, 3>();
  checkThreads<Pool, 4, 4>();
  checkThreads<Pool, 8, 3>();
  checkThreads<Pool, 8, 8>();
}

TEST(Pooling, Max) { checkWindows<Max>(); }
TEST(Pooling, Sum) { checkWindows<Sum>(); }
TEST(Pooling, Overlap) { checkWindows<Overlap>(); }

/// 1, 2, 2, 2, 1: windows of 32 tokens at stride 16 in blocks of 64 (NSA, equation 9).
TEST(Pooling, WeightsOfThePaper) {
  std::vector<int> weights;
  for (int i = -1; i < 4; ++i)
    weights.push_back(shared_strides<4, 1>(i));
  EXPECT_EQ(weights, (std::vector<int>{1, 2, 2, 2, 1}));
}

/// Scores that no order of additions but one sums alike: a block equal to another one has its
/// score, whether its first summaries are the thread's own or come as an edge.
TEST(Pooling, EqualBlocksHaveEqualScoresWhereverTheyLie) {
  float own[8], block[2];
  for (int i = 0; i < 8; ++i)
    own[i] = std::exp(static_cast<float>(i % 4));
  float before = pool_edge<Overlap, 4, 3>(own);
  pool_blocks<Overlap, 4, 3>(block, own, before, 8, 64);
  EXPECT_EQ(block[0], block[1]);
}

} // namespace
