// Numbers that pass through a conversion on their way to the user, told by tests that know what
// they must be: milliseconds of events, megahertz and watts of NVML, MiB of limits, FLOP of a
// launch. The driver and NVML are made of host memory and say what the test wants.
#include "tests/tools/ToolRunner.h"
#include <algorithm>
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

using namespace winnow;
using nlohmann::json;

namespace {

class Units : public testing::Test {
protected:
  void SetUp() override {
    tool.environment["WINNOW_LIBCUDA"] = WINNOW_FAKE_CUDA_ANY;
    std::string &path = tool.environment["LD_LIBRARY_PATH"];
    path = WINNOW_FAKE_NVML_FOLDER + (path.empty() ? "" : ":" + path);
  }
  json run(const std::vector<std::string> &words) {
    Outcome outcome = tool.run(words);
    EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
    return json::parse(outcome.out, nullptr, false);
  }
  ToolRunner tool;
};

TEST_F(Units, BenchTellsQuartilesMegahertzAndFloor) {
  tool.environment["FAKE_MILLISECONDS"] = "50,10,20,30,40"; // of one launch after the other
  const json all =
      run({"bench",  "attend", "--heads",  "4",     "--kv-heads", "2",         "--head-dim",
           "64",     "--topk", "4",        "--seq", "1000",       "--overlap", "32",
           "--rows", "0",      "--rounds", "5",     "--peak",     "100",       "--json"});
  ASSERT_EQ(all["results"].size(), 1u) << all;
  const json &result = all["results"][0];
  EXPECT_EQ(result["median_ms"], 30.0);
  EXPECT_EQ(result["quartiles_ms"], (json{20.0, 40.0}));
  EXPECT_EQ(result["fastest_ms"], 10.0);
  EXPECT_EQ(result["sm_mhz"], 1410);
  // Every token attends to up to 3 whole blocks of 64 keys and its own up to itself; a
  // multiplication and an addition for each of 64 + 64 elements and 4 heads, at 100 TFLOP/s.
  double keys = 0;
  for (int token = 0; token < 1000; ++token)
    keys += std::min(3, token / 64) * 64 + token % 64 + 1;
  EXPECT_NEAR(result["floor_ms"].get<double>(), keys * 4 * 2 * 128 / 100e12 * 1e3, 1e-9);
}

TEST_F(Units, TablesTellThreeDigitsThatCount) {
  const json all = run({"bench",      "attend", "--heads",  "4",        "--kv-heads", "2",
                        "--head-dim", "64",     "--topk",   "4",        "--seq",      "1000",
                        "--rows",     "0",      "--rounds", "1",        "--peer",     "a=9.994",
                        "--peer",     "b=10",   "--peer",   "c=12.345", "--peer",     "d=99.94",
                        "--peer",     "e=100",  "--peer",   "f=1234.5", "--json"});
  std::ofstream(tool.path("run.json")) << all;
  std::ofstream(tool.path("page.md")) << "<!-- bench:begin -->\n<!-- bench:end -->\n";
  ASSERT_EQ(tool.run({"bench", "table", "run.json", "--into", "page.md"}).exitCode, 0);
  const std::string page = contentOf(tool.path("page.md"));
  for (const char *row : {"| a | 9.99 |", "| b | 10.0 |", "| c | 12.3 |", "| d | 99.9 |",
                          "| e | 100 |", "| f | 1234 |"})
    EXPECT_NE(page.find(row), std::string::npos) << row << "\n" << page;
}

TEST_F(Units, RunTellsDurationsInTheirUnits) {
  for (auto [milliseconds, words] :
       {std::pair("1500", "1.50 s"), {"2.5", "2.5 ms"}, {"0.25", "250 us"}}) {
    tool.environment["FAKE_MILLISECONDS"] = milliseconds;
    Outcome outcome =
        tool.run({"run", "dense", "--device", "cuda", "--arch", "none", "--seq", "300", "--heads",
                  "4", "--kv-heads", "2", "--head-dim", "64", "--no-dense"});
    EXPECT_EQ(outcome.exitCode, 1) << outcome.err; // kernels that do nothing
    EXPECT_NE(outcome.out.find(std::string("attend  ") + words), std::string::npos) << outcome.out;
  }
}

TEST_F(Units, LimitsOfTheCacheAreMebibytes) {
  tool.environment["WINNOW_CACHE_LIMIT_MB"] = "300";
  EXPECT_EQ(run({"doctor", "--json"})["cache"]["limit_mib"], 300);
  EXPECT_EQ(run({"cache", "stat", "--json"})["limit_bytes"], 300 << 20);
  for (const char *block : {"32", "64"})
    run({"compile", "dense", "--arch", "sm_80", "--head-dim", "64", "--block", block, "--json"});
  const json listed = run({"cache", "ls", "--json"});
  ASSERT_EQ(listed["entries"].size(), 2u);
  ASSERT_GT(listed["bytes"], 2048); // more than two KiB, less than two MiB
  EXPECT_EQ(run({"cache", "gc", "--limit-mib", "2", "--json"})["removed"], 0);
  EXPECT_EQ(run({"cache", "gc", "--limit-mib", "0", "--json"})["removed"], 2);
}

TEST_F(Units, DoctorTellsGibibytesAndVersions) {
  const json driver = run({"doctor", "--json"})["driver"];
  EXPECT_EQ(driver["version"], "13.0");
  ASSERT_EQ(driver["devices"].size(), 1u) << driver;
  EXPECT_EQ(driver["devices"][0]["memory_gib"], 80.0);
  EXPECT_EQ(driver["devices"][0]["compute_capability"], "8.0");
}

} // namespace
