// `winnow soak` without a GPU: right answers come from the emulator, which has no graphs; graphs,
// wrong answers and hanging launches from a driver made of host memory whose kernels do nothing.
#include "tests/tools/ToolRunner.h"
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

using namespace winnow;

namespace {

Outcome soak(ToolRunner &tool, std::vector<std::string> words, bool emulated,
             const char *arch = "sm_80") {
  std::vector<std::string> all{"soak"};
  all.insert(all.end(), words.begin(), words.end());
  for (const char *word :
       {"--seq", "300", "--heads", "2", "--kv-heads", "1", "--head-dim", "64", "--topk", "3"})
    all.emplace_back(word);
  if (emulated)
    all.insert(all.end(), {"--device", std::string("emulated:") + arch});
  else
    tool.environment["WINNOW_LIBCUDA"] = WINNOW_FAKE_CUDA_ANY;
  return tool.run(all);
}

TEST(Soak, everyStepIsRightUnderTheEmulator) {
  ToolRunner tool;
  Outcome outcome = soak(tool, {"--steps", "5", "--page-size", "24", "--json"}, true);
  EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
  auto told = nlohmann::json::parse(outcome.out, nullptr, false);
  ASSERT_TRUE(told.is_object()) << outcome.out;
  EXPECT_EQ(told["check"], "ok");
  EXPECT_EQ(told["answers"], 5 * 2);
  EXPECT_EQ(told["repeated"], 2 * 2); // steps 0 and 4
  EXPECT_FALSE(told["graph"]);
  outcome = soak(tool, {"dense", "--steps", "8", "--layout", "rows"}, true);
  EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
  EXPECT_NE(outcome.out.find(": ok\n"), std::string::npos) << outcome.out;
}

TEST(Soak, keysOfFp8HaveTheirFactorsAndPlaces) {
  ToolRunner tool;
  for (const char *layout : {"halves", "pages"}) {
    Outcome outcome = soak(
        tool, {"--steps", "2", "--page-size", "16", "--layout", layout, "--kv-dtype", "fp8_e4m3"},
        true, "sm_89");
    EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
    EXPECT_NE(outcome.out.find("on sm_89, keys fp8_e4m3: 2 steps"), std::string::npos)
        << outcome.out;
  }
}

TEST(Soak, gradientsAreTheSameBitsUnderTheEmulator) {
  ToolRunner tool;
  auto run = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"soak", "backward", "--heads", "2", "--kv-heads", "1",
                                 "--head-dim", "64", "--topk", "3", "--json"});
    return tool.run(words);
  };
  Outcome outcome = run({"--device", "emulated:sm_80", "--steps", "2", "--repeats", "2"});
  EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
  auto told = nlohmann::json::parse(outcome.out, nullptr, false);
  ASSERT_TRUE(told.is_object()) << outcome.out;
  EXPECT_EQ(told["check"], "ok");
  EXPECT_EQ(told["launches"], 2 * (2 + 1)); // and each batch twice over
  outcome = run({"--device", "emulated:sm_80", "--steps", "1", "--repeats", "2", "--seq", "300"});
  EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
  EXPECT_EQ(nlohmann::json::parse(outcome.out, nullptr, false)["launches"], 2) << outcome.out;
  EXPECT_EQ(run({"--device", "emulated:sm_80", "--busy"}).exitCode, 2);
  tool.environment["WINNOW_LIBCUDA"] = WINNOW_FAKE_CUDA_ANY; // whose kernels do nothing
  outcome = run({"--seed", "5"});
  EXPECT_EQ(outcome.exitCode, 1) << outcome.err;
  EXPECT_NE(outcome.err.find("step 0 of seed 5: differs from the reference: "), std::string::npos)
      << outcome.err;
}

TEST(Soak, aWrongAnswerIsSaidWithItsStep) {
  ToolRunner tool;
  Outcome outcome = soak(tool, {"dense", "--steps", "3", "--seed", "5"}, false);
  EXPECT_EQ(outcome.exitCode, 1) << outcome.err;
  EXPECT_NE(outcome.err.find("step 0 of seed 5, the whole program: sequence "), std::string::npos)
      << outcome.err;
  EXPECT_NE(outcome.err.find("; repeat: --seed 5 --only 0"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.out.find("replays"), std::string::npos) << outcome.out;
}

TEST(Soak, aLaunchThatHangsEndsTheProcess) {
  ToolRunner tool;
  tool.environment["FAKE_GRAPH_HANGS"] = "1";
  Outcome outcome = soak(tool, {"dense", "--limit", "1"}, false);
  EXPECT_EQ(outcome.exitCode, 5) << outcome.err;
  EXPECT_EQ(outcome.err,
            "winnow: step 0 of seed 1, the whole program, has not ended within 1 s: it "
            "hangs\n");
}

/// The fake driver's kernels do not count themselves.
TEST(Soak, aStreamThatWasNotBusyIsFound) {
  ToolRunner tool;
  Outcome outcome = soak(tool, {"dense", "--steps", "1", "--busy"}, false);
  EXPECT_EQ(outcome.exitCode, 5) << outcome.err;
  EXPECT_NE(outcome.err.find("--busy: 0 threads kept the GPU busy"), std::string::npos)
      << outcome.err;
}

TEST(Soak, badFlags) {
  ToolRunner tool;
  for (const std::vector<std::string> &words :
       std::vector<std::vector<std::string>>{{"--layout", "packed"},
                                             {"--layout", "heap"},
                                             {"--layout", "rows", "--page-size", "8"},
                                             {"--steps", "2", "--only", "2"},
                                             {"--phase", "select"},
                                             {"--queries", "17"},
                                             {"--busy"},
                                             {"--prepare"}}) {
    Outcome outcome = soak(tool, words, true);
    EXPECT_EQ(outcome.exitCode, 2) << words.back() << outcome.err;
    EXPECT_EQ(outcome.errLines(), 1) << outcome.err;
  }
}

} // namespace
