// A second stream that keeps half of a GPU's multiprocessors busy: whatever else runs has the other
// half, and a kernel that counts on all its blocks of threads being there at once never ends.
#pragma once
#include "runtime/device/DeviceMemory.h"
#include <optional>

namespace winnow {

class BusyStream {
public:
  /// The device's context is current. Errors: DeviceFailed.
  static Result<std::unique_ptr<BusyStream>> open(const std::shared_ptr<Driver> &driver,
                                                  const DeviceInfo &device);
  ~BusyStream();
  BusyStream(const BusyStream &) = delete;
  BusyStream &operator=(const BusyStream &) = delete;

  /// Before each launch: sees to it that half of the GPU is busy for a while from now on.
  Status keep();
  /// Ends what runs. Error: DeviceFailed where the multiprocessors were not busy.
  Status stop();
  int multiprocessors() const { return blocks; }

private:
  BusyStream() = default;
  Status launch();

  std::shared_ptr<Driver> driver;
  std::optional<Stream> stream;
  DeviceBuffer flags; ///< {ends now, threads that have begun}
  CUlibrary library = nullptr;
  CUfunction function = nullptr;
  int blocks = 0, sharedBytes = 0, launches = 0;
  double busyUntil = 0; ///< on the clock of now(), where nothing was in the way
};

} // namespace winnow
