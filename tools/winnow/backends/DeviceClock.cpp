// NVML by dlopen; five of its functions, whose C interface is stable.
#include "tools/winnow/backends/DeviceClock.h"
#include <dlfcn.h>

namespace winnow {

DeviceClock::DeviceClock(const std::string &uuid) {
  void *library = ::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return;
  auto init = reinterpret_cast<int (*)()>(::dlsym(library, "nvmlInit_v2"));
  auto find = reinterpret_cast<int (*)(const char *, void **)>(
      ::dlsym(library, "nvmlDeviceGetHandleByUUID"));
  getClock = reinterpret_cast<int (*)(void *, int, unsigned *)>(
      ::dlsym(library, "nvmlDeviceGetClockInfo"));
  getPower =
      reinterpret_cast<int (*)(void *, unsigned *)>(::dlsym(library, "nvmlDeviceGetPowerUsage"));
  getVersion =
      reinterpret_cast<int (*)(char *, unsigned)>(::dlsym(library, "nvmlSystemGetDriverVersion"));
  if (!init || !find || !getClock || init() != 0 || find(uuid.c_str(), &device) != 0)
    device = nullptr;
}

std::string DeviceClock::driverVersion() const {
  char text[80] = {}; // NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE
  return getVersion && getVersion(text, sizeof text) == 0 ? text : "";
}

int DeviceClock::smMegahertz() const {
  constexpr int smClock = 1; // NVML_CLOCK_SM
  unsigned megahertz = 0;
  return device && getClock(device, smClock, &megahertz) == 0 ? static_cast<int>(megahertz) : 0;
}

int DeviceClock::watts() const {
  unsigned milliwatts = 0;
  return device && getPower && getPower(device, &milliwatts) == 0
             ? static_cast<int>(milliwatts / 1000)
             : 0;
}

} // namespace winnow
