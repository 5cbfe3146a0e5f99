// Bad input: each fault gives one clear line on stderr, its documented exit code, and leaves
// nothing half-written.
#include "reference/recorded/Npy.h"
#include "tests/tools/ToolRunner.h"
#include <cmath>
#include <fstream>
#include <gtest/gtest.h>
#include <limits>
#include <unistd.h>

using namespace winnow;

namespace {

enum Exit {
  Ok = 0,
  WrongResult = 1,
  Usage = 2,
  Unsupported = 3,
  CompileFailed = 4,
  DeviceFailed = 5
};

class BadInput : public testing::Test {
protected:
  static constexpr size_t kTokens = 200, kHeads = 4, kKvHeads = 2, kHeadDim = 64;

  void write(const std::string &name, const std::vector<size_t> &shape, float value = 0.5f) {
    size_t count = 1;
    for (size_t extent : shape)
      count *= extent;
    std::vector<float> data(count, value);
    ASSERT_TRUE(writeNpy(tool.path(name), "<f4", shape, data.data()));
  }
  void writeGoodTensors() {
    write("q.npy", {kTokens, kHeads, kHeadDim});
    write("k.npy", {kTokens, kKvHeads, kHeadDim});
    write("v.npy", {kTokens, kKvHeads, kHeadDim});
  }
  /// `winnow run` on the three tensors, with a spec that fits them.
  Outcome run(std::vector<std::string> more) {
    std::vector<std::string> arguments = {
        "run",    METHOD,  "--heads", "4",       "--kv-heads", "2",      "--head-dim", "64",
        "--topk", "4",     "--set",   "local=2", "--device",   "cpu",    "--q",        "q.npy",
        "--k",    "k.npy", "--v",     "v.npy",   "--out",      "out.npy"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return tool.run(arguments);
  }
  /// One line that holds all of `words`, the exit code, and no file but the inputs.
  void expectRefusal(const Outcome &outcome, int code, const std::vector<std::string> &words) {
    EXPECT_EQ(outcome.exitCode, code) << outcome.err;
    EXPECT_EQ(outcome.errLines(), 1) << outcome.err;
    for (const std::string &word : words)
      EXPECT_NE(outcome.err.find(word), std::string::npos)
          << "no '" << word << "' in: " << outcome.err;
    EXPECT_EQ(outcome.out, "");
    for (const std::string &file : tool.files())
      EXPECT_TRUE(file == "q.npy" || file == "k.npy" || file == "v.npy" || file.rfind("in", 0) == 0)
          << file;
  }

  const char *METHOD = WINNOW_TEST_METHOD;
  ToolRunner tool;
};

TEST_F(BadInput, wrongNumberOfHeads) {
  writeGoodTensors();
  write("q.npy", {kTokens, 8, kHeadDim});
  expectRefusal(run({}), Usage, {"q.npy", "8 heads", "--heads"});
}

TEST_F(BadInput, wrongHeadDim) {
  writeGoodTensors();
  write("k.npy", {kTokens, kKvHeads, 128});
  expectRefusal(run({}), Usage, {"k.npy", "head_dim 128"});
}

TEST_F(BadInput, wrongValueDim) {
  writeGoodTensors();
  expectRefusal(run({"--value-dim", "96"}), Usage,
                {"v.npy", "value_dim 64", "--value-dim says 96"});
}

TEST_F(BadInput, flagsOfThePagedCache) {
  writeGoodTensors();
  expectRefusal(run({"--decode", "2"}), Usage, {"--decode", "structured prompt"});
  auto prompt = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"run", METHOD, "--device", "cpu", "--seq", "64"});
    return tool.run(more);
  };
  expectRefusal(prompt({"--layout", "heap"}), Usage, {"--layout", "heap", "halves"});
  expectRefusal(prompt({"--layout", "rows", "--page-size", "16"}), Usage,
                {"--page-size", "rows has no pages"});
  expectRefusal(prompt({"--chunk", "0"}), Usage, {"--chunk", "1 to"});
  expectRefusal(tool.run({"run", "--image", "in.winnow", "--decode", "1"}), Usage,
                {"--decode needs METHOD"});
}

TEST_F(BadInput, wrongRank) {
  writeGoodTensors();
  write("v.npy", {kTokens, kKvHeads * kHeadDim});
  expectRefusal(run({}), Usage, {"v.npy", "[tokens, heads, head_dim]"});
}

TEST_F(BadInput, keysAndValuesDiffer) {
  writeGoodTensors();
  write("v.npy", {kTokens + 1, kKvHeads, kHeadDim});
  expectRefusal(run({}), Usage, {"k.npy", "v.npy"});
}

TEST_F(BadInput, moreQueriesThanKeys) {
  writeGoodTensors();
  write("q.npy", {kTokens + 1, kHeads, kHeadDim});
  expectRefusal(run({}), Usage, {"201 queries", "200 keys"});
}

TEST_F(BadInput, wrongElementType) {
  writeGoodTensors();
  std::vector<int32_t> integers(kTokens * kHeads * kHeadDim, 1);
  ASSERT_TRUE(writeNpy(tool.path("q.npy"), "<i4", {kTokens, kHeads, kHeadDim}, integers.data()));
  expectRefusal(run({}), Usage, {"q.npy", "int32", "float16"});
}

TEST_F(BadInput, moreThanFp16Holds) {
  writeGoodTensors();
  std::vector<uint16_t> words(kTokens * kHeads * kHeadDim, 0x7f00); // 1.7e38 in bf16
  ASSERT_TRUE(writeNpy(tool.path("q.npy"), "<V2", {kTokens, kHeads, kHeadDim}, words.data()));
  expectRefusal(run({"--dtype", "fp16"}), Usage, {"q.npy", "element 0", "infinite (as fp16)"});
}

TEST_F(BadInput, nanInTensor) {
  writeGoodTensors();
  write("k.npy", {kTokens, kKvHeads, kHeadDim}, std::numeric_limits<float>::quiet_NaN());
  expectRefusal(run({}), Usage, {"k.npy", "NaN"});
}

TEST_F(BadInput, nanIds) {
  writeGoodTensors();
  write("in_ids.npy", {kKvHeads, kTokens, 4}, std::numeric_limits<float>::quiet_NaN());
  expectRefusal(run({"--use-ids", "in_ids.npy"}), Usage, {"in_ids.npy", "integers"});
}

TEST_F(BadInput, idsOfWrongShape) {
  writeGoodTensors();
  std::vector<int32_t> ids(kTokens * 4, 0);
  ASSERT_TRUE(writeNpy(tool.path("in_ids.npy"), "<i4", {kTokens, 4}, ids.data()));
  expectRefusal(run({"--use-ids", "in_ids.npy"}), Usage, {"in_ids.npy", "[2, 200, 4]"});
}

/// Integers of 64 bits are taken where they fit 32, and never wrapped.
TEST_F(BadInput, integersThatDoNotFit) {
  writeGoodTensors();
  std::vector<int64_t> ids(kKvHeads * kTokens * 4, 0), lengths = {0, 100, 200};
  auto give = [&] {
    ASSERT_TRUE(writeNpy(tool.path("in_ids.npy"), "<i8", {kKvHeads, kTokens, 4}, ids.data()));
    ASSERT_TRUE(writeNpy(tool.path("in_cu.npy"), "<i8", {3}, lengths.data()));
  };
  give();
  EXPECT_EQ(run({"--use-ids", "in_ids.npy", "--cu-seqlens", "in_cu.npy"}).exitCode, 0);
  std::filesystem::remove(tool.path("out.npy"));
  for (int64_t wide : {int64_t(1) << 32, (int64_t(1) << 31), -(int64_t(1) << 31) - 1,
                       (int64_t(1) << 32) + 1, INT64_MIN}) {
    ids[7] = wide;
    give();
    expectRefusal(run({"--use-ids", "in_ids.npy"}), Usage,
                  {"in_ids.npy", "element 7 does not fit int32"});
    ids[7] = 0;
  }
  lengths[1] += int64_t(1) << 32;
  give();
  expectRefusal(run({"--cu-seqlens", "in_cu.npy"}), Usage,
                {"in_cu.npy", "element 1 does not fit int32"});
}

TEST_F(BadInput, lengthsThatDoNotAddUp) {
  writeGoodTensors();
  std::vector<int32_t> lengths = {0, 100, 150};
  ASSERT_TRUE(writeNpy(tool.path("in_cu.npy"), "<i4", {3}, lengths.data()));
  expectRefusal(run({"--cu-seqlens", "in_cu.npy"}), Usage, {"in_cu.npy", "200"});
}

TEST_F(BadInput, lengthsThatFall) {
  writeGoodTensors();
  std::vector<int32_t> lengths = {0, 150, 100, 200};
  ASSERT_TRUE(writeNpy(tool.path("in_cu.npy"), "<i4", {4}, lengths.data()));
  expectRefusal(run({"--cu-seqlens", "in_cu.npy"}), Usage, {"in_cu.npy", "entry 2"});
}

TEST_F(BadInput, missingFile) {
  writeGoodTensors();
  std::filesystem::remove(tool.path("v.npy"));
  expectRefusal(run({}), Usage, {"v.npy", "No such file"});
}

TEST_F(BadInput, missingFlag) {
  writeGoodTensors();
  expectRefusal(tool.run({"run", METHOD, "--device", "cpu", "--q", "q.npy"}), Usage, {"together"});
}

TEST_F(BadInput, truncatedFile) {
  writeGoodTensors();
  std::filesystem::resize_file(tool.path("q.npy"), 5000);
  expectRefusal(run({}), Usage, {"q.npy", "bytes"});
}

TEST_F(BadInput, notANumpyFile) {
  writeGoodTensors();
  std::ofstream(tool.path("q.npy")) << "PK\x03\x04 this is something else entirely";
  expectRefusal(run({}), Usage, {"q.npy", "not a NumPy"});
}

TEST_F(BadInput, absurdShape) {
  writeGoodTensors();
  std::string header =
      "{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999, 999999999999, 64), }";
  header.append(128 - 10 - header.size() - 1, ' ').push_back('\n');
  std::ofstream(tool.path("q.npy"), std::ios::binary)
      << "\x93NUMPY\x01" << '\0' << static_cast<char>(header.size()) << '\0' << header;
  expectRefusal(run({}), Usage, {"q.npy", "absurdly"});
}

TEST_F(BadInput, brokenHeaders) {
  writeGoodTensors();
  auto refusal = [&](const std::string &header) {
    std::string length = {static_cast<char>(header.size() & 255),
                          static_cast<char>(header.size() >> 8 & 255)};
    std::ofstream(tool.path("q.npy"), std::ios::binary)
        << "\x93NUMPY\x01" << '\0' << length << header;
    Outcome outcome = run({});
    expectRefusal(outcome, Usage, {"q.npy"});
    return outcome.err;
  };
  const std::string good = "{'descr': '<f4', 'fortran_order': False, 'shape': (200, 4, 64), }";
  EXPECT_NE(refusal(good).find("holds 0 bytes"), std::string::npos);
  EXPECT_NE(refusal("{'descr': '" + std::string(60000, 'x') + "'}").find("60013 characters"),
            std::string::npos);
  EXPECT_NE(refusal("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }")
                .find("simple element type"),
            std::string::npos);
  EXPECT_NE(refusal("{'descr': '<f4', 'fortran_order': True, 'shape': (3,), }").find("Fortran"),
            std::string::npos);
  EXPECT_NE(refusal("{'descr': '>f4', 'fortran_order': False, 'shape': (3,), }").find("'>f4'"),
            std::string::npos);
  EXPECT_NE(refusal("{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }").find("no shape"),
            std::string::npos);
  for (size_t end = 0; end < good.size() - 3; ++end) // up to the comma, a Python dictionary
    if (std::string err = refusal(good.substr(0, end)); HasFailure())
      FAIL() << end << ": " << err;
}

/// Zeros that take no room: whoever allocated them would fail, whoever read them would not end.
TEST_F(BadInput, tensorsOfEightTerabytes) {
  writeGoodTensors();
  const off_t huge = off_t(8) << 40;
  ASSERT_EQ(::truncate(tool.path("q.npy").c_str(), huge), 0);
  expectRefusal(run({}), Usage, {"q.npy", "holds 8796"});
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (8589934592, 4, 64), }";
  header.append(118 - header.size(), ' ');
  std::ofstream(tool.path("q.npy"), std::ios::binary)
      << "\x93NUMPY\x01" << '\0' << 'v' << '\0' << header;
  ASSERT_EQ(::truncate(tool.path("q.npy").c_str(), huge + 128), 0);
  expectRefusal(run({}), Usage, {"q.npy", "memory"});
}

TEST_F(BadInput, brokenMethodText) {
  std::ofstream(tool.path("in.mlir"))
      << "select.method @m doc \"broken\" (%q, %k, %v) {\n  %x = select.sumarize %k\n}\n";
  Outcome outcome = tool.run({"compile", "in.mlir", "--arch", "sm_80"});
  expectRefusal(outcome, Usage, {"in.mlir", ":2:"});
}

TEST_F(BadInput, emptyMethodText) {
  std::ofstream(tool.path("in.mlir")) << "\n";
  expectRefusal(tool.run({"compile", "in.mlir", "--arch", "sm_80"}), Usage, {"in.mlir"});
}

TEST_F(BadInput, missingMethodFile) {
  expectRefusal(tool.run({"compile", "nowhere.mlir", "--arch", "sm_80"}), Usage, {"nowhere.mlir"});
}

TEST_F(BadInput, unknownMethod) {
  expectRefusal(tool.run({"compile", "no_such_method", "--arch", "sm_80"}), Usage,
                {"no_such_method"});
}

TEST_F(BadInput, unknownArch) {
  expectRefusal(tool.run({"compile", METHOD, "--arch", "sm_42"}), Unsupported, {"sm_42", "sm_80"});
}

TEST_F(BadInput, unknownParameter) {
  expectRefusal(tool.run({"compile", METHOD, "--arch", "sm_80", "--set", "colour=3"}), Usage,
                {"colour"});
}

TEST_F(BadInput, malformedParameter) {
  expectRefusal(tool.run({"compile", METHOD, "--set", "local"}), Usage, {"NAME=VALUE"});
}

TEST_F(BadInput, unknownConfig) {
  expectRefusal(tool.run({"compile", METHOD, "--config", "speed=11"}), Usage, {"speed"});
}

TEST_F(BadInput, unsupportedHeadDim) {
  expectRefusal(tool.run({"compile", METHOD, "--arch", "sm_80", "--head-dim", "72"}), Unsupported,
                {"72", "64"});
}

TEST_F(BadInput, budgetTooSmallForForcedBlocks) {
  Outcome outcome = tool.run({"compile", METHOD, "--arch", "sm_80", "--topk", "8"});
  EXPECT_TRUE(outcome.exitCode == Usage || outcome.exitCode == Unsupported);
  EXPECT_EQ(outcome.errLines(), 1) << outcome.err;
}

TEST_F(BadInput, unknownDtype) {
  expectRefusal(tool.run({"compile", METHOD, "--dtype", "fp4"}), Usage, {"fp4"});
}

TEST_F(BadInput, unknownFlag) {
  expectRefusal(tool.run({"run", METHOD, "--sequence", "5"}), Usage, {"--sequence"});
}

TEST_F(BadInput, noCommand) { EXPECT_EQ(tool.run({}).exitCode, Usage); }

TEST_F(BadInput, unknownDevice) {
  expectRefusal(tool.run({"run", METHOD, "--device", "abacus"}), Usage, {"abacus", "cuda:N"});
}

TEST_F(BadInput, noNvrtc) {
  expectRefusal(tool.run({"compile", METHOD, "--arch", "sm_80", "--nvrtc", "/nowhere/libnvrtc.so"}),
                CompileFailed, {"/nowhere/libnvrtc.so"});
}

TEST_F(BadInput, noDriver) {
  tool.environment["WINNOW_LIBCUDA"] = "/nowhere/libcuda.so";
  expectRefusal(tool.run({"run", METHOD, "--device", "cuda"}), DeviceFailed, {"driver"});
}

TEST_F(BadInput, damagedImage) {
  std::ofstream(tool.path("in.winnow")) << "WINNOWPI and then nothing of use";
  tool.environment["WINNOW_LIBCUDA"] = "/nowhere/libcuda.so";
  expectRefusal(tool.run({"run", "--image", "in.winnow"}), Usage, {"in.winnow"});
}

TEST_F(BadInput, unwritableFolder) {
  expectRefusal(
      tool.run({"compile", METHOD, "--arch", "sm_80", "--emit", "cuda", "-o", "/proc/nowhere/out"}),
      Usage, {"/proc/nowhere/out"});
}

TEST_F(BadInput, unwritableCacheIsOnlyAWarning) {
  tool.environment["WINNOW_CACHE_DIR"] = "/proc/nowhere/cache";
  Outcome outcome = tool.run({"compile", METHOD, "--arch", "sm_80"});
  EXPECT_EQ(outcome.exitCode, Ok) << outcome.err;
  EXPECT_NE(outcome.err.find("/proc/nowhere/cache"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.out.find("sm_80"), std::string::npos);
}

} // namespace
