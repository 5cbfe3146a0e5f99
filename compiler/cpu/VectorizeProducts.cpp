// Pass: linalg.matmul on static f32 tiles becomes register blocks of 4 rows x 16 columns that
// accumulate in vector registers over the whole depth. The order of the steps matters: alias
// folding before hoisting, or the accumulators stay in memory; contraction to outer products last.
#include "compiler/cpu/CpuCode.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/Transforms/Hoisting.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/MemRef/Transforms/Transforms.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Dialect/Vector/Transforms/LoweringPatterns.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

using namespace mlir;

namespace winnow::cpu {
namespace {

struct VectorizeProducts : PassWrapper<VectorizeProducts, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(VectorizeProducts)
  StringRef getArgument() const override { return "winnow-cpu-vectorize-products"; }
  StringRef getDescription() const override {
    return "Tile linalg.matmul to register blocks and vectorise them";
  }
  void getDependentDialects(DialectRegistry &registry) const override {
    registry.insert<linalg::LinalgDialect, memref::MemRefDialect, scf::SCFDialect,
                    vector::VectorDialect>();
  }

  void runOnOperation() override {
    if (failed(tileAndVectorize()))
      return signalPassFailure();
    // Transfers must address the function's own memrefs, not subviews, or hoisting gives up on
    // aliasing.
    apply([](RewritePatternSet &p) { memref::populateFoldMemRefAliasOpPatterns(p); });
    getOperation().walk(
        [](func::FuncOp function) { linalg::hoistRedundantVectorTransfers(function); });
    apply([](RewritePatternSet &p) {
      vector::populateVectorContractLoweringPatterns(p,
                                                     vector::VectorContractLowering::OuterProduct);
      vector::populateVectorTransferPermutationMapLoweringPatterns(p);
    });
    apply([](RewritePatternSet &p) {
      vector::populateVectorOuterProductLoweringPatterns(p);
      vector::populateVectorTransposeLoweringPatterns(p,
                                                      vector::VectorTransposeLowering::Shuffle1D);
      vector::populateVectorBroadcastLoweringPatterns(p);
    });
  }

private:
  /// Rows of a register block: 4 where the tile has that many, else what divides it.
  static int64_t blockRows(linalg::MatmulOp op) {
    int64_t rows = cast<MemRefType>(op.getOutputs()[0].getType()).getDimSize(0);
    return rows % 4 == 0 ? 4 : rows % 2 == 0 ? 2 : 1;
  }

  LogicalResult tileAndVectorize() {
    IRRewriter rewriter(&getContext());
    SmallVector<linalg::MatmulOp> products;
    getOperation().walk([&](linalg::MatmulOp op) { products.push_back(op); });
    for (linalg::MatmulOp op : products) {
      rewriter.setInsertionPoint(op);
      auto options = linalg::LinalgTilingOptions()
                         .setTileSizes({blockRows(op), 16, 1})
                         .setInterchange({1, 0, 2});
      auto tiled =
          linalg::tileLinalgOp(rewriter, cast<linalg::LinalgOp>(op.getOperation()), options);
      if (failed(tiled))
        return failure();
      rewriter.eraseOp(op);
      rewriter.setInsertionPoint(tiled->op);
      if (failed(linalg::vectorize(rewriter, tiled->op, {}, {}, false, false, false,
                                   /*createNamedContraction=*/true)))
        return failure();
      rewriter.eraseOp(tiled->op);
    }
    SmallVector<linalg::FillOp> fills;
    getOperation().walk([&](linalg::FillOp op) { fills.push_back(op); });
    for (linalg::FillOp op : fills) {
      rewriter.setInsertionPoint(op);
      auto tiled = linalg::tileLinalgOp(rewriter, cast<linalg::LinalgOp>(op.getOperation()),
                                        linalg::LinalgTilingOptions().setTileSizes({1, 16}));
      if (failed(tiled))
        return failure();
      rewriter.eraseOp(op);
      rewriter.setInsertionPoint(tiled->op);
      if (failed(linalg::vectorize(rewriter, tiled->op)))
        return failure();
      rewriter.eraseOp(tiled->op);
    }
    return success();
  }

  void apply(llvm::function_ref<void(RewritePatternSet &)> populate) {
    RewritePatternSet patterns(&getContext());
    populate(patterns);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace

std::unique_ptr<Pass> createVectorizeProductsPass() {
  return std::make_unique<VectorizeProducts>();
}

} // namespace winnow::cpu
