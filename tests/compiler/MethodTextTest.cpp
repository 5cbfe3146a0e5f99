// What a method's author is told: the file's name as it was given, the place, and what to do; in
// the compiler's words, not MLIR's.
#include "compiler/driver/Compile.h"
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

using namespace winnow;

namespace {

/// A method that is right; tests replace a part of it.
const std::string kRight = R"(select.method @t doc "x" params(init = 1) (%q, %k, %v) {
  %m   = select.summarize mean %k window @block stride @block
  %s   = select.score %q, %m visible none
  %b   = select.pool max %s
  %f   = select.force %b init @init local 1
  %ids = select.top_k %f
  %o   = select.attend %q, %k, %v, %ids
  select.return %o
}
)";

class MethodText : public testing::Test {
protected:
  void SetUp() override {
    home = std::filesystem::current_path();
    folder = std::filesystem::temp_directory_path() / ("winnow-text-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder);
    std::filesystem::current_path(folder);
  }
  void TearDown() override {
    std::filesystem::current_path(home);
    std::filesystem::remove_all(folder);
  }

  static Result<std::pair<ProgramImage, std::vector<StageText>>>
  lower(const std::string &text, const std::map<std::string, std::string> &set = {}) {
    std::ofstream("t.mlir") << text;
    CompileRequest request;
    request.method = "t.mlir";
    request.arch = "sm_80";
    request.spec.params = set;
    return lowerProgram(request);
  }

  /// The complaint about the right text with `part` replaced, at its place.
  static void expect(const std::string &part, const std::string &by, const std::string &complaint,
                     ErrorKind kind = ErrorKind::Usage) {
    std::string text = kRight;
    ASSERT_NE(text.find(part), std::string::npos) << part;
    expectOf(text.replace(text.find(part), part.size(), by), complaint, kind);
  }
  static void expectOf(const std::string &text, const std::string &complaint,
                       ErrorKind kind = ErrorKind::Usage,
                       const std::map<std::string, std::string> &set = {}) {
    SCOPED_TRACE(text);
    auto lowered = lower(text, set);
    ASSERT_FALSE(lowered);
    EXPECT_EQ(lowered.error().message, complaint);
    EXPECT_EQ(lowered.error().kind, kind);
  }

  std::filesystem::path home, folder;
};

TEST_F(MethodText, TheRightOneIsServed) {
  auto lowered = lower(kRight);
  EXPECT_TRUE(lowered) << lowered.error().message;
}

TEST_F(MethodText, WrongTypes) {
  expect("%q, %m", "%q, %k",
         "t.mlir:3:27: select.score takes summaries here, and %k holds keys: make them with "
         "select.summarize");
  expect("%b init", "%ids init",
         "t.mlir:6:3: %ids is taken by a step in front of this one, as something else");
  expect("%b init", "%c init", "t.mlir:5:23: nothing in front of this is named %c");
  expect("attend %q, %k", "attend %k, %q",
         "t.mlir:7:24: select.attend takes queries here, and %k holds keys: they are the method's "
         "first input");
}

TEST_F(MethodText, StepsInOrder) {
  std::string text = kRight;
  const std::string summarize = "  %m   = select.summarize mean %k window @block stride @block\n";
  text.erase(text.find(summarize), summarize.size());
  text.insert(text.find("  %b   ="), summarize);
  expectOf(text,
           "t.mlir:2:10: this step takes what is made only behind it: put the step that makes "
           "it in front");
}

TEST_F(MethodText, UnknownSteps) {
  const std::string known = "known are select.attend, select.combine_heads, select.force, "
                            "select.logsumexp, select.pool, select.return, select.score, "
                            "select.summarize, select.top_k";
  expect("select.top_k", "select.threshold",
         "t.mlir:6:10: there is no step 'select.threshold'; " + known);
  expect("select.top_k", "top_k", "t.mlir:6:10: there is no step 'top_k'; " + known);
  expect("local 1", "local 1 of 2", "t.mlir:5:45: there is no step 'of'; " + known);
  expect("mean", "max", "t.mlir:2:10: select.summarize: has no kind 'max'; known are mean");
}

TEST_F(MethodText, OneResultAndOneOutput) {
  expect("return %o", "return %o, %s",
         "t.mlir:8:19: select.return: a method returns one output, and its log-sum-exp comes with "
         "it");
  expect(
      "%ids =", "%ids, %n =", "t.mlir:6:3: a step makes one result: write one name in front of it");
  expect("%f   =", "%b   =",
         "t.mlir:5:3: %b is the name of an earlier result already: choose another one");
}

TEST_F(MethodText, Inputs) {
  expect("(%q, %k, %v)", "(%q, %k, %v, %iq, %ik)",
         "t.mlir:1:43: select.method: a method takes three inputs (queries, keys, values), not 5: "
         "further tensors, such as keys or queries of an indexer, are not served",
         ErrorKind::Unsupported);
  expect("(%q, %k, %v)", "(%q, %k)",
         "t.mlir:1:43: select.method: a method takes three inputs (queries, keys, values), not 2");
}

TEST_F(MethodText, DocAndDefaults) {
  expect("doc \"x\"", "doc x",
         "t.mlir:1:22: select.method: 'doc' is followed by one line of text in quotes");
  const std::string wrong =
      "select.method: the default of parameter 'init' is neither a whole number nor a keyword in "
      "quotes; other numbers are written as constants into a 'rewrite' region";
  expect("init = 1)", "init = 1.5)", "t.mlir:1:40: " + wrong);
  expect("init = 1)", "init = true)", "t.mlir:1:40: " + wrong);
  expect("init = 1)", "init = one)", "t.mlir:1:40: " + wrong);
  expect("local 1", "local 1.5",
         "t.mlir:5:43: select.force: a whole number, a keyword or @parameter is expected here");
}

/// What would be dropped without a word, and a method without its ids would be dense.
TEST_F(MethodText, EveryResultIsTaken) {
  expect(", %ids\n", "\n",
         "t.mlir:6:10: no step takes the block ids of select.top_k: write them behind the inputs "
         "of select.attend, or leave out the steps that only serve it");
  expect("  %b   =", "  %h   = select.combine_heads sum %s\n  %b   =",
         "t.mlir:4:10: no step takes the scores of select.combine_heads: give them to the next "
         "step, select.top_k in the end, or leave out the steps that only serve it");
  expect("  %s   =", "  %l   = select.logsumexp %q, %m mode exact visible none\n  %s   =",
         "t.mlir:3:10: no step takes the log-sum-exp of select.logsumexp: give it to select.score, "
         "behind 'softmax', or leave out the steps that only serve it");
}

/// What a setting leaves out of a text that names it is right.
TEST_F(MethodText, WhatASettingLeavesOutIsNoFault) {
  for (const char *mode : {"coarse", "exact", "none"}) {
    CompileRequest request;
    request.method = "infllm_v2";
    request.arch = "sm_80";
    request.spec.params = {{"lse", mode}};
    auto lowered = lowerProgram(request);
    EXPECT_TRUE(lowered) << mode << ": " << lowered.error().message;
  }
}

TEST_F(MethodText, Parameters) {
  for (const char *name : {"block", "topk", "group", "head_dim", "value_dim"})
    expect("init = 1)", std::string("init = 1, ") + name + " = 4)",
           std::string("t.mlir:1:43: select.method: parameter '") + name +
               "' has the name of a number of the spec (block, topk, group, head_dim, value_dim) "
               "and would hide it: choose another name");
  expect("init = 1)", "init = 1, far = 4)",
         "t.mlir:1:43: select.method: no step refers to parameter 'far': write @far where it is "
         "meant, or leave it out");
  expect("local 1", "local @first",
         "t.mlir:5:10: select.force: 'local' refers to @first, which is neither a parameter of @t "
         "nor one of block, topk, group, head_dim, value_dim");
}

/// Each number at its least and one below it, each word as it may be and as it may not.
TEST_F(MethodText, EveryNumberAndWordIsChecked) {
  const std::string whole = R"(select.method @t doc "x" params() (%q, %k, %v) {
  %m   = select.summarize mean %k window 32 stride 16
  %lse = select.logsumexp %q, %m mode exact visible none
  %s   = select.score %q, %m softmax %lse visible none
  %h   = select.combine_heads sum %s
  %b   = select.pool max %h
  %f   = select.force %b init 1 local 2
  %ids = select.top_k %f
  %o   = select.attend %q, %k, %v, %ids dense_len 100
  select.return %o
}
)";
  ASSERT_TRUE(lower(whole)) << lower(whole).error().message;
  struct Setting {
    const char *part;
    std::vector<const char *> right, wrong;
  };
  const Setting settings[] = {
      {"dense_len 100", {"dense_len 0", "dense_len -1"}, {"dense_len -2", "dense_len x"}},
      {"local 2", {"local 0", "local 95"}, {"local -1", "local 96", "local 2147483648"}},
      {"init 1", {"init 0", "init 94"}, {"init -1", "init 95", "init none"}},
      {"window 32", {"window 16", "window 80"}, {"window 0", "window -16", "window 96"}},
      {"stride 16", {"stride 32"}, {"stride 0", "stride -16", "stride 15"}},
      {"combine_heads sum", {"combine_heads max"}, {"combine_heads overlap", "combine_heads mean"}},
      {"pool max", {"pool sum", "pool overlap"}, {"pool min", "pool mean"}},
      {"mode exact", {"mode none"}, {"mode coarse", "mode fine", "mode 1"}},
      {"lse visible none", {}, {"lse visible all", "lse visible 0"}},
      {"mode exact visible none", {}, {"mode exact visible some"}}};
  for (const Setting &setting : settings) {
    auto with = [&](const char *by) {
      std::string text = whole;
      const std::string part = setting.part;
      EXPECT_NE(text.find(part), std::string::npos) << part;
      return lower(text.replace(text.find(part), part.size(), by));
    };
    for (const char *right : setting.right)
      EXPECT_TRUE(with(right)) << right << ": " << with(right).error().message;
    for (const char *wrong : setting.wrong)
      EXPECT_FALSE(with(wrong)) << wrong;
  }
}

TEST_F(MethodText, OutOfRange) {
  expect("local 1", "local -1",
         "t.mlir:5:10: select.force: 'local' is -1; it must be at least 0 and fit 32 bits");
  expect("init = 1)", "init = 4294967297)",
         "t.mlir:5:10: select.force: 'init' is 4294967297; it must be at least 0 and fit 32 bits");
  expectOf(kRight,
           "t.mlir:5:10: select.force: 'init' is 8589934593; it must be at least 0 and fit "
           "32 bits",
           ErrorKind::Usage, {{"init", "8589934593"}});
  expectOf(kRight,
           "t.mlir:5:10: 2147483647 first and 1 local blocks are forced, but only 96 may be "
           "selected: lower init or local",
           ErrorKind::Usage, {{"init", "2147483647"}});
  expect("local 1", "local 99999999999999999999",
         "t.mlir:5:43: select.force: integer value too large");
  expect("window @block stride @block", "window 1073741824 stride 1073741824",
         "t.mlir:2:10: a window of 1073741824 keys is longer than any sequence: at most 1048576",
         ErrorKind::Unsupported);
}

TEST_F(MethodText, Structure) {
  expect("  select.return %o\n", "", "t.mlir:1:1: select.method: must end with select.return");
  expect("  select.return %o\n}", "  select.return %o",
         "t.mlir:8:19: a step is expected here (%name = select...), or the brace that closes the "
         "method");
  expectOf(kRight + kRight, "t.mlir: a method file holds exactly one select.method, not 2");
  expectOf("", "t.mlir: a method file holds exactly one select.method, not 0");
  expectOf(R"(select.method @t params() (%q, %k, %v) {
  %o = select.kernel "attend" -> !select.output {
    %a = select.attend %q, %k, %v
    select.yield %a : !select.output
  }
  select.return %o
}
)",
           "t.mlir:2:8: select.kernel is made by the compiler: write its steps without it");
}

TEST_F(MethodText, NamesOfFiles) {
  std::filesystem::create_directory("sub");
  std::ofstream("sub/t.mlir") << "select.method @t params() (%q, %k, %v) {\n}\n";
  CompileRequest request;
  request.arch = "sm_80";
  request.method = "sub/t.mlir";
  auto lowered = lowerProgram(request);
  ASSERT_FALSE(lowered);
  EXPECT_EQ(lowered.error().message.find("sub/t.mlir:1:1: "), 0u) << lowered.error().message;
  request.method = "infllm_v2";
  request.spec.topk = 20;
  lowered = lowerProgram(request);
  ASSERT_FALSE(lowered);
  EXPECT_EQ(lowered.error().message.find("infllm_v2.mlir:12:10: "), 0u) << lowered.error().message;
}

} // namespace
