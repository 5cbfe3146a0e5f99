// winnow-translate: kernels of the tile dialect as text, to CUDA C++. Reads what `winnow compile
// --emit tile` and winnow-opt print, runs the passes of --passes, prints each kernel as the
// compiler would. Exit code 1 with the place of the error.
#include "compiler/cuda/EmitCuda.h"
#include "compiler/cuda/KernelText.h"
#include "compiler/passes/TilePasses.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"
#include "runtime/device/Target.h"
#include "tools/opt/RegisterDialects.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace mlir;

static llvm::cl::opt<std::string> input(llvm::cl::Positional, llvm::cl::init("-"),
                                        llvm::cl::desc("<file, or - for standard input>"));
static llvm::cl::opt<std::string> arch("arch", llvm::cl::init("sm_80"),
                                       llvm::cl::desc("The architecture that is included"));
static llvm::cl::opt<std::string>
    passText("passes", llvm::cl::init(""),
             llvm::cl::desc("Passes to run first, as mlir-opt's --pass-pipeline takes them inside "
                            "builtin.module(), e.g. cse,canonicalize"));
static llvm::cl::opt<bool> toMlir("mlir", llvm::cl::init(false),
                                  llvm::cl::desc("Print the kernels as MLIR, not as CUDA"));

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  winnow::registerWinnowTilePasses();
  registerCanonicalizerPass();
  registerCSEPass();
  llvm::cl::ParseCommandLineOptions(argc, argv, "Kernels of the tile dialect to CUDA C++\n");
  auto target = winnow::findTarget(arch);
  if (!target) {
    llvm::errs() << "winnow-translate: " << target.error().message << "\n";
    return 1;
  }
  auto buffer = llvm::MemoryBuffer::getFileOrSTDIN(input, /*IsText=*/true);
  if (!buffer) {
    llvm::errs() << "winnow-translate: " << input << ": " << buffer.getError().message() << "\n";
    return 1;
  }
  DialectRegistry registry;
  winnow::registerDialects(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  OwningOpRef<ModuleOp> module =
      winnow::parseKernels(context, (*buffer)->getBuffer(), (*buffer)->getBufferIdentifier());
  if (!module)
    return 1;
  PassManager passes(&context, ModuleOp::getOperationName());
  if (failed(parsePassPipeline(passText, passes, llvm::errs())) || failed(passes.run(*module)))
    return 1;
  if (toMlir) {
    module->print(llvm::outs(), OpPrintingFlags().printNameLocAsPrefix());
    return 0;
  }
  for (auto kernel : module->getOps<winnow::tile::KernelOp>()) {
    FailureOr<std::string> source =
        winnow::emitCuda(kernel, std::string("winnow/") + (*target)->leafHeader);
    if (failed(source))
      return 1;
    llvm::outs() << *source;
  }
  return 0;
}
