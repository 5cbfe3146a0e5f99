// The memory of the emulated GPU: host memory, by allocation, so that an access outside every one
// of them is found.
#pragma once
#include <cstddef>

namespace winnow::emulator {

/// Page-separated, filled with a pattern that is NaN in every element type. Null: none left.
void *allocateDevice(size_t bytes);
/// Whether there was such an allocation.
bool freeDevice(void *address);
/// Whether the bytes lie inside one allocation.
bool isDeviceMemory(const void *address, size_t bytes);
size_t allocatedBytes();

} // namespace winnow::emulator
