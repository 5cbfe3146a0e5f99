// The table of CUDA driver functions that Winnow calls, filled by dlsym. Names carry the version
// suffix that the library exports (cuMemAlloc_v2), so that no macro of cuda.h decides which ABI is
// meant.
#pragma once
#include "runtime/device/CudaTypes.h"

// X(name, parameters). Required: a driver that lacks one of these is too old.
#define WINNOW_DRIVER_FUNCTIONS(X)                                                                 \
  X(cuInit, (unsigned))                                                                            \
  X(cuDriverGetVersion, (int *))                                                                   \
  X(cuGetErrorName, (CudaResult, const char **))                                                   \
  X(cuGetErrorString, (CudaResult, const char **))                                                 \
  X(cuDeviceGetCount, (int *))                                                                     \
  X(cuDeviceGet, (CUdevice *, int))                                                                \
  X(cuDeviceGetName, (char *, int, CUdevice))                                                      \
  X(cuDeviceGetUuid_v2, (CudaUuid *, CUdevice))                                                    \
  X(cuDeviceGetAttribute, (int *, int, CUdevice))                                                  \
  X(cuDeviceTotalMem_v2, (size_t *, CUdevice))                                                     \
  X(cuDevicePrimaryCtxRetain, (CUcontext *, CUdevice))                                             \
  X(cuDevicePrimaryCtxRelease_v2, (CUdevice))                                                      \
  X(cuCtxSetCurrent, (CUcontext))                                                                  \
  X(cuCtxGetCurrent, (CUcontext *))                                                                \
  X(cuCtxGetDevice, (CUdevice *))                                                                  \
  X(cuCtxSynchronize, ())                                                                          \
  X(cuLibraryLoadData,                                                                             \
    (CUlibrary *, const void *, int *, void **, unsigned, int *, void **, unsigned))               \
  X(cuLibraryUnload, (CUlibrary))                                                                  \
  X(cuLibraryGetKernel, (CUkernel *, CUlibrary, const char *))                                     \
  X(cuKernelGetFunction, (CUfunction *, CUkernel))                                                 \
  X(cuKernelGetAttribute, (int *, int, CUkernel, CUdevice))                                        \
  X(cuKernelSetAttribute, (int, int, CUkernel, CUdevice))                                          \
  X(cuLaunchKernel, (CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,       \
                     unsigned, CUstream, void **, void **))                                        \
  X(cuMemAlloc_v2, (CUdeviceptr *, size_t))                                                        \
  X(cuMemFree_v2, (CUdeviceptr))                                                                   \
  X(cuMemGetInfo_v2, (size_t *, size_t *))                                                         \
  X(cuMemcpyHtoD_v2, (CUdeviceptr, const void *, size_t))                                          \
  X(cuMemcpyDtoH_v2, (void *, CUdeviceptr, size_t))                                                \
  X(cuMemsetD8Async, (CUdeviceptr, unsigned char, size_t, CUstream))                               \
  X(cuStreamCreate, (CUstream *, unsigned))                                                        \
  X(cuStreamDestroy_v2, (CUstream))                                                                \
  X(cuStreamSynchronize, (CUstream))                                                               \
  X(cuStreamBeginCapture_v2, (CUstream, int))                                                      \
  X(cuStreamEndCapture, (CUstream, CUgraph *))                                                     \
  X(cuGraphInstantiateWithFlags, (CUgraphExec *, CUgraph, unsigned long long))                     \
  X(cuGraphLaunch, (CUgraphExec, CUstream))                                                        \
  X(cuGraphExecDestroy, (CUgraphExec))                                                             \
  X(cuGraphDestroy, (CUgraph))                                                                     \
  X(cuEventCreate, (CUevent *, unsigned))                                                          \
  X(cuEventRecord, (CUevent, CUstream))                                                            \
  X(cuEventSynchronize, (CUevent))                                                                 \
  X(cuEventElapsedTime, (float *, CUevent, CUevent))                                               \
  X(cuEventDestroy_v2, (CUevent))

// Optional: null where the driver lacks them. cuFuncLoad (12.4) loads a kernel's code ahead of its
// first launch; cuLaunchKernelEx (11.8) starts a kernel early, cooperatively or in
// clusters, of which cuOccupancyMaxPotentialClusterSize tells the largest, as
// cuOccupancyMaxActiveBlocksPerMultiprocessor tells how many blocks of threads run at a time;
// cuTensorMapEncodeTiled (12.0) describes a tensor to Hopper's bulk copies.
#define WINNOW_OPTIONAL_DRIVER_FUNCTIONS(X)                                                        \
  X(cuFuncLoad, (CUfunction))                                                                      \
  X(cuLaunchKernelEx, (const CudaLaunchConfig *, CUfunction, void **, void **))                    \
  X(cuOccupancyMaxActiveBlocksPerMultiprocessor, (int *, CUfunction, int, size_t))                 \
  X(cuOccupancyMaxPotentialClusterSize, (int *, CUfunction, const CudaLaunchConfig *))             \
  X(cuTensorMapEncodeTiled, (void *, int, uint32_t, void *, const uint64_t *, const uint64_t *,    \
                             const uint32_t *, const uint32_t *, int, int, int, int))

namespace winnow {

struct DriverApi {
#define WINNOW_DECLARE(name, parameters) CudaResult(*name) parameters = nullptr;
  WINNOW_DRIVER_FUNCTIONS(WINNOW_DECLARE)
  WINNOW_OPTIONAL_DRIVER_FUNCTIONS(WINNOW_DECLARE)
#undef WINNOW_DECLARE
};

} // namespace winnow
