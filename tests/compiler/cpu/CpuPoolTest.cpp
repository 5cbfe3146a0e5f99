// The kinds of pooling on the CPU against the reference: every kind, with windows that overlap a
// block in one to nine strides.
#include "compiler/cpu/CpuProgram.h"
#include "reference/Compare.h"
#include "reference/conformance/Case.h"
#include "reference/methods/MethodAxes.h"
#include <fmt/format.h>
#include <gtest/gtest.h>

using namespace winnow;

static void expectReference(const char *pool, int window, int stride) {
  const std::string text = fmt::format(R"(
select.method @pooled params() (%q, %k, %v) {{
  %m   = select.summarize mean %k window {0} stride {1}
  %lse = select.logsumexp %q, %m mode exact visible none
  %s   = select.score %q, %m softmax %lse visible none
  %h   = select.combine_heads sum %s
  %b   = select.pool {2} %h
  %f   = select.force %b init 1 local 1
  %ids = select.top_k %f
  %o   = select.attend %q, %k, %v, %ids
  select.return %o
}})",
                                       window, stride, pool);
  SCOPED_TRACE(text);
  ConformanceCase test;
  test.spec.heads = 2, test.spec.kvHeads = 2, test.spec.headDim = 64;
  test.spec.block = 64, test.spec.topk = 4;
  test.sequences = {{450, 450}, {20, 700}};
  CaseInputs inputs = makeInputs(test, 2);
  const reference::Problem &problem = inputs.problem;
  auto compiled = CpuProgram::compile(text, test.spec, "pooled.mlir");
  ASSERT_TRUE(compiled) << compiled.error().message;
  std::vector<int32_t> ids(static_cast<size_t>(2) * problem.totalQ() * problem.topk);
  CpuTensors tensors = {};
  tensors.q = problem.q, tensors.k = problem.k, tensors.v = problem.v, tensors.ids = ids.data();
  tensors.cuQ = problem.cuQ.data(), tensors.cuK = problem.cuK.data(), tensors.batch = 2;
  ASSERT_TRUE((*compiled)->run(tensors, 2));
  auto method = axesOfText(text, "pooled", test.spec);
  ASSERT_TRUE(method) << method.error().message;
  reference::SelectionReport report = reference::compareSelection(
      *method, problem, reference::select(*method, problem), ids.data(), 1.0 / 256);
  EXPECT_EQ(report.wrong, 0) << report.first;
  EXPECT_GT(report.rows, 0);
}

TEST(CpuPool, EveryKind) {
  for (const char *pool : {"max", "sum", "overlap"})
    expectReference(pool, 32, 16);
}

TEST(CpuPool, EveryOverlap) {
  for (auto [window, stride] : {std::pair(80, 16), {72, 8}, {64, 32}, {64, 64}, {128, 64}})
    expectReference("overlap", window, stride);
}
