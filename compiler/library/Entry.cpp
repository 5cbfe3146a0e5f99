// The compiler library's one function: a winnow_compiler over the compiler's hook. No C++ type and
// no exception leaves it, since its host may have another C++ runtime.
#include "compiler/driver/CompileHook.h"
#include "runtime/api/Build.h"
#include "runtime/api/SpecStruct.h"
#include "runtime/program/ImageFormat.h"

namespace winnow {
namespace {

/// Tells the caller why, in one sentence.
int refuse(const Error &error, winnow_sink sink, void *context) {
  sink(context, error.message.data(), error.message.size());
  return static_cast<int>(error.kind);
}

/// Runs `body`, which returns a Result; an exception becomes an error of it.
template <typename Body> auto caught(Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::exception &error) {
    return fail(ErrorKind::CompileFailed,
                std::string("out of memory or internal error: ") + error.what());
  }
}

/// The bytes that `body` returns, or its error, through the sink.
template <typename Body> int answer(winnow_sink sink, void *context, Body body) {
  const Result<std::string> bytes = caught(body);
  if (!bytes)
    return refuse(bytes.error(), sink, context);
  sink(context, bytes->data(), bytes->size());
  return WINNOW_OK;
}

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
  const Status status = caught([&]() -> Status {
    WINNOW_TRY(ProgramRequest own, toRequest(request));
    return compilerHook().check(own);
  });
  return status ? WINNOW_OK : refuse(status.error(), sink, context);
}

winnow_compiler makeCompiler() {
  winnow_compiler compiler{};
  compiler.struct_size = sizeof(compiler);
  compiler.key = key;
  compiler.build = build;
  compiler.check = check;
  compiler.build_digest = runtimeDigest();
  return compiler;
}

} // namespace
} // namespace winnow

/// Looked up by winnow_compiler_load (runtime/api/CompilerLibrary.cpp).
extern "C" WINNOW_API const winnow_compiler *winnow_compiler_entry(void) {
  static const winnow_compiler compiler = winnow::makeCompiler();
  return &compiler;
}
