// CpuProgram as a library: one call does what two do, threads change nothing, progress ends at 1,
// bad calls are refused. The mathematics is judged by cpu_conformance.
#include "compiler/cpu/CpuKernels.h"
#include "compiler/driver/Compile.h"
#include "reference/Half.h"
#include "reference/methods/MethodAxes.h"
#include "tests/compiler/cpu/CpuInputs.h"
#include <cmath>
#include <gtest/gtest.h>

using namespace winnow;

static Spec smallSpec() {
  Spec spec;
  spec.heads = 8, spec.kvHeads = 2, spec.headDim = 64, spec.topk = 8;
  spec.params = {{"local", "3"}};
  return spec;
}

static std::unique_ptr<CpuProgram> program(const char *method, const Spec &spec) {
  auto compiled = CpuProgram::compile(loadMethod(method)->text, spec, loadMethod(method)->file);
  EXPECT_TRUE(compiled) << (compiled ? "" : compiled.error().message);
  return compiled ? std::move(*compiled) : nullptr;
}

TEST(CpuProgram, OneCallEqualsSelectionThenAttention) {
  Spec spec = smallSpec();
  auto compiled = program("infllm_v2", spec);
  ASSERT_TRUE(compiled);
  CpuInputs whole(spec, {700, 0, 33, 1100}, compiled->selectHeads()), parts = whole;
  ASSERT_TRUE(compiled->run(whole.tensors(), 2));
  CpuTensors tensors = parts.tensors();
  tensors.out = nullptr;
  tensors.lse = nullptr;
  ASSERT_TRUE(compiled->run(tensors, 2));
  tensors = parts.tensors();
  tensors.idsGiven = true;
  ASSERT_TRUE(compiled->run(tensors, 2));
  EXPECT_EQ(whole.ids, parts.ids);
  EXPECT_EQ(whole.out, parts.out);
  EXPECT_EQ(whole.lse, parts.lse);
}

/// The CPU target has conversions of its own: those of the reference, bit for bit, at every value
/// between two neighbours where rounding could go wrong.
TEST(CpuProgram, RoundsToNearestEven) {
  for (bool isBf16 : {true, false}) {
    const Dtype dtype = isBf16 ? Dtype::BF16 : Dtype::FP16;
    for (int word = 0; word < 65536; ++word) {
      const auto w = static_cast<uint16_t>(word);
      const float value = cpu::toFloat(w, isBf16);
      if (!std::isfinite(value))
        continue;
      ASSERT_EQ(value, reference::fromWord(w, dtype));
      const float next = reference::fromWord(static_cast<uint16_t>(w + 1), dtype);
      if (!std::isfinite(next))
        continue;
      const float half = value + (next - value) / 2;
      for (float x : {value, half, std::nextafter(half, value), std::nextafter(half, next)})
        ASSERT_EQ(cpu::fromFloat(x, isBf16), reference::toWord(x, dtype)) << x;
      const uint16_t even = w % 2 == 0 ? w : static_cast<uint16_t>(w + 1);
      ASSERT_EQ(cpu::fromFloat(half, isBf16), even) << half;
    }
  }
}

TEST(CpuProgram, ThreadsDoNotChangeTheResult) {
  Spec spec = smallSpec();
  auto compiled = program("infllm_v2", spec);
  ASSERT_TRUE(compiled);
  CpuInputs one(spec, {900}, compiled->selectHeads()), many = one;
  ASSERT_TRUE(compiled->run(one.tensors(), 1));
  ASSERT_TRUE(compiled->run(many.tensors(), 5));
  EXPECT_EQ(one.ids, many.ids);
  EXPECT_EQ(one.out, many.out);
  EXPECT_EQ(one.lse, many.lse);
}

// Where every block fits the budget, sparse attention is dense attention (semantics: T <= k B).
TEST(CpuProgram, EverythingSelectedEqualsDense) {
  Spec spec = smallSpec();
  auto sparse = program("infllm_v2", spec);
  spec.params.clear();
  auto dense = program("dense", spec);
  ASSERT_TRUE(sparse && dense);
  CpuInputs a(spec, {512, 100}, sparse->selectHeads()), b = a;
  ASSERT_TRUE(sparse->run(a.tensors(), 2));
  ASSERT_TRUE(dense->run(b.tensors(), 2));
  for (size_t i = 0; i < a.lse.size(); ++i)
    EXPECT_NEAR(a.lse[i], b.lse[i], 1e-5f);
}

TEST(CpuProgram, ProgressEndsAtOne) {
  Spec spec = smallSpec();
  spec.params.clear();
  auto compiled = program("dense", spec);
  ASSERT_TRUE(compiled);
  CpuInputs inputs(spec, {600}, 0);
  double last = 0;
  ASSERT_TRUE(compiled->run(inputs.tensors(), 2, [&](double done) {
    EXPECT_GE(done, last);
    EXPECT_LE(done, 1);
    last = done;
  }));
  EXPECT_EQ(last, 1);
}

TEST(CpuProgram, RefusesBrokenTextAndMissingIds) {
  auto broken = CpuProgram::compile("select.method @m", smallSpec(), "m.mlir");
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().kind, ErrorKind::Usage);
  EXPECT_EQ(broken.error().message.find("m.mlir:1:"), 0u) << broken.error().message;
  auto compiled = program("infllm_v2", smallSpec());
  ASSERT_TRUE(compiled);
  CpuInputs inputs(smallSpec(), {64}, compiled->selectHeads());
  CpuTensors tensors = inputs.tensors();
  tensors.ids = nullptr;
  EXPECT_FALSE(compiled->run(tensors, 1));
}

TEST(CpuProgram, RowsAreThoseOfTheMethodOrNone) {
  auto compiled = program("infllm_v2", smallSpec());
  ASSERT_TRUE(compiled);
  CpuInputs inputs(smallSpec(), {200}, compiled->selectHeads());
  std::vector<uint16_t> rows(200 / 16 * inputs.k.size() / 200, 0xffff);
  CpuTensors tensors = inputs.tensors();
  auto error = [&] {
    Status status = compiled->run(tensors, 1);
    return status ? "no error" : status.error().message;
  };
  tensors.rows[0] = rows.data();
  EXPECT_EQ(error(), "rows[1] is null: this method keeps 2 summaries");
  tensors.rows[0] = nullptr, tensors.appendOnly = true;
  EXPECT_EQ(error(), "rows[0] is null: this method keeps 2 summaries");
  tensors.rows[0] = tensors.rows[1] = rows.data(), tensors.ids = nullptr;
  EXPECT_EQ(error(), "no error");
  Spec dense = smallSpec();
  dense.params.clear();
  compiled = program("dense", dense);
  ASSERT_TRUE(compiled);
  EXPECT_EQ(error(), "this method has no summaries that can be kept as rows");
}

// The reader of the reference and that of the compiler name a place alike.
TEST(CpuProgram, PlacesOfBuiltInMethods) {
  Spec spec = smallSpec();
  spec.params = {{"local", "3"}, {"init", "-1"}};
  MethodInfo method = *loadMethod("infllm_v2");
  auto compiled = CpuProgram::compile(method.text, spec, method.file);
  ASSERT_FALSE(compiled);
  EXPECT_EQ(compiled.error().message, "infllm_v2.mlir:12:10: select.force: 'init' is -1; it must "
                                      "be at least 0 and fit 32 bits");
  const std::string broken = "select.method @m params() (%q, %k, %v) {\n  %o = select.no\n}";
  auto unread = CpuProgram::compile(broken, smallSpec(), "a/m.mlir");
  auto axes = axesOfText(broken, "a/m.mlir", smallSpec());
  ASSERT_FALSE(unread || axes);
  EXPECT_EQ(unread.error().message, axes.error().message);
  EXPECT_EQ(axes.error().message.find("a/m.mlir:2:8: there is no step 'select.no'"), 0u)
      << axes.error().message;
}

// No score is looked at where forced blocks fill the budget: 20,000 keys take no time.
TEST(CpuProgram, ForcedBlocksAlone) {
  Spec spec = smallSpec();
  spec.heads = spec.kvHeads = 1;
  for (auto [init, local] : {std::pair(1, 3), {0, 4}, {4, 0}}) {
    spec.topk = init + local;
    spec.params = {{"init", std::to_string(init)}, {"local", std::to_string(local)}};
    auto compiled = program("infllm_v2", spec);
    ASSERT_TRUE(compiled);
    CpuInputs inputs(spec, {20000}, compiled->selectHeads());
    CpuTensors tensors = inputs.tensors();
    tensors.out = nullptr;
    tensors.lse = nullptr;
    ASSERT_TRUE(compiled->run(tensors, 2));
    for (int token : {0, 63, 64, 4 * 64 - 1, 4 * 64, 10000, 19999}) {
      const int own = token / spec.block;
      std::vector<int32_t> expected;
      for (int b = 0; b <= own; ++b)
        if (own < spec.topk || b < init || b > own - local)
          expected.push_back(b);
      expected.resize(spec.topk, -1);
      const int32_t *ids = &inputs.ids[static_cast<size_t>(token) * spec.topk];
      EXPECT_EQ(std::vector<int32_t>(ids, ids + spec.topk), expected) << token << ", " << init;
    }
  }
}
