// The swizzle of shared tiles, every address of every row length on the host: no chunk is lost, no
// eight lanes of ldmatrix or of a 16-byte copy meet in a bank, and skipping along a row is the same
// as asking for the chunk. The build defines away the words that only a CUDA compiler knows.
#include "templates/core/swizzle.cuh"
#include <gtest/gtest.h>
#include <set>

namespace {

constexpr int kRows = 64;

/// The 16-byte column of shared memory that an address falls into: its four banks.
int banks(unsigned address) { return static_cast<int>(address / 16 % 8); }

template <int kRowChunks> void checkRowLength() {
  SCOPED_TRACE(kRowChunks * 8);
  using Place = Swizzle<kRowChunks>;
  std::set<unsigned> used;
  for (int row = 0; row < kRows; ++row)
    for (int chunk = 0; chunk < kRowChunks; ++chunk) {
      unsigned at = Place::offset(row, chunk);
      EXPECT_EQ(at / (16 * kRowChunks), static_cast<unsigned>(row)) << "a chunk left its row";
      used.insert(at);
    }
  EXPECT_EQ(used.size(), static_cast<size_t>(kRows * kRowChunks));

  for (int row = 0; row < kRows; row += 8)
    for (int chunk = 0; chunk < kRowChunks; ++chunk) {
      std::set<int> met;
      for (int i = 0; i < 8; ++i)
        met.insert(banks(Place::offset(row + i, chunk)));
      EXPECT_EQ(met.size(), 8u) << "ldmatrix of rows from " << row << ", chunk " << chunk;
    }

  // Copies: consecutive threads take consecutive chunks of a row, threads_per_row of them.
  constexpr int kRowThreads = threads_per_row(kRowChunks);
  for (int first = 0; first < kRows * kRowThreads; first += 8)
    for (int part = 0; part < kRowChunks / kRowThreads; ++part) {
      std::set<int> met;
      for (int thread = first; thread < first + 8; ++thread)
        met.insert(
            banks(Place::offset(thread / kRowThreads, thread % kRowThreads + part * kRowThreads)));
      EXPECT_EQ(met.size(), 8u) << "copy by threads from " << first << ", part " << part;
    }

  constexpr unsigned kTile = 7 * 1024;
  for (int row = 0; row < kRows; ++row)
    for (int start : {0, 1})
      for (int chunks = 0; chunks + start < kRowChunks; chunks += 2)
        EXPECT_EQ(Place::skip(kTile + Place::offset(row, start), chunks),
                  kTile + Place::offset(row, start + chunks))
            << "row " << row << ", " << chunks << " chunks behind " << start;
}

TEST(Swizzle, EveryRowLength) {
  checkRowLength<64 / 8>();
  checkRowLength<96 / 8>();
  checkRowLength<128 / 8>();
  checkRowLength<192 / 8>();
  checkRowLength<256 / 8>();
}

} // namespace
