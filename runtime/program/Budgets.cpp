// Registers per thread and blocks per multiprocessor.
#include "runtime/program/Budgets.h"
#include <algorithm>

namespace winnow {

int wholeQuarters(int threads) {
  constexpr int kRound = kWarpThreads * kSchedulers;
  return std::max(1, (threads + kRound - 1) / kRound) * kRound;
}

int threadRegisters(int registers, int threads) {
  return std::min(kMostThreadRegisters, registers / wholeQuarters(threads) / 8 * 8);
}

int residentBlocks(const Kernel &kernel, int registers, const Multiprocessor &multiprocessor) {
  const int shared = kernel.sharedBytes + kernel.staticSharedBytes + multiprocessor.sharedReserve;
  const int threads = std::max(kWarpThreads, kernel.blockThreads);
  return std::max(
      1, std::min({multiprocessor.blocks, multiprocessor.sharedBytes / shared,
                   multiprocessor.threads / threads,
                   multiprocessor.registers / std::max(1, wholeQuarters(threads) * registers)}));
}

} // namespace winnow
