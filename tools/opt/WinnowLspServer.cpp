// winnow-lsp-server: errors, hover text and definitions for methods and kernels in an editor, over
// the language server protocol on stdin and stdout.
#include "mlir/Tools/mlir-lsp-server/MlirLspServerMain.h"
#include "tools/opt/RegisterDialects.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  winnow::registerDialects(registry);
  return failed(mlir::MlirLspServerMain(argc, argv, registry));
}
