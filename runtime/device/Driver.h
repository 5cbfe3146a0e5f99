// The CUDA driver, opened at run time: devices, contexts, error text. Launcher.h and DeviceMemory.h
// build on it. Nothing here is linked against CUDA; without a driver, open() says so and the CPU
// target serves instead.
#pragma once
#include "runtime/Error.h"
#include "runtime/device/DriverApi.h"
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace winnow {

struct DeviceInfo {
  int index = 0; ///< position among the visible devices
  std::string name;
  std::string uuid; ///< "GPU-xxxxxxxx-xxxx-..."
  int major = 0, minor = 0;
  size_t memoryBytes = 0;
  int smCount = 0;
  int l2Bytes = 0;
  int sharedPerBlock = 0; ///< bytes one block may opt in to
  int clockKhz = 0, memoryClockKhz = 0;
};

class Driver {
public:
  /// Opens libcuda and lists its devices. `path` empty: WINNOW_LIBCUDA, else libcuda.so.1 by the
  /// system's loader (never the toolkit's stub). Errors (DeviceFailed): no driver library, one at a
  /// path that others can write (trustedLibrary), a stub, a driver older than CUDA 12.0, no device.
  static Result<std::shared_ptr<Driver>> open(const std::string &path = {});
  ~Driver();
  Driver(const Driver &) = delete;
  Driver &operator=(const Driver &) = delete;

  /// The newest CUDA version that the driver serves, as 1000 * major + 10 * minor.
  int version() const { return versionNumber; }
  const std::string &path() const { return libraryPath; }
  const std::vector<DeviceInfo> &devices() const { return deviceList; }
  /// One device, or Usage naming the valid range.
  Result<DeviceInfo> device(int index) const;
  /// Makes the device's primary context current on this thread (the same context that PyTorch and
  /// cudart use).
  Status makeCurrent(int device);
  /// The index of the device whose context is current on this thread; DeviceFailed when there is
  /// none.
  Result<int> currentDevice() const;

  /// Success, or DeviceFailed: "<what>: <driver's text> (<NAME>)".
  Status check(CudaResult result, const char *what) const;
  const DriverApi &api() const { return functions; }

private:
  Driver() = default;
  Status loadFunctions(void *library);
  Status listDevices();

  DriverApi functions;
  std::string libraryPath;
  int versionNumber = 0;
  std::vector<DeviceInfo> deviceList;
  std::vector<CUdevice> handles;
  std::mutex contextMutex; ///< guards `contexts`; held for one driver call at most
  std::vector<CUcontext> contexts;
};

} // namespace winnow
