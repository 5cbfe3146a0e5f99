// Methods with elementwise regions through the command line, on the CPU target: every op of the
// table has a result and the check knows it, hidden rows pass, and what is outside the table is
// refused before anything runs.
#include "reference/conformance/Random.h"
#include "reference/recorded/Npy.h"
#include "tests/tools/ToolRunner.h"
#include <cmath>
#include <cstring>
#include <fstream>
#include <gtest/gtest.h>

using namespace winnow;

namespace {

constexpr size_t kTokens = 100, kHeads = 2, kDim = 64;

class RegionRun : public testing::Test {
protected:
  void SetUp() override {
    std::vector<float> data(kTokens * kHeads * kDim);
    for (const char *name : {"q.npy", "k.npy", "v.npy"}) {
      for (size_t i = 0; i < data.size(); ++i)
        data[i] = randomNormal(static_cast<uint64_t>(name[0]), i);
      ASSERT_TRUE(writeNpy(tool.path(name), "<f4", {kTokens, kHeads, kDim}, data.data()));
    }
  }
  void write(const std::string &region) {
    std::ofstream(tool.path("m.mlir")) << "select.method @m doc \"d\" params() (%q, %k, %v) {\n"
                                          "  %o = select.attend %q, %k, %v rewrite {\n"
                                          "  ^bb0(%x: f32, %query: i32, %key: i32):\n"
                                       << region << "  }\n  select.return %o\n}\n";
  }
  Outcome run(std::vector<std::string> more = {}) {
    std::vector<std::string> words = {
        "run", "m.mlir",   "--heads", "2",     "--kv-heads", "2",     "--head-dim",
        "64",  "--device", "cpu",     "--q",   "q.npy",      "--k",   "k.npy",
        "--v", "v.npy",    "--out",   "o.npy", "--lse",      "l.npy", "--check"};
    words.insert(words.end(), more.begin(), more.end());
    return tool.run(words);
  }
  std::vector<float> floats(const std::string &name) {
    Result<NpyArray> array = readNpy(tool.path(name));
    std::vector<float> values;
    if (array && array->descr == "<f4") {
      values.resize(array->data.size() / sizeof(float));
      std::memcpy(values.data(), array->data.data(), array->data.size());
    }
    return values;
  }

  ToolRunner tool;
};

/// `bias`: an i32 value %b, of which -1 to 2 eighths are added to the logit.
std::string adding(const std::string &bias) {
  return bias + "    %three = arith.constant 3 : i32\n"
                "    %low = arith.andi %b, %three : i32\n"
                "    %low_real = arith.sitofp %low : i32 to f32\n"
                "    %eighth = arith.constant 0.125 : f32\n"
                "    %add = arith.mulf %low_real, %eighth : f32\n"
                "    %y = arith.addf %x, %add : f32\n    select.yield %y : f32\n";
}

TEST_F(RegionRun, WholeNumbersHaveResultsEverywhere) {
  for (const std::string op : {"divsi", "remsi", "divui", "remui", "shli", "shrsi", "shrui", "muli",
                               "andi", "xori", "maxui"}) {
    write(adding("    %b = arith." + op + " %query, %key : i32\n"));
    Outcome outcome = run();
    EXPECT_EQ(outcome.exitCode, 0) << op << ": " << outcome.err;
    EXPECT_NE(outcome.out.find("passed"), std::string::npos) << outcome.out;
  }
  write(adding("    %least = arith.constant -2147483648 : i32\n    %one = arith.constant -1 : i32\n"
               "    %d = arith.divsi %least, %one : i32\n    %r = arith.remsi %d, %one : i32\n"
               "    %is = arith.cmpi slt, %d, %r : i32\n    %b = arith.extsi %is : i1 to i32\n"));
  EXPECT_EQ(run().exitCode, 0);
}

TEST_F(RegionRun, RealsAreRoundedAsTheTypesSay) {
  // The sum is far more than bf16 and fp16 hold: without the rounding another tenth is left.
  for (const std::string type : {"bf16", "f16"}) {
    write("    %f = arith.sitofp %key : i32 to f32\n    %c = arith.constant 0.0137 : f32\n"
          "    %p = arith.mulf %f, %c : f32\n    %big = arith.constant 100.0 : f32\n"
          "    %s = arith.addf %p, %big : f32\n    %h = arith.truncf %s : f32 to " +
          type + "\n    %r = arith.extf %h : " + type +
          " to f32\n"
          "    %d = arith.subf %s, %r : f32\n    %y = arith.addf %x, %d : f32\n"
          "    select.yield %y : f32\n");
    Outcome outcome = run();
    EXPECT_EQ(outcome.exitCode, 0) << type << ": " << outcome.err;
  }
  write("    %e = math.erf %x : f32\n    %s = math.sin %e : f32\n    %y = arith.addf %x, %s : f32\n"
        "    select.yield %y : f32\n");
  EXPECT_EQ(run().exitCode, 0);
}

/// A region that gives `value` (bits) for every key of query 7.
std::string atQuerySeven(const std::string &value) {
  return "    %seven = arith.constant 7 : i32\n    %is = arith.cmpi eq, %query, %seven : i32\n"
         "    %there = arith.constant " +
         value +
         " : f32\n"
         "    %y = arith.select %is, %there, %x : f32\n    select.yield %y : f32\n";
}

TEST_F(RegionRun, AQueryWithHiddenKeysOnlyIsZero) {
  for (const std::string value : {"0xFF800000", "-2.0e38"}) { // below -1e30 counts as -inf
    write(atQuerySeven(value));
    Outcome outcome = run();
    ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
    std::vector<float> out = floats("o.npy"), lse = floats("l.npy");
    ASSERT_EQ(lse.size(), kHeads * kTokens);
    for (size_t i = 0; i < kHeads * kDim; ++i)
      EXPECT_EQ(out[7 * kHeads * kDim + i], 0);
    EXPECT_EQ(lse[7], -INFINITY);
    EXPECT_TRUE(std::isfinite(lse[8]));
  }
}

TEST_F(RegionRun, NoNumberIsSaidAndStaysInItsRow) {
  for (const std::string value : {"0x7FC00000", "0x7F800000"}) {
    write(atQuerySeven(value));
    Outcome outcome = run();
    EXPECT_EQ(outcome.exitCode, 1) << outcome.err;
    EXPECT_NE(outcome.err.find("2 rows without a defined result"), std::string::npos)
        << outcome.err;
    EXPECT_NE(outcome.err.find("token 7, head 0"), std::string::npos) << outcome.err;
    for (float lse : {floats("l.npy")[6], floats("l.npy")[8]})
      EXPECT_TRUE(std::isfinite(lse));
  }
}

TEST_F(RegionRun, WhatTheTableLacksIsRefusedAtOnce) {
  struct Refused {
    std::string region, word, place;
  };
  const std::string real = "    select.yield %x : f32\n";
  for (const Refused &one : std::vector<Refused>{
           {"    %y = math.sinh %x : f32\n" + real, "math.sinh is no op", "m.mlir:4:10"},
           {"    %y = arith.extf %x : f32 to f64\n" + real, "not 'f32 -> f64'", "m.mlir:4:10"},
           {"    %y = arith.extsi %key : i32 to i64\n" + real, "not 'i32 -> i64'", "m.mlir:4:10"},
           {"    %y = arith.index_cast %key : i32 to index\n" + real, "arith.index_cast",
            "m.mlir:4:"},
           {"    %y = arith.constant dense<1.0> : vector<4xf32>\n" + real, "vector<4xf32>",
            "m.mlir:4:10"},
           {"    %y = arith.truncf %x upward : f32 to bf16\n" + real, "arith.truncf",
            "m.mlir:4:10"}}) {
    write(one.region);
    for (const std::vector<std::string> &words :
         {std::vector<std::string>{"run", "m.mlir", "--device", "cpu", "--arch", "none", "--seq",
                                   "64"},
          {"compile", "m.mlir", "--arch", "sm_80", "--emit", "cuda", "-o", "out"}}) {
      Outcome outcome = tool.run(words);
      EXPECT_EQ(outcome.exitCode, 3) << one.word << outcome.err;
      EXPECT_EQ(outcome.errLines(), 1) << outcome.err;
      EXPECT_EQ(outcome.out, "");
      EXPECT_NE(outcome.err.find(one.word), std::string::npos) << outcome.err;
      if (words[0] == "run") {
        EXPECT_NE(outcome.err.find(one.place), std::string::npos) << outcome.err;
      }
    }
    EXPECT_EQ(run().exitCode, 3);
    EXPECT_FALSE(std::filesystem::exists(tool.path("o.npy")));
  }
}

// The same methods are checked on a GPU by tests/gpu/run.sh.
TEST_F(RegionRun, MethodsOfTheGpuSuite) {
  int count = 0;
  for (const auto &file : std::filesystem::directory_iterator(WINNOW_REGION_METHODS)) {
    Outcome outcome =
        tool.run({"run", file.path(), "--device", "cpu", "--arch", "none", "--seq", "300,77",
                  "--heads", "4", "--kv-heads", "2", "--head-dim", "64", "--no-dense"});
    EXPECT_EQ(outcome.exitCode, 0) << file.path() << ": " << outcome.err;
    EXPECT_NE(outcome.out.find("passed"), std::string::npos) << outcome.out;
    ++count;
  }
  EXPECT_GE(count, 7);
}

TEST_F(RegionRun, TheTableIsPrinted) {
  Outcome outcome = tool.run({"methods", "--ops"});
  EXPECT_EQ(outcome.exitCode, 0);
  EXPECT_NE(outcome.out.find("| arith.divsi | i32, i32 -> i32 |"), std::string::npos);
}

} // namespace
