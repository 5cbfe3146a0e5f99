// Reading the cache: its layers, whom they are trusted to, and what lies in them. Trust is decided
// on the open file (owner, mode), validity by the digest inside it; both failures are misses.
#include "runtime/Printable.h"
#include "runtime/cache/Cache.h"
#include "runtime/cache/CacheFiles.h"
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fmt/format.h>
#include <unistd.h>

namespace winnow {

bool Cache::trusts(const struct stat &info, Layer layer) const {
  return isOwn(info, /*orRoot=*/layer != Layer::Writable);
}

bool Cache::trustsDirectory(const std::string &directory, Layer layer) const {
  struct stat info;
  if (::stat(directory.c_str(), &info) != 0) {
    if (layer == Layer::ReadOnly) // the writable one is made at the first store
      warnOnce("directory " + directory,
               fmt::format("the read-only cache directory {} is not used: {}", directory,
                           std::strerror(errno)));
    return false;
  }
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

const std::vector<Cache::OpenBundle> &Cache::openBundles() const {
  std::call_once(bundlesOpened, [this] {
    for (const std::string &path : settings.bundles) {
      struct stat info{};
      Result<std::shared_ptr<const Bundle>> bundle = Bundle::open(files, path, info);
      if (bundle && !trusts(info, Layer::Bundle))
        bundle = fail(ErrorKind::Usage, "it belongs to another user or can be written by others");
      if (!bundle)
        warnOnce("bundle " + path,
                 fmt::format("the bundle {} is not used: {}", path, bundle.error().message));
      bundles.push_back({path, std::move(bundle)});
    }
    for (std::string_view memory : settings.bundleMemory) {
      Result<std::shared_ptr<const Bundle>> bundle = Bundle::open(memory);
      if (!bundle)
        warnOnce("bundle", "the bundle in memory is not used: " + bundle.error().message);
      bundles.push_back({"memory", std::move(bundle)});
    }
  });
  return bundles;
}

Cache::Reading Cache::readEntry(const std::string &path, Layer layer,
                                const std::string &key) const {
  using Outcome = Reading::Outcome;
  Reading reading;
  FileContent content;
  int code = readFile(files, path, /*followLinks=*/false, kMaxImageBytes, content);
  reading.info = content.info;
  if (code == ENOENT)
    return reading;
  if (code != 0 && code != EFBIG) {
    reading.outcome = Outcome::Unreadable;
    reading.problem =
        fmt::format("cannot read the cached kernels in {}: {}", path, std::strerror(code));
    return reading;
  }
  if (!trusts(content.info, layer)) {
    reading.outcome = Outcome::Untrusted;
    reading.problem = fmt::format("the cached kernels in {} are not used: the file belongs to "
                                  "another user or can be written by others",
                                  path);
    return reading;
  }
  if (code == EFBIG) {
    reading.outcome = Outcome::Damaged;
    reading.problem = fmt::format("the cached kernels in {} are dropped: {} bytes are too many for "
                                  "a program image",
                                  path, content.info.st_size);
    return reading;
  }
  return decode(path, content.bytes, key, std::move(reading));
}

Cache::Reading Cache::readBundle(const OpenBundle &from, const Bundle::Entry &entry) const {
  Reading reading;
  std::string buffer;
  Result<std::string_view> bytes = (*from.bundle)->read(entry, buffer);
  const std::string where = fmt::format("the bundle {} ({:.16})", from.place, entry.key);
  if (bytes)
    return decode(where, *bytes, entry.key, std::move(reading));
  reading.outcome = Reading::Outcome::Unreadable;
  reading.problem = bytes.error().message;
  return reading;
}

Cache::Reading Cache::decode(const std::string &where, std::string_view bytes,
                             const std::string &key, Reading reading) const {
  Result<ProgramImage> image = deserializeImage(bytes);
  if (image && image->key == key) {
    reading.outcome = Reading::Outcome::Good;
    reading.image = std::move(*image);
    return reading;
  }
  reading.outcome = Reading::Outcome::Damaged;
  reading.problem =
      fmt::format("the cached kernels in {} are dropped: {}", where,
                  image ? "they are those of another program" : image.error().message);
  return reading;
}

std::optional<ProgramImage> Cache::accept(Reading reading) const {
  using Outcome = Reading::Outcome;
  const char *topic = reading.outcome == Outcome::Unreadable  ? "read"
                      : reading.outcome == Outcome::Untrusted ? "owner"
                                                              : "invalid";
  if (!reading.problem.empty())
    warnOnce(topic, reading.problem);
  return std::move(reading.image);
}

std::optional<ProgramImage> Cache::loadFrom(const std::string &directory, Layer layer,
                                            const std::string &key) {
  if (!trustsDirectory(directory, layer))
    return std::nullopt;
  const std::string path = pathOf(directory, key);
  Reading reading = readEntry(path, layer, key);
  if (layer == Layer::Writable && reading.outcome == Reading::Outcome::Good)
    (void)::utimensat(AT_FDCWD, path.c_str(), nullptr, AT_SYMLINK_NOFOLLOW); // most recently used
  // Another process may have replaced the file since: only what was read is deleted.
  struct stat now;
  if (layer == Layer::Writable && reading.outcome == Reading::Outcome::Damaged &&
      ::lstat(path.c_str(), &now) == 0 && now.st_ino == reading.info.st_ino &&
      nanoseconds(now.st_ctim) == nanoseconds(reading.info.st_ctim))
    files.remove(path.c_str());
  return accept(std::move(reading));
}

std::optional<ProgramImage> Cache::load(const std::string &key) {
  tellProblems();
  if (!isKey(key))
    return std::nullopt;
  if (!settings.directory.empty())
    if (std::optional<ProgramImage> image = loadFrom(settings.directory, Layer::Writable, key))
      return image;
  for (const std::string &directory : settings.readOnly)
    if (std::optional<ProgramImage> image = loadFrom(directory, Layer::ReadOnly, key))
      return image;
  for (const OpenBundle &open : openBundles())
    if (const Bundle::Entry *entry = open.bundle ? (*open.bundle)->find(key) : nullptr)
      if (std::optional<ProgramImage> image = accept(readBundle(open, *entry)))
        return image;
  if (settings.storage.load)
    if (const std::optional<std::string> bytes = settings.storage.load(key))
      return accept(decode("the host's storage", *bytes, key, {}));
  return std::nullopt;
}

bool Cache::contains(const std::string &key) const {
  if (!isKey(key))
    return false;
  auto isThere = [&](const std::string &directory) {
    return !directory.empty() && ::access(pathOf(directory, key).c_str(), R_OK) == 0;
  };
  const std::vector<OpenBundle> &bundles = openBundles();
  return isThere(settings.directory) ||
         std::any_of(settings.readOnly.begin(), settings.readOnly.end(), isThere) ||
         std::any_of(bundles.begin(), bundles.end(), [&](const OpenBundle &open) {
           return open.bundle && (*open.bundle)->find(key) != nullptr;
         });
}

std::optional<ProgramImage> Cache::find(const std::function<bool(const ProgramImage &)> &matches) {
  for (const Entry &entry : entries()) {
    Result<ProgramImage> image = inspect(entry);
    if (!image)
      warnOnce("invalid", image.error().message);
    else if (matches(*image) && entry.layer == Layer::Writable)
      return loadFrom(entry.place, entry.layer, entry.key); // used, unlike those that were passed
    else if (matches(*image))
      return std::move(*image);
  }
  return std::nullopt;
}

Result<ProgramImage> Cache::inspect(const Entry &entry) const {
  Reading reading;
  if (entry.layer != Layer::Bundle) {
    reading = readEntry(pathOf(entry.place, entry.key), entry.layer, entry.key);
  } else {
    for (const OpenBundle &open : openBundles())
      if (const Bundle::Entry *found =
              open.bundle && open.place == entry.place ? (*open.bundle)->find(entry.key) : nullptr)
        reading = readBundle(open, *found);
  }
  if (reading.image)
    return std::move(*reading.image);
  return fail(ErrorKind::Usage,
              reading.problem.empty() ? entry.key + " is not there any more" : reading.problem);
}

void Cache::listLayer(const std::string &directory, Layer layer, std::vector<Entry> &out) const {
  size_t first = out.size();
  forEachFile(directory, [&](std::string_view name, const struct stat &info) {
    if (std::string_view key = keyOfName(name); !key.empty())
      out.push_back({std::string(key), directory, static_cast<uint64_t>(info.st_size),
                     nanoseconds(info.st_mtim), layer});
  });
  std::sort(out.begin() + static_cast<ptrdiff_t>(first), out.end(),
            [](const Entry &a, const Entry &b) {
              return a.lastUsed != b.lastUsed ? a.lastUsed > b.lastUsed : a.key < b.key;
            });
}

std::vector<Cache::Entry> Cache::entries() const {
  tellProblems();
  std::vector<Entry> all;
  if (!settings.directory.empty() && trustsDirectory(settings.directory, Layer::Writable))
    listLayer(settings.directory, Layer::Writable, all);
  for (const std::string &directory : settings.readOnly)
    if (trustsDirectory(directory, Layer::ReadOnly))
      listLayer(directory, Layer::ReadOnly, all);
  for (const OpenBundle &open : openBundles())
    if (open.bundle)
      for (const Bundle::Entry &entry : (*open.bundle)->entries())
        all.push_back({entry.key, open.place, entry.size, 0, Layer::Bundle});
  return all;
}

std::vector<Cache::LayerState> Cache::layers() const {
  std::vector<LayerState> states;
  auto addDirectory = [&](const std::string &directory, Layer layer) {
    LayerState &state = states.emplace_back();
    state.place = directory;
    state.layer = layer;
    struct stat info;
    if (::stat(directory.c_str(), &info) != 0) {
      state.missing = errno == ENOENT;
      state.unused = state.missing && layer == Layer::Writable ? "made when the first program comes"
                                                               : std::strerror(errno);
    } else if (!S_ISDIR(info.st_mode) || !trusts(info, layer))
      state.unused = "it must be a directory that belongs to you and that others cannot write";
    forEachFile(directory, [&](std::string_view name, const struct stat &file) {
      const bool entry = !keyOfName(name).empty(), temporary = isTemporaryName(name);
      state.entries += entry, state.temporaries += temporary;
      state.bytes += entry ? static_cast<uint64_t>(file.st_size) : 0;
      state.temporaryBytes += temporary ? static_cast<uint64_t>(file.st_size) : 0;
    });
  };
  if (!settings.directory.empty())
    addDirectory(settings.directory, Layer::Writable);
  for (const std::string &directory : settings.readOnly)
    addDirectory(directory, Layer::ReadOnly);
  for (const OpenBundle &open : openBundles()) {
    LayerState &state = states.emplace_back();
    state.place = open.place;
    state.layer = Layer::Bundle;
    if (!open.bundle) {
      state.missing = open.place != "memory" && ::access(open.place.c_str(), F_OK) != 0;
      state.unused = open.bundle.error().message;
      continue;
    }
    for (const Bundle::Entry &entry : (*open.bundle)->entries())
      ++state.entries, state.bytes += entry.size;
  }
  return states;
}

void Cache::tellProblems() const {
  std::call_once(problemsTold, [this] {
    for (const std::string &problem : settings.problems)
      settings.warn(problem);
  });
}

void Cache::warnOnce(const std::string &topic, const std::string &message) const {
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (!warned.insert(topic).second)
      return;
  }
  settings.warn(printable(message));
}

} // namespace winnow
