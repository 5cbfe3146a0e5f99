// What the performance model knows about a GPU: clocks, rates and capacities, one row per product.
// The rows are facts and measurements with their sources (DeviceProfile.cpp); how they combine to a
// time is PerformanceModel.h's business.
#pragma once
#include "runtime/device/Target.h"
#include "runtime/program/Budgets.h"
#include <string>
#include <vector>

namespace winnow {

/// Rates "per clock" are those of one multiprocessor at clockGhz.
struct DeviceProfile {
  const char *name;     ///< on the command line
  const char *device;   ///< as the driver calls it
  int major, minor;     ///< compute capability
  int multiprocessors;  ///< SMs
  double clockGhz;      ///< sustained under these kernels
  double boostGhz;      ///< of launches that are too short for the power limit, as of decode
  double mmaOperations; ///< mma.sync on bf16 with fp32 sums: operations per clock
  int sharedPerSm;      ///< bytes of shared memory, 1024 of each block's reserve included
  int firstLevelPerSm;  ///< bytes of L1 and shared memory together
  int threadsPerSm;     ///< resident at most
  double l2Bytes;       ///< capacity that one multiprocessor's reads find
  double l2Bandwidth;   ///< bytes per second that reads reach
  double dramBandwidth; ///< the same of device memory
  double latency;       ///< clocks of a read from device memory on an idle GPU
  double launchMicros;  ///< between two kernels of a graph

  /// Facts that every row shares (CUDA C++ Programming Guide, arithmetic instruction throughput).
  static constexpr int kBlocks = 16, kSharedReserve = 1024;
  static constexpr double kSharedBytes = 128; ///< of shared memory per clock
  static constexpr double kExponentials = 16; ///< ex2 per clock

  /// Clocks of one multiprocessor as milliseconds.
  double milliseconds(double clocks) const { return clocks / (clockGhz * 1e6); }
  /// A rate of the whole GPU as bytes per clock of one multiprocessor.
  double perClock(double bytesPerSecond) const {
    return bytesPerSecond / (multiprocessors * clockGhz * 1e9);
  }
  /// The architecture whose cubins it runs.
  Result<const Target *> target() const { return targetForDevice(major, minor); }
  /// What one multiprocessor holds. Error: target's.
  Result<Multiprocessor> multiprocessor() const;
};

const std::vector<DeviceProfile> &deviceProfiles();
/// Error: Usage, with the known names.
Result<const DeviceProfile *> findProfile(const std::string &name);

} // namespace winnow
