// The union of neighbours' lists against measured ones, and its limits.
#include "autotune/model/Overlap.h"
#include <algorithm>
#include <gtest/gtest.h>

namespace winnow {
namespace {

/// Mean union of `tile` neighbours' lists over one list, over a whole sequence.
double meanUnion(int tile, int overlap, int tokens) {
  constexpr int kPositions = 256;
  ListShape lists;
  lists.init = 1, lists.local = 33, lists.overlap = overlap;
  double together = 0, alone = 0;
  for (int i = 0; i < kPositions; ++i) {
    const int own = static_cast<int>((i + 0.5) / kPositions * tokens) / lists.block;
    together += unionOfLists(lists, tile, own);
    alone += std::min(lists.topk, own + 1);
  }
  return together / alone;
}

TEST(Overlap, AgreesWithMeasuredUnions) {
  struct Measured {
    int tile, overlap, tokens;
    double ratio;
  };
  // Top-96 of blocks of 64, one block at the start and about 32 before the token forced.
  for (const Measured &m :
       {Measured{8, 128, 131072, 1.04}, Measured{8, 32, 131072, 1.17}, Measured{8, 8, 131072, 1.66},
        Measured{8, 1, 131072, 4.15}, Measured{4, 32, 131072, 1.073}, Measured{4, 8, 131072, 1.281},
        Measured{4, 1, 131072, 2.561}, Measured{8, 32, 32768, 1.10}, Measured{8, 8, 32768, 1.39},
        Measured{8, 1, 32768, 2.49}})
    EXPECT_NEAR(meanUnion(m.tile, m.overlap, m.tokens) / m.ratio, 1, 0.035)
        << m.tile << " tokens, L = " << m.overlap << ", " << m.tokens;
}

TEST(Overlap, StaysBetweenOneListAndAllBlocks) {
  ListShape lists;
  lists.init = 1, lists.local = 33;
  for (int overlap : {1, 8, 32, 128})
    for (int own : {0, 50, 95, 96, 200, 2047}) {
      lists.overlap = overlap;
      double before = 0;
      for (double tile : {1., 2., 8., 16., 128., 4096.}) {
        double count = unionOfLists(lists, tile, own);
        EXPECT_GE(count, std::max<double>(before, std::min(lists.topk, own + 1)) - 1e-6);
        EXPECT_LE(count, own + 1);
        before = count;
      }
    }
}

TEST(Overlap, LocalBlocksMoveOnWithTheTokens) {
  // The first block and the last 4: a block more for each block that the tokens reach into.
  const ListShape lists{64, 5, 1, 4, 32};
  EXPECT_EQ(unionOfLists(lists, 1, 1000), 5);
  EXPECT_EQ(unionOfLists(lists, 65, 1000), 6);
  EXPECT_EQ(unionOfLists(lists, 129, 1000), 7);
  const ListShape one{64, 6, 1, 4, 1000000}; // and a sixth that hardly ever changes
  EXPECT_NEAR(unionOfLists(one, 129, 1000), 8, 0.1);
}

TEST(Overlap, ForcedBlocksAloneAreSharedByAll) {
  ListShape lists;
  lists.topk = 16, lists.init = 1, lists.local = 15, lists.overlap = 1;
  EXPECT_NEAR(unionOfLists(lists, 8, 1000), 16, 0.2);
}

} // namespace
} // namespace winnow
