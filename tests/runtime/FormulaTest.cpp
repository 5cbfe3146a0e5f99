// The expression language of launch recipes: values, and every way in which a text or a shape can
// be wrong.
#include "runtime/program/Formula.h"
#include <gtest/gtest.h>

using namespace winnow;

namespace {

Result<int64_t> value(const char *text) {
  Variables v;
  v[Variable::Batch] = 3;
  v[Variable::TotalQ] = 100;
  v[Variable::TotalK] = 1000;
  v[Variable::MaxQ] = 64;
  v[Variable::MaxK] = 500;
  v[Variable::ScoreStride] = 8;
  v[Variable::ChunkTokens] = 32;
  v[Variable::TokenCount] = 17;
  Result<Formula> formula = Formula::parse(text);
  if (!formula)
    return tl::unexpected(formula.error());
  return formula->evaluate(v);
}

std::string errorOf(const char *text) {
  Result<int64_t> result = value(text);
  return result ? "no error" : result.error().message;
}

TEST(Formula, Values) {
  const struct {
    const char *text;
    int64_t expected;
  } cases[] = {
      {"0", 0},
      {" 7 ", 7},
      {"1 + 2 * 3", 7},
      {"(1 + 2) * 3", 9},
      {"10 - 3 - 2", 5},
      {"100 / 7 / 2", 7},
      {"-5 + 2", -3},
      {"--5", 5},
      {"2 * -3", -6},
      {"-7 / 2", -3},
      {"ceil_div(7, 2)", 4},
      {"ceil_div(8, 2)", 4},
      {"ceil_div(-7, 2)", -3},
      {"ceil_div(0, 5)", 0},
      {"min(3, 2)", 2},
      {"max(1, 5, 3)", 5},
      {"min(4, 3, 2, 1)", 1},
      {"max_k >= 32", 1},
      {"max_k < 32", 0},
      {"1 + 1 == 2", 1},
      {"1 != 1", 0},
      {"3 <= 3", 1},
      {"3 > 3", 0},
      {"(1 < 2) * (2 < 3)", 1},
      {"batch", 3},
      {"total_q", 100},
      {"total_k", 1000},
      {"max_q", 64},
      {"max_k", 500},
      {"score_stride", 8},
      {"chunk_tokens", 32},
      {"token_count", 17},
      {"ceil_div(token_count, 16) * batch", 6},
      {"9223372036854775807", INT64_MAX},
      {"131072 * 131072 * 64", int64_t(131072) * 131072 * 64},
  };
  for (const auto &[text, expected] : cases) {
    Result<int64_t> result = value(text);
    ASSERT_TRUE(result) << text << ": " << result.error().message;
    EXPECT_EQ(*result, expected) << text;
  }
}

TEST(Formula, SyntaxErrorsNameTheColumn) {
  EXPECT_EQ(errorOf("1 +").find("formula '1 +', column 4: expected a number"), 0u)
      << errorOf("1 +");
  EXPECT_NE(errorOf("1 2").find("column 3: expected an operator or the end"), std::string::npos);
  EXPECT_NE(errorOf("(1").find("column 3: expected ')'"), std::string::npos);
  EXPECT_NE(errorOf("min(1)").find("expected a second argument"), std::string::npos);
  EXPECT_NE(errorOf("ceil_div(1, 2, 3)").find("expected ')'"), std::string::npos);
  EXPECT_NE(errorOf("tokens").find("one of: sm_count cluster_limit step_limit batch total_q"),
            std::string::npos);
  EXPECT_NE(errorOf("").find("column 1"), std::string::npos);
  EXPECT_NE(errorOf("1 < 2 < 3").find("column 7"), std::string::npos);
  EXPECT_NE(errorOf("99999999999999999999").find("below 2^63"), std::string::npos);
}

TEST(Formula, HostileNestingIsRefused) {
  EXPECT_NE(errorOf((std::string(100000, '(') + "1").c_str()).find("less nesting"),
            std::string::npos);
  EXPECT_NE(errorOf((std::string(100000, '-') + "1").c_str()).find("less nesting"),
            std::string::npos);
  std::string deep = "1"; // 40 pending operands, each level of its own
  for (int i = 0; i < 40; ++i)
    deep = "1 + (" + deep + ")";
  EXPECT_NE(errorOf(deep.c_str()).find("less nesting"), std::string::npos);
}

TEST(Formula, ArithmeticErrorsNameTheFormula) {
  EXPECT_EQ(errorOf("9223372036854775807 + 1"),
            "formula '9223372036854775807 + 1' overflows 64 bits for this shape");
  EXPECT_NE(errorOf("9223372036854775807 * 2").find("overflows"), std::string::npos);
  EXPECT_NE(errorOf("-9223372036854775807 - 2").find("overflows"), std::string::npos);
  EXPECT_NE(errorOf("-(-9223372036854775807 - 1)").find("overflows"), std::string::npos);
  EXPECT_NE(errorOf("(-9223372036854775807 - 1) / -1").find("overflows"), std::string::npos);
  EXPECT_NE(errorOf("1 / (batch - 3)").find("divides by zero"), std::string::npos);
  EXPECT_NE(errorOf("ceil_div(1, 0)").find("divides by zero"), std::string::npos);
}

TEST(Formula, VariablesThatAreNotYetKnownAreRefused) {
  EXPECT_TRUE(Formula::parse("chunk_tokens", Variable::ChunkTokens));
  EXPECT_FALSE(Formula::parse("token_count", Variable::ChunkTokens));
  EXPECT_FALSE(Formula::parse("score_stride", Variable::MaxK));
}

TEST(Formula, DefaultIsZero) { EXPECT_EQ(*Formula().evaluate(Variables()), 0); }

} // namespace
