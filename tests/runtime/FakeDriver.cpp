// The library side of FakeDriver.h. Code that it is given to load is a test's image (see
// TestSupport.h): 64 bytes of ELF header, then "kernel:NAME". FAKE_OLD leaves out what came with
// CUDA 12, FAKE_STUB answers as the toolkit's stub does.
#include "FakeDriver.h"
#include "runtime/device/CudaTypes.h"
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

using winnow::CudaResult;
using winnow::CudaUuid;
namespace cuda = winnow::cuda;

namespace {

constexpr CudaResult kIllegalAddress = 700, kCaptureUnsupported = 900, kCaptureInvalidated = 901;

struct Library {
  std::string kernel;
};

/// The launches of a capture: a graph, and what was made of it.
using Graph = std::vector<Params>;

std::recursive_mutex mutex;
// Never destroyed: threads of a process that exits may still be calling.
auto &allocations = *new std::map<CUdeviceptr, size_t>; ///< that live, with their sizes
Graph *capture = nullptr;                               ///< that goes on
std::atomic<bool> dead{false}; // after exit handlers have run, as with the real driver
struct DiesAtExit {
  ~DiesAtExit() { dead = true; }
} diesAtExit;
thread_local int currentDevice = -1;

FakeState &state() {
  static FakeState *instance = new FakeState; // outlives every exit handler
  return *instance;
}

/// Counts the call; nonzero = fail with this code.
CudaResult enter(const char *function) {
  if (dead)
    return cuda::kDeinitialized;
  ++state().calls[function];
  auto it = state().failOnce.find(function);
  if (it == state().failOnce.end())
    return cuda::kSuccess;
  CudaResult code = it->second;
  state().failOnce.erase(it);
  return code;
}

/// What must not be called while the thread captures (CU_STREAM_CAPTURE_MODE_THREAD_LOCAL): it
/// ends the capture with an error.
bool breaksCapture() {
  if (!capture)
    return false;
  delete capture;
  capture = nullptr;
  return true;
}

/// Whether a kernel of these arguments would read and write memory that is still there.
bool isAlive(const Params &params) {
  std::vector<const void *> pointers = {params.q,   params.k,   params.v,    params.out,
                                        params.lse, params.ids, params.cu_q, params.cu_k};
  pointers.insert(pointers.end(), std::begin(params.buffer), std::end(params.buffer));
  for (const void *pointer : pointers) {
    auto address = reinterpret_cast<CUdeviceptr>(pointer);
    auto after = allocations.upper_bound(address);
    if (pointer && (after == allocations.begin() ||
                    std::prev(after)->first + std::prev(after)->second <= address))
      return false;
  }
  return true;
}

int deviceCount() { return static_cast<int>(state().devices.size()); }
Library *libraryOf(CUkernel kernel) { return reinterpret_cast<Library *>(kernel); }

} // namespace

#define FAKE extern "C" __attribute__((visibility("default")))
#define ENTER                                                                                      \
  std::lock_guard<std::recursive_mutex> lock(mutex);                                               \
  if (CudaResult code = enter(__func__))                                                           \
  return code

FAKE FakeState *fakeState() { return &state(); }

FAKE CudaResult cuInit(unsigned) {
  ENTER;
#ifdef FAKE_STUB
  return cuda::kStubLibrary;
#endif
  return state().initResult;
}
FAKE CudaResult cuDriverGetVersion(int *version) {
#ifdef FAKE_OLD
  *version = 11040;
#else
  *version = state().version;
#endif
  return 0;
}
FAKE CudaResult cuGetErrorName(CudaResult, const char **name) {
  *name = "CUDA_ERROR_FAKE";
  return 0;
}
FAKE CudaResult cuGetErrorString(CudaResult, const char **text) {
  *text = "made up by the fake driver";
  return 0;
}
FAKE CudaResult cuDeviceGetCount(int *count) {
  ENTER;
  *count = deviceCount();
  return 0;
}
FAKE CudaResult cuDeviceGet(CUdevice *device, int index) {
  ENTER;
  if (index < 0 || index >= deviceCount())
    return cuda::kInvalidDevice;
  *device = index;
  return 0;
}
FAKE CudaResult cuDeviceGetName(char *name, int size, CUdevice device) {
  ENTER;
  std::strncpy(name, state().devices[device].name.c_str(), size);
  return 0;
}
FAKE CudaResult cuDeviceGetUuid_v2(CudaUuid *uuid, CUdevice device) {
  ENTER;
  std::memset(uuid, 0xa0 + device, sizeof(*uuid));
  return 0;
}
FAKE CudaResult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
  ENTER;
  const FakeDevice &d = state().devices[device];
  switch (attribute) {
  case cuda::kAttrComputeCapabilityMajor:
    *value = d.major;
    break;
  case cuda::kAttrComputeCapabilityMinor:
    *value = d.minor;
    break;
  case cuda::kAttrMaxSharedPerBlockOptin:
    *value = d.sharedPerBlock;
    break;
  case cuda::kAttrMultiprocessorCount:
    *value = 108;
    break;
  case cuda::kAttrCooperativeLaunch:
    *value = state().cooperates;
    break;
  case cuda::kAttrL2CacheSize:
    *value = 40 << 20;
    break;
  default:
    *value = 1000000;
  }
  return 0;
}
FAKE CudaResult cuDeviceTotalMem_v2(size_t *bytes, CUdevice) {
  ENTER;
  *bytes = size_t(80) << 30;
  return 0;
}
FAKE CudaResult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  ENTER;
  *context = reinterpret_cast<CUcontext>(static_cast<uintptr_t>(device + 1));
  return 0;
}
FAKE CudaResult cuDevicePrimaryCtxRelease_v2(CUdevice) {
  ENTER;
  return 0;
}
FAKE CudaResult cuCtxSetCurrent(CUcontext context) {
  ENTER;
  currentDevice = static_cast<int>(reinterpret_cast<uintptr_t>(context)) - 1;
  return 0;
}
FAKE CudaResult cuCtxGetCurrent(CUcontext *context) {
  ENTER;
  *context = reinterpret_cast<CUcontext>(static_cast<uintptr_t>(currentDevice + 1));
  return 0;
}
FAKE CudaResult cuCtxGetDevice(CUdevice *device) {
  ENTER;
  *device = currentDevice;
  return currentDevice < 0 ? cuda::kInvalidContext : 0;
}
FAKE CudaResult cuCtxSynchronize() {
  ENTER;
  return 0;
}

#ifndef FAKE_OLD
FAKE CudaResult cuLibraryLoadData(CUlibrary *library, const void *code, int *, void **, unsigned,
                                  int *, void **, unsigned) {
  ENTER;
#ifdef FAKE_ANY // takes real images; their kernels do nothing
  ++state().liveLibraries;
  *library = reinterpret_cast<CUlibrary>(new Library{""});
  return 0;
#endif
  const char *text = static_cast<const char *>(code);
  if (std::strncmp(text,
                   "\x7f"
                   "ELF",
                   4) == 0)
    text += 64;
  else if (const char *marker = std::strstr(text, "kernel:"))
    text = marker; // PTX
  if (state().refuseImages || std::strncmp(text, "kernel:", 7) != 0)
    return cuda::kInvalidImage;
  ++state().liveLibraries;
  *library = reinterpret_cast<CUlibrary>(new Library{text + 7});
  return 0;
}
FAKE CudaResult cuLibraryUnload(CUlibrary library) {
  ENTER;
  --state().liveLibraries;
  delete reinterpret_cast<Library *>(library);
  return 0;
}
FAKE CudaResult cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name) {
  ENTER;
#ifdef FAKE_ANY
  reinterpret_cast<Library *>(library)->kernel = name;
#endif
  if (reinterpret_cast<Library *>(library)->kernel != name)
    return cuda::kNotFound;
  *kernel = reinterpret_cast<CUkernel>(library);
  return 0;
}
FAKE CudaResult cuKernelGetFunction(CUfunction *function, CUkernel kernel) {
  ENTER;
  *function = reinterpret_cast<CUfunction>(kernel);
  return 0;
}
FAKE CudaResult cuKernelGetAttribute(int *value, int, CUkernel, CUdevice) {
  ENTER;
  *value = 0;
  return 0;
}
FAKE CudaResult cuKernelSetAttribute(int attribute, int value, CUkernel kernel, CUdevice device) {
  ENTER;
  if (attribute == cuda::kFuncNonPortableClusterSizeAllowed)
    return value == 1 ? 0 : 1;
  if (attribute != cuda::kFuncMaxDynamicSharedBytes ||
      value > state().devices[device].sharedPerBlock)
    return 1;
  state().dynamicShared[{libraryOf(kernel)->kernel, device}] = value;
  return 0;
}
FAKE CudaResult cuTensorMapEncodeTiled(void *map, int type, uint32_t rank, void *tensor,
                                       const uint64_t *extents, const uint64_t *strides,
                                       const uint32_t *box, const uint32_t *, int, int, int, int) {
  ENTER;
  // What a test can read back from the launch's params: the arguments, in order.
  auto *words = static_cast<uint64_t *>(map);
  words[0] = type, words[1] = rank, words[2] = reinterpret_cast<uint64_t>(tensor);
  for (uint32_t d = 0; d < rank && 3 + 3 * d + 2 < 16; ++d) {
    words[3 + 3 * d] = extents[d];
    words[4 + 3 * d] = d + 1 < rank ? strides[d] : 0;
    words[5 + 3 * d] = box[d];
  }
  return 0;
}
FAKE CudaResult cuFuncLoad(CUfunction) {
  ENTER;
  return 0;
}
#endif

static CudaResult record(CUfunction function, const unsigned (&grid)[3], unsigned threads,
                         unsigned shared, CUstream stream, void **params, bool early,
                         unsigned cluster, bool cooperative = false) {
  FakeLaunch launch{reinterpret_cast<Library *>(function)->kernel,
                    grid[0],
                    grid[1],
                    grid[2],
                    threads,
                    shared,
                    stream,
                    currentDevice,
                    {},
                    early,
                    cluster,
                    cooperative};
  std::memcpy(&launch.params, params[0], sizeof(Params));
  if (capture)
    capture->push_back(launch.params);
  state().launches.push_back(launch);
  return 0;
}
FAKE CudaResult cuLaunchKernel(CUfunction function, unsigned gridX, unsigned gridY, unsigned gridZ,
                               unsigned blockX, unsigned, unsigned, unsigned shared,
                               CUstream stream, void **params, void **) {
  if (!state().records)
    return 0;
  ENTER;
  return record(function, {gridX, gridY, gridZ}, blockX, shared, stream, params, false, 1);
}
#ifndef FAKE_OLD
FAKE CudaResult cuLaunchKernelEx(const winnow::CudaLaunchConfig *config, CUfunction function,
                                 void **params, void **) {
  if (!state().records)
    return 0;
  ENTER;
  bool early = false, cooperative = false;
  unsigned cluster = 1;
  for (unsigned i = 0; i < config->attributeCount; ++i) {
    const winnow::CudaLaunchAttribute &attribute = config->attributes[i];
    early |= attribute.id == cuda::kProgrammaticStreamSerialization && attribute.value == 1;
    cooperative |= attribute.id == cuda::kCooperative && attribute.value == 1;
    if (attribute.id == cuda::kClusterDimension)
      cluster = attribute.cluster[0] * attribute.cluster[1] * attribute.cluster[2];
  }
  if (cooperative && state().refusesGrids)
    return cuda::kCooperativeLaunchTooLarge;
  return record(function, config->grid, config->block[0], config->sharedBytes, config->stream,
                params, early, cluster, cooperative);
}
FAKE CudaResult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction, int, size_t) {
  ENTER;
  *blocks = state().resident;
  return 0;
}
FAKE CudaResult cuOccupancyMaxPotentialClusterSize(int *most, CUfunction,
                                                   const winnow::CudaLaunchConfig *) {
  ENTER;
  *most = state().clusterLimit;
  return 0;
}
#endif
FAKE CudaResult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes) {
  ENTER;
  if (breaksCapture())
    return kCaptureUnsupported;
  void *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (!memory)
    return cuda::kOutOfMemory;
  ++state().liveAllocations;
  *pointer = reinterpret_cast<CUdeviceptr>(memory);
  allocations[*pointer] = bytes;
  return 0;
}
FAKE CudaResult cuMemFree_v2(CUdeviceptr pointer) {
  ENTER;
  --state().liveAllocations;
  allocations.erase(pointer);
  std::free(reinterpret_cast<void *>(pointer));
  return 0;
}
FAKE CudaResult cuMemGetInfo_v2(size_t *free, size_t *total) {
  ENTER;
  *free = *total = size_t(80) << 30;
  return 0;
}
FAKE CudaResult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) {
  ENTER;
  if (breaksCapture())
    return kCaptureUnsupported;
  std::memcpy(reinterpret_cast<void *>(to), from, bytes);
  return 0;
}
FAKE CudaResult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) {
  ENTER;
  if (breaksCapture())
    return kCaptureUnsupported;
  std::memcpy(to, reinterpret_cast<void *>(from), bytes);
  return 0;
}
FAKE CudaResult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream) {
  ENTER;
  std::memset(reinterpret_cast<void *>(to), value, bytes);
  return 0;
}
// Streams and events hold nothing here: any non-null handle serves.
#define FAKE_HANDLE(name, type, ...)                                                               \
  FAKE CudaResult name(type *handle __VA_ARGS__) {                                                 \
    ENTER;                                                                                         \
    *handle = reinterpret_cast<type>(uintptr_t(0x100));                                            \
    return 0;                                                                                      \
  }
#define FAKE_NOTHING(name, ...)                                                                    \
  FAKE CudaResult name(__VA_ARGS__) {                                                              \
    ENTER;                                                                                         \
    return 0;                                                                                      \
  }
FAKE_HANDLE(cuStreamCreate, CUstream, , unsigned)
FAKE_HANDLE(cuEventCreate, CUevent, , unsigned)
FAKE_NOTHING(cuStreamDestroy_v2, CUstream)
FAKE_NOTHING(cuEventRecord, CUevent, CUstream)
FAKE_NOTHING(cuEventSynchronize, CUevent)
FAKE_NOTHING(cuEventDestroy_v2, CUevent)
FAKE CudaResult cuStreamSynchronize(CUstream) {
  ENTER;
  return breaksCapture() ? kCaptureUnsupported : 0;
}
FAKE CudaResult cuStreamBeginCapture_v2(CUstream stream, int) {
  ENTER;
  if (!stream || capture)
    return kCaptureUnsupported; // the default stream cannot be captured
  capture = new Graph;
  return 0;
}
FAKE CudaResult cuStreamEndCapture(CUstream, CUgraph *graph) {
  ENTER;
  *graph = reinterpret_cast<CUgraph>(capture);
  capture = nullptr;
  return *graph ? 0 : kCaptureInvalidated;
}
FAKE CudaResult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long) {
  ENTER;
  *exec = reinterpret_cast<CUgraphExec>(new Graph(*reinterpret_cast<Graph *>(graph)));
  return 0;
}
FAKE CudaResult cuGraphLaunch(CUgraphExec exec, CUstream) {
  ENTER;
  while (std::getenv("FAKE_GRAPH_HANGS") != nullptr)
    std::this_thread::sleep_for(std::chrono::seconds(1));
  for (const Params &params : *reinterpret_cast<Graph *>(exec))
    if (!isAlive(params))
      return kIllegalAddress;
  return 0;
}
FAKE CudaResult cuGraphExecDestroy(CUgraphExec exec) {
  ENTER;
  delete reinterpret_cast<Graph *>(exec);
  return 0;
}
FAKE CudaResult cuGraphDestroy(CUgraph graph) {
  ENTER;
  delete reinterpret_cast<Graph *>(graph);
  return 0;
}
FAKE CudaResult cuEventElapsedTime(float *milliseconds, CUevent, CUevent) {
  ENTER;
  // FAKE_MILLISECONDS: a list, one number for each call, from the first one again behind the last.
  static const char *list = std::getenv("FAKE_MILLISECONDS"), *next = list;
  *milliseconds = 1.5f;
  if (!list)
    return 0;
  char *end = nullptr;
  *milliseconds = std::strtof(next, &end);
  next = *end == ',' ? end + 1 : list;
  return 0;
}
