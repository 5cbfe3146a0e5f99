// What the reference makes of a method's text: settings, references, parameters, elementwise
// regions, and refusals.
#include "reference/methods/MethodAxes.h"
#include <cmath>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>

using namespace winnow;
using namespace winnow::reference;

namespace {

const char *kText = R"(
select.method @m doc "a method" params(window = 64, stride = 32, mode = "exact", local = 3) (%q, %k, %v) {
  %k1  = select.summarize mean %k window @window stride @stride
  %lse = select.logsumexp %q, %k1 mode @mode visible none
  %s   = select.score %q, %k1 softmax %lse visible infllmv2
  %h   = select.combine_heads max %s
  %b   = select.pool sum %h
  %f   = select.force %b init 2 local @local
  %ids = select.top_k %f
  %o   = select.attend %q, %k, %v, %ids dense_len 4096
  select.return %o
})";

TEST(Axes, settingsAndReferences) {
  Result<Method> axes = axesOfText(kText, "m", {});
  ASSERT_TRUE(axes) << axes.error().message;
  EXPECT_TRUE(axes->selects);
  EXPECT_EQ(axes->window, 64);
  EXPECT_EQ(axes->stride, 32);
  EXPECT_EQ(axes->lse, Lse::Exact);
  EXPECT_EQ(axes->visibility, Visibility::Infllmv2);
  EXPECT_EQ(axes->combine, Combine::Max);
  EXPECT_EQ(axes->pool, Pool::Sum);
  EXPECT_EQ(axes->init, 2);
  EXPECT_EQ(axes->local, 3);
  EXPECT_EQ(axes->denseLen, 4096);
}

TEST(Axes, givenParametersWin) {
  Spec spec;
  spec.params = {{"local", "7"}, {"mode", "none"}};
  Result<Method> axes = axesOfText(kText, "m", spec);
  ASSERT_TRUE(axes);
  EXPECT_EQ(axes->local, 7);
  EXPECT_EQ(axes->lse, Lse::None);
  spec.params = {{"lokal", "7"}};
  axes = axesOfText(kText, "m", spec);
  ASSERT_FALSE(axes);
  EXPECT_EQ(axes.error().kind, ErrorKind::Usage);
  EXPECT_NE(axes.error().message.find("lokal"), std::string::npos);
}

TEST(Axes, elementwiseRegion) {
  Result<Method> axes = axesOfText(R"(
select.method @m doc "a method" params() (%q, %k, %v) {
  %o = select.attend %q, %k, %v rewrite {
  ^bb0(%logit: f32, %query: i32, %key: i32):
    %cap  = arith.constant 30.0 : f32
    %x    = arith.divf %logit, %cap : f32
    %t    = math.tanh %x : f32
    %soft = arith.mulf %t, %cap : f32
    %d    = arith.subi %query, %key : i32
    %far  = arith.constant 100 : i32
    %is   = arith.cmpi sgt, %d, %far : i32
    %zero = arith.constant 0.0 : f32
    %y    = arith.select %is, %zero, %soft : f32
    select.yield %y : f32
  }
  select.return %o
})",
                                   "m", {});
  ASSERT_TRUE(axes) << axes.error().message;
  EXPECT_FALSE(axes->selects);
  ASSERT_TRUE(axes->mapLogit);
  EXPECT_FLOAT_EQ(static_cast<float>(axes->mapLogit(15, 200, 150)),
                  static_cast<float>(30 * std::tanh(0.5))); // each step is rounded to fp32
  EXPECT_DOUBLE_EQ(axes->mapLogit(15, 200, 99), 0);
}

TEST(Axes, brokenTextNamesItsPlace) {
  Result<Method> axes =
      axesOfText("select.method @m doc \"x\" params() (%q, %k, %v) {\n  %o = select.nothing\n}",
                 "file.mlir", {});
  ASSERT_FALSE(axes);
  EXPECT_EQ(axes.error().kind, ErrorKind::Usage);
  EXPECT_NE(axes.error().message.find("file.mlir"), std::string::npos) << axes.error().message;
}

TEST(Axes, everyBuiltInMethodIsUnderstood) {
  int count = 0;
  for (const auto &entry : std::filesystem::directory_iterator(WINNOW_METHODS_DIR)) {
    std::ifstream file(entry.path());
    std::ostringstream text;
    text << file.rdbuf();
    Result<Method> axes = axesOfText(text.str(), entry.path().filename().string(), {});
    EXPECT_TRUE(axes) << axes.error().message;
    count++;
  }
  EXPECT_GE(count, 5);
}

} // namespace
