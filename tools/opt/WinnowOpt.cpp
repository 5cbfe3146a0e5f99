// winnow-opt: mlir-opt with Winnow's dialects and passes. Reads methods or kernels as text, runs
// the passes named on the command line, prints the result; tests/dialect and tests/compiler are
// written with it.
#include "compiler/passes/TilePasses.h"
#include "compiler/select/SelectPasses.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"
#include "tools/opt/RegisterDialects.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  winnow::registerDialects(registry);
  winnow::registerWinnowSelectPasses();
  winnow::registerWinnowTilePasses();
  mlir::registerCanonicalizerPass();
  mlir::registerCSEPass();
  return mlir::asMainReturnCode(
      mlir::MlirOptMain(argc, argv, "Winnow's passes over methods and kernels\n", registry));
}
