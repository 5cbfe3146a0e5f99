// Chooses a backend from the --device flag.
#include "tools/winnow/backends/Backend.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/io/Flags.h"
#include <cstdlib>
#include <fmt/format.h>
#include <string_view>

namespace winnow {

void allocateGradients(const reference::Problem &problem, CaseAnswer &tensors) {
  const auto queries = static_cast<size_t>(problem.totalQ()) * problem.heads,
             keys = static_cast<size_t>(problem.cuK.back()) * problem.kvHeads;
  tensors.dq.assign(queries * problem.headDim, 0xffff);
  tensors.dk.assign(keys * problem.headDim, 0xffff);
  tensors.dv.assign(keys * problem.valueWidth(), 0xffff);
}

Result<std::unique_ptr<Backend>> openBackend(const BackendOptions &options, Cache &cache) {
  const std::string &device = options.device;
  if (device == "cpu")
    return openCpuBackend(options);
  constexpr std::string_view kEmulated = "emulated";
  if (device == kEmulated)
    return openEmulatedBackend(options, cache);
  if (device.rfind("emulated:", 0) == 0) {
    BackendOptions own = options;
    own.arch = device.substr(kEmulated.size() + 1);
    return openEmulatedBackend(own, cache);
  }
  if (device == "cuda")
    return openCudaBackend(0, options, cache);
  if (device.rfind("cuda:", 0) == 0) {
    std::string index = device.substr(5);
    bool isNumber = !index.empty() && index.size() < 4 &&
                    index.find_first_not_of("0123456789") == std::string::npos;
    if (!isNumber)
      return fail(ErrorKind::Usage,
                  fmt::format("--device {}: write cuda:N with N counted from 0", device));
    return openCudaBackend(std::stoi(index), options, cache);
  }
  if (device != "auto")
    return fail(
        ErrorKind::Usage,
        fmt::format("--device {}: known are auto, cpu, cuda, cuda:N, emulated, emulated:ARCH",
                    device));
  Result<std::unique_ptr<Backend>> gpu = openCudaBackend(0, options, cache);
  if (gpu)
    return gpu;
  Result<std::unique_ptr<Backend>> cpu = openCpuBackend(options);
  if (!cpu)
    return gpu; // a build without the CPU target: what is missing is the GPU
  say("running on the CPU: " + gpu.error().message);
  return cpu;
}

Result<std::shared_ptr<Driver>> launchDevice(const std::string &name, DeviceInfo &device,
                                             CodeForm &form) {
  constexpr std::string_view kEmulated = "emulated";
  form = CodeForm::Emulated;
  if (name == kEmulated)
    return openEmulator("", device);
  if (name.rfind("emulated:", 0) == 0)
    return openEmulator(name.substr(kEmulated.size() + 1), device);
  std::string number = name;
  if (!between(0, 1023)(number).empty())
    return fail(ErrorKind::Usage,
                fmt::format("--device {}: this needs a GPU, by its number; emulated or "
                            "emulated:ARCH executes the kernels without one",
                            name));
  form = CodeForm::Cubin;
  std::shared_ptr<Driver> driver;
  WINNOW_TRY(driver, Driver::open());
  WINNOW_TRY(device, driver->device(std::stoi(name)));
  return driver;
}

} // namespace winnow
