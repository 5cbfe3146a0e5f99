// Single flight per key. A failed build is forgotten, so that the next request tries again; its
// waiters get its error.
#include "runtime/KernelStore.h"
#include <exception>
#include <fmt/format.h>

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
  for (const ConfigField &field : configFields())
    if (int asked = request.config.*field.member; asked != 0 && asked != image.config.*field.member)
      return false;
  return image.method == request.method && image.arch == request.arch &&
         wanted.text() == given.text();
}

} // namespace

std::string ProgramRequest::text() const {
  std::string text =
      fmt::format("method={} arch={} {} {}", method, arch, spec.text(), config.text());
  if (!isOpen(config, "select") && !isOpen(config, "attend"))
    return text; // nothing is left for the workload to decide
  const Workload bucket = workload.bucket();
  return text + fmt::format(" tokens={} overlap={}", bucket.tokens, bucket.overlap);
}

const char *name(ImageOrigin origin) {
  return origin == ImageOrigin::Memory ? "memory"
         : origin == ImageOrigin::Disk ? "disk"
                                       : "compiled";
}

KernelStore::KernelStore(CacheOptions options, CompileHook hook)
    : files(std::move(options)), hook(std::move(hook)) {}

Result<KernelStore::Found> KernelStore::prepare(const ProgramRequest &request) {
  if (!hook.key || !hook.build)
    return findWithoutCompiler(request);
  Result<std::string> key = hook.key(request);
  if (!key)
    return tl::unexpected(key.error());

  std::shared_ptr<Slot> slot;
  {
    std::unique_lock<std::mutex> lock(mutex);
    if (auto it = slots.find(*key); it != slots.end()) {
      slot = it->second;
      changed.wait(lock, [&] { return slot->done; });
      if (!slot->result) {
        counts.refused += slot->result.error().kind == ErrorKind::NotReady;
        return slot->result;
      }
      ++counts.memoryHits;
      return Found{slot->result->image, ImageOrigin::Memory};
    }
    slot = slots[*key] = std::make_shared<Slot>();
  }
  // This thread builds; every other one that wants this key now waits above.
  Result<Found> result = fail(ErrorKind::CompileFailed, "the compiler was interrupted");
  try {
    result = loadOrBuild(request, *key);
  } catch (const std::exception
               &error) { // a hook that breaks its word must not leave the waiters waiting
    result = fail(ErrorKind::CompileFailed, fmt::format("the compiler failed: {}", error.what()));
  } catch (...) {
    result = fail(ErrorKind::CompileFailed, "the compiler failed without a reason");
  }
  std::lock_guard<std::mutex> lock(mutex);
  slot->result = result;
  slot->done = true;
  if (result) {
    if (result->origin == ImageOrigin::Compiled)
      discarded.erase(*key);
    ++(result->origin == ImageOrigin::Disk ? counts.diskHits : counts.builds);
  } else {
    counts.refused += result.error().kind == ErrorKind::NotReady;
    if (auto it = slots.find(*key); it != slots.end() && it->second == slot)
      slots.erase(it);
  }
  changed.notify_all();
  return result;
}

Result<KernelStore::Found> KernelStore::loadOrBuild(const ProgramRequest &request,
                                                    const std::string &key) {
  bool isDiscarded = false;
  {
    std::lock_guard<std::mutex> lock(mutex);
    isDiscarded = discarded.count(key) > 0;
  }
  if (sealed) {
    if (std::optional<ProgramImage> image = isDiscarded ? std::nullopt : files.load(key))
      return Found{std::make_shared<const ProgramImage>(std::move(*image)), ImageOrigin::Disk};
    return fail(ErrorKind::NotReady,
                fmt::format("the engine is sealed and would have to compile {}: prepare it before "
                            "sealing",
                            request.text()));
  }
  const Cache::Build build = [&] { return hook.build(request); };
  Result<Cache::Obtained> obtained =
      isDiscarded ? files.replace(key, build) : files.obtain(key, build);
  if (!obtained)
    return tl::unexpected(obtained.error());
  return Found{std::move(obtained->image),
               obtained->built ? ImageOrigin::Compiled : ImageOrigin::Disk};
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
      if (slot->done && slot->result && matches(*slot->result->image)) {
        ++counts.memoryHits;
        return Found{slot->result->image, ImageOrigin::Memory};
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
  auto slot = std::make_shared<Slot>();
  slot->result = Found{std::make_shared<const ProgramImage>(std::move(*image)), ImageOrigin::Disk};
  slot->done = true;
  std::lock_guard<std::mutex> lock(mutex);
  slots[slot->result->image->key] = slot;
  ++counts.diskHits;
  return slot->result;
}

bool KernelStore::isAtHand(const ProgramRequest &request) const {
  Result<std::string> key = hook.key ? hook.key(request) : Result<std::string>("");
  if (!key || key->empty())
    return false;
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (auto it = slots.find(*key); it != slots.end() && it->second->done)
      return true;
  }
  return files.contains(*key);
}

Status KernelStore::add(ProgramImage image) {
  if (Status status = checkImage(image); !status)
    return status;
  auto slot = std::make_shared<Slot>();
  slot->result = Found{std::make_shared<const ProgramImage>(std::move(image)), ImageOrigin::Memory};
  slot->done = true;
  std::lock_guard<std::mutex> lock(mutex);
  slots[slot->result->image->key] = slot;
  return {};
}

void KernelStore::discard(const std::shared_ptr<const ProgramImage> &image) {
  std::lock_guard<std::mutex> lock(mutex);
  auto it = slots.find(image->key);
  // Another thread may have had it built again since: that one stays.
  if (it == slots.end() || !it->second->done || it->second->result->image != image)
    return;
  discarded.insert(image->key);
  slots.erase(it);
  files.remove(image->key);
}

KernelStore::Counters KernelStore::counters() const {
  std::lock_guard<std::mutex> lock(mutex);
  return counts;
}

} // namespace winnow
