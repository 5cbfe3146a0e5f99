// `winnow model`: choices become records, measured trials become a verdict, and what is wrong with
// the command line is said.
#include "runtime/tuned/TuningRecord.h"
#include "tests/tools/ToolRunner.h"
#include <fstream>
#include <gtest/gtest.h>

using namespace winnow;

namespace {

/// Trials of one key on an H200, as a sweep leaves them.
std::string trials(double defaultMs, double oneProducerMs, double fewStagesMs) {
  std::string text;
  auto add = [&](const char *config, double ms, const char *outcome) {
    TuningTrial trial;
    trial.key = {"attend", WINNOW_TEST_METHOD, Spec(), 131072, 32, "sm_80", "NVIDIA H200"};
    if (std::string(config) != "default")
      trial.config = *Config::parse(config);
    trial.outcome = outcome;
    trial.ms = ms;
    text += trialLine(trial) + "\n";
  };
  add("default", defaultMs, "kept");
  add("attend_producers=1", oneProducerMs, "dropped");
  add("attend_stages=2", fewStagesMs, "best");
  add("attend_stages=3", 1, "rejected");
  return text;
}

TEST(Model, chooseWritesRecordsThatSayWhatTheyAre) {
  ToolRunner tool;
  Outcome outcome = tool.run({"model", "choose", WINNOW_TEST_METHOD, "--head-dim", "64", "--group",
                              "16", "--topk", "16", "--seq", "16384", "--overlap", "1,32",
                              "--space", "quick", "--device-profile", "a100", "--db", "db.jsonl"});
  ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("predicted, not measured"), std::string::npos) << outcome.out;
  TuningLines lines = parseTuningLines(contentOf(tool.path("db.jsonl")));
  EXPECT_TRUE(lines.faults.empty());
  ASSERT_EQ(lines.records.size(), 3u); // select; attend for two likenesses
  for (const TuningRecord &record : lines.records) {
    EXPECT_EQ(record.origin, "model");
    EXPECT_EQ(record.verified, "");
    EXPECT_EQ(record.key.device, "NVIDIA A100-SXM4-80GB");
    EXPECT_EQ(record.key.arch, "sm_80");
    EXPECT_EQ(record.key.spec.params.at("local"), "5"); // the method forces more than 16 blocks
  }
}

TEST(Model, chooseKnowsTheBatchesOfDecode) {
  ToolRunner tool;
  Outcome outcome =
      tool.run({"model", "choose", WINNOW_TEST_METHOD, "--phase", "decode", "--batch", "1,60",
                "--space", "quick", "--device-profile", "a100", "--db", "db.jsonl"});
  ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  TuningLines lines = parseTuningLines(contentOf(tool.path("db.jsonl")));
  ASSERT_EQ(lines.records.size(), 2u);
  EXPECT_EQ(lines.records[1].key.batch, 64);
  for (const TuningRecord &record : lines.records) {
    EXPECT_EQ(record.origin, "model");
    EXPECT_TRUE(record.key.spec.paged);
    EXPECT_GT(record.ms, record.floorMs);
  }
  outcome = tool.run({"model", "explain", WINNOW_TEST_METHOD, "--paged", "--device-profile", "a100",
                      "--batch", "64"});
  ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  for (const char *word : {"append", "weigh", "attend_decode", "merge", "gap before it"})
    EXPECT_NE(outcome.out.find(word), std::string::npos) << outcome.out;
}

TEST(Model, specsComeFromAFile) {
  ToolRunner tool;
  std::ofstream(tool.path("specs.json"))
      << R"([{"method": ")" << WINNOW_TEST_METHOD
      << R"(", "topk": 96, "seq": [2048], "overlap": [8], "set": {"local": 20}}])";
  Outcome outcome = tool.run({"model", "choose", "specs.json", "--space", "quick",
                              "--device-profile", "rtx4090", "--db", "db.jsonl"});
  ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  TuningLines lines = parseTuningLines(contentOf(tool.path("db.jsonl")));
  ASSERT_EQ(lines.records.size(), 2u);
  EXPECT_EQ(lines.records[1].key.tokens, 2048);
  EXPECT_EQ(lines.records[1].key.overlap, 8);
  EXPECT_EQ(lines.records[1].key.spec.params.at("local"), "20");
  std::ofstream(tool.path("broken.json")) << R"([{"method": "x", "topk": -1}])";
  outcome =
      tool.run({"model", "choose", "broken.json", "--device-profile", "a100", "--db", "db.jsonl"});
  EXPECT_EQ(outcome.exitCode, 2);
  EXPECT_NE(outcome.err.find("broken.json"), std::string::npos) << outcome.err;
}

TEST(Model, checkJudgesChoicesByMeasuredTimes) {
  ToolRunner tool;
  std::ofstream(tool.path("good.jsonl")) << trials(40, 46, 41);
  std::ofstream(tool.path("bad.jsonl")) << trials(60, 46, 41);
  std::ofstream(tool.path("page.md")) << "before\n<!-- model:begin -->\nold\n<!-- model:end -->\n";
  Outcome outcome =
      tool.run({"model", "check", "good.jsonl", "--device-profile", "h200", "--into", "page.md"});
  ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  std::string page = contentOf(tool.path("page.md"));
  EXPECT_EQ(page.find("old"), std::string::npos);
  EXPECT_NE(page.find("No A100 and no RTX 4090 was measured"), std::string::npos) << page;
  EXPECT_NE(page.find("1 keys of 1 specs: the model's choice is 0.0 % slower"), std::string::npos)
      << page;
  EXPECT_NE(page.find("| sm_80 | attend | 1 | 0.0 % |"), std::string::npos) << page;
  outcome = tool.run({"model", "check", "bad.jsonl", "--device-profile", "h200"});
  EXPECT_EQ(outcome.exitCode, 1);
  EXPECT_NE(outcome.err.find("46.3 %"), std::string::npos) << outcome.err;
  outcome = tool.run({"model", "check", "good.jsonl", "--device-profile", "h200", "--least", "24"});
  EXPECT_EQ(outcome.exitCode, 1);
  outcome = tool.run({"model", "check", "good.jsonl", "--device-profile", "a100"});
  EXPECT_EQ(outcome.exitCode, 2); // nothing there was measured on one
}

TEST(Model, checkGivesAPageTheTenSlowestChoicesOnly) {
  ToolRunner tool;
  std::string text;
  for (int topk = 40; topk < 53; ++topk) { // the default is chosen, and slower the longer lists are
    TuningTrial trial;
    trial.key = {"attend", WINNOW_TEST_METHOD, Spec(), 16384, 32, "sm_80", "NVIDIA H200"};
    trial.key.spec.topk = topk;
    trial.outcome = "kept";
    trial.ms = 1 + (topk - 30) * 1e-3;
    text += trialLine(trial) + "\n";
    trial.config = *Config::parse("attend_stages=2");
    trial.ms = 1;
    text += trialLine(trial) + "\n";
  }
  std::ofstream(tool.path("trials.jsonl")) << text;
  std::ofstream(tool.path("page.md")) << "<!-- model:begin -->\n<!-- model:end -->\n";
  auto check = [&](const std::vector<std::string> &more) {
    std::vector<std::string> words = {"model", "check", "trials.jsonl", "--device-profile", "h200"};
    words.insert(words.end(), more.begin(), more.end());
    return tool.run(words);
  };
  Outcome outcome = check({"--into", "page.md"});
  ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  std::string page = contentOf(tool.path("page.md"));
  EXPECT_NE(page.find("| sm_80 | attend | 13 | 1.6 % | 2.2 % |"), std::string::npos) << page;
  EXPECT_LT(page.find("top-52 |"), page.find("top-43 |")) << page;
  EXPECT_NE(page.find("top-43 |"), std::string::npos) << page;
  EXPECT_EQ(page.find("top-42 |"), std::string::npos) << page;
  outcome = check({});
  EXPECT_NE(outcome.out.find("top-40 |"), std::string::npos) << outcome.out;
}

TEST(Model, explainShowsPipes) {
  ToolRunner tool;
  Outcome outcome = tool.run({"model", "explain", WINNOW_TEST_METHOD, "--device-profile", "a100",
                              "--config", "attend_stages=2"});
  ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  for (const char *word : {"score", "top_k_2048", "attend", "tensor", "shared memory", "ring"})
    EXPECT_NE(outcome.out.find(word), std::string::npos) << outcome.out;
  outcome = tool.run({"model", "explain", WINNOW_TEST_METHOD, "--device-profile", "h200"});
  EXPECT_EQ(outcome.exitCode, 3); // its own kernels run on warpgroups
  outcome = tool.run({"model", "explain", WINNOW_TEST_METHOD, "--device-profile", "voodoo2"});
  EXPECT_EQ(outcome.exitCode, 2);
  EXPECT_NE(outcome.err.find("a100, a100-40gb, rtx4090, h200"), std::string::npos) << outcome.err;
}

} // namespace
