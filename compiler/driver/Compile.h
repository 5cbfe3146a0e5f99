// The compiler's front door: method text + spec + target -> program image, with every stage of the
// way printable. Thread-safe: each call owns its MLIR context.
#pragma once
#include "runtime/device/Target.h"
#include "runtime/program/ProgramImage.h"
#include <map>
#include <string>
#include <vector>

namespace winnow {

/// What a program's kernels are compiled to. Ptx: of the virtual architecture (sm_80 code proven on
/// a newer card). Emulated: code of the host, for the emulator.
enum class CodeForm { Cubin, Ptx, Emulated };

struct CompileRequest {
  std::string method; ///< built-in name or path of a .mlir file
  Spec spec;
  Config config;
  std::string arch;      ///< Target::arch
  std::string nvrtcPath; ///< explicit libnvrtc, or empty for the search order
  CodeForm form = CodeForm::Cubin;
  /// Kernels that are given instead of built: name -> file of CUDA (.cu) or of tile text (.mlir),
  /// as `--emit cuda` and `--emit tile` write them. The rest of the recipe stays, but for
  /// the facts, which were those of the built kernel.
  std::map<std::string, std::string> kernelFiles;
  /// "select", "attend" or "backward": compile only the kernels of that phase, for the tuner; of
  /// "backward" attention's too, whose results it is given. Empty: all.
  std::string phase;
};

/// Text of one stage of one program: "select", "kernels", "tile", "cuda".
struct StageText {
  std::string stage;
  std::string kernel; ///< kernel name, or empty for whole-module stages
  std::string text;
};

/// Runs the passes and the emitter, no NVRTC: the stages' texts and the recipe (image without
/// cubins).
Result<std::pair<ProgramImage, std::vector<StageText>>> lowerProgram(const CompileRequest &request);
/// lowerProgram, then NVRTC (kernels in parallel), then reads registers, spills and shared memory
/// back from the cubins.
Result<ProgramImage> compileProgram(const CompileRequest &request);
/// Everything that decides a program's code, by name: generator, method, spec, config, arch, form,
/// nvrtc, headers. Texts of many lines are represented by their digests.
Result<KeyIngredients> programIngredients(const CompileRequest &request);
/// The cache key: digest of the ingredients.
Result<std::string> programKey(const CompileRequest &request);
/// The first digits of the digest of generator and device headers: equal where the same code comes
/// out.
std::string generatorIdentity();

/// What is done where LLVM, which knows no exceptions, gets no memory; must not return. Unset:
/// abort.
void setOutOfMemoryHandler(void (*handler)());

/// The parameters that a method declares, with their defaults. Errors: Usage for an unknown method
/// or a broken text.
Result<std::map<std::string, std::string>> parameterDefaults(const std::string &method);

/// False in a build without the compiler, where every function here says what is missing.
bool hasCompiler();

struct MethodInfo {
  std::string name, description, text;
  std::string file; ///< in messages: infllm_v2.mlir, or the path as the user gave it
};
/// The built-in methods, in alphabetical order.
std::vector<MethodInfo> builtinMethods();
/// Text of a built-in method or of a file.
Result<MethodInfo> loadMethod(const std::string &nameOrPath);

} // namespace winnow
