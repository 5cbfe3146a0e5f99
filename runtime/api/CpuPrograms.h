// Programs on the CPU, which the functions of a winnow_compiler make and run: this library has no
// code generator. A program counts as an image without kernels, so that what is asked of programs
// and what is checked at a launch is the same for both targets.
#pragma once
#include "runtime/api/winnow.h"
#include "runtime/device/KernelStore.h"
#include "runtime/program/Launcher.h"
#include <array>

namespace winnow {

/// One program, freed with the last handle to it.
class LoadedCpuProgram {
public:
  /// Error: the compiler's.
  static Result<std::shared_ptr<const LoadedCpuProgram>> load(const winnow_compiler &compiler,
                                                              const ProgramRequest &request);
  ~LoadedCpuProgram();
  LoadedCpuProgram(const LoadedCpuProgram &) = delete;
  LoadedCpuProgram &operator=(const LoadedCpuProgram &) = delete;

  const ProgramImage &image() const { return facts; }
  /// As LoadedProgram::denseLength.
  Result<int> denseLength(int batch, int maxQ) const { return dense.of(batch, maxQ); }
  /// Runs it and returns when the results are there. `given` is what `args` was made of. Errors:
  /// Usage as of LoadedProgram::launch; the compiler's.
  Status launch(const winnow_launch_args *given, const LaunchArgs &args) const;

  /// The same of gradients. Error: Unsupported, for a compiler without them.
  Status launchBackward(const winnow_backward_args *given, const LaunchArgs &args) const;

private:
  explicit LoadedCpuProgram(const winnow_compiler &compiler) : compiler(compiler) {}

  winnow_compiler compiler;
  void *handle = nullptr;
  ProgramImage facts; ///< method, key, spec, selectHeads, denseLength and summaries
  DenseLength dense;
};

/// Those of one engine. Thread-safe.
class CpuPrograms {
public:
  using Program = std::shared_ptr<const LoadedCpuProgram>;
  struct Found {
    Program program;
    ImageOrigin origin = ImageOrigin::Memory;
  };

  /// Compilers without functions for the CPU, all null included, serve nothing.
  explicit CpuPrograms(const winnow_compiler &compiler) : compiler(compiler) {}
  static bool isServedBy(const winnow_compiler &compiler) {
    return compiler.cpu_load && compiler.cpu_launch && compiler.cpu_free;
  }
  /// Compiles what `request` names, or finds it. Two threads that want the same program at once may
  /// both compile it; the first one's is kept. Errors: Usage for a request with an arch;
  /// Unsupported without a compiler that serves the CPU; NotReady after seal; the compiler's.
  Result<Found> prepare(const ProgramRequest &request);
  /// As Engine::prepareAll.
  std::vector<Result<Found>> prepareAll(const std::vector<ProgramRequest> &requests,
                                        const std::function<bool(const ProgramRequest &)> &goOn);
  /// Error: NotReady.
  Result<Program> find(const ProgramRequest &request) const;
  void seal() { sealed = true; }
  KernelStore::Counters counters() const;

private:
  winnow_compiler compiler;
  mutable std::mutex mutex; ///< guards what follows; never held over a build
  std::map<std::pair<std::string, std::array<int64_t, 4>>, Program>
      programs; ///< by request text and version of the method's text
  KernelStore::Counters counts;
  std::atomic<bool> sealed{false};
};

} // namespace winnow
