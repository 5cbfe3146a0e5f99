// Constants and occupancy of lowered kernels.
#include "autotune/KernelShape.h"
#include <algorithm>
#include <charconv>

namespace winnow {

KernelShape::KernelShape(const Kernel &kernel) : kernel(kernel) {
  const std::string &text = kernel.source;
  const std::string_view lead = "\nconstexpr int ", assign = " = ";
  for (size_t at = text.find(lead); at != std::string::npos; at = text.find(lead, at + 1)) {
    size_t begin = at + lead.size(), equals = text.find(assign, begin);
    if (equals == std::string::npos)
      break;
    int value = 0;
    const char *digits = text.data() + equals + assign.size();
    if (std::from_chars(digits, text.data() + text.size(), value).ec == std::errc())
      constants[text.substr(begin, equals - begin)] = value;
  }
}

int KernelShape::constant(const std::string &name, int otherwise) const {
  auto found = constants.find(name);
  return found == constants.end() ? otherwise : found->second;
}

/// Threads, with a warp more wherever a quarter of the multiprocessor has one less than another.
static int wholeQuarters(int threads) {
  constexpr int kWarp = 32, kRound = kWarp * DeviceProfile::kSchedulers;
  return std::max(1, (threads + kRound - 1) / kRound) * kRound;
}

int mostRegisters(int threads) {
  return std::min(255, DeviceProfile::kRegisters / wholeQuarters(threads) / 8 * 8);
}

int residentBlocks(const Kernel &kernel, int registers, const DeviceProfile &profile) {
  const int shared = kernel.sharedBytes + kernel.staticSharedBytes + DeviceProfile::kSharedReserve;
  const int threads = std::max(32, kernel.blockThreads);
  return std::max(
      1, std::min({DeviceProfile::kBlocks, profile.sharedPerSm / shared,
                   profile.threadsPerSm / threads,
                   DeviceProfile::kRegisters / std::max(1, wholeQuarters(threads) * registers)}));
}

} // namespace winnow
