// The command line end to end on the CPU target: NumPy files in and out, the main job on a small
// prompt, JSON output.
#include "tests/conformance/Random.h"
#include "tests/tools/ToolRunner.h"
#include "tools/winnow/Npy.h"
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

using namespace winnow;

namespace {

const std::vector<std::string> kSmallSpec = {"--heads",    "8",       "--kv-heads", "2",
                                             "--head-dim", "64",      "--topk",     "8",
                                             "--set",      "local=3", "--device",   "cpu"};

std::vector<std::string> command(std::vector<std::string> words,
                                 const std::vector<std::string> &more) {
  words.insert(words.end(), kSmallSpec.begin(), kSmallSpec.end());
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

void writeNormal(const std::string &path, const std::vector<size_t> &shape, uint64_t seed) {
  std::vector<float> data(shape[0] * shape[1] * shape[2]);
  for (size_t i = 0; i < data.size(); ++i)
    data[i] = randomNormal(seed, i);
  ASSERT_TRUE(writeNpy(path, "<f4", shape, data.data()));
}

TEST(Run, mainJobOnASmallPrompt) {
  ToolRunner tool;
  Outcome outcome =
      tool.run(command({"run", WINNOW_TEST_METHOD, "--json"}, {"--seq", "2048", "--arch", "none"}));
  ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  auto result = nlohmann::json::parse(outcome.out, nullptr, false);
  ASSERT_TRUE(result.is_object()) << outcome.out;
  EXPECT_TRUE(result["check"]["passed"]);
  EXPECT_EQ(result["check"]["wrong_picks"], 0);
  EXPECT_GT(result["check"]["picks"], 100);
  EXPECT_GT(result["recall"]["found"].get<double>(), 0.6 * result["recall"]["asked"].get<double>());
  EXPECT_GT(result["dense_ms"], 0);
  EXPECT_LT(result["touched_share"], 1);
  EXPECT_EQ(tool.files(), std::vector<std::string>{"winnow-selection.svg"});
  EXPECT_LT(std::filesystem::file_size(tool.path("winnow-selection.svg")), 100000u);
}

TEST(Run, filesInAndOut) {
  ToolRunner tool;
  writeNormal(tool.path("q.npy"), {700, 8, 64}, 1);
  writeNormal(tool.path("k.npy"), {900, 2, 64}, 2);
  writeNormal(tool.path("v.npy"), {900, 2, 64}, 3);
  std::vector<int32_t> queries = {0, 300, 700}, keys = {0, 450, 900};
  ASSERT_TRUE(writeNpy(tool.path("cq.npy"), "<i4", {3}, queries.data()));
  ASSERT_TRUE(writeNpy(tool.path("ck.npy"), "<i4", {3}, keys.data()));
  Outcome outcome = tool.run(command({"run", WINNOW_TEST_METHOD},
                                     {"--q", "q.npy", "--k", "k.npy", "--v", "v.npy",
                                      "--cu-seqlens", "cq.npy", "--cu-seqlens-k", "ck.npy", "--out",
                                      "o.npy", "--lse", "l.npy", "--ids", "i.npy", "--check"}));
  ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  Result<NpyArray> out = readNpy(tool.path("o.npy")), lse = readNpy(tool.path("l.npy")),
                   ids = readNpy(tool.path("i.npy"));
  ASSERT_TRUE(out && lse && ids);
  EXPECT_EQ(out->descr, "<f4");
  EXPECT_EQ(out->shape, (std::vector<size_t>{700, 8, 64}));
  EXPECT_EQ(lse->shape, (std::vector<size_t>{8, 700}));
  EXPECT_EQ(ids->descr, "<i4");
  EXPECT_EQ(ids->shape, (std::vector<size_t>{2, 700, 8}));

  // The selection that was written, given back, must give the same output.
  outcome = tool.run(
      command({"run", WINNOW_TEST_METHOD},
              {"--q", "q.npy", "--k", "k.npy", "--v", "v.npy", "--cu-seqlens", "cq.npy",
               "--cu-seqlens-k", "ck.npy", "--use-ids", "i.npy", "--out", "o2.npy", "--check"}));
  ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  EXPECT_EQ(readNpy(tool.path("o2.npy"))->data, out->data);
}

/// A disk that is full while the output is written: `limit` bytes fit into any file.
Outcome runOnFullDisk(ToolRunner &tool, const std::string &out) {
  writeNormal(tool.path("q.npy"), {200, 8, 64}, 1);
  writeNormal(tool.path("k.npy"), {200, 2, 64}, 2);
  writeNormal(tool.path("v.npy"), {200, 2, 64}, 3);
  tool.environment["WINNOW_CACHE_DIR"] = "";
  tool.fileSizeLimit = 4096;
  return tool.run(command({"run", WINNOW_TEST_METHOD},
                          {"--q", "q.npy", "--k", "k.npy", "--v", "v.npy", "--out", out}));
}

TEST(FullDisk, leavesNothing) {
  ToolRunner tool;
  Outcome outcome = runOnFullDisk(tool, "out.npy");
  EXPECT_EQ(outcome.exitCode, 2);
  EXPECT_EQ(outcome.errLines(), 1) << outcome.err;
  EXPECT_NE(outcome.err.find("out.npy"), std::string::npos) << outcome.err;
  EXPECT_EQ(tool.files(), (std::vector<std::string>{"k.npy", "q.npy", "v.npy"}));
}

TEST(FullDisk, keepsTheOldFile) {
  ToolRunner tool;
  std::ofstream(tool.path("old.npy")) << "old";
  EXPECT_EQ(runOnFullDisk(tool, "old.npy").exitCode, 2);
  EXPECT_EQ(std::filesystem::file_size(tool.path("old.npy")), 3u);
}

} // namespace
