// The CPU target behind the functions of a winnow_compiler.
#pragma once
#include "runtime/api/winnow.h"

namespace winnow {

/// Sets cpu_load, cpu_launch and cpu_free, where this build has the CPU target.
void addCpuFunctions(winnow_compiler &compiler);

} // namespace winnow
