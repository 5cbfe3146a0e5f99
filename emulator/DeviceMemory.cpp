// See DeviceMemory.h.
#include "emulator/DeviceMemory.h"
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>

namespace winnow::emulator {

namespace {
constexpr size_t kAlignment = 4096;
std::map<uintptr_t, size_t> &allocations() {
  static auto *all =
      new std::map<uintptr_t, size_t>; // threads of an exiting process may still look
  return *all;
}
size_t total = 0;
} // namespace

void *allocateDevice(size_t bytes) {
  void *memory = nullptr;
  const size_t padded = (bytes + kAlignment - 1) / kAlignment * kAlignment + kAlignment;
  if (padded < bytes || ::posix_memalign(&memory, kAlignment, padded) != 0)
    return nullptr;
  std::memset(memory, 0xff, padded);
  allocations()[reinterpret_cast<uintptr_t>(memory)] = bytes;
  total += bytes;
  return memory;
}

bool freeDevice(void *address) {
  auto found = allocations().find(reinterpret_cast<uintptr_t>(address));
  if (found == allocations().end())
    return false;
  total -= found->second;
  allocations().erase(found);
  std::free(address);
  return true;
}

bool isDeviceMemory(const void *address, size_t bytes) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  auto after = allocations().upper_bound(at);
  if (after == allocations().begin())
    return false;
  const auto &[begin, size] = *std::prev(after);
  return at - begin <= size && bytes <= size - (at - begin);
}

size_t allocatedBytes() { return total; }

} // namespace winnow::emulator
