// Writing the cache: storing, building what is missing, pruning. Sizes are counted when first
// needed and estimated from then on, so that a store costs no directory scan. Reading is in
// CacheLayers.cpp.
#include "runtime/cache/Cache.h"
#include "runtime/Environment.h"
#include "runtime/cache/BuildLock.h"
#include "runtime/cache/CacheFiles.h"
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fmt/format.h>
#include <thread>
#include <unistd.h>

namespace winnow {

CacheOptions defaultCacheOptions() {
  using V = EnvironmentVariable;
  CacheOptions options;
  options.directory = environmentValue(V::WinnowCacheDir);
  // The XDG base directory specification: relative paths are to be ignored.
  if (std::string base = environmentValue(V::XdgCacheHome);
      options.directory.empty() && base[0] == '/')
    options.directory = base + "/winnow";
  if (std::string home = environmentValue(V::Home); options.directory.empty() && home[0] == '/')
    options.directory = home + "/.cache/winnow";
  options.readOnly = splitPaths(environmentValue(V::WinnowCacheReadOnly));
  options.bundles = splitPaths(environmentValue(V::WinnowCacheBundles));
  std::string limit = environmentValue(V::WinnowCacheLimitMb);
  if (!limit.empty() && limit.size() < 10 &&
      limit.find_first_not_of("0123456789") == std::string::npos)
    options.limitBytes = std::stoull(limit) << 20;
  else if (!limit.empty())
    options.problems.push_back(
        fmt::format("WINNOW_CACHE_LIMIT_MB={} is no number of MB below 10^9: {} is used", limit,
                    options.limitBytes >> 20));
  return options;
}

Cache::Cache(CacheOptions options)
    : settings(std::move(options)), files(settings.files ? *settings.files : systemFiles()) {
  if (!settings.warn)
    settings.warn = [](const std::string &message) {
      static std::mutex guard; // a process may have several caches of the same settings
      static std::set<std::string> &told = *new std::set<std::string>; // outlives every thread
      std::lock_guard<std::mutex> lock(guard);
      if (told.insert(message).second)
        std::fprintf(stderr, "winnow: warning: %s\n", message.c_str());
    };
}

Result<Cache::Obtained> Cache::obtain(const std::string &key, const Build &build) {
  WINNOW_TRY(std::optional<Obtained> obtained, obtainOr(key, build, /*wait=*/true));
  return std::move(*obtained);
}

Result<std::optional<Cache::Obtained>> Cache::obtainUnlessBusy(const std::string &key,
                                                               const Build &build) {
  return obtainOr(key, build, /*wait=*/false);
}

Result<std::optional<Cache::Obtained>> Cache::obtainOr(const std::string &key, const Build &build,
                                                       bool wait) {
  using namespace std::chrono;
  auto cached = [&]() -> std::optional<Obtained> {
    std::optional<ProgramImage> image = load(key);
    if (!image)
      return std::nullopt;
    return Obtained{std::make_shared<const ProgramImage>(std::move(*image)), false};
  };
  if (std::optional<Obtained> found = cached())
    return found;
  std::optional<BuildLock> lock;
  if (isKey(key) && openForWriting()) {
    lock.emplace(files, settings.directory, key);
    const auto begin = steady_clock::now();
    milliseconds pause{1};
    while (lock->tryTake() == BuildLock::State::Busy) {
      if (!wait)
        return std::nullopt;
      const auto waited = steady_clock::now() - begin;
      if (waited >= settings.lockNotice) {
        const std::optional<BuildLock::Holder> holder = lock->holder();
        if (holder && holder->isDead)
          break; // a child of it has its open file, and with it the lock
        warnOnce("wait for " + key,
                 fmt::format("waiting for {}, which is compiling the same program; going on "
                             "without it after {} s",
                             holder ? fmt::format("process {} on {}", holder->process, holder->host)
                                    : "another process",
                             duration_cast<seconds>(settings.lockTimeout).count()));
      }
      if (waited >= settings.lockTimeout) {
        warnOnce("lock", fmt::format("another process has been compiling the same program for over "
                                     "{} s: going on without it",
                                     duration_cast<seconds>(settings.lockTimeout).count()));
        break;
      }
      std::this_thread::sleep_for(pause);
      pause = std::min(2 * pause, milliseconds(50));
      if (std::optional<Obtained> found = cached())
        return found;
    }
    // Who had the lock before, or wrote it since the look-up above, has left us its result.
    if (std::optional<Obtained> found = cached())
      return found;
  }
  return replace(key, build);
}

Result<Cache::Obtained> Cache::replace(const std::string &key, const Build &build) {
  WINNOW_TRY(ProgramImage built, build());
  if (built.key != key)
    return fail(
        ErrorKind::CompileFailed,
        fmt::format("the compiler built key '{}' where '{}' was asked for", built.key, key));
  WINNOW_CHECK(store(built));
  return Obtained{std::make_shared<const ProgramImage>(std::move(built)), true};
}

bool Cache::openForWriting() {
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (writeFailed)
      return false;
  }
  std::string reason;
  if (settings.directory.empty())
    reason = "no cache directory is known (HOME and WINNOW_CACHE_DIR are unset)";
  else if (int code = makeDirectories(settings.directory))
    reason = fmt::format("cannot create {}: {}", settings.directory, std::strerror(code));
  else if (!trustsDirectory(settings.directory, Layer::Writable))
    reason = fmt::format("{} cannot be trusted", settings.directory);
  else if (::access(settings.directory.c_str(), W_OK | X_OK) != 0)
    reason = fmt::format("cannot write to {}: {}", settings.directory, std::strerror(errno));
  if (reason.empty())
    return true;
  warnOnce("store", fmt::format("compiled kernels are kept in memory only: {}", reason));
  std::lock_guard<std::mutex> lock(mutex);
  writeFailed = true;
  return false;
}

Status Cache::store(const ProgramImage &image) {
  WINNOW_TRY(std::string bytes, serializeImage(image));
  if (!isKey(image.key))
    return fail(ErrorKind::CompileFailed, fmt::format("'{}' is not a cache key", image.key));
  if (settings.storage.store)
    settings.storage.store(image.key, bytes);
  if (bytes.size() > settings.limitBytes || !openForWriting())
    return {};
  std::string path = pathOf(settings.directory, image.key);
  int code = publish(files, path, bytes, 0600);
  if (code == ENOSPC || code == EDQUOT) {
    // The disk is fuller than our limit foresees: give half of the cache back and try once more.
    uint64_t used = 0;
    for (const Entry &entry : entries())
      used += entry.layer == Layer::Writable ? entry.bytes : 0;
    if (prune(used / 2) > 0)
      code = publish(files, path, bytes, 0600);
  }
  if (code != 0) {
    warnOnce("store", fmt::format("compiled kernels are kept in memory only: cannot write {}: {}",
                                  path, std::strerror(code)));
    return {};
  }
  bool overLimit = false;
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (estimatedBytes >= 0)
      estimatedBytes += static_cast<int64_t>(bytes.size());
    overLimit = estimatedBytes < 0 || estimatedBytes > static_cast<int64_t>(settings.limitBytes);
  }
  if (overLimit)
    prune(settings.limitBytes);
  return {};
}

size_t Cache::prune(uint64_t limitBytes) {
  if (settings.directory.empty())
    return 0;
  removeStaleTemporaries(files, settings.directory);
  std::vector<Entry> all;
  listLayer(settings.directory, Layer::Writable, all);
  size_t removed = 0;
  // What nobody can load goes first: its size must not drive out the others.
  auto unusable = std::remove_if(all.begin(), all.end(), [&](const Entry &entry) {
    if (entry.bytes <= kMaxImageBytes)
      return false;
    files.remove(pathOf(settings.directory, entry.key).c_str());
    ++removed;
    return true;
  });
  all.erase(unusable, all.end());
  uint64_t total = 0;
  for (const Entry &entry : all)
    total += entry.bytes;
  // A little below the limit, so that the next store does not scan again.
  const uint64_t goal = total > limitBytes ? limitBytes - limitBytes / 10 : limitBytes;
  for (size_t i = all.size(); total > goal && i > 0; --i) {
    files.remove(pathOf(settings.directory, all[i - 1].key).c_str());
    total -= all[i - 1].bytes;
    ++removed;
  }
  std::lock_guard<std::mutex> lock(mutex);
  estimatedBytes = static_cast<int64_t>(total);
  return removed;
}

} // namespace winnow
