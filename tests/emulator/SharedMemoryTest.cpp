// The record of shared memory: bytes that are accessed together have one record, and whatever is
// found must be what a record of each byte finds.
#include "emulator/SharedMemory.h"
#include <gtest/gtest.h>

using namespace winnow::emulator;

namespace {

constexpr int kLanes = 4, kBytes = 70; // no whole number of chunks or of words

class Record : public testing::Test {
protected:
  Record() : fences{std::vector<uint32_t>(kLanes)}, memory(bytes, kBytes, 0, fences) {
    for (Clock &clock : clocks)
      clock.times.assign(kLanes, 0);
  }
  std::string read(int lane, unsigned address, int count) {
    return memory.read(address, count, lane, tick(lane), this);
  }
  std::string write(int lane, unsigned address, int count) {
    return memory.write(address, count, lane, tick(lane), this);
  }
  std::string readObject(int lane, unsigned address, int count) {
    return memory.readObject(address, count, lane, tick(lane), this);
  }
  const Clock &tick(int lane) {
    ++clocks[lane].times[lane];
    return clocks[lane];
  }
  void barrier() {
    Clock all = clocks[0];
    for (const Clock &clock : clocks)
      join(all, clock);
    for (Clock &clock : clocks)
      clock = all;
  }

  unsigned char bytes[kBytes] = {};
  Fences fences;
  SharedMemory memory;
  Clock clocks[kLanes];
};

bool says(const std::string &fault, const std::string &part) {
  return fault.find(part) != std::string::npos;
}

TEST_F(Record, AByteOfAChunkThatWasWrittenWhole) {
  EXPECT_EQ(write(0, 0, 64), "");
  EXPECT_TRUE(says(read(1, 21, 1), "byte 21 of shared memory, which lane 0 writes"));
  EXPECT_TRUE(says(read(1, 16, 16), "byte 16"));
  EXPECT_EQ(read(0, 16, 16), "");
  barrier();
  EXPECT_EQ(read(1, 16, 16), "");
  EXPECT_TRUE(says(write(2, 21, 1), "lane 2 writes byte 21 of shared memory, which lane 1 reads"));
  EXPECT_EQ(write(2, 32, 1), "") << "nobody has read it";
}

TEST_F(Record, ReadersOfPartsAreRemembered) {
  EXPECT_EQ(write(0, 0, 16), "");
  barrier();
  EXPECT_EQ(read(1, 4, 4), "");
  EXPECT_EQ(read(2, 10, 2), "");
  EXPECT_EQ(write(3, 0, 4), "");
  EXPECT_EQ(write(3, 8, 2), "");
  EXPECT_TRUE(says(write(3, 4, 12), "byte 4 of shared memory, which lane 1 reads"));
  EXPECT_TRUE(says(write(3, 8, 8), "byte 10 of shared memory, which lane 2 reads"));
}

TEST_F(Record, PartsThatAreWrittenTogetherAgain) {
  EXPECT_EQ(write(0, 0, 16), "");
  EXPECT_EQ(write(0, 5, 1), "");
  EXPECT_EQ(write(0, 0, 16), "");
  EXPECT_TRUE(says(read(1, 15, 1), "byte 15 of shared memory, which lane 0 writes"));
  EXPECT_TRUE(says(read(1, 5, 1), "byte 5 of shared memory, which lane 0 writes"));
  EXPECT_TRUE(says(read(1, 0, 16), "byte 0 of shared memory, which lane 0 writes"));
}

TEST_F(Record, WhatNobodyHasWritten) {
  EXPECT_TRUE(says(read(0, 0, 16), "byte 0 of shared memory, which nobody has written"));
  EXPECT_EQ(write(0, 6, 1), "");
  EXPECT_EQ(read(0, 4, 4), "") << "the rest of a word that is partly written";
  EXPECT_TRUE(says(read(0, 4, 8), "byte 8 of shared memory, which nobody has written"));
  EXPECT_TRUE(says(readObject(0, 16, 16), "nobody has written"));
  EXPECT_EQ(readObject(0, 0, 16), "") << "an object with padding";
}

TEST_F(Record, TheEnd) {
  EXPECT_EQ(write(0, 60, 10), "");
  EXPECT_EQ(read(0, 64, 6), "");
  EXPECT_TRUE(says(write(0, 60, 11), "outside the kernel's 70 bytes"));
  EXPECT_TRUE(says(readObject(0, 66, 8), "outside the kernel's 70 bytes"));
  EXPECT_TRUE(says(read(0, 71, 1), "outside"));
}

TEST_F(Record, CopiesAndProducts) {
  EXPECT_EQ(memory.beginCopy(0, 32, 0, tick(0), this), "");
  EXPECT_TRUE(says(read(0, 20, 2), "byte 20 of shared memory before lane 0 has waited"));
  memory.endCopy(0, 32, clocks[0].now(0));
  barrier();
  EXPECT_EQ(memory.beginProduct(0, 32, 1, tick(1), fences[0], this), "");
  EXPECT_TRUE(says(write(1, 7, 1), "byte 7 of shared memory while a product"));
  memory.endProduct(0, 32, clocks[1].now(1));
  EXPECT_EQ(write(1, 7, 1), "");
  EXPECT_TRUE(says(write(2, 6, 1), "byte 6 of shared memory, which lane 1 reads"));
}

TEST_F(Record, ABarrierIsNoData) {
  EXPECT_EQ(memory.makeBarrier(24, 0, tick(0), this), "");
  EXPECT_EQ(write(0, 16, 8), "");
  EXPECT_TRUE(says(write(0, 16, 16), "byte 24 of shared memory, which is a barrier"));
  EXPECT_TRUE(says(read(0, 30, 1), "byte 30 of shared memory, which is a barrier"));
}

} // namespace
