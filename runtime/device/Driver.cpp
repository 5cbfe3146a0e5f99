// Opens libcuda by dlopen, checks that it is a real and new enough driver, and describes its
// devices. The library is never closed and contexts are released only while the driver still lives:
// exit with live handles is fine (F34).
#include "runtime/device/Driver.h"
#include "runtime/Environment.h"
#include "runtime/device/LibraryPath.h"
#include <dlfcn.h>
#include <fmt/format.h>

namespace winnow {

namespace {

constexpr int kOldestVersion =
    12000; // context-independent loading (cuLibraryLoadData) came with CUDA 12.0

std::string versionText(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

std::string uuidText(const CudaUuid &uuid) {
  std::string text = "GPU";
  for (int i = 0; i < 16; ++i)
    text += fmt::format("{}{:02x}", i == 0 || i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                        uuid.bytes[i]);
  return text;
}

} // namespace

Result<std::shared_ptr<Driver>> Driver::open(const std::string &path) {
  std::string chosen = path.empty() ? environmentValue(EnvironmentVariable::WinnowLibcuda) : path;
  std::vector<std::string> candidates = {chosen};
  if (chosen.empty())
    candidates = {"libcuda.so.1",
                  "/usr/lib/wsl/lib/libcuda.so.1"}; // the second is where WSL keeps it
  void *library = nullptr;
  std::string reason;
  for (const std::string &candidate : candidates) {
    // A bare name is the system loader's business; a path is looked at before its code runs.
    Result<std::string> file = candidate;
    if (candidate.find('/') != std::string::npos)
      file = trustedLibrary(candidate);
    if (!file) {
      reason = reason.empty() ? file.error().message : reason;
      continue;
    }
    library = dlopen(file->c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library) {
      chosen = candidate;
      break;
    }
    if (reason.empty())
      reason = dlerror();
  }
  if (!library)
    return fail(
        ErrorKind::DeviceFailed,
        fmt::format("no CUDA driver: {}; install an NVIDIA driver, or run on the CPU", reason));

  std::shared_ptr<Driver> driver(new Driver);
  driver->libraryPath = chosen;
  WINNOW_CHECK(driver->loadFunctions(library));
  CudaResult initialised = driver->functions.cuInit(0);
  if (initialised == cuda::kStubLibrary)
    return fail(
        ErrorKind::DeviceFailed,
        fmt::format(
            "no CUDA driver: {} is the toolkit's stub, made for linking only; install an NVIDIA "
            "driver, or run on the CPU",
            chosen));
  if (initialised == cuda::kNoDevice)
    return fail(ErrorKind::DeviceFailed,
                "the CUDA driver finds no GPU (CUDA_VISIBLE_DEVICES may hide them)");
  WINNOW_CHECK(driver->check(initialised, "starting the CUDA driver (cuInit)"));
  WINNOW_CHECK(driver->listDevices());
  return driver;
}

Status Driver::loadFunctions(void *library) {
  auto symbol = [&](const char *name) { return dlsym(library, name); };
  // The version comes first: a missing function is explained by it.
  if (auto getVersion = reinterpret_cast<CudaResult (*)(int *)>(symbol("cuDriverGetVersion")))
    getVersion(&versionNumber);
  std::string missing;
#define WINNOW_LOAD(name, parameters)                                                              \
  functions.name = reinterpret_cast<decltype(functions.name)>(symbol(#name));                      \
  if (!functions.name && missing.empty())                                                          \
    missing = #name;
  WINNOW_DRIVER_FUNCTIONS(WINNOW_LOAD)
#undef WINNOW_LOAD
#define WINNOW_LOAD(name, parameters)                                                              \
  functions.name = reinterpret_cast<decltype(functions.name)>(symbol(#name));
  WINNOW_OPTIONAL_DRIVER_FUNCTIONS(WINNOW_LOAD)
#undef WINNOW_LOAD
  if (!missing.empty() || versionNumber < kOldestVersion)
    return fail(ErrorKind::DeviceFailed,
                fmt::format("the CUDA driver {} serves CUDA {}{}; Winnow needs {} or newer: update "
                            "the NVIDIA driver",
                            libraryPath, versionText(versionNumber),
                            missing.empty() ? "" : fmt::format(" and lacks {}", missing),
                            versionText(kOldestVersion)));
  return {};
}

Status Driver::listDevices() {
  int count = 0;
  WINNOW_CHECK(check(functions.cuDeviceGetCount(&count), "counting GPUs"));
  if (count == 0)
    return fail(ErrorKind::DeviceFailed,
                "the CUDA driver finds no GPU (CUDA_VISIBLE_DEVICES may hide them)");
  for (int i = 0; i < count; ++i) {
    CUdevice handle = 0;
    WINNOW_CHECK(check(functions.cuDeviceGet(&handle, i), "opening a GPU"));
    DeviceInfo info;
    info.index = i;
    char name[256] = {0};
    CudaUuid uuid{};
    CudaResult result = functions.cuDeviceGetName(name, sizeof(name) - 1, handle);
    if (result == cuda::kSuccess)
      result = functions.cuDeviceGetUuid_v2(&uuid, handle);
    if (result == cuda::kSuccess)
      result = functions.cuDeviceTotalMem_v2(&info.memoryBytes, handle);
    const struct {
      int attribute;
      int *value;
    } attributes[] = {
        {cuda::kAttrComputeCapabilityMajor, &info.major},
        {cuda::kAttrComputeCapabilityMinor, &info.minor},
        {cuda::kAttrMultiprocessorCount, &info.smCount},
        {cuda::kAttrL2CacheSize, &info.l2Bytes},
        {cuda::kAttrMaxSharedPerBlockOptin, &info.sharedPerBlock},
        {cuda::kAttrClockRate, &info.clockKhz},
        {cuda::kAttrMemoryClockRate, &info.memoryClockKhz},
    };
    for (const auto &[attribute, value] : attributes)
      if (result == cuda::kSuccess)
        result = functions.cuDeviceGetAttribute(value, attribute, handle);
    WINNOW_CHECK(check(result, "asking a GPU for its properties"));
    info.name = name;
    info.uuid = uuidText(uuid);
    deviceList.push_back(std::move(info));
    handles.push_back(handle);
  }
  contexts.resize(handles.size(), nullptr);
  return {};
}

Driver::~Driver() {
  // After the driver's own exit handlers these calls return an error, which is of no interest here.
  for (size_t i = 0; i < contexts.size(); ++i)
    if (contexts[i])
      (void)functions.cuDevicePrimaryCtxRelease_v2(handles[i]);
}

Result<DeviceInfo> Driver::device(int index) const {
  if (index < 0 || index >= static_cast<int>(deviceList.size()))
    return fail(ErrorKind::Usage, fmt::format("there is no GPU {}; this machine has 0 to {}", index,
                                              deviceList.size() - 1));
  return deviceList[index];
}

Status Driver::makeCurrent(int index) {
  if (Result<DeviceInfo> info = device(index); !info)
    return tl::unexpected(info.error());
  CUcontext context = nullptr;
  {
    std::lock_guard<std::mutex> lock(contextMutex);
    if (!contexts[index])
      if (Status status =
              check(functions.cuDevicePrimaryCtxRetain(&contexts[index], handles[index]),
                    "creating the GPU's context");
          !status)
        return status;
    context = contexts[index];
  }
  return check(functions.cuCtxSetCurrent(context), "making the GPU's context current");
}

Result<int> Driver::currentDevice() const {
  CUdevice current = 0;
  CudaResult result = functions.cuCtxGetDevice(&current);
  if (result == cuda::kInvalidContext)
    return fail(ErrorKind::DeviceFailed,
                "no CUDA context is current on this thread; make one current before "
                "launching");
  WINNOW_CHECK(check(result, "asking for the current GPU"));
  for (size_t i = 0; i < handles.size(); ++i)
    if (handles[i] == current)
      return static_cast<int>(i);
  return fail(ErrorKind::DeviceFailed, "the current CUDA context belongs to an unknown GPU");
}

Status Driver::check(CudaResult result, const char *what) const {
  if (result == cuda::kSuccess)
    return {};
  const char *text = nullptr, *name = nullptr;
  functions.cuGetErrorString(result, &text);
  functions.cuGetErrorName(result, &name);
  return fail(ErrorKind::DeviceFailed,
              fmt::format("{}: {} ({})", what, text ? text : "unknown error",
                          name ? std::string(name) : std::to_string(result)));
}

} // namespace winnow
