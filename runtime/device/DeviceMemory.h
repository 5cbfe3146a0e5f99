// Owners of device memory, streams and events, for the tools and the tests; the launcher itself
// allocates nothing. Each needs its device's context current on the calling thread
// (Driver::makeCurrent) and keeps the driver alive.
#pragma once
#include "runtime/device/Driver.h"

namespace winnow {

/// Device memory, freed on destruction. Contents of a new buffer are undefined.
class DeviceBuffer {
public:
  DeviceBuffer() = default;
  /// `bytes` may be 0: no allocation, null pointer. Error: DeviceFailed with the size asked for.
  static Result<DeviceBuffer> allocate(std::shared_ptr<Driver> driver, size_t bytes);
  ~DeviceBuffer() { release(); }
  DeviceBuffer(DeviceBuffer &&other) noexcept { *this = std::move(other); }
  DeviceBuffer &operator=(DeviceBuffer &&other) noexcept;

  /// Blocking copies of the first `bytes` bytes; Usage when the buffer is smaller.
  Status upload(const void *host, size_t bytes);
  Status download(void *host, size_t bytes) const;
  /// Sets every byte: in stream order, or before returning when no stream is given.
  Status fill(unsigned char value, CUstream stream = nullptr);
  template <typename T = void> T *data() const { return reinterpret_cast<T *>(pointer); }
  size_t size() const { return length; }

private:
  void release();
  std::shared_ptr<Driver> driver;
  CUdeviceptr pointer = 0;
  size_t length = 0;
};

/// A stream that does not synchronise with the default stream.
class Stream {
public:
  static Result<Stream> create(std::shared_ptr<Driver> driver);
  ~Stream();
  Stream(Stream &&other) noexcept;
  Stream &operator=(Stream &&other) = delete;
  CUstream get() const { return stream; }
  Status synchronize() const;

private:
  Stream() = default;
  std::shared_ptr<Driver> driver;
  CUstream stream = nullptr;
};

/// A point in a stream's work, with its time.
class Event {
public:
  static Result<Event> create(std::shared_ptr<Driver> driver);
  ~Event();
  Event(Event &&other) noexcept;
  Event &operator=(Event &&other) = delete;
  Status record(CUstream stream);
  Status synchronize() const;
  /// Milliseconds from `begin` to this event; both must have happened.
  Result<float> millisecondsSince(const Event &begin) const;

private:
  Event() = default;
  std::shared_ptr<Driver> driver;
  CUevent event = nullptr;
};

} // namespace winnow
