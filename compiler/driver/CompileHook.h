// The compiler as the runtime's engine sees it: what a host that has both gives to EngineOptions.
#pragma once
#include "compiler/driver/Compile.h"
#include "runtime/device/KernelStore.h"

namespace winnow {

/// All four functions; `nvrtcPath` as in CompileRequest.
CompileHook compilerHook(const std::string &nvrtcPath = {});
/// The request with its program's text and target, as Compile.h takes it.
CompileRequest compileRequest(const ProgramRequest &request, const std::string &nvrtcPath = {});

} // namespace winnow
