// A winnow_compiler, be it the host's own or that of the compiler library, as the runtime calls it.
#pragma once
#include "runtime/api/winnow.h"
#include "runtime/device/KernelStore.h"
#include <functional>
#include <string>

namespace winnow {

/// Calls one function of a compiler, which gets the sink to answer through and its context; its
/// bytes, or its error. Throws HostException where the function throws.
Result<std::string> callCompiler(const char *what,
                                 const std::function<int(winnow_sink, void *)> &function);
/// A copy with every field. Error: Usage where a function that every compiler has is missing.
Result<winnow_compiler> toCompiler(const winnow_compiler *given);
/// Its functions for programs of GPUs. They throw HostException where the compiler throws.
CompileHook toHook(const winnow_compiler &compiler);

} // namespace winnow
