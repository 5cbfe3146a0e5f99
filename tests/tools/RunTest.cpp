// The command line end to end on the CPU target: NumPy files in and out, the main job on a small
// prompt, JSON output.
#include "reference/Half.h"
#include "reference/conformance/Random.h"
#include "reference/recorded/Npy.h"
#include "tests/tools/ToolRunner.h"
#include <filesystem>
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
  EXPECT_TRUE(tool.files().empty()) << "nobody asked for " << tool.files()[0];
}

/// Chunks whose ends are ends of neither pages nor blocks, and sequences that end before others.
TEST(Run, ChunksAndDecodeOverPagesAreRightInEveryLayout) {
  for (const char *layout : {"packed", "halves", "pages", "rows", "pairs"}) {
    ToolRunner tool;
    std::vector<std::string> words = {"--seq",   "900,310", "--arch",   "none", "--layout", layout,
                                      "--chunk", "331",     "--decode", "2",    "--json"};
    if (std::string(layout) == "halves" || std::string(layout) == "pages")
      words.insert(words.end(), {"--page-size", layout[0] == 'h' ? "7" : "1"});
    Outcome outcome = tool.run(command({"run", WINNOW_TEST_METHOD}, words));
    ASSERT_EQ(outcome.exitCode, 0) << layout << ": " << outcome.err;
    auto result = nlohmann::json::parse(outcome.out, nullptr, false);
    ASSERT_TRUE(result.is_object()) << outcome.out;
    ASSERT_EQ(result["steps"].size(), 3u + 2) << layout;
    EXPECT_EQ(result["steps"][2]["end"], 900);
    EXPECT_EQ(result["steps"][4]["begin"], 901);
    EXPECT_EQ(result["steps"][4]["rows"], 2) << "a token of each sequence";
    EXPECT_TRUE(result["check"]["passed"]) << layout;
    EXPECT_GT(result["check"]["picks"], 100);
  }
}

/// In steps or at once, what is written is the same: absolute visibility knows no chunks.
TEST(Run, StepsGiveTheSelectionOfOneCall) {
  ToolRunner tool;
  auto run = [&](const std::string &seq, const std::vector<std::string> &more) {
    std::vector<std::string> words =
        command({"run", WINNOW_TEST_METHOD}, {"--seq", seq, "--arch", "none", "--no-dense"});
    words.insert(words.end(), more.begin(), more.end());
    Outcome outcome = tool.run(words);
    EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
    return outcome.out;
  };
  const std::string text = run("796", {"--decode", "4", "--chunk", "400", "--ids", "steps.npy"});
  EXPECT_NE(text.find("decode  799"), std::string::npos) << text;
  EXPECT_NE(text.find("6 calls, 0 wrong"), std::string::npos) << text;
  run("800", {"--ids", "whole.npy"});
  EXPECT_TRUE(contentOf(tool.path("steps.npy")) == contentOf(tool.path("whole.npy")));
}

// check --save and --against: the same answers agree; one output that is off is found.
TEST(Check, ComparesWithAnswersThatWereSaved) {
  ToolRunner tool;
  const std::string folder = tool.path("answers");
  const std::vector<std::string> words = {"check",   "--device", "cpu",
                                          "--small", "--filter", "^small_05_(dense|moba)$"};
  auto check = [&](const char *flag) {
    std::vector<std::string> all = words;
    all.insert(all.end(), {flag, folder});
    return tool.run(all);
  };
  Outcome saved = check("--save");
  ASSERT_EQ(saved.exitCode, 0) << saved.err;
  EXPECT_FALSE(contentOf(folder + "/small_05_moba.ids.npy").empty());
  Outcome same = check("--against");
  EXPECT_EQ(same.exitCode, 0) << same.out;
  EXPECT_NE(same.out.find("; as there: 0 of "), std::string::npos) << same.out;

  const std::string path = folder + "/small_05_dense.out.npy";
  std::string bytes = contentOf(path);
  ASSERT_GT(bytes.size(), 2u);
  bytes.replace(bytes.size() - 2, 2, "\x80\x41", 2); // 16.0 in bf16
  std::ofstream(path, std::ios::binary) << bytes;
  Outcome other = check("--against");
  EXPECT_EQ(other.exitCode, 1);
  EXPECT_NE(other.out.find("NOT as there"), std::string::npos) << other.out;
  EXPECT_NE(other.out.find("1 passed, 1 failed"), std::string::npos) << other.out;

  std::filesystem::remove_all(folder);
  EXPECT_EQ(check("--against").exitCode, 1);
}

TEST(Run, ThePictureIsDrawnWhereItIsAskedForAndItsFailureIsAWarning) {
  ToolRunner tool;
  const std::vector<std::string> small = {"--seq", "1024", "--arch", "none", "--no-dense", "--svg"};
  auto draw = [&](const std::string &path) {
    std::vector<std::string> words = command({"run", WINNOW_TEST_METHOD}, small);
    words.push_back(path);
    return tool.run(words);
  };
  Outcome outcome = draw("picture.svg");
  EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
  EXPECT_EQ(tool.files(), std::vector<std::string>{"picture.svg"});
  EXPECT_EQ(contentOf(tool.path("picture.svg")).compare(0, 4, "<svg"), 0);
  outcome = draw("nowhere/picture.svg");
  EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("warning: no picture: cannot write nowhere/picture.svg"),
            std::string::npos)
      << outcome.err;
}

/// The same tensors in every type that NumPy and ml_dtypes save, with and without a batch of one.
TEST(Run, TensorsOfAnyFloatingTypeAreConvertedAndThatIsSaid) {
  ToolRunner tool;
  const std::vector<std::vector<size_t>> shapes = {{100, 8, 64}, {100, 2, 64}, {100, 2, 64}};
  const char *const names[] = {"q", "k", "v"};
  for (int t = 0; t < 3; ++t) {
    std::vector<float> single(shapes[t][0] * shapes[t][1] * shapes[t][2]);
    std::vector<double> wide(single.size());
    std::vector<uint16_t> brain(single.size()), half(single.size());
    for (size_t i = 0; i < single.size(); ++i) { // values that bf16 and fp16 both have
      half[i] = reference::toFp16(static_cast<float>(static_cast<int>(i * 37 % 129) - 64) / 64);
      wide[i] = single[i] = reference::fromFp16(half[i]);
      brain[i] = reference::toBf16(single[i]);
    }
    std::vector<size_t> batch = shapes[t];
    batch.insert(batch.begin(), 1);
    const std::string name = names[t];
    ASSERT_TRUE(writeNpy(tool.path(name + "32.npy"), "<f4", shapes[t], single.data()));
    ASSERT_TRUE(writeNpy(tool.path(name + "64.npy"), "<f8", batch, wide.data()));
    ASSERT_TRUE(writeNpy(tool.path(name + "16.npy"), "<f2", shapes[t], half.data()));
    ASSERT_TRUE(writeNpy(tool.path(name + "bf.npy"), "<V2", shapes[t], brain.data()));
    ASSERT_TRUE(writeNpy(tool.path(name + "name.npy"), "bfloat16", shapes[t], brain.data()));
  }
  std::map<std::string, std::string> outputs;
  auto run = [&](const std::string &type, const std::string &dtype) {
    Outcome outcome = tool.run(command(
        {"run", WINNOW_TEST_METHOD}, {"--q", "q" + type + ".npy", "--k", "k" + type + ".npy", "--v",
                                      "v" + type + ".npy", "--dtype", dtype, "--out", "o.npy"}));
    EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
    std::string &first = outputs[dtype], now = contentOf(tool.path("o.npy"));
    first = first.empty() ? now : first;
    EXPECT_TRUE(now == first) << type << " as " << dtype;
    return outcome.err.substr(0, outcome.err.find('\n'));
  };
  EXPECT_EQ(run("64", "bf16"),
            "converted: q64.npy ([1, 100, 8, 64] as [100, 8, 64], float64 as bf16), k64.npy ([1, "
            "100, 2, 64] as [100, 2, 64], float64 as bf16), v64.npy ([1, 100, 2, 64] as [100, 2, "
            "64], float64 as bf16)");
  for (const char *type : {"32", "16", "bf", "name"})
    EXPECT_EQ(run(type, "bf16").rfind("converted: q", 0), 0u) << type;
  EXPECT_EQ(run("bf", "fp16").rfind("converted: qbf.npy (bfloat16 as fp16)", 0), 0u);
  EXPECT_EQ(run("64", "fp16").rfind("converted: q64.npy", 0), 0u);
  EXPECT_EQ(run("16", "fp16").find("converted"), std::string::npos) << "nothing was";
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
  EXPECT_EQ(outcome.errLines(), 2) << outcome.err; // what was converted, and the fault
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
