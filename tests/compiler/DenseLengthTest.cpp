// dense_len `auto`: what a program of it says, which kernels an all-dense launch has and in how
// many parts, and where the word is refused.
#include "compiler/driver/Compile.h"
#include "tests/compiler/LaunchShape.h"
#include <set>

using namespace winnow;

namespace {

constexpr const char *kPoints = "auto_700_1x5000_4x3000";

Result<std::pair<ProgramImage, std::vector<StageText>>>
lower(const std::string &value, const char *arch = "sm_90a", bool paged = true,
      const std::string &method = "infllm_v2", const std::string &param = "dense_len") {
  CompileRequest request;
  request.method = method;
  request.arch = arch;
  request.spec.paged = paged;
  request.spec.params[param] = value;
  return lowerProgram(request);
}

ProgramImage image(const std::string &value, const char *arch = "sm_90a", bool paged = true) {
  auto lowered = lower(value, arch, paged);
  EXPECT_TRUE(lowered) << lowered.error().message;
  return lowered ? std::move(lowered->first) : ProgramImage();
}

std::set<std::string> steps(const ProgramImage &image, const Variables &shape) {
  std::set<std::string> names;
  for (const Kernel &kernel : image.kernels)
    if (valueOf(kernel.when, shape) != 0)
      names.insert(kernel.step);
  return names;
}

TEST(DenseLength, FormulaSaysThePoints) {
  const ProgramImage program = image(kPoints);
  EXPECT_EQ(shapeOf(program, 1, 1, 1)[Variable::DenseLength], 5000);
  EXPECT_EQ(shapeOf(program, 4, 1, 1)[Variable::DenseLength], 3000);
  EXPECT_EQ(shapeOf(program, 1, 17, 17)[Variable::DenseLength], 700);
  EXPECT_TRUE(image("4096").denseLength.empty());
}

TEST(DenseLength, AllDenseLaunchHasNoSelection) {
  using Names = std::set<std::string>;
  for (const char *arch : {"sm_80", "sm_90a"}) {
    const ProgramImage program = image("auto_9000_1x9000", arch);
    EXPECT_EQ(steps(program, shapeOf(program, 1, 1, 8999)), (Names{"append", "attend", "merge"}));
    EXPECT_EQ(steps(program, shapeOf(program, 1, 1, 9000)),
              (Names{"append", "score", "top_k", "attend", "merge"}));
    EXPECT_EQ(steps(program, shapeOf(program, 1, 100, 8999)), (Names{"append", "attend"}));
    const ProgramImage packed = image("auto_9000", arch, /*paged=*/false);
    EXPECT_EQ(steps(packed, shapeOf(packed, 1, 100, 8999)), Names{"attend"});
    EXPECT_TRUE(steps(packed, shapeOf(packed, 1, 100, 9000)).count("top_k"));
  }
}

TEST(DenseLength, AllDenseLaunchHasThePartsOfADenseProgram) {
  CompileRequest request;
  request.method = "dense";
  request.arch = "sm_90a";
  request.spec.paged = true;
  auto dense = lowerProgram(request);
  ASSERT_TRUE(dense);
  const ProgramImage program = image("auto_100000_1x1000000");
  for (int batch : {1, 2, 5, 64, 256})
    for (int keys : {1000, 8192, 65536, 999999})
      EXPECT_EQ(shapeOf(program, batch, 1, keys)[Variable::Parts],
                shapeOf(dense->first, batch, 1, keys)[Variable::Parts])
          << batch << " x " << keys;
}

TEST(DenseLength, SparseTokensHaveNoMorePartsThanWithoutAuto) {
  auto lowered = lower(kPoints);
  ASSERT_TRUE(lowered);
  const ProgramImage plain = image("-1");
  int64_t most = 0;
  for (int keys : {6200, 65536, 1000000})
    most = std::max(most, shapeOf(plain, 1, 1, keys)[Variable::Parts]);
  for (const StageText &text : lowered->second)
    if (text.stage == "cuda" && (text.kernel == "attend_decode" || text.kernel == "merge")) {
      EXPECT_NE(text.text.find("kSelectedParts = " + std::to_string(most) + ";"), std::string::npos)
          << text.kernel;
    }
}

TEST(DenseLength, TextDoesNotDependOnThePoints) {
  auto a = lower("auto_1_1x2"), b = lower("auto");
  ASSERT_TRUE(a && b);
  for (size_t i = 0; i < a->first.kernels.size(); ++i) {
    EXPECT_EQ(a->first.kernels[i].source, b->first.kernels[i].source);
    EXPECT_EQ(a->first.kernels[i].source.find("kDenseLength"), std::string::npos);
  }
}

TEST(DenseLength, IsRefusedInWordsWhereItIsNone) {
  auto message = [](const Result<std::pair<ProgramImage, std::vector<StageText>>> &result) {
    return result ? "no error" : result.error().message;
  };
  EXPECT_EQ(message(lower("auto", "sm_90a", true, "infllm_v2", "local")),
            "parameter 'local' of @infllm_v2 cannot be auto: only one that is a dense_len can; "
            "give a value");
  EXPECT_EQ(message(lower("auto_12288", "sm_90a", true, "infllm_v2", "lse")),
            "parameter 'lse' of @infllm_v2 cannot be auto: only one that is a dense_len can; give "
            "a value");
  EXPECT_NE(message(lower("auto_many")).find("dense_len: 'auto_many' are no crossing points"),
            std::string::npos);
  EXPECT_NE(message(lower("automatic")).find("dense_len"), std::string::npos);
}

} // namespace
