// `winnow bench` without a GPU: on a driver made of host memory whose kernels do nothing, so times
// are the driver's invention and every result is wrong. What is tested is the way: workloads,
// JSON, the table, and that a wrong result is found before it is timed.
#include "reference/recorded/Npy.h"
#include "tests/tools/ToolRunner.h"
#include "tools/winnow/commands/bench/PageOrder.h"
#include <algorithm>
#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

using namespace winnow;

namespace {

ToolRunner &withFakeDriver(ToolRunner &tool) {
  tool.environment["WINNOW_LIBCUDA"] = WINNOW_FAKE_CUDA_ANY;
  return tool;
}

TEST(Bench, jsonBecomesATable) {
  ToolRunner tool;
  withFakeDriver(tool);
  Outcome outcome =
      tool.run({"bench", "prefill", "--seq", "2048,5000", "--topk", "8,16", "--overlap", "1,32",
                "--rows", "0", "--rounds", "3", "--dense", "--peer", "other@5000=3", "--json"});
  ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  EXPECT_EQ(outcome.err.find("could not do"), std::string::npos) << outcome.err;
  auto run = nlohmann::json::parse(outcome.out, nullptr, false);
  ASSERT_TRUE(run.is_object()) << outcome.out;
  // Two lengths and two budgets of select, whole and twice attend; dense once for each length.
  ASSERT_EQ(run["results"].size(), 2u * 2 * 4 + 2);
  for (const auto &result : run["results"]) {
    EXPECT_EQ(result["check"], "not checked");
    EXPECT_GT(result["floor_ms"], 0.0);
    EXPECT_EQ(result["quartiles_ms"].size(), 2u);
  }
  std::ofstream(tool.path("run.json")) << outcome.out;
  std::ofstream(tool.path("page.md"))
      << "before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nafter\n";
  ASSERT_EQ(tool.run({"bench", "table", "run.json", "--into", "page.md"}).exitCode, 0);
  std::string page = contentOf(tool.path("page.md"));
  EXPECT_EQ(page.find("old"), std::string::npos);
  EXPECT_EQ(page.rfind("before\n<!-- bench:begin -->\n", 0), 0u);
  EXPECT_NE(page.find("| ms | 2,048 tokens | 5,000 tokens |"), std::string::npos) << page;
  EXPECT_NE(page.find("| attention over given blocks, top-16, L = 32 | 1.50 | 1.50 |"),
            std::string::npos)
      << page;
  EXPECT_NE(page.find("| other |  | 3.00 |"), std::string::npos) << page;
  EXPECT_NE(page.find("|  | 2.00 |"), std::string::npos) << page;
  EXPECT_NE(page.find("<!-- bench:end -->\nafter\n"), std::string::npos);
}

TEST(Bench, decodeGoesOverEveryShapeAndShowsPeers) {
  ToolRunner tool;
  withFakeDriver(tool);
  auto run = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"bench", "decode", "--heads", "2", "--kv-heads", "1", "--topk",
                                 "3", "--head-dim", "64", "--rounds", "2"});
    return tool.run(words);
  };
  std::ofstream(tool.path("peers.jsonl"))
      << R"({"name": "other", "batch": 3, "seq": 600, "queries": 1, "us": 700})";
  Outcome outcome = run({"--batch", "1,3", "--seq", "300,600", "--queries", "1,2", "--phase",
                         "all,attend", "--rows", "0", "--peer", "peers.jsonl", "--ragged", "--json",
                         "--layout", "pairs", "--page-size", "16"});
  ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("other "), std::string::npos) << outcome.err;
  auto told = nlohmann::json::parse(outcome.out, nullptr, false);
  ASSERT_TRUE(told.is_object()) << outcome.out;
  ASSERT_EQ(told["decode"].size(), 2u * 2 * 2 * 2);
  EXPECT_TRUE(told["skipped"].empty());
  for (const auto &row : told["decode"]) {
    const double keys = row["batch"].get<double>() * row["seq"].get<double>();
    EXPECT_EQ(row["check"], "not checked");
    EXPECT_GT(row["median_us"], 0.0);
    EXPECT_GE(row["sets"], 1);
    EXPECT_GT(row["floor_us"], 0.0);
    if (row["phase"] == "attend") // the blocks of a selection are no more than all keys
      EXPECT_LE(row["bytes"], 2.0 * 2 * 64 * keys);
  }
  // The kernels of the fake driver do nothing.
  outcome = run({"--batch", "2", "--seq", "600"});
  EXPECT_EQ(outcome.exitCode, 1) << outcome.err;
  EXPECT_NE(outcome.out.find("WRONG"), std::string::npos) << outcome.out;
}

TEST(Bench, decodeRowsThatDoNotFitAreLeftOut) {
  ToolRunner tool;
  withFakeDriver(tool);
  Outcome outcome =
      tool.run({"bench", "decode", "dense", "--batch", "1,60000", "--seq", "30000", "--heads", "2",
                "--kv-heads", "1", "--head-dim", "64", "--rows", "0", "--rounds", "1"});
  EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
  EXPECT_NE(
      outcome.err.find("60000 x 30000 keys, top-96: left out: keys, values and workspace need"),
      std::string::npos)
      << outcome.err;
}

/// Whether pages, tables and lists are what the kernels expect shows where they are executed.
TEST(Bench, decodeIsRightUnderTheEmulator) {
  ToolRunner tool;
  auto run = [&](const std::vector<std::string> &layout) {
    std::vector<std::string> words = {
        "bench",      "decode",     "--device", "emulated:sm_80", "--batch", "2",
        "--seq",      "300",        "--ragged", "--topk",         "3",       "--heads",
        "2",          "--kv-heads", "1",        "--head-dim",     "64",      "--phase",
        "all,attend", "--queries",  "2",        "--rounds",       "1",       "--layout"};
    words.insert(words.end(), layout.begin(), layout.end());
    Outcome outcome = tool.run(words);
    EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
    EXPECT_NE(outcome.out.find(", ok\n"), std::string::npos) << outcome.out;
    return outcome.out;
  };
  EXPECT_EQ(run({"pages"}).find("runs of"), std::string::npos);
  run({"rows"});
  EXPECT_NE(run({"pages", "--page-size", "1", "--page-run", "64"}).find("pages of 1, runs of 64"),
            std::string::npos);
}

/// Every place once; runs stay together and are shuffled themselves; another order for each seed.
TEST(Bench, pagesLieInRuns) {
  for (int run : {1, 4, 64, 1000}) {
    constexpr int kPages = 203;
    const std::vector<int32_t> places = pageOrder(kPages, run, 77);
    EXPECT_EQ(std::set<int32_t>(places.begin(), places.end()).size(), size_t(kPages));
    EXPECT_EQ(*std::min_element(places.begin(), places.end()), 0);
    EXPECT_EQ(*std::max_element(places.begin(), places.end()), kPages - 1);
    int torn = 0, together = 0; // neighbours of one run, and ends of runs whose next run follows
    for (int i = 0; i + 1 < kPages; ++i) {
      const bool isNext = places[i + 1] == places[i] + 1;
      const bool isEnd = places[i] % run == run - 1 || places[i] == kPages - 1;
      torn += !isEnd && !isNext;
      together += isEnd && isNext;
    }
    EXPECT_EQ(torn, 0) << run;
    EXPECT_LE(together, (kPages / run + 1) / 2) << run;
    EXPECT_EQ(places == pageOrder(kPages, run, 78), run >= kPages) << run;
  }
}

/// One small program of gradients.
std::vector<std::string> backwardWords(std::vector<std::string> more) {
  std::vector<std::string> words = {"bench",    "backward", "--heads", "2",          "--kv-heads",
                                    "1",        "--topk",   "3",       "--head-dim", "64",
                                    "--rounds", "2",        "--idle",  "0"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

TEST(Bench, backwardIsRightUnderTheEmulator) {
  ToolRunner tool;
  for (const char *method : {"infllm_v2", "dense"}) {
    Outcome outcome = tool.run(backwardWords(
        {method, "--device", "emulated:sm_80", "--seq", "300", "--overlap", "1", "--rows", "300"}));
    EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
    EXPECT_NE(outcome.out.find(", ok\n"), std::string::npos) << outcome.out;
  }
}

TEST(Bench, backwardGoesOverEveryRowAndShowsPeers) {
  ToolRunner tool;
  withFakeDriver(tool);
  std::ofstream(tool.path("peers.jsonl"))
      << R"({"name": "other", "seq": 600, "ms": 3, "paced_ms": 6, "both_ms": 12})";
  Outcome outcome = tool.run(backwardWords(
      {"--seq", "300,600", "--overlap", "1,32", "--variant", "default", "--variant",
       "backward_key_stages=2", "--dense", "--rows", "0", "--peer", "peers.jsonl", "--json"}));
  ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  // The fake driver's launches take 1.5 ms.
  EXPECT_NE(outcome.err.find("6.000 ms paced: ours 0.25 of it; 3.000 ms back to back: ours 0.50 of "
                             "it; 12.000 ms with attention, back to back: ours"),
            std::string::npos)
      << outcome.err;
  auto told = nlohmann::json::parse(outcome.out, nullptr, false);
  ASSERT_TRUE(told.is_object()) << outcome.out;
  ASSERT_EQ(told["backward"].size(), 2u * 3 * 2); // of each length two overlaps and dense
  int dense = 0;
  for (const auto &row : told["backward"]) {
    dense += row["topk"] == 0;
    EXPECT_EQ(row["check"], "not checked");
    EXPECT_GE(row["scratch_bytes"], 8 * 2 * row["tokens"].get<int>());
    for (const char *regime : {"paced", "back_to_back", "both_paced", "both_back_to_back"})
      EXPECT_GT(row[regime]["median_ms"], 0.0);
    EXPECT_TRUE(row["kernel_ms"].contains("backward_keys")) << row;
    EXPECT_FALSE(row["kernel_ms"].contains("attend")) << row;
  }
  EXPECT_EQ(dense, 2 * 2);
  // The kernels of the fake driver do nothing.
  outcome = tool.run(backwardWords({"--seq", "600"}));
  EXPECT_EQ(outcome.exitCode, 1) << outcome.err;
  EXPECT_NE(outcome.out.find("WRONG"), std::string::npos) << outcome.out;
}

TEST(Bench, prefillComparesParametersAndTakesFp8) {
  ToolRunner tool;
  withFakeDriver(tool);
  auto run = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"bench", "prefill", "--seq", "4096", "--topk", "16", "--rounds",
                                 "1", "--rows", "0", "--json"});
    return tool.run(words);
  };
  Outcome outcome = run({"--set", "dense_len=auto", "--variant", "default", "--variant",
                         "dense_len=auto_0 attend_stages=2", "--variant", "dense_len=auto_8192"});
  ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("default, sm_80 4096 tokens"), std::string::npos) << outcome.err;
  auto told = nlohmann::json::parse(outcome.out, nullptr, false);
  ASSERT_TRUE(told.is_object()) << outcome.out;
  std::map<std::string, double> operations;
  for (const auto &row : told["results"])
    if (row["phase"] == "whole")
      operations[row["variant"]] = row["floor_ms"];
  ASSERT_EQ(operations.size(), 3u) << outcome.out;
  // Dense below 8192 keys: every key counts, and nothing is scored.
  EXPECT_GT(operations["sm_80 dense_len=auto_8192"],
            operations["sm_80 dense_len=auto_0 attend_stages=2"]);
  outcome = run({"--variant", "no_such_parameter=1"});
  EXPECT_EQ(outcome.exitCode, 2) << outcome.err;
  EXPECT_NE(outcome.err.find("no_such_parameter"), std::string::npos) << outcome.err;
  outcome = run({"--kv-dtype", "fp8_e4m3"});
  EXPECT_EQ(outcome.exitCode, 2);
  EXPECT_NE(outcome.err.find("give a --layout that has them"), std::string::npos) << outcome.err;
}

TEST(Bench, wrongResultsAreFound) {
  ToolRunner tool;
  withFakeDriver(tool);
  for (const char *what : {"select", "attend"}) {
    Outcome outcome = tool.run({"bench", what, "--seq", "9000", "--topk", "16", "--rounds", "1"});
    EXPECT_EQ(outcome.exitCode, 1) << outcome.err;
    EXPECT_NE(outcome.out.find("WRONG"), std::string::npos) << outcome.out;
  }
}

/// The kernels of the fake driver do nothing, so what `winnow run` gives for a user's tensors is
/// wrong: --check must find it, and nothing else does.
TEST(Run, checkFindsWrongResultsOfFilesToo) {
  ToolRunner tool;
  withFakeDriver(tool);
  for (auto [name, heads] : {std::pair("q.npy", 4), {"k.npy", 2}, {"v.npy", 2}}) {
    std::vector<float> data(static_cast<size_t>(300) * heads * 64, 0.25f);
    ASSERT_TRUE(
        writeNpy(tool.path(name), "<f4", {300, static_cast<size_t>(heads), 64}, data.data()));
  }
  std::vector<std::string> words = {
      "run", "dense",  "--device", "cuda", "--heads", "4",   "--kv-heads", "2",   "--head-dim",
      "64",  "--arch", "none",     "--q",  "q.npy",   "--k", "k.npy",      "--v", "v.npy"};
  Outcome unchecked = tool.run(words);
  EXPECT_EQ(unchecked.exitCode, 0) << unchecked.err;
  words.emplace_back("--check");
  Outcome checked = tool.run(words);
  EXPECT_EQ(checked.exitCode, 1) << checked.err;
  EXPECT_NE(checked.err.find("the output differs from the reference"), std::string::npos)
      << checked.err;
}

TEST(Run, aWrongStepIsFound) {
  ToolRunner tool;
  withFakeDriver(tool);
  Outcome outcome =
      tool.run({"run", "dense", "--device", "cuda", "--heads", "4", "--kv-heads", "2", "--head-dim",
                "64", "--arch", "none", "--seq", "100", "--decode", "1"});
  EXPECT_EQ(outcome.exitCode, 1) << outcome.err;
  EXPECT_NE(outcome.err.find("prefill 0 to 100: the output differs from the reference"),
            std::string::npos)
      << outcome.err;
  EXPECT_NE(outcome.out.find("2 calls, 2 wrong"), std::string::npos) << outcome.out;
}

TEST(Check, compilesInSeveralProcesses) {
  ToolRunner tool;
  withFakeDriver(tool);
  Outcome outcome = tool.run({"check", "--device", "cuda", "--filter", "^(group_2|topk_1)$"});
  EXPECT_EQ(outcome.exitCode, 1) << outcome.err;
  EXPECT_NE(outcome.err.find("compiled 2 of 2 programs"), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find("could not do"), std::string::npos) << outcome.err;
}

TEST(Check, runsAndPreparesWhatItWasTold) {
  ToolRunner tool;
  withFakeDriver(tool);
  auto programs = [&] {
    Outcome list = tool.run({"cache", "ls", "--json"});
    return nlohmann::json::parse(list.out, nullptr, false)["entries"];
  };
  // One program, of the tunables that were named: the recorded case runs with them as well.
  tool.run({"check", "--device", "cuda", "--filter", "^recorded_t1500$", "--recorded",
            WINNOW_RECORDED, "--method", WINNOW_TEST_METHOD, "--config", "attend_stages=3"});
  ASSERT_EQ(programs().size(), 1u) << programs();
  EXPECT_NE(programs().dump().find("attend_stages=3"), std::string::npos) << programs();
  // Half of two programs, by helper processes too.
  tool.run({"check", "--device", "cuda", "--filter", "^(group_2|topk_1)$", "--part", "0/2"});
  EXPECT_EQ(programs().size(), 2u) << programs();
}

TEST(Check, tunablesAreForGpus) {
  ToolRunner tool;
  Outcome outcome = tool.run({"check", "--device", "cpu", "--config", "attend_stages=3"});
  EXPECT_EQ(outcome.exitCode, 2);
}

TEST(Bench, refusesBadInput) {
  ToolRunner tool;
  withFakeDriver(tool);
  std::ofstream(tool.path("x.json")) << "{}";
  std::ofstream(tool.path("x.jsonl")) << "{\"name\": \"a\", \"batch\": 1, \"seq\": 8}\n";
  for (const std::vector<std::string> &words : std::vector<std::vector<std::string>>{
           {"bench"},
           {"bench", "select", "--seq", "0"},
           {"bench", "select", "--topk", "16,x"},
           {"bench", "select", "--peer", "nothing"},
           {"bench", "select", "--peer", "a@x=3"},
           {"bench", "select", "--prepare"},
           {"bench", "table", "x.json"},
           {"bench", "table", "missing.json"},
           {"bench", "decode", "--batch", "0"},
           {"bench", "decode", "--device", "cpu"},
           {"bench", "decode", "--layout", "heap"},
           {"bench", "decode", "--phase", "select"},
           {"bench", "decode", "--seq", "4", "--queries", "8"},
           {"bench", "decode", "--layout", "rows", "--page-size", "8"},
           {"bench", "decode", "--layout", "rows", "--page-run", "8"},
           {"bench", "decode", "--page-run", "0"},
           {"bench", "decode", "--peer", "x.jsonl"},
           {"bench", "decode", "--peer", "missing.jsonl"},
           {"bench", "decode", "--prepare"},
           {"bench", "backward", "--seq", "0"},
           {"bench", "backward", "--idle", "-1"},
           {"bench", "backward", "--device", "cpu"},
           {"bench", "backward", "--peer", "x.jsonl"},
           {"bench", "backward", "--variant", "backward_key_stages"},
           {"bench", "backward", "--prepare"}}) {
    Outcome outcome = tool.run(words);
    EXPECT_EQ(outcome.exitCode, 2) << words.back();
    EXPECT_EQ(outcome.errLines(), 1) << outcome.err;
  }
}

} // namespace
