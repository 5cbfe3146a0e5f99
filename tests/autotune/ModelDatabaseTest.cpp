// What the performance model ships: every record parses, says that it is an estimate, and lowers to
// kernels of its arch. And its union of lists against lists drawn as the benchmarks draw them.
#include "autotune/model/Overlap.h"
#include "autotune/search/DeviceProfile.h"
#include "compiler/driver/Compile.h"
#include "runtime/cache/Files.h"
#include "runtime/tuned/TuningRecord.h"
#include "tools/winnow/commands/bench/BenchInputs.h"
#include <algorithm>
#include <filesystem>
#include <gtest/gtest.h>
#include <set>

namespace winnow {
namespace {

std::vector<std::string> databases() {
  std::vector<std::string> paths;
  for (const auto &entry : std::filesystem::directory_iterator(WINNOW_DATABASES))
    if (entry.path().extension() == ".jsonl")
      paths.push_back(entry.path().string());
  std::sort(paths.begin(), paths.end());
  return paths;
}

TEST(ModelDatabase, EveryRecordLowers) {
  ASSERT_FALSE(databases().empty());
  for (const std::string &path : databases()) {
    TuningLines lines = parseTuningLines(*readWholeFile(systemFiles(), path));
    EXPECT_TRUE(lines.faults.empty()) << path << ": " << lines.faults.front();
    EXPECT_FALSE(lines.records.empty()) << path;
    std::set<std::string> keys, lowered;
    for (const TuningRecord &record : lines.records) {
      EXPECT_TRUE(keys.insert(record.key.text() + record.origin).second)
          << path << ": twice: " << record.key.text();
      CompileRequest request;
      request.method = record.key.method;
      request.spec = record.key.spec;
      request.config = record.config;
      request.arch = record.key.arch;
      if (!lowered.insert(request.method + request.spec.text() + request.config.text()).second)
        continue;
      auto program = lowerProgram(request);
      ASSERT_TRUE(program) << record.key.text() << ", " << shortText(record.config) << ": "
                           << program.error().message;
    }
  }
}

TEST(ModelDatabase, EstimatesSayThatTheyAre) {
  for (const std::string &path : databases())
    for (const TuningRecord &record :
         parseTuningLines(*readWholeFile(systemFiles(), path)).records) {
      if (record.origin != "model")
        continue;
      EXPECT_EQ(record.protocol, "performance model");
      EXPECT_EQ(record.verified, "");
      EXPECT_EQ(record.rounds, 0);
      EXPECT_GT(record.ms, record.floorMs) << record.key.text();
      EXPECT_LE(record.ms, record.defaultMs);
      EXPECT_EQ(record.key.tokens, tokensBucket(record.key.tokens));
      bool known = false;
      for (const DeviceProfile &profile : deviceProfiles())
        if (record.key.device == profile.device)
          known = (*profile.target())->arch == record.key.arch;
      EXPECT_TRUE(known) << record.key.text();
    }
}

TEST(ModelDatabase, UnionsAreThoseOfDrawnLists) {
  constexpr int kTokens = 16384, kBlocks = kTokens / 64;
  reference::Method method;
  method.init = 1, method.local = 5;
  reference::Problem problem;
  problem.heads = problem.kvHeads = 1, problem.headDim = 64, problem.block = 64, problem.topk = 16;
  problem.cuQ = problem.cuK = {0, kTokens};
  for (int overlap : {1, 8, 32}) {
    HostArray<int32_t> ids = overlappingIds(method, problem, overlap, 3);
    for (int tile : {2, 8, 128}) {
      double drawn = 0, expected = 0;
      for (int first = kTokens / 2; first < kTokens; first += tile) {
        std::vector<bool> wanted(kBlocks);
        for (int i = 0; i < tile * problem.topk; ++i)
          wanted[ids[static_cast<size_t>(first) * problem.topk + i]] = true;
        drawn += std::count(wanted.begin(), wanted.end(), true);
        const ListShape lists{problem.block, problem.topk, method.init, method.local, overlap};
        expected += unionOfLists(lists, tile, (first + tile - 1) / problem.block);
      }
      EXPECT_NEAR(expected / drawn, 1, 0.05) << "L = " << overlap << ", " << tile << " tokens";
    }
  }
}

} // namespace
} // namespace winnow
