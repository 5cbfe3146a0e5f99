// See GridLimits.h.
#include "runtime/program/GridLimits.h"
#include "runtime/program/Budgets.h"

namespace winnow {

Result<int> largestCluster(const Driver &driver, int device, CUkernel kernel,
                           const Kernel &recipe) {
  const DriverApi &api = driver.api();
  if (!api.cuLaunchKernelEx || !api.cuOccupancyMaxPotentialClusterSize)
    return 0;
  CUdevice handle = 0;
  CudaResult result = api.cuDeviceGet(&handle, device);
  if (result == cuda::kSuccess)
    result = api.cuKernelSetAttribute(cuda::kFuncNonPortableClusterSizeAllowed, 1, kernel, handle);
  const CudaLaunchConfig config{{kMostClusterBlocks, 1, 1},
                                {static_cast<unsigned>(recipe.blockThreads), 1, 1},
                                static_cast<unsigned>(recipe.sharedBytes),
                                nullptr,
                                nullptr,
                                0};
  int most = 0;
  if (result == cuda::kSuccess)
    result = api.cuOccupancyMaxPotentialClusterSize(&most, reinterpret_cast<CUfunction>(kernel),
                                                    &config);
  WINNOW_CHECK(driver.check(result, ("asking for the clusters of kernel " + recipe.name).c_str()));
  return most;
}

Result<int> blocksAtOnce(const Driver &driver, const DeviceInfo &info, CUkernel kernel,
                         const Kernel &recipe) {
  const DriverApi &api = driver.api();
  if (!api.cuLaunchKernelEx || !api.cuOccupancyMaxActiveBlocksPerMultiprocessor)
    return 0;
  CUdevice handle = 0;
  CudaResult result = api.cuDeviceGet(&handle, info.index);
  int cooperates = 0, resident = 0;
  if (result == cuda::kSuccess)
    result = api.cuDeviceGetAttribute(&cooperates, cuda::kAttrCooperativeLaunch, handle);
  CUfunction function = nullptr;
  if (result == cuda::kSuccess)
    result = api.cuKernelGetFunction(&function, kernel);
  if (result == cuda::kSuccess)
    result = api.cuOccupancyMaxActiveBlocksPerMultiprocessor(
        &resident, function, recipe.blockThreads, recipe.sharedBytes);
  WINNOW_CHECK(driver.check(result, ("asking for the room of kernel " + recipe.name).c_str()));
  return cooperates != 0 ? resident * info.smCount : 0;
}

} // namespace winnow
