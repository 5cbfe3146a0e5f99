// The emulated GPU as a CUDA driver: the functions that runtime/device/DriverApi.h names, over host
// memory and emulated launches. The runtime opens it like libcuda.so.1, so that everything between
// a launch's arguments and its kernels (formulas, chunks, tensor maps, workspace) is what runs on a
// GPU. Devices: one per architecture level that kernels are printed for, by the facts of
// runtime/Target.
#include "emulator/DeviceMemory.h"
#include "emulator/Launch.h"
#include "emulator/TensorMap.h"
#include "runtime/device/CudaTypes.h"
#include "runtime/device/Target.h"
#include <array>
#include <chrono>
#include <cstring>
#include <fmt/format.h>
#include <mutex>
#include <vector>

using namespace winnow;
using namespace winnow::emulator;

namespace {

constexpr CudaResult kLaunchFailed = 719, kTooLarge = 720, kNotSupported = 801, kInvalidValue = 1,
                     kInvalidClusterSize = 912;
constexpr int kNonPortableClusters = 14; // CUfunction_attribute
constexpr int kClusterDimension = 4;     // CUlaunchAttributeID
constexpr unsigned kPortableClusterBlocks = 8;
/// Few, so that persistent kernels go through several rounds.
constexpr int kMultiprocessors = 3;

std::recursive_mutex mutex;
thread_local int currentDevice = -1;
uint64_t launches = 0;

/// The last fault, for cuGetErrorString.
std::string &lastFault() {
  static auto *text = new std::string;
  return *text;
}

struct Moment {
  std::chrono::steady_clock::time_point at;
};

const std::vector<Target> &devices() { return targets(); }

} // namespace

#define DRIVER extern "C" __attribute__((visibility("default")))
#define LOCKED std::lock_guard<std::recursive_mutex> lock(mutex)

DRIVER CudaResult cuInit(unsigned) { return 0; }
DRIVER CudaResult cuDriverGetVersion(int *version) {
  *version = 13000;
  return 0;
}
DRIVER CudaResult cuGetErrorName(CudaResult result, const char **name) {
  *name = result == kLaunchFailed ? "EMULATED_FAULT" : "EMULATED_ERROR";
  return 0;
}
DRIVER CudaResult cuGetErrorString(CudaResult result, const char **text) {
  *text = lastFault().empty() || result == kNotSupported ? "the emulated driver refused the call"
                                                         : lastFault().c_str();
  return 0;
}
DRIVER CudaResult cuDeviceGetCount(int *count) {
  *count = static_cast<int>(devices().size());
  return 0;
}
DRIVER CudaResult cuDeviceGet(CUdevice *device, int index) {
  if (index < 0 || index >= static_cast<int>(devices().size()))
    return cuda::kInvalidDevice;
  *device = index;
  return 0;
}
DRIVER CudaResult cuDeviceGetName(char *name, int size, CUdevice device) {
  std::snprintf(name, size, "emulated %s", devices()[device].arch);
  return 0;
}
DRIVER CudaResult cuDeviceGetUuid_v2(CudaUuid *uuid, CUdevice device) {
  std::memset(uuid, 0xe0 + device, sizeof(*uuid));
  return 0;
}
DRIVER CudaResult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
  const Target &target = devices()[device];
  switch (attribute) {
  case cuda::kAttrComputeCapabilityMajor:
    *value = target.major;
    return 0;
  case cuda::kAttrComputeCapabilityMinor:
    *value = target.minor;
    return 0;
  case cuda::kAttrMaxSharedPerBlockOptin:
    *value = target.sharedPerBlock;
    return 0;
  case cuda::kAttrMultiprocessorCount:
    *value = kMultiprocessors;
    return 0;
  default:
    *value = 1000000;
    return 0;
  }
}
DRIVER CudaResult cuDeviceTotalMem_v2(size_t *bytes, CUdevice) {
  *bytes = size_t(16) << 30;
  return 0;
}
DRIVER CudaResult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  *context = reinterpret_cast<CUcontext>(static_cast<uintptr_t>(device + 1));
  return 0;
}
DRIVER CudaResult cuDevicePrimaryCtxRelease_v2(CUdevice) { return 0; }
DRIVER CudaResult cuCtxSetCurrent(CUcontext context) {
  currentDevice = static_cast<int>(reinterpret_cast<uintptr_t>(context)) - 1;
  return 0;
}
DRIVER CudaResult cuCtxGetCurrent(CUcontext *context) {
  *context = reinterpret_cast<CUcontext>(static_cast<uintptr_t>(currentDevice + 1));
  return 0;
}
DRIVER CudaResult cuCtxGetDevice(CUdevice *device) {
  *device = currentDevice;
  return currentDevice < 0 ? cuda::kInvalidContext : 0;
}
DRIVER CudaResult cuCtxSynchronize() { return 0; }

//===-- Kernels -------------------------------------------------------------------------------===//

DRIVER CudaResult cuLibraryLoadData(CUlibrary *library, const void *code, int *, void **, unsigned,
                                    int *, void **, unsigned) {
  LOCKED;
  // The image says how long it is: the section table of an ELF file lies at its end.
  uint64_t sections = 0;
  uint16_t size = 0, count = 0;
  const auto *bytes = static_cast<const unsigned char *>(code);
  if (std::memcmp(bytes, "\177ELF", 4) != 0)
    return cuda::kInvalidImage;
  std::memcpy(&sections, bytes + 40, 8);
  std::memcpy(&size, bytes + 58, 2);
  std::memcpy(&count, bytes + 60, 2);
  auto *kernel = new LoadedKernel;
  lastFault() = loadObject(
      std::string(reinterpret_cast<const char *>(code), sections + uint64_t(size) * count),
      *kernel);
  if (!lastFault().empty()) {
    delete kernel;
    return cuda::kInvalidImage;
  }
  *library = reinterpret_cast<CUlibrary>(kernel);
  return 0;
}
DRIVER CudaResult cuLibraryUnload(CUlibrary library) {
  LOCKED;
  auto *kernel = reinterpret_cast<LoadedKernel *>(library);
  unload(*kernel);
  delete kernel;
  return 0;
}
DRIVER CudaResult cuLibraryGetKernel(CUkernel *handle, CUlibrary library, const char *name) {
  LOCKED;
  auto *kernel = reinterpret_cast<LoadedKernel *>(library);
  lastFault() = findKernel(*kernel, name);
  *handle = reinterpret_cast<CUkernel>(kernel);
  return lastFault().empty() ? 0 : cuda::kNotFound;
}
DRIVER CudaResult cuKernelGetFunction(CUfunction *function, CUkernel kernel) {
  *function = reinterpret_cast<CUfunction>(kernel);
  return 0;
}
DRIVER CudaResult cuFuncLoad(CUfunction) { return 0; }
DRIVER CudaResult cuKernelGetAttribute(int *value, int, CUkernel, CUdevice) {
  *value = 0;
  return 0;
}
DRIVER CudaResult cuKernelSetAttribute(int attribute, int value, CUkernel kernel, CUdevice device) {
  if (attribute == cuda::kFuncMaxDynamicSharedBytes) {
    if (value > devices()[device].sharedPerBlock)
      return kInvalidValue;
    reinterpret_cast<LoadedKernel *>(kernel)->sharedBytes = value;
  }
  if (attribute == kNonPortableClusters)
    reinterpret_cast<LoadedKernel *>(kernel)->allowsLargeClusters = value != 0;
  return 0;
}
/// The most blocks that a cluster of the kernel may have.
static unsigned mostClusterBlocks(const LoadedKernel &kernel) {
  return kernel.allowsLargeClusters ? kMostClusterBlocks : kPortableClusterBlocks;
}
/// What a launch asks for, where the kernel and the GPU can do it. An early start changes nothing:
/// here a kernel begins when the one before it has ended.
static CudaResult shapeOf(const CudaLaunchConfig &config, const LoadedKernel &kernel,
                          LaunchShape &shape) {
  std::array<unsigned, 3> cluster = {1, 1, 1};
  bool cooperative = false;
  for (unsigned i = 0; i < config.attributeCount; ++i) {
    const CudaLaunchAttribute &attribute = config.attributes[i];
    if (attribute.id == kClusterDimension)
      std::memcpy(cluster.data(), attribute.bytes, sizeof(cluster));
    else if (attribute.id == cuda::kCooperative)
      cooperative = attribute.value != 0;
    else if (attribute.id != cuda::kProgrammaticStreamSerialization)
      return kNotSupported;
  }
  const unsigned *grid = config.grid, *block = config.block;
  if (grid[0] == 0 || grid[1] == 0 || grid[2] != 1 || block[0] == 0 || block[0] > 1024 ||
      block[1] != 1 || block[2] != 1 || static_cast<int>(config.sharedBytes) > kernel.sharedBytes)
    return kInvalidValue;
  if (cluster[0] == 0 || cluster[1] == 0 || cluster[2] != 1 || grid[0] % cluster[0] != 0 ||
      grid[1] % cluster[1] != 0)
    return kInvalidValue;
  if (cooperative) {
    if (uint64_t(grid[0]) * grid[1] > kMultiprocessors)
      return kTooLarge;
    cluster = {grid[0], grid[1], 1};
  }
  shape = {grid[0],
           grid[1],
           cluster[0],
           cluster[1],
           static_cast<int>(block[0]),
           static_cast<int>(config.sharedBytes),
           cooperative};
  return !cooperative && uint64_t(cluster[0]) * cluster[1] > mostClusterBlocks(kernel)
             ? kInvalidClusterSize
             : 0;
}
DRIVER CudaResult cuLaunchKernelEx(const CudaLaunchConfig *config, CUfunction function,
                                   void **arguments, void **) {
  LOCKED;
  const auto &kernel = *reinterpret_cast<LoadedKernel *>(function);
  LaunchShape shape;
  if (CudaResult refused = shapeOf(*config, kernel, shape))
    return refused;
  lastFault() = launch(kernel, shape, *static_cast<const Params *>(arguments[0]), ++launches);
  return lastFault().empty() ? 0 : kLaunchFailed;
}
DRIVER CudaResult cuLaunchKernel(CUfunction function, unsigned gridX, unsigned gridY,
                                 unsigned gridZ, unsigned blockX, unsigned blockY, unsigned blockZ,
                                 unsigned sharedBytes, CUstream stream, void **arguments,
                                 void **extra) {
  const CudaLaunchConfig config{
      {gridX, gridY, gridZ}, {blockX, blockY, blockZ}, sharedBytes, stream, nullptr, 0};
  return cuLaunchKernelEx(&config, function, arguments, extra);
}
/// One, so that a cooperative grid has a block of threads on each multiprocessor.
DRIVER CudaResult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction, int,
                                                              size_t) {
  *blocks = 1;
  return 0;
}
DRIVER CudaResult cuOccupancyMaxPotentialClusterSize(int *size, CUfunction function,
                                                     const CudaLaunchConfig *) {
  LOCKED;
  *size = static_cast<int>(mostClusterBlocks(*reinterpret_cast<LoadedKernel *>(function)));
  return 0;
}
DRIVER CudaResult cuTensorMapEncodeTiled(void *map, int, uint32_t rank, void *base,
                                         const uint64_t *extents, const uint64_t *strides,
                                         const uint32_t *box, const uint32_t *steps, int interleave,
                                         int swizzle, int, int) {
  TensorMapContent content;
  if (rank < 2 || rank > 5 || interleave != cuda::kTensorNoInterleave ||
      swizzle != cuda::kTensorSwizzle128 || reinterpret_cast<uintptr_t>(base) % 16 != 0)
    return kInvalidValue;
  content.magic = kTensorMapMagic;
  content.base = static_cast<const unsigned char *>(base);
  content.rank = rank;
  for (uint32_t d = 0; d < rank; ++d) {
    if (box[d] < 1 || box[d] > 256 || steps[d] != 1 || extents[d] < 1)
      return kInvalidValue;
    content.extents[d] = static_cast<uint32_t>(extents[d]);
    content.box[d] = box[d];
    if (d > 0 && strides[d - 1] % 16 != 0)
      return kInvalidValue;
    if (d > 0)
      content.strides[d - 1] = strides[d - 1];
  }
  std::memcpy(map, &content, sizeof(content));
  return 0;
}

//===-- Memory, streams, events ---------------------------------------------------------------===//

DRIVER CudaResult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
  LOCKED;
  void *memory = allocateDevice(bytes);
  *address = reinterpret_cast<CUdeviceptr>(memory);
  return memory ? 0 : cuda::kOutOfMemory;
}
DRIVER CudaResult cuMemFree_v2(CUdeviceptr address) {
  LOCKED;
  return freeDevice(reinterpret_cast<void *>(address)) ? 0 : kInvalidValue;
}
DRIVER CudaResult cuMemGetInfo_v2(size_t *free, size_t *total) {
  *total = size_t(16) << 30;
  *free = *total - allocatedBytes();
  return 0;
}
DRIVER CudaResult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) {
  LOCKED;
  if (!isDeviceMemory(reinterpret_cast<void *>(to), bytes))
    return kInvalidValue;
  std::memcpy(reinterpret_cast<void *>(to), from, bytes);
  return 0;
}
DRIVER CudaResult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) {
  LOCKED;
  if (!isDeviceMemory(reinterpret_cast<void *>(from), bytes))
    return kInvalidValue;
  std::memcpy(to, reinterpret_cast<void *>(from), bytes);
  return 0;
}
DRIVER CudaResult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream) {
  LOCKED;
  if (!isDeviceMemory(reinterpret_cast<void *>(to), bytes))
    return kInvalidValue;
  std::memset(reinterpret_cast<void *>(to), value, bytes);
  return 0;
}
DRIVER CudaResult cuStreamCreate(CUstream *stream, unsigned) {
  *stream = reinterpret_cast<CUstream>(new Moment);
  return 0;
}
DRIVER CudaResult cuStreamDestroy_v2(CUstream stream) {
  delete reinterpret_cast<Moment *>(stream);
  return 0;
}
DRIVER CudaResult cuStreamSynchronize(CUstream) { return 0; }
DRIVER CudaResult cuStreamBeginCapture_v2(CUstream, int) { return kNotSupported; }
DRIVER CudaResult cuStreamEndCapture(CUstream, CUgraph *) { return kNotSupported; }
DRIVER CudaResult cuGraphInstantiateWithFlags(CUgraphExec *, CUgraph, unsigned long long) {
  return kNotSupported;
}
DRIVER CudaResult cuGraphLaunch(CUgraphExec, CUstream) { return kNotSupported; }
DRIVER CudaResult cuGraphExecDestroy(CUgraphExec) { return kNotSupported; }
DRIVER CudaResult cuGraphDestroy(CUgraph) { return kNotSupported; }
DRIVER CudaResult cuEventCreate(CUevent *event, unsigned) {
  *event = reinterpret_cast<CUevent>(new Moment);
  return 0;
}
DRIVER CudaResult cuEventRecord(CUevent event, CUstream) {
  reinterpret_cast<Moment *>(event)->at = std::chrono::steady_clock::now();
  return 0;
}
DRIVER CudaResult cuEventSynchronize(CUevent) { return 0; }
DRIVER CudaResult cuEventElapsedTime(float *milliseconds, CUevent from, CUevent to) {
  *milliseconds = std::chrono::duration<float, std::milli>(reinterpret_cast<Moment *>(to)->at -
                                                           reinterpret_cast<Moment *>(from)->at)
                      .count();
  return 0;
}
DRIVER CudaResult cuEventDestroy_v2(CUevent event) {
  delete reinterpret_cast<Moment *>(event);
  return 0;
}
