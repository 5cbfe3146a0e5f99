// What the tools write lies on the disk before it gets its name (F03): a library that watches fsync
// and rename is loaded before the C library.
#include "tests/tools/ToolRunner.h"
#include <gtest/gtest.h>
#include <sstream>

using namespace winnow;

namespace {

TEST(Sync, F03EveryFileThatGetsANameLiesOnTheDiskBefore) {
  ToolRunner tool;
  tool.environment["LD_PRELOAD"] = WINNOW_SYNC_WATCH;
  tool.environment["SYNC_WATCH_LOG"] = tool.path("log");
  tool.environment["WINNOW_TUNED"] = tool.path("own.jsonl");
  const std::vector<std::vector<std::string>> commands = {
      {"compile", "dense", "--arch", "sm_80", "--head-dim", "64", "--emit", "all", "-o", "out"},
      {"cache", "export", "all.bundle"},
      {"model", "choose", "dense", "--head-dim", "64", "--device-profile", "a100", "--seq", "16384",
       "--db", "model.jsonl"},
      {"db", "export", WINNOW_H200_DATABASE, "-o", "exported.jsonl"},
      {"db", "merge", WINNOW_H200_DATABASE, "-o", "merged.jsonl"},
      {"db", "import", WINNOW_H200_DATABASE},
      {"report", WINNOW_H200_DATABASE, "-o", "page.html"},
#if WINNOW_HAS_CPU
      {"run",        WINNOW_TEST_METHOD,
       "--device",   "cpu",
       "--arch",     "none",
       "--seq",      "300",
       "--heads",    "4",
       "--kv-heads", "2",
       "--head-dim", "64",
       "--topk",     "4",
       "--set",      "local=2",
       "--no-dense", "--out",
       "o.npy",      "--lse",
       "l.npy",      "--ids",
       "i.npy",      "--svg",
       "picture.svg"},
#endif
  };
  std::string named;
  for (const std::vector<std::string> &words : commands) {
    Outcome outcome = tool.run(words);
    EXPECT_EQ(outcome.exitCode, 0) << testing::PrintToString(words) << ": " << outcome.err;
  }
  std::istringstream lines(contentOf(tool.path("log")));
  for (std::string line; std::getline(lines, line);) {
    EXPECT_EQ(line.rfind("synced ", 0), 0u) << line;
    named += line + "\n";
  }
  for (const char *file : {"dense.sm_80.winnow", "all.bundle", "exported.jsonl", "merged.jsonl",
                           "own.jsonl", "page.html",
#if WINNOW_HAS_CPU
                           "o.npy", "l.npy", "i.npy", "picture.svg"
#endif
       })
    EXPECT_NE(named.find(std::string(" ") + file), std::string::npos) << file << " of\n" << named;
}

} // namespace
