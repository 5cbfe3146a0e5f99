// The compile matrix: 35 specs compiled for each architecture through NVRTC, without a GPU. Checks
// what a launch would trip over: spills, shared memory beyond the block's limit, and a plan of
// shared memory that is not what the cubin has. Entry: an NVRTC on this machine. Exit: every kernel
// of every spec within its limits.
#include "compiler/cuda/CubinInfo.h"
#include "compiler/cuda/Nvrtc.h"
#include "compiler/driver/Compile.h"
#include "compiler/driver/KernelRegistry.h"
#include "tests/compile_matrix/KernelLimits.h"
#include "tests/compile_matrix/MatrixRows.h"
#include <algorithm>
#include <gtest/gtest.h>
#include <set>

using namespace winnow;

namespace {

/// Bytes of a thread's registers that may go to memory: a handful of values that the products do
/// not touch. At 256 elements a warp of the score kernel holds 32 summary rows in 128 registers,
/// and its loops reload up to a dozen values per 512 mma.
int maxSpillBytes(const Kernel &kernel, int headDim) {
  if (kernel.name == "top_k_65536") // 65536 keys are all registers of an SM; see top_k/OfScores.cpp
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

/// A row's spec with those of its parameters that its method declares: rows serve all methods.
Spec declaredSpec(const MatrixRow &row) {
  Spec spec = specOf(row);
  const std::map<std::string, std::string> declared = *parameterDefaults(row.method);
  for (const auto &[name, value] : row.params)
    if (declared.count(name) == 0)
      spec.params.erase(name);
  return spec;
}

class CompileMatrix : public testing::TestWithParam<const char *> {
protected:
  /// Compiles a row's program for the architecture and checks every kernel.
  static void checkRow(const MatrixRow &row) {
    const Target *target = *findTarget(GetParam());
    const Spec spec = declaredSpec(row);
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
};

TEST_P(CompileMatrix, EveryKernelWithinItsLimits) {
  for (const MatrixRow &row : matrixRows())
    checkRow(row);
}

// Keys of fp8, in some of the specs: what is built of their own kernels keeps to the same limits.
TEST_P(CompileMatrix, Fp8Keys) {
  const Target *target = *findTarget(GetParam());
  constexpr size_t kStep = 8; // of 64, 128 and 256 elements
  for (size_t i = 0; i < matrixRows().size(); i += kStep) {
    const MatrixRow &row = matrixRows()[i];
    CompileRequest request;
    request.method = row.method;
    request.arch = target->arch;
    request.spec = declaredSpec(row);
    request.spec.paged = true;
    request.spec.kvDtype = KvDtype::Fp8E4m3;
    SCOPED_TRACE(std::string(row.method) + " " + request.spec.text());
    const bool isWhole = request.spec.headDim % 64 == 0 && request.spec.valueWidth() % 64 == 0;
    Result<std::pair<ProgramImage, std::vector<StageText>>> lowered = lowerProgram(request);
    ASSERT_EQ(lowered.has_value(), isWhole && target->hasFp8Conversion);
    if (!lowered) {
      EXPECT_EQ(lowered.error().kind, ErrorKind::Unsupported) << lowered.error().message;
      continue;
    }
    Result<std::shared_ptr<const Nvrtc>> nvrtc = Nvrtc::open();
    ASSERT_TRUE(nvrtc) << nvrtc.error().message;
    for (Kernel &kernel : lowered->first.kernels) {
      // What is scored and selected from are summaries, as of all programs.
      if (kernel.source.find("e4m3") == std::string::npos)
        continue;
      Result<Nvrtc::Output> output = (*nvrtc)->compile(kernel.source, kernel.name, target->arch);
      ASSERT_TRUE(output) << output.error().message;
      kernel.cubin = output->binary;
      kernel.spillBytes = spillBytes(output->log);
      checkKernel(kernel, *target, maxSpillBytes(kernel, request.spec.headDim));
    }
  }
}

// Pairs of row tiles: what is not refused spills only what its fragments leave no room for.
TEST_P(CompileMatrix, PairsOfRowTiles) {
  const Target *target = *findTarget(GetParam());
  if (target->hasWarpgroupMma)
    GTEST_SKIP() << "its attend kernel is made of warpgroups";
  int built = 0;
  for (const MatrixRow &row : matrixRows()) {
    CompileRequest request;
    request.method = row.method;
    request.arch = target->arch;
    request.spec = declaredSpec(row);
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

// Architectures whose kernels are texts of a row above, or mma.sync with more shared memory: a few
// specs, since another assembler alone can differ.
class FurtherArchitectures : public CompileMatrix {};

TEST_P(FurtherArchitectures, KernelsWithinTheirLimits) {
  for (size_t i = 0; i < matrixRows().size(); i += 12)
    checkRow(matrixRows()[i]);
}

INSTANTIATE_TEST_SUITE_P(Further, FurtherArchitectures,
                         testing::Values("sm_86", "sm_87", "sm_100", "sm_103", "sm_120", "sm_121"),
                         [](const auto &info) { return std::string(info.param); });

INSTANTIATE_TEST_SUITE_P(Architectures, CompileMatrix, testing::Values("sm_80", "sm_89", "sm_90a"),
                         [](const auto &info) { return std::string(info.param); });

TEST(CompileMatrixTable, CoversTheSpecSpace) {
  std::set<int> groups, dims, valueDims, blocks;
  std::set<Dtype> dtypes;
  std::set<std::string> methods, builtin;
  for (const MatrixRow &row : matrixRows()) {
    groups.insert(row.heads / row.kvHeads);
    dims.insert(row.headDim);
    valueDims.insert(specOf(row).valueWidth());
    blocks.insert(row.block);
    dtypes.insert(row.dtype);
    methods.insert(row.method);
  }
  for (const MethodInfo &method : builtinMethods())
    builtin.insert(method.name);
  EXPECT_GE(matrixRows().size(), 42u);
  // What a row of the registry declares to serve, a row here compiles; of blocks the ends, and
  // some.
  std::set<int> servedGroups, servedDims, servedValueDims, servedBlocks;
  std::set<Dtype> servedDtypes;
  for (const KernelEntry &entry : kernelEntries()) {
    const Features &served = entry.features;
    servedGroups.insert(served.groups.begin(), served.groups.end());
    servedDims.insert(served.headDims.begin(), served.headDims.end());
    servedValueDims.insert(served.valueDims.begin(), served.valueDims.end());
    servedBlocks.insert(served.blocks.begin(), served.blocks.end());
    servedDtypes.insert(served.dtypes.begin(), served.dtypes.end());
  }
  EXPECT_EQ(groups, servedGroups);
  EXPECT_EQ(dims, servedDims);
  EXPECT_EQ(valueDims, servedValueDims);
  EXPECT_EQ(dtypes, servedDtypes);
  EXPECT_TRUE(
      std::includes(servedBlocks.begin(), servedBlocks.end(), blocks.begin(), blocks.end()));
  EXPECT_EQ(*blocks.begin(), *servedBlocks.begin());
  EXPECT_EQ(*blocks.rbegin(), *servedBlocks.rbegin());
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
