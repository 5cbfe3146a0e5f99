// A winnow_compiler, be it the host's own or that of the compiler library, as the runtime calls it.
#pragma once
#include "runtime/api/winnow.h"
#include "runtime/device/KernelStore.h"

namespace winnow {

/// A copy with every field. Error: Usage where a function that every compiler has is missing.
Result<winnow_compiler> toCompiler(const winnow_compiler *given);
/// Its functions for programs of GPUs. They throw HostException where the compiler throws.
CompileHook toHook(const winnow_compiler &compiler);

} // namespace winnow
