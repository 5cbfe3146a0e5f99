// The way of a kernel, start to end: method text -> select -> specialised -> kernels -> tile ->
// CUDA C++ -> cubin -> program image. Each call owns its MLIR context, so calls may run side by
// side.
#include "compiler/driver/Compile.h"
#include "compiler/cuda/CubinInfo.h"
#include "compiler/cuda/EmitCuda.h"
#include "compiler/cuda/EmulatedCode.h"
#include "compiler/cuda/KernelText.h"
#include "compiler/cuda/Nvrtc.h"
#include "compiler/driver/DumpStages.h"
#include "compiler/driver/KernelRegistry.h"
#include "compiler/driver/MlirSession.h"
#include "compiler/passes/TilePasses.h"
#include "compiler/select/SelectPasses.h"
#include "mlir/IR/Verifier.h"
#include "runtime/Threads.h"
#include "runtime/cache/Digest.h"
#include "runtime/cache/Files.h"
#include "runtime/program/Tunables.h"
#include "llvm/Support/ErrorHandling.h"
#include "llvm/Support/FormatVariadic.h"
#include <atomic>
#include <chrono>
#include <thread>

using namespace mlir;

namespace winnow {
namespace {

using Clock = std::chrono::steady_clock;
double millisecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

/// Puts the kernel of a file of tile text in the place of a built one.
Result<OwningOpRef<ModuleOp>> takeKernel(MlirSession &session, BuiltKernel &kernel,
                                         const std::string &path, const std::string &text) {
  OwningOpRef<ModuleOp> module = parseKernels(session.context, text, path);
  if (!module)
    return session.error(ErrorKind::Usage, path + " does not hold a kernel");
  auto given = module->lookupSymbol<tile::KernelOp>(kernel.op.getSymName());
  if (!given)
    return fail(ErrorKind::Usage, path + " holds no kernel " + kernel.op.getSymName().str());
  kernel.op = given;
  return module;
}

/// Fills image.kernels with recipes and CUDA text.
Status emitKernels(MlirSession &session, std::vector<BuiltKernel> &built,
                   const CompileRequest &request, const Target &target, ProgramImage &image,
                   std::vector<StageText> &stages) {
  for (const auto &given : request.kernelFiles)
    if (llvm::none_of(built, [&](BuiltKernel &one) { return one.op.getSymName() == given.first; }))
      return fail(ErrorKind::Usage, "the program has no kernel " + given.first + " to put " +
                                        given.second +
                                        " in the place of: see winnow compile --emit tile");
  for (BuiltKernel &kernel : built) {
    std::string name = kernel.op.getSymName().str();
    OwningOpRef<ModuleOp> given; // until its text is printed
    std::string text;
    auto file = request.kernelFiles.find(name);
    const bool isGiven = file != request.kernelFiles.end();
    if (isGiven) {
      WINNOW_TRY(text, readWholeFile(systemFiles(), file->second));
    }
    const bool isTile = isGiven && StringRef(file->second).ends_with(".mlir");
    if (isTile) {
      WINNOW_TRY(given, takeKernel(session, kernel, file->second, text));
    }
    stages.push_back({"tile", name, print(kernel.op)});
    FailureOr<std::string> source = std::move(text);
    if (!isGiven || isTile)
      source = emitCuda(kernel.op, std::string("winnow/") + target.leafHeader);
    if (failed(source))
      return session.error(ErrorKind::CompileFailed, "the CUDA printer failed on kernel " + name);
    int shared = kernel.op.getSharedBytes().value_or(0);
    if (shared > target.sharedPerBlock)
      return fail(ErrorKind::CompileFailed,
                  llvm::formatv("kernel {0} was planned with {1} bytes of shared memory, {2} has "
                                "{3}: its builder's model of them is wrong",
                                name, shared, target.arch, target.sharedPerBlock)
                      .str());
    Kernel recipe = kernel.recipe;
    recipe.name = name;
    if (recipe.when.empty())
      recipe.when = "1";
    recipe.blockThreads = kernel.op.getThreads();
    recipe.sharedBytes = shared;
    if (isGiven) {
      recipe.facts = {}; // they are the built kernel's
      // A text that does not wait for the kernels before it must not start before they end.
      recipe.early &= StringRef(*source).contains("wait_earlier_kernels();");
    }
    recipe.source = *source;
    stages.push_back({"cuda", name, *source});
    image.kernels.push_back(std::move(recipe));
  }
  return {};
}

} // namespace

bool hasCompiler() { return true; }

void setOutOfMemoryHandler(void (*handler)()) {
  llvm::install_bad_alloc_error_handler(
      [](void *given, const char *, bool) { reinterpret_cast<void (*)()>(given)(); },
      reinterpret_cast<void *>(handler));
}

Result<std::pair<ProgramImage, std::vector<StageText>>>
lowerProgram(const CompileRequest &request) {
  auto begin = Clock::now();
  WINNOW_TRY(const Target *target, findTarget(request.arch));
  WINNOW_CHECK(request.config.check());
  WINNOW_TRY(MethodInfo text, loadMethod(request.method));
  MlirSession session;
  WINNOW_TRY(ParsedMethod parsed, session.parse(text));
  select::MethodOp method = parsed.method;

  ProgramImage image;
  image.defaults = declaredParameters(method); // specialising puts other values in their place
  std::vector<StageText> stages;
  WINNOW_CHECK(specializeMethod(method, request.spec));
  if (request.spec.backward)
    WINNOW_CHECK(deriveBackward(method));
  stages.push_back({"select", "", print(method)});
  fuseKernels(method);
  stages.push_back({"kernels", "", print(method)});
  image.method = method.getSymName().str();
  image.arch = target->arch;
  image.spec = request.spec;
  image.spec.valueDim = request.spec.valueWidth();
  image.spec.scale = request.spec.softmaxScale();
  image.config = request.config;
  OwningOpRef<ModuleOp> kernels = ModuleOp::create(UnknownLoc::get(&session.context));
  WINNOW_TRY(std::vector<BuiltKernel> built, buildKernels(method, *target, *kernels, image));
  PassManager passes(&session.context, ModuleOp::getOperationName());
  addTilePasses(passes);
  if (failed(verify(*kernels)) || failed(passes.run(*kernels)))
    return session.error(ErrorKind::CompileFailed, "the tile passes failed");
  WINNOW_CHECK(emitKernels(session, built, request, *target, image, stages));
  image.mlirMs = millisecondsSince(begin);
  return std::pair(std::move(image), std::move(stages));
}

Result<ProgramImage> compileProgram(const CompileRequest &request) {
  WINNOW_TRY(auto lowered, lowerProgram(request));
  WINNOW_TRY(KeyIngredients ingredients, programIngredients(request));
  std::shared_ptr<const Nvrtc> nvrtc;
  if (request.form != CodeForm::Emulated) {
    WINNOW_TRY(nvrtc, Nvrtc::open(request.nvrtcPath));
    if (!nvrtc->supports(request.arch))
      return fail(ErrorKind::Unsupported,
                  "NVRTC " + nvrtc->version() + " does not know " + request.arch +
                      ": install NVRTC 12.8 or newer, or choose an older --arch");
  }
  ProgramImage &image = lowered.first;
  image.key = keyFrom(ingredients);
  image.ingredients = std::move(ingredients);
  if (!request.phase.empty())
    llvm::erase_if(image.kernels, [&](const Kernel &kernel) {
      return request.phase == kBackwardPhase ? !isBackward(kernel) && !attends(kernel)
                                             : tunedPhase(kernel) != request.phase;
    });
  std::string arch = request.form == CodeForm::Ptx ? virtualArch(request.arch) : request.arch;

  // One NVRTC program per kernel, on as many threads as there are cores: that is where nearly all
  // the time goes.
  std::vector<Result<Nvrtc::Output>> outputs(image.kernels.size(),
                                             fail(ErrorKind::CompileFailed, "not compiled"));
  std::atomic<size_t> next{0};
  const size_t cores = std::max(1u, std::thread::hardware_concurrency());
  runOnThreads(std::min(cores, outputs.size()), [&](bool) {
    for (size_t i; (i = next++) < outputs.size();) {
      const size_t at = outputs.size() - 1 - i; // the last ones take longest
      const Kernel &kernel = image.kernels[at];
      outputs[at] = nvrtc ? nvrtc->compile(kernel.source, kernel.name, arch)
                          : compileForEmulator(kernel.source, kernel.name);
    }
  });

  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i])
      return tl::unexpected<Error>(outputs[i].error());
    Kernel &kernel = image.kernels[i];
    kernel.cubin = std::move(outputs[i]->binary);
    kernel.compileMs = outputs[i]->milliseconds;
    if (request.form != CodeForm::Cubin)
      continue;
    std::optional<CubinInfo> info = readCubinInfo(kernel.cubin, kernel.name);
    if (!info)
      return fail(ErrorKind::CompileFailed, "NVRTC's cubin does not hold kernel " + kernel.name);
    kernel.registers = info->registers;
    kernel.staticSharedBytes = info->staticSharedBytes;
    kernel.spillBytes = spillBytes(outputs[i]->log);
  }
  dumpStages(image, lowered.second, nvrtc.get());
  return std::move(image);
}

} // namespace winnow
