// The pass winnow-cpu-vectorize-products, before and after: named products on tiles go, fused
// multiply-adds on vectors of 16 lanes come, and the accumulators are no longer stored inside the
// loop over the depth.
#include "compiler/cpu/CpuCode.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include <gtest/gtest.h>

using namespace mlir;

static constexpr const char *kProduct = R"(
func.func @product(%a: memref<8x32xf32>, %b: memref<32x64xf32>, %c: memref<8x64xf32>) {
  linalg.matmul ins(%a, %b : memref<8x32xf32>, memref<32x64xf32>) outs(%c : memref<8x64xf32>)
  return
})";

TEST(VectorizeProducts, MatmulBecomesVectorFma) {
  DialectRegistry registry;
  winnow::cpu::registerCpuDialects(registry);
  MLIRContext context(registry);
  context.loadAllAvailableDialects();
  auto module = parseSourceString<ModuleOp>(kProduct, ParserConfig(&context));
  ASSERT_TRUE(module);
  PassManager passes(&context);
  passes.addPass(winnow::cpu::createVectorizeProductsPass());
  ASSERT_TRUE(succeeded(passes.run(*module)));
  int products = 0, fmas = 0, storesInLoops = 0;
  module->walk([&](linalg::LinalgOp) { ++products; });
  module->walk([&](vector::FMAOp op) {
    ++fmas;
    EXPECT_EQ(cast<VectorType>(op.getType()).getNumElements(), 16);
  });
  module->walk([&](vector::TransferWriteOp op) {
    int depth = 0;
    for (Operation *parent = op->getParentOp(); parent; parent = parent->getParentOp())
      depth += isa<scf::ForOp>(parent);
    storesInLoops += depth > 2; // rows and columns, not the depth
  });
  EXPECT_EQ(products, 0);
  EXPECT_GE(fmas, 4);
  EXPECT_EQ(storesInLoops, 0);
}
