// Single flight per key. A failed build is forgotten, so that the next request tries again; its
// waiters get its error.
#include "runtime/device/KernelStore.h"
#include "runtime/device/Dump.h"
#include <chrono>
#include <exception>
#include <fmt/format.h>
#include <unistd.h>

namespace winnow {

namespace {

/// A spec with the parameters that it leaves at their defaults named. Where an image does not say
/// what those are, nothing is added: unnamed is the default on both sides, whatever it is.
Spec named(const Spec &spec, const ProgramImage &image) {
  Spec whole = spec;
  whole.params.insert(image.defaults.begin(), image.defaults.end());
  return whole;
}

/// Whether an image, whose config has every default filled in, is what a request asks for.
bool satisfies(const ProgramImage &image, const ProgramRequest &request) {
  const Spec wanted = named(request.spec, image), given = named(image.spec, image);
  // A request's 0 leaves a tunable to the compiler, so any value of the image fits.
  for (const Tunable &tunable : tunables())
    if (int asked = tunable.get(request.config); asked != 0 && asked != tunable.get(image.config))
      return false;
  return image.method == request.method && image.arch == request.arch &&
         wanted.text() == given.text();
}

} // namespace

std::string ProgramRequest::text() const {
  std::string text =
      fmt::format("method={} arch={} {} {}", method, arch, spec.text(), config.text());
  if (!hasOpenPhase(config, spec))
    return text; // nothing is left for the workload to decide
  const Workload bucket = workload.bucket();
  text += fmt::format(" tokens={} overlap={}", bucket.tokens, bucket.overlap);
  return spec.paged ? text + fmt::format(" batch={}", bucket.batch) : text;
}

const char *name(ImageOrigin origin) {
  return origin == ImageOrigin::Memory ? "memory"
         : origin == ImageOrigin::Disk ? "disk"
                                       : "compiled";
}

KernelStore::Slot::Slot() : result(promise.get_future().share()), builder(::getpid()) {}

KernelStore::Slot::Slot(Found built) : Slot() { promise.set_value(std::move(built)); }

bool KernelStore::Slot::isDone() const {
  return result.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

bool KernelStore::Slot::isAbandoned() const { return builder != ::getpid() && !isDone(); }

KernelStore::KernelStore(CacheOptions options, CompileHook hook)
    : files(std::move(options)), hook(std::move(hook)) {}

Result<KernelStore::Found> KernelStore::prepare(const ProgramRequest &request) {
  if (!hook.key || !hook.build)
    return findWithoutCompiler(request);
  WINNOW_TRY(std::string key, hook.key(request));

  std::shared_ptr<Slot> slot;
  bool wasForked = false;
  {
    std::unique_lock<std::mutex> lock(mutex);
    std::shared_ptr<Slot> &held = slots[key];
    wasForked = held && held->isAbandoned();
    if (held && !wasForked)
      return joinBuild(*held, lock);
    held = slot = std::make_shared<Slot>();
  }
  // This thread builds; every other one that wants this key now waits for it.
  Result<Found> result = fail(ErrorKind::CompileFailed, "the compiler was interrupted");
  try {
    result = loadOrBuild(request, key, /*alone=*/wasForked);
  } catch (const std::exception
               &error) { // a hook that breaks its word must not leave the waiters waiting
    result = fail(ErrorKind::CompileFailed, fmt::format("the compiler failed: {}", error.what()));
  } catch (...) {
    result = fail(ErrorKind::CompileFailed, "the compiler failed without a reason");
  }
  if (result)
    dumpImage(*result->image);
  std::lock_guard<std::mutex> lock(mutex);
  slot->promise.set_value(result);
  if (result) {
    if (result->origin == ImageOrigin::Compiled)
      discarded.erase(key);
    ++(result->origin == ImageOrigin::Disk ? counts.diskHits : counts.builds);
  } else {
    counts.refused += result.error().kind == ErrorKind::NotReady;
    if (auto it = slots.find(key); it != slots.end() && it->second == slot)
      slots.erase(it);
  }
  return result;
}

/// What another thread builds or has built. The lock is given up while it is waited for.
Result<KernelStore::Found> KernelStore::joinBuild(const Slot &slot,
                                                  std::unique_lock<std::mutex> &lock) {
  const std::shared_future<Result<Found>> future = slot.result;
  lock.unlock();
  Result<Found> result = future.get();
  lock.lock();
  if (!result) {
    counts.refused += result.error().kind == ErrorKind::NotReady;
    return result;
  }
  ++counts.memoryHits;
  return Found{result->image, ImageOrigin::Memory};
}

/// `alone`: the lock of builds is not asked for. A process that forked while it was building left
/// its child that very lock's open file, and may itself be waiting for the child.
Result<KernelStore::Found> KernelStore::loadOrBuild(const ProgramRequest &request,
                                                    const std::string &key, bool alone) {
  bool isDiscarded = false;
  {
    std::lock_guard<std::mutex> lock(mutex);
    isDiscarded = discarded.count(key) > 0;
  }
  auto load = [&]() -> std::optional<Found> {
    std::optional<ProgramImage> image = isDiscarded ? std::nullopt : files.load(key);
    if (!image)
      return std::nullopt;
    return Found{std::make_shared<const ProgramImage>(std::move(*image)), ImageOrigin::Disk};
  };
  if (sealed || alone)
    if (std::optional<Found> found = load())
      return *found;
  if (sealed)
    return fail(ErrorKind::NotReady,
                fmt::format("the engine is sealed and would have to compile {}: prepare it before "
                            "sealing",
                            request.text()));
  const Cache::Build build = [&] { return hook.build(request); };
  WINNOW_TRY(Cache::Obtained obtained,
             isDiscarded || alone ? files.replace(key, build) : files.obtain(key, build));
  return Found{std::move(obtained.image),
               obtained.built ? ImageOrigin::Compiled : ImageOrigin::Disk};
}

Result<KernelStore::Found> KernelStore::findWithoutCompiler(const ProgramRequest &request) {
  std::set<std::string> refused;
  auto matches = [&](const ProgramImage &image) {
    return refused.count(image.key) == 0 && satisfies(image, request);
  };
  {
    std::lock_guard<std::mutex> lock(mutex);
    refused = discarded;
    for (const auto &[key, slot] : slots)
      if (slot->isDone() && slot->result.get() && matches(*slot->result.get()->image)) {
        ++counts.memoryHits;
        return Found{slot->result.get()->image, ImageOrigin::Memory};
      }
  }
  std::optional<ProgramImage> image = files.find(matches);
  if (!image)
    return fail( // a sealed engine is told that nothing was prepared, with a compiler or without
        sealed ? ErrorKind::NotReady : ErrorKind::Unsupported,
        fmt::format(
            "no compiled program is at hand for {}, and this build has no compiler: compile it "
            "elsewhere with --emit image and load the file",
            request.text()));
  Found found{std::make_shared<const ProgramImage>(std::move(*image)), ImageOrigin::Disk};
  dumpImage(*found.image);
  auto slot = std::make_shared<Slot>(found);
  std::lock_guard<std::mutex> lock(mutex);
  slots[found.image->key] = slot;
  ++counts.diskHits;
  return found;
}

bool KernelStore::isAtHand(const ProgramRequest &request) const {
  Result<std::string> key = hook.key ? hook.key(request) : Result<std::string>("");
  if (!key || key->empty())
    return false;
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (auto it = slots.find(*key); it != slots.end() && it->second->isDone())
      return true;
  }
  return files.contains(*key);
}

Status KernelStore::add(ProgramImage image) {
  WINNOW_CHECK(checkImage(image));
  Found found{std::make_shared<const ProgramImage>(std::move(image)), ImageOrigin::Memory};
  auto slot = std::make_shared<Slot>(found);
  std::lock_guard<std::mutex> lock(mutex);
  slots[found.image->key] = slot;
  return {};
}

void KernelStore::discard(const std::shared_ptr<const ProgramImage> &image) {
  std::lock_guard<std::mutex> lock(mutex);
  auto it = slots.find(image->key);
  // Another thread may have had it built again since: that one stays.
  if (it == slots.end() || !it->second->isDone())
    return;
  if (const Result<Found> &held = it->second->result.get(); !held || held->image != image)
    return;
  discarded.insert(image->key);
  slots.erase(it);
}

KernelStore::Counters KernelStore::counters() const {
  std::lock_guard<std::mutex> lock(mutex);
  return counts;
}

} // namespace winnow
