// Every kernel of the compile matrix as text of the tile dialect: it parses, and whatever -cse and
// -canonicalize make of it is the same CUDA, since the ops' effects are true and the pipeline has
// cleaned up.
#include "compiler/cuda/EmitCuda.h"
#include "compiler/cuda/KernelText.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "tests/compiler/MatrixPrograms.h"
#include <gtest/gtest.h>
#include <set>

using namespace mlir;

namespace winnow {
namespace {

std::string cudaOf(ModuleOp module) {
  std::string text;
  for (auto kernel : module.getOps<tile::KernelOp>())
    if (FailureOr<std::string> source = emitCuda(kernel, "winnow/sm80.cuh"); succeeded(source))
      text += *source;
  return text;
}

void checkKernel(MLIRContext &context, const std::string &text) {
  OwningOpRef<ModuleOp> module = parseKernels(context, text, "kernel.mlir");
  ASSERT_TRUE(module);
  const std::string before = cudaOf(*module);
  ASSERT_FALSE(before.empty());
  PassManager passes(&context, ModuleOp::getOperationName());
  passes.addPass(createCSEPass());
  passes.addPass(createCanonicalizerPass());
  ASSERT_TRUE(succeeded(passes.run(*module)));
  EXPECT_EQ(cudaOf(*module), before);
}

TEST(TileText, CleaningUpChangesNothing) {
  DialectRegistry registry;
  registry.insert<tile::TileDialect, arith::ArithDialect, math::MathDialect, scf::SCFDialect>();
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  std::set<std::string> seen;
  for (const MatrixProgram &program : matrixPrograms()) {
    if (!program.refusal.empty())
      continue;
    SCOPED_TRACE(program.title());
    auto lowered = lowerProgram(program.request);
    ASSERT_TRUE(lowered) << lowered.error().message;
    for (const StageText &stage : lowered->second)
      if (stage.stage == "tile" && seen.insert(stage.text).second)
        checkKernel(context, stage.text);
  }
  EXPECT_GT(seen.size(), 500u);
}

} // namespace
} // namespace winnow
