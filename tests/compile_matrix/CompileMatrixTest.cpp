// The compile matrix: 35 specs compiled for each architecture through NVRTC, without a GPU. Checks
// what a launch would trip over: spills, shared memory beyond the block's limit, and a plan of
// shared memory that is not what the cubin has. Entry: an NVRTC on this machine. Exit: every kernel
// of every spec within its limits.
#include "compiler/Compile.h"
#include "compiler/CubinInfo.h"
#include "compiler/Nvrtc.h"
#include <algorithm>
#include <gtest/gtest.h>
#include <regex>
#include <set>

using namespace winnow;

namespace {

/// Bytes of a thread's registers that may go to memory: a handful of values that the products do
/// not touch. At 256 elements a warp of the score kernel holds 32 summary rows in 128 registers,
/// and its loops reload up to a dozen values per 512 mma.
int maxSpillBytes(const Kernel &kernel, int headDim) {
  if (kernel.name == "top_k_65536") // 65536 keys are all registers of an SM; see BuildTopK.cpp
    return 384;
  // On warpgroups the warp that builds the lists has 32 registers and keeps the rest of its state
  // in memory; the loops that compute stand in other roles of the same kernel, and reload nothing.
  if (kernel.step == "attend" && kernel.source.find("release_registers<") != std::string::npos)
    return 352;
  // A warp of 16 tokens of one head (G = 1) keeps 16 positions and bits of who wants what: 88 bytes
  // at most on mma.sync.
  if (kernel.step == "attend")
    return 96;
  return kernel.step == "score" && headDim == 256 ? 112 : 64;
}

struct Row {
  const char *method;
  int heads, kvHeads, headDim, block, topk;
  Dtype dtype;
  std::map<std::string, std::string> params;
  int valueDim = 0; ///< 0: headDim
};

// Small top-k needs few forced blocks: infllm_v2 forces 34 of them by default.
const std::vector<Row> &rows() {
  using D = Dtype;
  static const std::vector<Row> table = {
      {"infllm_v2", 32, 2, 128, 64, 96, D::BF16, {}},
      {"infllm_v2", 32, 2, 128, 64, 96, D::FP16, {}},
      {"infllm_v2", 32, 2, 128, 64, 256, D::BF16, {}},
      {"infllm_v2", 32, 2, 64, 64, 96, D::FP16, {}},
      {"infllm_v2", 32, 4, 128, 64, 96, D::BF16, {}},
      {"infllm_v2", 32, 8, 128, 32, 64, D::BF16, {{"local", "8"}}},
      {"infllm_v2", 16, 8, 64, 128, 16, D::FP16, {{"local", "4"}}},
      {"infllm_v2", 8, 8, 128, 64, 48, D::BF16, {}},
      {"infllm_v2", 64, 4, 64, 32, 1, D::BF16, {{"local", "1"}, {"init", "0"}}},
      {"infllm_v2", 32, 2, 128, 128, 32, D::FP16, {{"local", "2"}}},
      {"infllm_v2", 32, 2, 128, 64, 96, D::BF16, {{"compat", "infllmv2"}}},
      {"infllm_v2", 32, 2, 128, 64, 96, D::BF16, {{"lse", "exact"}}},
      {"infllm_v2", 32, 2, 128, 64, 96, D::FP16, {{"lse", "none"}}},
      {"nsa_select", 64, 4, 128, 64, 16, D::BF16, {}},
      {"nsa_select", 32, 4, 64, 32, 32, D::FP16, {}},
      {"nsa_select", 8, 8, 64, 128, 8, D::BF16, {}},
      {"moba", 16, 16, 128, 128, 8, D::BF16, {}},
      {"moba", 32, 8, 64, 64, 12, D::FP16, {}},
      {"moba", 32, 2, 128, 32, 128, D::BF16, {}},
      {"relu_select", 32, 2, 128, 64, 64, D::BF16, {}},
      {"relu_select", 16, 8, 64, 32, 48, D::FP16, {}},
      {"dense", 32, 2, 128, 64, 1, D::BF16, {}},
      {"dense", 8, 8, 64, 128, 1, D::FP16, {}},
      {"dense", 32, 8, 128, 32, 1, D::BF16, {}},
      // The corners: every further dimension, group and block, and the largest of all at once.
      {"infllm_v2", 24, 2, 96, 64, 96, D::BF16, {}},
      {"infllm_v2", 12, 2, 128, 16, 128, D::FP16, {}},
      {"infllm_v2", 32, 2, 192, 64, 96, D::BF16, {}, 128},
      {"infllm_v2", 32, 2, 256, 64, 96, D::BF16, {}},
      {"infllm_v2", 8, 8, 256, 128, 48, D::FP16, {}},
      {"infllm_v2", 8, 8, 64, 16, 256, D::BF16, {}},
      {"nsa_select", 8, 2, 192, 32, 32, D::BF16, {}},
      {"moba", 12, 2, 96, 64, 12, D::FP16, {}, 256},
      {"relu_select", 24, 2, 256, 64, 64, D::FP16, {}, 64},
      {"dense", 6, 1, 256, 16, 1, D::BF16, {}},
      {"dense", 32, 2, 192, 64, 1, D::FP16, {}},
  };
  return table;
}

Spec specOf(const Row &row) {
  Spec spec;
  spec.heads = row.heads;
  spec.kvHeads = row.kvHeads;
  spec.headDim = row.headDim;
  spec.valueDim = row.valueDim;
  spec.block = row.block;
  spec.topk = row.topk;
  spec.dtype = row.dtype;
  spec.params = row.params;
  return spec;
}

/// Bytes of dynamic shared memory that the printed kernel's objects reach: the largest offset plus
/// size. NVRTC has checked each size against the object itself, by the static_assert read here.
/// Nothing where an object has none.
std::optional<long> sharedExtent(const std::string &source) {
  static const std::regex object(R"(\{shared \+ (\d+)\};)");
  static const std::regex asserted(
      R"(\{shared \+ (\d+)\};\s*static_assert\([^;]*::kBytes == (\d+)\);)");
  auto matches = [&](const std::regex &pattern) {
    return std::vector<std::smatch>(std::sregex_iterator(source.begin(), source.end(), pattern),
                                    {});
  };
  std::vector<std::smatch> sized = matches(asserted);
  if (sized.size() != matches(object).size())
    return std::nullopt;
  long extent = 0;
  for (const std::smatch &match : sized)
    extent = std::max(extent, std::stol(match[1]) + std::stol(match[2]));
  return extent;
}

void checkKernel(const Kernel &kernel, const Target &target, int mostSpilled) {
  SCOPED_TRACE("kernel " + kernel.name);
  std::optional<CubinInfo> cubin = readCubinInfo(kernel.cubin, kernel.name);
  ASSERT_TRUE(cubin);
  EXPECT_LE(kernel.spillBytes, mostSpilled);
  EXPECT_GT(cubin->registers, 0);
  EXPECT_LE(cubin->registers * kernel.blockThreads, target.registersPerSm);
  EXPECT_LE(kernel.sharedBytes, target.sharedPerBlock);
  // All shared memory is the planned, dynamic one: the cubin has no other than what the system
  // reserves.
  EXPECT_TRUE(cubin->staticSharedBytes == 0 || cubin->staticSharedBytes == target.sharedReserved)
      << cubin->staticSharedBytes << " bytes of static shared memory";
  std::optional<long> extent = sharedExtent(kernel.source);
  ASSERT_TRUE(extent) << "an object in shared memory whose size is not asserted";
  EXPECT_EQ(*extent, kernel.sharedBytes);
}

class CompileMatrix : public testing::TestWithParam<const char *> {};

TEST_P(CompileMatrix, EveryKernelWithinItsLimits) {
  const Target *target = *findTarget(GetParam());
  for (const Row &row : rows()) {
    Spec spec = specOf(row);
    SCOPED_TRACE(std::string(row.method) + " " + spec.text());
    CompileRequest request;
    request.method = row.method;
    request.arch = target->arch;
    request.spec = spec;
    Result<ProgramImage> image = compileProgram(request);
    ASSERT_TRUE(image) << image.error().message;
    ASSERT_FALSE(image->kernels.empty());
    for (const Kernel &kernel : image->kernels)
      checkKernel(kernel, *target, maxSpillBytes(kernel, spec.headDim));
  }
}

// Pairs of row tiles: what is not refused spills only what its fragments leave no room for.
TEST_P(CompileMatrix, PairsOfRowTiles) {
  const Target *target = *findTarget(GetParam());
  if (target->hasWarpgroupMma)
    GTEST_SKIP() << "its attend kernel is made of warpgroups";
  int built = 0;
  for (const Row &row : rows()) {
    CompileRequest request;
    request.method = row.method;
    request.arch = target->arch;
    request.spec = specOf(row);
    request.config.attendRows = 32;
    SCOPED_TRACE(std::string(row.method) + " " + request.spec.text());
    Result<std::pair<ProgramImage, std::vector<StageText>>> lowered = lowerProgram(request);
    if (!lowered) {
      EXPECT_EQ(lowered.error().kind, ErrorKind::Unsupported) << lowered.error().message;
      continue;
    }
    Result<std::shared_ptr<const Nvrtc>> nvrtc = Nvrtc::open();
    ASSERT_TRUE(nvrtc) << nvrtc.error().message;
    Kernel &kernel = lowered->first.kernels.back();
    Result<Nvrtc::Output> output = (*nvrtc)->compile(kernel.source, kernel.name, target->arch);
    ASSERT_TRUE(output) << output.error().message;
    kernel.cubin = output->binary;
    kernel.spillBytes = spillBytes(output->log);
    // At 128 elements 224 of 255 registers are fragments.
    checkKernel(kernel, *target, 144);
    ++built;
  }
  EXPECT_GE(built, 20);
}

INSTANTIATE_TEST_SUITE_P(Architectures, CompileMatrix, testing::Values("sm_80", "sm_89", "sm_90a"),
                         [](const auto &info) { return std::string(info.param); });

TEST(CompileMatrixTable, CoversTheSpecSpace) {
  std::set<int> groups, dims, valueDims, blocks;
  std::set<Dtype> dtypes;
  std::set<std::string> methods, builtin;
  for (const Row &row : rows()) {
    groups.insert(row.heads / row.kvHeads);
    dims.insert(row.headDim);
    valueDims.insert(specOf(row).valueWidth());
    blocks.insert(row.block);
    dtypes.insert(row.dtype);
    methods.insert(row.method);
  }
  for (const MethodInfo &method : builtinMethods())
    builtin.insert(method.name);
  EXPECT_GE(rows().size(), 35u);
  EXPECT_EQ(groups, (std::set<int>{1, 2, 4, 6, 8, 12, 16}));
  EXPECT_EQ(dims, (std::set<int>{64, 96, 128, 192, 256}));
  EXPECT_EQ(valueDims, dims);
  EXPECT_EQ(blocks, (std::set<int>{16, 32, 64, 128}));
  EXPECT_EQ(dtypes.size(), 2u);
  EXPECT_EQ(methods, builtin);
}

TEST(CompileMatrixTable, SharedExtentReadsOffsetsAndSizes) {
  EXPECT_EQ(sharedExtent("int a;"), 0);
  EXPECT_EQ(sharedExtent("const A x{shared + 0};\n  static_assert(A::kBytes == 8);\n"
                         "const B<1, C> y{shared + 16};\n  static_assert(B<1, C>::kBytes == 4);\n"),
            20);
  EXPECT_FALSE(sharedExtent("const A x{shared + 0};\n  int b;"));
}

} // namespace
