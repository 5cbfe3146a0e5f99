// Ties the kernel store to the driver. Programs loaded once stay loaded: launches of other threads
// may be using them.
#include "runtime/Engine.h"
#include "runtime/Target.h"
#include <fmt/format.h>

namespace winnow {

Result<std::unique_ptr<Engine>> Engine::create(EngineOptions options) {
  Result<std::shared_ptr<Driver>> driver = Driver::open(options.driverPath);
  if (!driver)
    return tl::unexpected(driver.error());
  std::unique_ptr<Engine> engine(new Engine);
  engine->gpu = *driver;
  engine->images = std::make_unique<KernelStore>(std::move(options.cache), std::move(options.hook));
  engine->allowPtx = options.allowPtx;
  return engine;
}

Status Engine::completeArch(ProgramRequest &request, int device) const {
  if (!request.arch.empty())
    return {};
  Result<DeviceInfo> info = gpu->device(device);
  if (!info)
    return tl::unexpected(info.error());
  Result<const Target *> target = targetForDevice(info->major, info->minor);
  if (!target)
    return tl::unexpected(target.error());
  request.arch = (*target)->arch;
  return {};
}

Result<std::shared_ptr<const LoadedProgram>>
Engine::loadOnce(std::shared_ptr<const ProgramImage> image, int device) {
  const std::pair<std::string, int> name(image->key, device);
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (auto it = byKey.find(name); it != byKey.end())
      return it->second;
  }
  LoadOptions options;
  options.device = device;
  options.allowPtx = allowPtx;
  Result<std::unique_ptr<LoadedProgram>> loaded =
      LoadedProgram::load(std::move(image), gpu, options);
  if (!loaded)
    return tl::unexpected(loaded.error());
  std::lock_guard<std::mutex> lock(mutex);
  // Two threads may have loaded the same image: the first one's is kept, the other is unloaded
  // unused.
  return byKey.emplace(name, std::move(*loaded)).first->second;
}

Result<Engine::Prepared> Engine::prepare(ProgramRequest request, int device) {
  if (Status status = completeArch(request, device); !status)
    return tl::unexpected(status.error());
  Result<KernelStore::Found> found = images->prepare(request);
  if (!found)
    return tl::unexpected(found.error());
  Result<std::shared_ptr<const LoadedProgram>> loaded = loadOnce(found->image, device);
  if (!loaded && loaded.error().kind == ErrorKind::DeviceFailed &&
      found->origin == ImageOrigin::Disk) {
    images->discard(found->image->key);
    found = images->prepare(request);
    if (!found)
      return tl::unexpected(found.error());
    loaded = loadOnce(found->image, device);
  }
  if (!loaded)
    return tl::unexpected(loaded.error());
  std::lock_guard<std::mutex> lock(mutex);
  byRequest[{request.text(), device}] = *loaded;
  return Prepared{*loaded, found->origin};
}

Result<std::shared_ptr<const LoadedProgram>> Engine::find(ProgramRequest request,
                                                          int device) const {
  if (Status status = completeArch(request, device); !status)
    return tl::unexpected(status.error());
  std::lock_guard<std::mutex> lock(mutex);
  if (auto it = byRequest.find({request.text(), device}); it != byRequest.end())
    return it->second;
  return fail(ErrorKind::NotReady,
              fmt::format("not prepared for GPU {}: {}; call prepare before launching", device,
                          request.text()));
}

Result<Engine::Prepared> Engine::prepareImage(const std::string &path, int device) {
  Result<ProgramImage> image = loadImageFile(path);
  if (!image)
    return tl::unexpected(image.error());
  if (Status status = images->add(*image); !status)
    return tl::unexpected(status.error());
  ProgramRequest request{image->method, image->spec, image->config, image->arch};
  Result<std::shared_ptr<const LoadedProgram>> loaded =
      loadOnce(std::make_shared<const ProgramImage>(std::move(*image)), device);
  if (!loaded)
    return tl::unexpected(loaded.error());
  std::lock_guard<std::mutex> lock(mutex);
  byRequest[{request.text(), device}] = *loaded;
  return Prepared{*loaded, ImageOrigin::Disk};
}

} // namespace winnow
