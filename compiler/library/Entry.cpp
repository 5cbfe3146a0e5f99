// The compiler library's one function: a winnow_compiler over the compiler's hook. No C++ type and
// no exception leaves it, since its host may have another C++ runtime.
#include "compiler/driver/CompileHook.h"
#include "compiler/library/Answer.h"
#include "compiler/library/CpuLibrary.h"
#include "runtime/api/Build.h"
#include "runtime/api/SpecStruct.h"
#include "runtime/program/ImageFormat.h"

namespace winnow {
namespace {

int key(void *, const winnow_spec *request, winnow_sink sink, void *context) {
  return answer(sink, context, [&]() -> Result<std::string> {
    WINNOW_TRY(ProgramRequest own, toRequest(request));
    return programKey(compileRequest(own));
  });
}

int build(void *, const winnow_spec *request, winnow_sink sink, void *context) {
  return answer(sink, context, [&]() -> Result<std::string> {
    WINNOW_TRY(ProgramRequest own, toRequest(request));
    WINNOW_TRY(ProgramImage image, compileProgram(compileRequest(own)));
    return serializeImage(image);
  });
}

int check(void *, const winnow_spec *request, winnow_sink sink, void *context) {
  return complain(sink, context, [&]() -> Status {
    WINNOW_TRY(ProgramRequest own, toRequest(request));
    return compilerHook().check(own);
  });
}

winnow_compiler makeCompiler() {
  winnow_compiler compiler{};
  compiler.struct_size = sizeof(compiler);
  compiler.key = key;
  compiler.build = build;
  compiler.check = check;
  compiler.build_digest = runtimeDigest();
  addCpuFunctions(compiler);
  return compiler;
}

} // namespace
} // namespace winnow

/// Looked up by winnow_compiler_load (runtime/api/CompilerLibrary.cpp).
extern "C" WINNOW_API const winnow_compiler *winnow_compiler_entry(void) {
  static const winnow_compiler compiler = winnow::makeCompiler();
  return &compiler;
}
