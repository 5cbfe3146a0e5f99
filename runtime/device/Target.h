// Facts about GPU architectures: one row each, the only place in Winnow where an sm number is
// compared. Passes and the launcher ask for features by name.
#pragma once
#include "runtime/Error.h"
#include <string>
#include <vector>

namespace winnow {

struct Target {
  const char *arch;   ///< "sm_80", "sm_90a": as NVRTC's --gpu-architecture takes it
  int major, minor;   ///< compute capability
  int sharedPerBlock; ///< bytes of shared memory that one block may use (dynamic, opted in)
  int sharedReserved; ///< bytes the system takes of each block's static shared memory
  int registersPerSm;
  bool hasAsyncCopy;      ///< cp.async
  bool hasBulkCopy;       ///< TMA, cp.async.bulk
  bool hasWarpgroupMma;   ///< wgmma
  bool hasEarlyLaunch;    ///< griddepcontrol in its leaf header: programmatic dependent launch
  bool hasClusters;       ///< thread block clusters, which reach each other's shared memory
  bool hasFp8Conversion;  ///< cvt from e4m3 to fp16 (PTX ISA 9.0, cvt.rn.f16x2.e4m3x2)
  const char *leafHeader; ///< templates/arch/<this>
  double tensorTflops;    ///< what bf16 matrix products reach, in 1e12 operations per second
};

/// Bytes of a multiprocessor's shared memory that the system takes for each block of threads, which
/// has them beside its sharedPerBlock: on every row (CUDA C++ Programming Guide, technical
/// specifications, from compute capability 8.0 on).
constexpr int kSharedReserve = 1024;

const std::vector<Target> &targets();
/// The row that answers where none is named and there is no GPU to ask: the newest whose kernels
/// have been measured.
const Target &defaultTarget();
/// The row of `arch`, or Unsupported naming the known ones.
Result<const Target *> findTarget(const std::string &arch);
/// Whether cubins of this row run on a device of this compute capability.
bool runsOn(const Target &target, int major, int minor);
/// Whether PTX of this row's virtual architecture may be compiled by the driver for such a device.
bool ptxRunsOn(const Target &target, int major, int minor);
/// The row whose cubins run on a device of this compute capability, or Unsupported (fault F20).
Result<const Target *> targetForDevice(int major, int minor);

} // namespace winnow
