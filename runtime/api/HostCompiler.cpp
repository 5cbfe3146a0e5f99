// Requests go out as structs, answers come back through a sink; see HostCompiler.h.
#include "runtime/api/HostCompiler.h"
#include "runtime/api/HostBoundary.h"
#include "runtime/api/SpecStruct.h"
#include "runtime/program/ImageFormat.h"

namespace winnow {
Result<std::string> callCompiler(const char *what,
                                 const std::function<int(winnow_sink, void *)> &function) {
  std::string bytes;
  winnow_sink sink = [](void *context, const void *data, size_t size) {
    static_cast<std::string *>(context)->assign(static_cast<const char *>(data), size);
  };
  const int status = callHost(what, [&] { return function(sink, &bytes); });
  if (status == WINNOW_OK)
    return bytes;
  bool known = status >= WINNOW_INVALID && status <= WINNOW_DEVICE_FAILED;
  return fail(known ? static_cast<ErrorKind>(status) : ErrorKind::CompileFailed,
              bytes.empty() ? "the compiler failed without a reason" : bytes);
}

namespace {

using CompileFunction = int (*)(void *, const winnow_spec *, winnow_sink, void *);

Result<std::string> askCompiler(const char *what, CompileFunction function, void *user,
                                const ProgramRequest &request) {
  const SpecStruct spec(request);
  return callCompiler(what, [&](winnow_sink sink, void *context) {
    return function(user, spec.get(), sink, context);
  });
}

} // namespace

Result<winnow_compiler> toCompiler(const winnow_compiler *given) {
  WINNOW_TRY(winnow_compiler compiler, adopt(given, "compiler"));
  if (!compiler.key || !compiler.build)
    return fail(ErrorKind::Usage, "compiler: key or build is null");
  return compiler;
}

CompileHook toHook(const winnow_compiler &compiler) {
  CompileHook hook;
  hook.key = [c = compiler](const ProgramRequest &request) {
    return askCompiler("winnow_compiler.key", c.key, c.user, request);
  };
  hook.build = [c = compiler](const ProgramRequest &request) -> Result<ProgramImage> {
    WINNOW_TRY(std::string bytes, askCompiler("winnow_compiler.build", c.build, c.user, request));
    Result<ProgramImage> image = deserializeImage(bytes);
    if (!image)
      return fail(ErrorKind::CompileFailed,
                  "the compiler gave an unusable image: " + image.error().message);
    return image;
  };
  if (compiler.check)
    hook.check = [c = compiler](const ProgramRequest &request) -> Status {
      Result<std::string> answer = askCompiler("winnow_compiler.check", c.check, c.user, request);
      return answer ? Status() : tl::unexpected(answer.error());
    };
  return hook;
}

} // namespace winnow
