// Our own declarations of the CUDA driver types and constants that Winnow uses: the driver's ABI is
// stable, and neither building nor running may need a CUDA toolkit. tests/runtime compares every
// one of them with cuda.h where that exists.
#pragma once
#include <cstddef>
#include <cstdint>

// The same opaque handles as cuda.h declares, so that both headers may be included together.
using CUstream = struct CUstream_st *;
using CUevent = struct CUevent_st *;
using CUcontext = struct CUctx_st *;
using CUlibrary = struct CUlib_st *;
using CUkernel = struct CUkern_st *;
using CUfunction = struct CUfunc_st *;
using CUgraph = struct CUgraph_st *;
using CUgraphExec = struct CUgraphExec_st *;
using CUdeviceptr = unsigned long long;
using CUdevice = int;

namespace winnow {

/// CUresult and the driver's other enums, passed as int (same size and calling convention).
using CudaResult = int;

namespace cuda {
constexpr CudaResult kSuccess = 0;
constexpr CudaResult kOutOfMemory = 2;
constexpr CudaResult kDeinitialized = 4;
constexpr CudaResult kStubLibrary = 34;
constexpr CudaResult kNoDevice = 100;
constexpr CudaResult kInvalidDevice = 101;
constexpr CudaResult kInvalidImage = 200;
constexpr CudaResult kInvalidContext = 201;
constexpr CudaResult kNoBinaryForGpu = 209;
constexpr CudaResult kInvalidPtx = 218;
constexpr CudaResult kUnsupportedPtxVersion = 222;
constexpr CudaResult kInvalidSource = 300;
constexpr CudaResult kCooperativeLaunchTooLarge = 720;
constexpr CudaResult kNotFound = 500;

// CUdevice_attribute
constexpr int kAttrClockRate = 13;
constexpr int kAttrMultiprocessorCount = 16;
constexpr int kAttrMemoryClockRate = 36;
constexpr int kAttrL2CacheSize = 38;
constexpr int kAttrComputeCapabilityMajor = 75;
constexpr int kAttrComputeCapabilityMinor = 76;
constexpr int kAttrCooperativeLaunch = 95;
constexpr int kAttrMaxSharedPerBlockOptin = 97;
// CUfunction_attribute
constexpr int kFuncMaxThreadsPerBlock = 0;
constexpr int kFuncSharedSizeBytes = 1;
constexpr int kFuncLocalSizeBytes = 3;
constexpr int kFuncNumRegs = 4;
constexpr int kFuncMaxDynamicSharedBytes = 8;
constexpr int kFuncNonPortableClusterSizeAllowed = 14;
// CUtensorMapDataType, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion,
// CUtensorMapFloatOOBfill
constexpr int kTensorFloat16 = 6;
constexpr int kTensorBfloat16 = 9;
constexpr int kTensorNoInterleave = 0;
constexpr int kTensorSwizzle128 = 3;
constexpr int kTensorPromote256 = 3;
constexpr int kTensorFillZero = 0;
// CUstream_flags, CUevent_flags, CUstreamCaptureMode
constexpr unsigned kStreamNonBlocking = 1;
constexpr unsigned kEventDefault = 0;
constexpr int kCaptureModeThreadLocal = 1;
} // namespace cuda

/// CUlaunchAttribute and CUlaunchConfig.
struct CudaLaunchAttribute {
  int id;
  char padding[4];
  union {
    char bytes[64];
    int value;
    unsigned cluster[3];
  };
};
struct CudaLaunchConfig {
  unsigned grid[3], block[3], sharedBytes;
  CUstream stream;
  CudaLaunchAttribute *attributes;
  unsigned attributeCount;
};
namespace cuda {
// CUlaunchAttributeID
constexpr int kCooperative = 2;
constexpr int kClusterDimension = 4;
constexpr int kProgrammaticStreamSerialization = 6;
} // namespace cuda

struct CudaUuid {
  unsigned char bytes[16];
};

} // namespace winnow
