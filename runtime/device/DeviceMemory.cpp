// Thin owners over driver handles. Destructors ignore errors: at exit the driver may already be
// gone (F34).
#include "runtime/device/DeviceMemory.h"
#include <fmt/format.h>
#include <utility>

namespace winnow {

Result<DeviceBuffer> DeviceBuffer::allocate(std::shared_ptr<Driver> driver, size_t bytes) {
  DeviceBuffer buffer;
  if (bytes > 0) {
    std::string what = fmt::format("allocating {} bytes of GPU memory", bytes);
    if (Status status =
            driver->check(driver->api().cuMemAlloc_v2(&buffer.pointer, bytes), what.c_str());
        !status)
      return tl::unexpected(status.error());
  }
  buffer.driver = std::move(driver);
  buffer.length = bytes;
  return buffer;
}

DeviceBuffer &DeviceBuffer::operator=(DeviceBuffer &&other) noexcept {
  if (this != &other) {
    release();
    driver = std::move(other.driver);
    pointer = std::exchange(other.pointer, 0);
    length = std::exchange(other.length, 0);
  }
  return *this;
}

void DeviceBuffer::release() {
  if (pointer)
    (void)driver->api().cuMemFree_v2(pointer);
  pointer = 0;
}

Status DeviceBuffer::upload(const void *host, size_t bytes) {
  if (bytes > length)
    return fail(ErrorKind::Usage,
                fmt::format("copying {} bytes into a GPU buffer of {}", bytes, length));
  if (bytes == 0)
    return {};
  if (Status s =
          driver->check(driver->api().cuMemcpyHtoD_v2(pointer, host, bytes), "copying to the GPU");
      !s)
    return s;
  // A copy from pageable memory may return while its last part is still in flight.
  return driver->check(driver->api().cuStreamSynchronize(nullptr), "copying to the GPU");
}

Status DeviceBuffer::download(void *host, size_t bytes) const {
  if (bytes > length)
    return fail(ErrorKind::Usage,
                fmt::format("copying {} bytes out of a GPU buffer of {}", bytes, length));
  return bytes == 0 ? Status()
                    : driver->check(driver->api().cuMemcpyDtoH_v2(host, pointer, bytes),
                                    "copying from the GPU");
}

Status DeviceBuffer::fill(unsigned char value, CUstream stream) {
  if (length == 0)
    return {};
  if (Status s = driver->check(driver->api().cuMemsetD8Async(pointer, value, length, stream),
                               "filling GPU memory");
      !s || stream)
    return s;
  // Our streams do not wait for the default stream: without one, filling is a blocking call.
  return driver->check(driver->api().cuStreamSynchronize(nullptr), "filling GPU memory");
}

Result<Stream> Stream::create(std::shared_ptr<Driver> driver) {
  Stream stream;
  if (Status status =
          driver->check(driver->api().cuStreamCreate(&stream.stream, cuda::kStreamNonBlocking),
                        "creating a stream");
      !status)
    return tl::unexpected(status.error());
  stream.driver = std::move(driver);
  return stream;
}

Stream::Stream(Stream &&other) noexcept
    : driver(std::move(other.driver)), stream(std::exchange(other.stream, nullptr)) {}

Stream::~Stream() {
  if (stream)
    (void)driver->api().cuStreamDestroy_v2(stream);
}

Status Stream::synchronize() const {
  return driver->check(driver->api().cuStreamSynchronize(stream), "waiting for the GPU");
}

Result<Event> Event::create(std::shared_ptr<Driver> driver) {
  Event event;
  if (Status status = driver->check(driver->api().cuEventCreate(&event.event, cuda::kEventDefault),
                                    "creating an event");
      !status)
    return tl::unexpected(status.error());
  event.driver = std::move(driver);
  return event;
}

Event::Event(Event &&other) noexcept
    : driver(std::move(other.driver)), event(std::exchange(other.event, nullptr)) {}

Event::~Event() {
  if (event)
    (void)driver->api().cuEventDestroy_v2(event);
}

Status Event::record(CUstream stream) {
  return driver->check(driver->api().cuEventRecord(event, stream), "recording an event");
}

Status Event::synchronize() const {
  return driver->check(driver->api().cuEventSynchronize(event), "waiting for an event");
}

Result<float> Event::millisecondsSince(const Event &begin) const {
  float milliseconds = 0;
  if (Status status =
          driver->check(driver->api().cuEventElapsedTime(&milliseconds, begin.event, event),
                        "timing between events");
      !status)
    return tl::unexpected(status.error());
  return milliseconds;
}

} // namespace winnow
