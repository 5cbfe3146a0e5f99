// The file of a sweep: appended lines stay, a cut line is skipped and ended, several writers share
// it.
#include "autotune/search/TuningFile.h"
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <fstream>
#include <gtest/gtest.h>
#include <poll.h>
#include <random>
#include <sstream>
#include <sys/wait.h>
#include <unistd.h>

namespace winnow {
namespace {

std::string freshPath() {
  std::string path = testing::TempDir() + "/tuning-file.jsonl";
  ::unlink(path.c_str());
  return path;
}

std::string contentOf(const std::string &path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TuningRecord recordOf(int number) {
  TuningRecord record;
  record.key = {"attend", "m", Spec(), 2048 + number, 32, "sm_90a", "Simulated GPU"};
  record.config.attendStages = 3;
  record.ms = 1 + number;
  return record;
}

TEST(TuningFile, WhatWasAppendedIsThereAgain) {
  std::string path = freshPath();
  auto file = TuningFile::open(path);
  ASSERT_TRUE(file);
  EXPECT_FALSE(file->has(recordOf(1).key, "quick"));
  ASSERT_TRUE(file->append({recordLine(recordOf(1)), recordLine(recordOf(2))}));
  auto again = TuningFile::open(path);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->lines().records.size(), 2u);
  EXPECT_TRUE(again->has(recordOf(2).key, "quick"));
  EXPECT_FALSE(again->has(recordOf(2).key, "full")); // less effort than asked for
  EXPECT_FALSE(again->has(recordOf(3).key, "quick"));
}

TEST(TuningFile, F04ACutLineIsSkippedAndTheNextOneStandsAlone) {
  std::string path = freshPath();
  std::string line = recordLine(recordOf(1));
  std::ofstream(path) << line << "\n" << line.substr(0, line.size() / 2);
  auto file = TuningFile::open(path);
  ASSERT_TRUE(file);
  EXPECT_EQ(file->lines().records.size(), 1u);
  EXPECT_EQ(file->lines().faults.size(), 1u);
  ASSERT_TRUE(file->append({recordLine(recordOf(2))}));
  auto again = TuningFile::open(path);
  EXPECT_EQ(again->lines().records.size(), 2u);
  EXPECT_EQ(again->lines().faults.size(), 1u);
}

TEST(TuningFile, F03WhatWasAppendedLiesOnTheDisk) {
  class Noting : public Files {
  public:
    std::string calls;
    ssize_t write(int file, const void *buffer, size_t bytes) override {
      calls += " write";
      return Files::write(file, buffer, bytes);
    }
    int sync(int file) override {
      calls += " sync";
      return fails ? (errno = EIO, -1) : Files::sync(file);
    }
    bool fails = false;
  } files;
  auto file = TuningFile::open(freshPath(), files);
  ASSERT_TRUE(file);
  ASSERT_TRUE(file->append({recordLine(recordOf(1)), recordLine(recordOf(2))}));
  EXPECT_EQ(files.calls, " write sync");
  files.fails = true;
  Status status = file->append({recordLine(recordOf(3))});
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("Input/output error"), std::string::npos);
}

TEST(TuningFile, F24AFullDiskIsToldAndLeavesNoHalfLine) {
  class FullDisk : public Files {
    ssize_t write(int file, const void *buffer, size_t bytes) override {
      return Files::write(file, buffer, std::min<size_t>(bytes, 20));
    }
  } full;
  std::string path = freshPath();
  auto file = TuningFile::open(path, full);
  ASSERT_TRUE(file);
  Status status = file->append({recordLine(recordOf(1))});
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("No space left"), std::string::npos)
      << status.error().message;
  EXPECT_EQ(contentOf(path), "");
}

// Writers killed at any moment: what append() had returned for is there, and no line but the last
// of a killed one is cut.
TEST(TuningFile, F03KilledWritersLoseNothingThatWasWritten) {
  std::string path = freshPath();
  std::mt19937 random(1);
  int promised = 0;
  for (int round = 0; round < 100; ++round) {
    int pipe[2];
    ASSERT_EQ(::pipe(pipe), 0);
    pid_t child = ::fork();
    if (child == 0) {
      auto file = TuningFile::open(path);
      for (int i = 0; file && file->append({recordLine(recordOf(round * 1000 + i))}); ++i)
        if (::write(pipe[1], "x", 1) != 1)
          break;
      ::_exit(1);
    }
    ::close(pipe[1]);
    if (pollfd first{pipe[0], POLLIN, 0}; round % 2 == 0)
      ::poll(&first, 1, 10000); // half of them get to write on any machine, however slow
    ::usleep(500 + random() % 4000);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    char buffer[4096];
    for (ssize_t got; (got = ::read(pipe[0], buffer, sizeof buffer)) > 0;)
      promised += static_cast<int>(got);
    ::close(pipe[0]);
  }
  auto file = TuningFile::open(path);
  ASSERT_TRUE(file);
  EXPECT_GE(static_cast<int>(file->lines().records.size()), promised);
  EXPECT_GT(promised, 10);
  EXPECT_LE(file->lines().faults.size(), 100u);
}

TEST(TuningFile, SeveralWritersShareAFile) {
  std::string path = freshPath();
  std::vector<pid_t> children;
  for (int writer = 0; writer < 8; ++writer) {
    pid_t child = ::fork();
    if (child == 0) {
      auto file = TuningFile::open(path);
      for (int i = 0; i < 20; ++i)
        if (!file || !file->append({recordLine(recordOf(writer * 100 + i))}))
          ::_exit(1);
      ::_exit(0);
    }
    children.push_back(child);
  }
  for (pid_t child : children) {
    int status = 1;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  auto file = TuningFile::open(path);
  ASSERT_TRUE(file);
  EXPECT_EQ(file->lines().records.size(), 160u);
  EXPECT_TRUE(file->lines().faults.empty());
}

} // namespace
} // namespace winnow
