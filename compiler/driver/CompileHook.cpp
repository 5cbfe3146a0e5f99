// Joins the compiler's functions to the runtime's hook.
#include "compiler/driver/CompileHook.h"

namespace winnow {

CompileRequest compileRequest(const ProgramRequest &request, const std::string &nvrtcPath) {
  CompileRequest own;
  own.method = request.method;
  own.spec = request.spec;
  own.config = request.config;
  own.arch = request.arch;
  own.nvrtcPath = nvrtcPath;
  return own;
}

CompileHook compilerHook(const std::string &nvrtcPath) {
  CompileHook hook;
  hook.key = [=](const ProgramRequest &request) {
    return programKey(compileRequest(request, nvrtcPath));
  };
  hook.build = [=](const ProgramRequest &request) {
    return compileProgram(compileRequest(request, nvrtcPath));
  };
  hook.check = [](const ProgramRequest &request) -> Status {
    auto lowered = lowerProgram(compileRequest(request));
    return lowered ? Status() : tl::unexpected<Error>(lowered.error());
  };
  hook.parameters = parameterDefaults;
  return hook;
}

} // namespace winnow
