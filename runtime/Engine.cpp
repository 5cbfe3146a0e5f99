// Ties the kernel store to the driver. Programs loaded once stay loaded: launches of other threads
// may be using them.
#include "runtime/Engine.h"
#include "runtime/device/Target.h"
#include <algorithm>
#include <atomic>
#include <exception>
#include <fmt/format.h>
#include <sys/stat.h>
#include <system_error>
#include <thread>
#include <unistd.h>

namespace winnow {

std::array<int64_t, 4> textVersion(const std::string &method) {
  struct stat info;
  if (::stat(method.c_str(), &info) != 0)
    return {};
  return {static_cast<int64_t>(info.st_ino), info.st_size, info.st_mtim.tv_sec,
          info.st_mtim.tv_nsec};
}

Result<std::unique_ptr<Engine>> Engine::create(EngineOptions options) {
  WINNOW_TRY(std::shared_ptr<Driver> driver, Driver::open(options.driverPath));
  std::unique_ptr<Engine> engine(new Engine);
  engine->gpu = driver;
  CompileHook hook = options.hook;
  engine->images = std::make_unique<KernelStore>(std::move(options.cache), std::move(options.hook));
  // What has been built is legal: only what would have to be compiled is looked at.
  if (hook.check)
    hook.check = [images = engine->images.get(),
                  check = hook.check](const ProgramRequest &request) {
      return images->isAtHand(request) ? Status() : check(request);
    };
  WINNOW_TRY(engine->chooser, ConfigChooser::create(std::move(options.tuning), hook));
  engine->allowPtx = options.allowPtx;
  return engine;
}

Status Engine::completeArch(ProgramRequest &request, int device) const {
  if (!request.arch.empty())
    return {};
  WINNOW_TRY(DeviceInfo info, gpu->device(device));
  WINNOW_TRY(const Target *target, targetForDevice(info.major, info.minor));
  request.arch = target->arch;
  return {};
}

Result<std::shared_ptr<const LoadedProgram>>
Engine::loadOnce(std::shared_ptr<const ProgramImage> image, int device, bool *refused) {
  const std::pair<std::string, int> name(image->key, device);
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (auto it = byKey.find(name); it != byKey.end())
      return it->second;
  }
  LoadOptions options;
  options.device = device;
  options.allowPtx = allowPtx;
  WINNOW_TRY(std::unique_ptr<LoadedProgram> loaded,
             LoadedProgram::load(std::move(image), gpu, options, refused));
  std::lock_guard<std::mutex> lock(mutex);
  // Two threads may have loaded the same image: the first one's is kept, the other is unloaded
  // unused.
  return byKey.emplace(name, std::move(loaded)).first->second;
}

Result<Engine::Prepared> Engine::prepareWith(const ProgramRequest &asked, const Spec &spec,
                                             const Config &config, int device) {
  ProgramRequest request = asked;
  request.spec = spec;
  request.config = config;
  Result<KernelStore::Found> found = images->prepare(request);
  if (!found)
    return tl::unexpected(found.error());
  bool refused = false;
  Result<std::shared_ptr<const LoadedProgram>> loaded = loadOnce(found->image, device, &refused);
  if (!loaded && refused && found->origin != ImageOrigin::Compiled) {
    images->discard(found->image); // which another thread may have brought into memory
    found = images->prepare(request);
    if (!found)
      return fail(found.error().kind, fmt::format("{}; the cached program was refused, {}",
                                                  found.error().message, loaded.error().message));
    loaded = loadOnce(found->image, device, nullptr);
  }
  if (!loaded)
    return tl::unexpected(loaded.error());
  return Prepared{*loaded, found->origin, nullptr};
}

Result<Engine::Prepared> Engine::prepare(ProgramRequest request, int device) {
  WINNOW_CHECK(completeArch(request, device));
  const std::pair<std::string, int> requested(request.text(), device);
  const std::array<int64_t, 4> version = textVersion(request.method);
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (auto it = byRequest.find(requested);
        it != byRequest.end() && it->second.textVersion == version) {
      ++requestHits;
      Prepared again = it->second.prepared;
      again.origin = ImageOrigin::Memory;
      return again;
    }
  }
  WINNOW_TRY(DeviceInfo info, gpu->device(device));
  WINNOW_TRY(ChosenConfig choice, chooser->choose(request, info.name));
  const Spec spec = choice.spec(request.spec);
  Result<Prepared> prepared = prepareWith(request, spec, choice.config, device);
  if (!prepared && choice.isTuned() && !chooser->replays()) {
    // What was tuned elsewhere must not take away what works here.
    if (Result<Prepared> plain = prepareWith(request, spec, request.config, device)) {
      choice = chooser->overrule(request, info.name, prepared.error().message);
      prepared = std::move(plain);
    }
  }
  if (!prepared) {
    std::lock_guard<std::mutex> lock(mutex);
    refusals += prepared.error().kind == ErrorKind::NotReady;
    return prepared;
  }
  bool selects = prepared->program->image().selectHeads > 0;
  choice.built = prepared->program->image().config.text();
  prepared->choice = std::make_shared<const ChosenConfig>(std::move(choice));
  bool isNew = false;
  {
    std::lock_guard<std::mutex> lock(mutex);
    isNew = byRequest.insert_or_assign(requested, Ready{*prepared, version}).second;
  }
  if (isNew)
    chooser->logChoice(request, info.name, *prepared->choice, selects);
  return prepared;
}

std::vector<Result<Engine::Prepared>>
Engine::prepareAll(const std::vector<ProgramRequest> &requests, int device,
                   const std::function<bool(const ProgramRequest &)> &goOn) {
  std::vector<Result<Prepared>> results(requests.size(),
                                        fail(ErrorKind::NotReady, "cancelled before it was begun"));
  // Processes that start together begin in different places, so that they share the work.
  const size_t first = static_cast<size_t>(::getpid());
  std::atomic<size_t> next{0};
  auto work = [&] {
    for (size_t i; (i = next++) < requests.size();) {
      const size_t at = (first + i) % requests.size();
      try { // what leaves a thread ends the process
        results[at] = prepare(requests[at], device);
        if (goOn && !goOn(requests[at]))
          next = requests.size();
      } catch (const std::exception &error) {
        results[at] =
            fail(ErrorKind::CompileFailed,
                 fmt::format("preparing {} failed: {}", requests[at].method, error.what()));
      } catch (...) {
        results[at] =
            fail(ErrorKind::CompileFailed,
                 fmt::format("preparing {} failed without a reason", requests[at].method));
      }
    }
  };
  const size_t wanted =
      std::min<size_t>(std::max(1u, std::thread::hardware_concurrency()), requests.size());
  std::vector<std::thread> threads;
  threads.reserve(wanted);
  for (bool more = true; more && threads.size() + 1 < wanted;) {
    try {
      threads.emplace_back(work);
    } catch (const std::system_error &) {
      more = false; // the system gives no more of them: those that there are do the work
    }
  }
  work();
  for (std::thread &thread : threads)
    thread.join();
  return results;
}

KernelStore::Counters Engine::counters() const {
  KernelStore::Counters counts = images->counters();
  std::lock_guard<std::mutex> lock(mutex);
  counts.memoryHits += requestHits;
  counts.refused = refusals; // the store counts the tuned and the default form of one request apart
  return counts;
}

Result<Engine::Prepared> Engine::find(ProgramRequest request, int device) const {
  WINNOW_CHECK(completeArch(request, device));
  std::lock_guard<std::mutex> lock(mutex);
  if (auto it = byRequest.find({request.text(), device}); it != byRequest.end())
    return it->second.prepared;
  return fail(ErrorKind::NotReady,
              fmt::format("not prepared for GPU {}: {}; call prepare before launching", device,
                          request.text()));
}

Result<Engine::Prepared> Engine::prepareImage(const std::string &path, int device) {
  WINNOW_TRY(ProgramImage image, loadImageFile(path));
  WINNOW_CHECK(images->add(image));
  ProgramRequest request{image.method, image.spec, image.config, image.arch};
  WINNOW_TRY(std::shared_ptr<const LoadedProgram> loaded,
             loadOnce(std::make_shared<const ProgramImage>(std::move(image)), device, nullptr));
  ChosenConfig choice;
  choice.config = request.config;
  choice.built = request.config.text();
  choice.select.rung = choice.attend.rung = Rung::Given;
  choice.select.why = choice.attend.why = "as in the image file";
  if (request.spec.paged)
    choice.decode = choice.attend;
  if (request.spec.backward)
    choice.backward = choice.attend;
  Prepared prepared{loaded, ImageOrigin::Disk, std::make_shared<const ChosenConfig>(choice)};
  std::lock_guard<std::mutex> lock(mutex);
  byRequest[{request.text(), device}] = {prepared, textVersion(request.method)};
  return prepared;
}

} // namespace winnow
