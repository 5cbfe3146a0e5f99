// What the performance model reads off a lowered kernel: the constants at the head of its text and
// its resources. So the model follows what was built, not what a config should have given.
#pragma once
#include "autotune/DeviceProfile.h"
#include "runtime/ProgramImage.h"
#include <map>
#include <string>

namespace winnow {

class KernelShape {
public:
  /// Reads the "constexpr int kName = 1;" lines.
  explicit KernelShape(const Kernel &kernel);

  bool has(const std::string &name) const { return constants.count(name) != 0; }
  /// The constant, or `otherwise` where the kernel has none of this name.
  int constant(const std::string &name, int otherwise = 0) const;
  /// Whether the text names this device type or function.
  bool names(const std::string &word) const {
    return kernel.source.find(word) != std::string::npos;
  }
  const Kernel &recipe() const { return kernel; }

private:
  const Kernel &kernel;
  std::map<std::string, int> constants;
};

/// Blocks of threads that one multiprocessor holds, by shared memory, threads and registers; 1 at
/// least. `registers` per thread.
int residentBlocks(const Kernel &kernel, int registers, const DeviceProfile &profile);
/// Registers that a thread may have in a block of `threads` that is alone on its multiprocessor:
/// each of four quarters has a quarter of the registers, and a quarter of the warps, rounded up.
int mostRegisters(int threads);

} // namespace winnow
