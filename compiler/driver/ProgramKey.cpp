// What decides a program's code, and so its key in the cache: everything that goes into the
// compiler, by name. A cache hit pays for no more than this.
#include "compiler/cuda/EmulatedCode.h"
#include "compiler/cuda/Nvrtc.h"
#include "compiler/driver/Compile.h"
#include "compiler/driver/EmbeddedFiles.h"
#include "runtime/cache/Digest.h"
#include "runtime/cache/Files.h"

namespace winnow {

/// Looked at, not opened: a cache hit must not pay for loading NVRTC.
static Result<std::string> nvrtcIdentity(const std::string &path) {
  WINNOW_TRY(std::string library, Nvrtc::locate(path));
  return Nvrtc::identity(library);
}

Result<KeyIngredients> programIngredients(const CompileRequest &request) {
  WINNOW_TRY(const Target *target, findTarget(request.arch));
  WINNOW_TRY(MethodInfo method, loadMethod(request.method));
  const bool emulated = request.form == CodeForm::Emulated;
  WINNOW_TRY(std::string compiler,
             emulated ? emulatedCompiler() : nvrtcIdentity(request.nvrtcPath));
  const char *form = emulated ? "emulated" : request.form == CodeForm::Ptx ? "ptx" : "cubin";
  KeyIngredients ingredients{{"generator", generatorDigest()},
                             {"method", sha256Hex(method.text)},
                             {"spec", request.spec.text()},
                             {"config", request.config.text()},
                             {"arch", request.arch},
                             {"form", form},
                             {emulated ? "clang" : "nvrtc", compiler},
                             {"headers", deviceHeadersDigest()}};
  for (const auto &[name, path] : request.kernelFiles) {
    WINNOW_TRY(std::string text, readWholeFile(systemFiles(), path));
    ingredients["kernel " + name] = sha256Hex(text);
  }
  // Half a program must not be found as a whole one, nor as the other half.
  if (!request.phase.empty())
    ingredients["phase"] = request.phase;
  return ingredients;
}

Result<std::string> programKey(const CompileRequest &request) {
  return programIngredients(request).map(keyFrom);
}

std::string generatorIdentity() {
  return keyFrom({{"generator", generatorDigest()}, {"headers", deviceHeadersDigest()}})
      .substr(0, 12);
}

} // namespace winnow
