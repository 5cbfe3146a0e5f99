// The kernel is PTX, which every driver compiles, so that a tool without a compiler has it too. A
// block of threads takes all the shared memory that it may have: none of ours fits beside it.
#include "tools/winnow/commands/soak/BusyStream.h"
#include "runtime/device/Target.h"
#include "tools/winnow/Session.h"
#include <fmt/format.h>

namespace winnow {
namespace {

constexpr int kThreads = 128;
/// A launch ends by itself after this time, so that nothing waits for it for ever.
constexpr double kLaunchSeconds = 1, kAheadSeconds = 0.5;

/// Each thread counts itself, then waits until the first flag is set or its time is over.
const char *const kPtx = R"(
.address_size 64
.visible .entry keep_busy(.param .u64 flags_parameter, .param .u64 nanoseconds_parameter)
{
  .reg .pred %ends, %goes_on;
  .reg .b32 %flag;
  .reg .b64 %flags, %nanoseconds, %began, %time;
  ld.param.u64 %flags, [flags_parameter];
  ld.param.u64 %nanoseconds, [nanoseconds_parameter];
  cvta.to.global.u64 %flags, %flags;
  red.global.add.u32 [%flags+4], 1;
  mov.u64 %began, %globaltimer;
again:
  ld.volatile.global.u32 %flag, [%flags];
  setp.ne.u32 %ends, %flag, 0;
  @%ends bra done;
  mov.u64 %time, %globaltimer;
  sub.u64 %time, %time, %began;
  setp.lt.u64 %goes_on, %time, %nanoseconds;
  @%goes_on bra again;
done:
  ret;
}
)";

} // namespace

Result<std::unique_ptr<BusyStream>> BusyStream::open(const std::shared_ptr<Driver> &driver,
                                                     const DeviceInfo &device) {
  std::unique_ptr<BusyStream> busy(new BusyStream);
  busy->driver = driver;
  busy->blocks = std::max(1, device.smCount / 2);
  busy->sharedBytes = device.sharedPerBlock;
  WINNOW_TRY(busy->flags, DeviceBuffer::allocate(driver, 256));
  WINNOW_CHECK(busy->flags.fill(0));
  WINNOW_TRY(Stream made, Stream::create(driver));
  busy->stream.emplace(std::move(made));
  // The plainest architecture: every GPU that is served compiles its PTX.
  const std::string text =
      fmt::format(".version 7.0\n.target {}\n{}", targets().front().arch, kPtx);
  const DriverApi &api = driver->api();
  CUkernel kernel = nullptr;
  CUdevice handle = 0;
  CudaResult result =
      api.cuLibraryLoadData(&busy->library, text.c_str(), nullptr, nullptr, 0, nullptr, nullptr, 0);
  if (result == cuda::kSuccess)
    result = api.cuLibraryGetKernel(&kernel, busy->library, "keep_busy");
  if (result == cuda::kSuccess)
    result = api.cuDeviceGet(&handle, device.index);
  if (result == cuda::kSuccess)
    result = api.cuKernelSetAttribute(cuda::kFuncMaxDynamicSharedBytes, busy->sharedBytes, kernel,
                                      handle);
  if (result == cuda::kSuccess)
    result = api.cuKernelGetFunction(&busy->function, kernel);
  WINNOW_CHECK(driver->check(result, "loading the kernel of --busy"));
  return busy;
}

BusyStream::~BusyStream() {
  (void)stop();
  if (library)
    (void)driver->api().cuLibraryUnload(library);
}

Status BusyStream::launch() {
  CUdeviceptr address = reinterpret_cast<CUdeviceptr>(flags.data());
  uint64_t nanoseconds = static_cast<uint64_t>(kLaunchSeconds * 1e9);
  void *arguments[] = {&address, &nanoseconds};
  ++launches;
  return driver->check(driver->api().cuLaunchKernel(
                           function, static_cast<unsigned>(blocks), 1, 1, kThreads, 1, 1,
                           static_cast<unsigned>(sharedBytes), stream->get(), arguments, nullptr),
                       "launching the kernel of --busy");
}

Status BusyStream::keep() {
  const double time = now();
  while (busyUntil < time + kAheadSeconds) {
    WINNOW_CHECK(launch());
    busyUntil = std::max(busyUntil, time) + kLaunchSeconds;
  }
  return {};
}

Status BusyStream::stop() {
  if (launches == 0)
    return {};
  const int wanted = std::exchange(launches, 0) * blocks * kThreads;
  const uint32_t ends = 1;
  uint32_t found[2] = {};
  WINNOW_CHECK(flags.upload(&ends, sizeof(ends)));
  WINNOW_CHECK(stream->synchronize());
  WINNOW_CHECK(flags.download(found, sizeof(found)));
  if (found[1] != static_cast<uint32_t>(wanted))
    return fail(ErrorKind::DeviceFailed,
                fmt::format("--busy: {} threads kept the GPU busy where {} were launched", found[1],
                            wanted));
  return {};
}

} // namespace winnow
