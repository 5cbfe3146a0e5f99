// Machine code of the tile functions: MLIR lowered to LLVM and compiled for this host by ORC.
#pragma once
#include "mlir/ExecutionEngine/ExecutionEngine.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassManager.h"
#include "runtime/Error.h"
#include "llvm/Target/TargetMachine.h"
#include <memory>
#include <string>

namespace winnow::cpu {

/// Tiles and vectorises the products of a module of tile functions: 4 x 16 register blocks over
/// vector.fma.
std::unique_ptr<mlir::Pass> createVectorizeProductsPass();
/// The passes from tile functions to the LLVM dialect.
void addCpuLowering(mlir::OpPassManager &manager);
/// Dialects and translations that the lowering needs.
void registerCpuDialects(mlir::DialectRegistry &registry);

class CpuCode {
public:
  /// Lowers and compiles `module`, which is consumed. Error: CompileFailed.
  static Result<std::unique_ptr<CpuCode>> create(mlir::ModuleOp module);
  /// The function's address, or null. Arguments are bare pointers.
  void *find(const std::string &name) const;

private:
  std::unique_ptr<llvm::TargetMachine> optimizerTarget; ///< used while the engine compiles
  std::unique_ptr<mlir::ExecutionEngine> engine;
};

} // namespace winnow::cpu
