// Printed kernels as code of the host, for the emulator: by clang, against
// templates/arch/emulated.cuh, with the instrumentation that shows the emulator every load and
// store.
#pragma once
#include "compiler/cuda/Nvrtc.h"

namespace winnow {

/// What tells one clang from another: its build id and size. Error: Unsupported, where there is
/// none.
Result<std::string> emulatedCompiler();
/// A shared object whose one kernel is `name`. Thread-safe. CompileFailed with clang's words.
Result<Nvrtc::Output> compileForEmulator(const std::string &source, const std::string &name);

} // namespace winnow
