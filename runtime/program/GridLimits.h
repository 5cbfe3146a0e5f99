// How many blocks of threads of a kernel a GPU holds, as its driver says: in a cluster, and at the
// same time. Asked once, when a program is loaded.
#pragma once
#include "runtime/device/Driver.h"
#include "runtime/program/ProgramImage.h"

namespace winnow {

/// Blocks of threads of the largest cluster that the kernel runs in; 0 where the driver knows none.
/// 8 are portable, more are not (CUDA C++ Programming Guide, "Thread Block Clusters"); parts of a
/// GPU may hold fewer. Error: DeviceFailed.
Result<int> largestCluster(const Driver &driver, int device, CUkernel kernel, const Kernel &recipe);
/// Blocks of threads of the kernel that run at the same time; 0 where no launch can ask for that
/// (CUDA C++ Programming Guide, "Cooperative Groups"). Error: DeviceFailed.
Result<int> blocksAtOnce(const Driver &driver, const DeviceInfo &info, CUkernel kernel,
                         const Kernel &recipe);

} // namespace winnow
