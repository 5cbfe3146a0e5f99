// The file cache. Trust is decided on the open file (owner, mode), validity by the digest inside
// it; both failures are misses. Sizes are counted when first needed and estimated from then on, so
// that a store costs no directory scan.
#include "runtime/Cache.h"
#include "runtime/Environment.h"
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace winnow {

namespace {

constexpr std::string_view kSuffix = ".winnow";
constexpr int64_t kStaleNanoseconds = int64_t(3600) * 1000000000;

int64_t nanoseconds(const struct timespec &time) {
  return int64_t(time.tv_sec) * 1000000000 + time.tv_nsec;
}

/// Keys become file names: only digests may.
bool isKey(const std::string &key) {
  return key.size() >= 16 && key.size() <= 128 &&
         key.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::string pathOf(const std::string &directory, const std::string &key) {
  return directory + "/" + key + std::string(kSuffix);
}

/// mkdir -p; what is created is for this user only. Returns 0 or an errno.
int makeDirectories(const std::string &path) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    std::string prefix = path.substr(0, slash);
    if (::mkdir(prefix.c_str(), 0700) != 0 && errno != EEXIST) {
      int code = errno;
      struct stat info;
      // A parent on a read-only file system says EROFS although it exists.
      if (::stat(prefix.c_str(), &info) != 0 || !S_ISDIR(info.st_mode))
        return code;
    }
    if (slash == std::string::npos)
      return 0;
  }
}

template <typename Visit> void forEachFile(const std::string &directory, Visit visit) {
  DIR *handle = ::opendir(directory.c_str());
  if (!handle)
    return;
  while (const dirent *entry = ::readdir(handle)) {
    struct stat info;
    if (::fstatat(::dirfd(handle), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISREG(info.st_mode))
      visit(std::string_view(entry->d_name), info);
  }
  ::closedir(handle);
}

bool isEntryName(std::string_view name) {
  return name.size() > kSuffix.size() && name.substr(name.size() - kSuffix.size()) == kSuffix &&
         isKey(std::string(name.substr(0, name.size() - kSuffix.size())));
}

} // namespace

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
  std::string list = environmentValue(V::WinnowCacheReadOnly);
  for (size_t begin = 0; begin < list.size();) {
    size_t end = std::min(list.find(':', begin), list.size());
    if (end > begin)
      options.readOnly.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  std::string limit = environmentValue(V::WinnowCacheLimitMb);
  if (!limit.empty() && limit.size() < 10 &&
      limit.find_first_not_of("0123456789") == std::string::npos)
    options.limitBytes = std::stoull(limit) << 20;
  return options;
}

Cache::Cache(CacheOptions options)
    : settings(std::move(options)), files(settings.files ? *settings.files : systemFiles()) {
  if (!settings.warn)
    settings.warn = [](const std::string &message) {
      std::fprintf(stderr, "winnow: warning: %s\n", message.c_str());
    };
}

std::optional<ProgramImage> Cache::load(const std::string &key) {
  if (!isKey(key))
    return std::nullopt;
  if (!settings.directory.empty())
    if (std::optional<ProgramImage> image = loadFrom(settings.directory, Layer::Writable, key))
      return image;
  for (const std::string &directory : settings.readOnly)
    if (std::optional<ProgramImage> image = loadFrom(directory, Layer::ReadOnly, key))
      return image;
  return std::nullopt;
}

std::optional<ProgramImage> Cache::find(const std::function<bool(const ProgramImage &)> &matches) {
  for (const Entry &entry : entries()) {
    Layer layer = entry.writable ? Layer::Writable : Layer::ReadOnly;
    if (std::optional<ProgramImage> image = loadFrom(entry.directory, layer, entry.key);
        image && matches(*image))
      return image;
  }
  return std::nullopt;
}

bool Cache::trusts(const struct stat &info, Layer layer) const {
  bool owned = info.st_uid == ::geteuid() || (layer == Layer::ReadOnly && info.st_uid == 0);
  return owned && (info.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

bool Cache::trustsDirectory(const std::string &directory, Layer layer) {
  struct stat info;
  if (::stat(directory.c_str(), &info) != 0)
    return false; // not there: nothing to trust, nothing to say
  if (S_ISDIR(info.st_mode) && trusts(info, layer))
    return true;
  warnOnce(
      "directory " + directory,
      fmt::format(
          "the cache directory {} is not used: it must be a directory that belongs to you and that "
          "others cannot write (chmod 700)",
          directory));
  return false;
}

std::optional<ProgramImage> Cache::loadFrom(const std::string &directory, Layer layer,
                                            const std::string &key) {
  if (!trustsDirectory(directory, layer))
    return std::nullopt;
  std::string path = pathOf(directory, key);
  FileContent content;
  int code = readFile(files, path, /*followLinks=*/false, content);
  if (code == ENOENT)
    return std::nullopt;
  if (code != 0) {
    warnOnce("read",
             fmt::format("cannot read the cached kernels in {}: {}", path, std::strerror(code)));
    return std::nullopt;
  }
  if (!trusts(content.info, layer)) {
    warnOnce(
        "owner",
        fmt::format(
            "the cached kernels in {} are not used: the file belongs to another user or can be "
            "written by others",
            path));
    return std::nullopt;
  }
  Result<ProgramImage> image = deserializeImage(content.bytes);
  if (image && image->key == key) {
    if (layer == Layer::Writable)
      (void)::utimensat(AT_FDCWD, path.c_str(), nullptr, AT_SYMLINK_NOFOLLOW); // most recently used
    return std::move(*image);
  }
  warnOnce("invalid",
           fmt::format("the cached kernels in {} are dropped: {}", path,
                       image ? "they are those of another program" : image.error().message));
  // Another process may have replaced the file since: only what was read is deleted.
  struct stat now;
  if (layer == Layer::Writable && ::lstat(path.c_str(), &now) == 0 &&
      now.st_ino == content.info.st_ino &&
      nanoseconds(now.st_ctim) == nanoseconds(content.info.st_ctim))
    files.remove(path.c_str());
  return std::nullopt;
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
  Result<std::string> bytes = serializeImage(image);
  if (!bytes)
    return tl::unexpected(bytes.error());
  if (!isKey(image.key))
    return fail(ErrorKind::CompileFailed, fmt::format("'{}' is not a cache key", image.key));
  if (bytes->size() > settings.limitBytes || !openForWriting())
    return {};
  std::string path = pathOf(settings.directory, image.key);
  int code = publish(files, path, *bytes, 0600);
  if (code == ENOSPC || code == EDQUOT) {
    // The disk is fuller than our limit foresees: give half of the cache back and try once more.
    uint64_t used = 0;
    for (const Entry &entry : entries())
      used += entry.writable ? entry.bytes : 0;
    if (prune(used / 2) > 0)
      code = publish(files, path, *bytes, 0600);
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
      estimatedBytes += static_cast<int64_t>(bytes->size());
    overLimit = estimatedBytes < 0 || estimatedBytes > static_cast<int64_t>(settings.limitBytes);
  }
  if (overLimit)
    prune(settings.limitBytes);
  return {};
}

void Cache::remove(const std::string &key) {
  if (isKey(key) && !settings.directory.empty())
    files.remove(pathOf(settings.directory, key).c_str());
}

void Cache::listLayer(const std::string &directory, bool writable, std::vector<Entry> &out) const {
  size_t first = out.size();
  forEachFile(directory, [&](std::string_view name, const struct stat &info) {
    if (isEntryName(name))
      out.push_back({std::string(name.substr(0, name.size() - kSuffix.size())), directory,
                     static_cast<uint64_t>(info.st_size), nanoseconds(info.st_mtim), writable});
  });
  std::sort(out.begin() + static_cast<ptrdiff_t>(first), out.end(),
            [](const Entry &a, const Entry &b) {
              return a.lastUsed != b.lastUsed ? a.lastUsed > b.lastUsed : a.key < b.key;
            });
}

std::vector<Cache::Entry> Cache::entries() const {
  std::vector<Entry> all;
  if (!settings.directory.empty())
    listLayer(settings.directory, true, all);
  for (const std::string &directory : settings.readOnly)
    listLayer(directory, false, all);
  return all;
}

size_t Cache::prune(uint64_t limitBytes) {
  if (settings.directory.empty())
    return 0;
  struct timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  std::vector<std::string> stale;
  forEachFile(settings.directory, [&](std::string_view name, const struct stat &info) {
    if (isTemporaryName(name) && nanoseconds(now) - nanoseconds(info.st_mtim) > kStaleNanoseconds)
      stale.push_back(settings.directory + "/" + std::string(name));
  });
  for (const std::string &path : stale)
    files.remove(path.c_str());

  std::vector<Entry> all;
  listLayer(settings.directory, true, all);
  uint64_t total = 0;
  for (const Entry &entry : all)
    total += entry.bytes;
  // A little below the limit, so that the next store does not scan again.
  const uint64_t goal = total > limitBytes ? limitBytes - limitBytes / 10 : limitBytes;
  size_t removed = 0;
  for (size_t i = all.size(); total > goal && i > 0; --i) {
    files.remove(pathOf(settings.directory, all[i - 1].key).c_str());
    total -= all[i - 1].bytes;
    ++removed;
  }
  std::lock_guard<std::mutex> lock(mutex);
  estimatedBytes = static_cast<int64_t>(total);
  return removed;
}

void Cache::warnOnce(const std::string &topic, const std::string &message) {
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (!warned.insert(topic).second)
      return;
  }
  settings.warn(message);
}

} // namespace winnow
