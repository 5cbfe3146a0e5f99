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

TEST(Run, helpTeaches) {
  ToolRunner tool;
  for (const char *name : {"run", "compile", "check", "bench", "methods", "doctor", "cache"}) {
    Outcome outcome = tool.run({name, "--help"});
    EXPECT_EQ(outcome.exitCode, 0);
    EXPECT_NE(outcome.out.find("Examples:\n  winnow"), std::string::npos) << name;
    EXPECT_EQ(outcome.err, "");
  }
}

TEST(Doctor, tellsEverythingAsJson) {
  ToolRunner tool;
  tool.environment["WINNOW_LIBCUDA"] = "/nowhere/libcuda.so";
  Outcome outcome = tool.run({"doctor", "--json"});
  ASSERT_EQ(outcome.exitCode, 0);
  auto facts = nlohmann::json::parse(outcome.out, nullptr, false);
  ASSERT_TRUE(facts.is_object());
  EXPECT_FALSE(facts["driver"]["found"]);
  EXPECT_EQ(facts["cache"]["directory"], tool.path("cache"));
  bool listed = false;
  for (const auto &entry : facts["environment"])
    listed |= entry["name"] == "WINNOW_LIBCUDA" && entry["value"] == "/nowhere/libcuda.so";
  EXPECT_TRUE(listed);
}

TEST(Check, findsItsCases) {
  ToolRunner tool;
  Outcome outcome = tool.run({"check", "--list"});
  EXPECT_EQ(outcome.exitCode, 0);
  EXPECT_NE(outcome.out.find("adversarial_ids"), std::string::npos);
  EXPECT_EQ(tool.run({"check", "--device", "cpu", "--filter", "no_such_case"}).exitCode, 2);
  EXPECT_EQ(tool.run({"check", "--filter", "("}).exitCode, 2);
}

TEST(Npy, roundTrip) {
  ToolRunner tool;
  std::vector<float> data = {1, 2.5, -3, 0.1f, 1e-8f, 6};
  for (const std::vector<size_t> &shape : {std::vector<size_t>{6}, {2, 3}, {1, 2, 3}, {0, 4}}) {
    ASSERT_TRUE(writeNpy(tool.path("x.npy"), "<f4", shape, data.data()));
    Result<NpyArray> array = readNpy(tool.path("x.npy"));
    ASSERT_TRUE(array) << array.error().message;
    EXPECT_EQ(array->shape, shape);
    EXPECT_EQ(array->data,
              std::string(reinterpret_cast<const char *>(data.data()), array->elements() * 4));
  }
}

} // namespace
