// How much host memory this process may have, asked before large tensors are made: the kernel would
// promise more and end the process, or something else on the machine, when the pages are touched.
#pragma once
#include "runtime/program/Spec.h"
#include <cstdint>
#include <initializer_list>

namespace winnow {

/// Bytes: the least of the machine's memory, the limit on address space and that of the control
/// group.
uint64_t hostMemoryLimit();

/// A product that stays at 2^64 - 1 instead of wrapping.
uint64_t saturatingProduct(std::initializer_list<uint64_t> factors);

/// Error: DeviceFailed, where queries, keys, values and results of so many tokens, and of a spec
/// with gradients theirs, are more than hostMemoryLimit.
Status requireTensors(const Spec &spec, int64_t tokens);

} // namespace winnow
