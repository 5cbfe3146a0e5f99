// What a launch would trip over, read from a compiled kernel.
#pragma once
#include "runtime/device/Target.h"
#include "runtime/program/ProgramImage.h"
#include <optional>
#include <string>

namespace winnow {

/// Bytes of dynamic shared memory that the printed kernel's objects reach: the largest offset plus
/// size. NVRTC has checked each size against the object itself, by the static_assert read here.
/// Nothing where an object has none.
std::optional<long> sharedExtent(const std::string &source);

/// Expects a kernel with its cubin to keep to the target's limits: registers, shared memory as it
/// was planned and no other, and at most `mostSpilled` bytes of a thread in local memory.
void checkKernel(const Kernel &kernel, const Target &target, int mostSpilled);

} // namespace winnow
