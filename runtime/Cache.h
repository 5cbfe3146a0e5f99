// The kernel cache: one file per program image, "<key>.winnow", in one writable directory and any
// number of read-only ones. It only ever saves work: whatever is wrong with a file or a directory
// is a miss, told once, never an error. No locks: files appear by rename, so readers and writers of
// any number of processes need not know of each other.
#pragma once
#include "runtime/Files.h"
#include "runtime/ImageFormat.h"
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace winnow {

struct CacheOptions {
  std::string directory; ///< writable directory, created (0700) by the first store; empty = none
  std::vector<std::string> readOnly; ///< searched after it, in order
  uint64_t limitBytes = uint64_t(1)
                        << 30; ///< least recently used entries go when the directory exceeds this
  std::function<void(const std::string &)> warn; ///< one-line warnings; default: stderr
  Files *files = nullptr;                        ///< for tests; default: the real calls
};

/// Directories and limit from the environment (WINNOW_CACHE_DIR, WINNOW_CACHE_READONLY,
/// WINNOW_CACHE_LIMIT_MB, XDG_CACHE_HOME, HOME). Without any of them, `directory` is empty: kernels
/// live in memory only.
CacheOptions defaultCacheOptions();

/// Thread-safe.
class Cache {
public:
  explicit Cache(CacheOptions options = defaultCacheOptions());

  /// The valid image of this key, or nothing. Invalid files are deleted; files of other users are
  /// never read (F38).
  std::optional<ProgramImage> load(const std::string &key);
  /// The most recently used image for which `matches` holds: for runtimes without a compiler, which
  /// know no keys.
  std::optional<ProgramImage> find(const std::function<bool(const ProgramImage &)> &matches);
  /// Publishes an image under image.key. Error: only checkImage's, for an image that must not exist
  /// on disk (F05); a directory that cannot be written is a warning, told once (F23, F24).
  Status store(const ProgramImage &image);
  /// Forgets one entry, e.g. because the driver refused it.
  void remove(const std::string &key);

  struct Entry {
    std::string key, directory;
    uint64_t bytes = 0;
    int64_t lastUsed = 0; ///< nanoseconds since the epoch
    bool writable = false;
  };
  /// All entries, most recently used first within each directory.
  std::vector<Entry> entries() const;
  /// Deletes least recently used entries until the writable directory holds at most `limitBytes`,
  /// and temporaries that were left by processes killed over an hour ago. Returns how many entries
  /// went.
  size_t prune(uint64_t limitBytes);
  const CacheOptions &options() const { return settings; }

private:
  enum class Layer { Writable, ReadOnly };
  std::optional<ProgramImage> loadFrom(const std::string &directory, Layer layer,
                                       const std::string &key);
  bool trusts(const struct stat &info, Layer layer) const;
  bool trustsDirectory(const std::string &directory, Layer layer);
  bool openForWriting();
  void listLayer(const std::string &directory, bool writable, std::vector<Entry> &out) const;
  void warnOnce(const std::string &topic, const std::string &message);

  CacheOptions settings;
  Files &files;
  mutable std::mutex
      mutex; ///< guards the members below; never held over a file's reading or writing
  std::set<std::string> warned;
  bool writeFailed = false;    ///< the directory cannot be used: do not try again
  int64_t estimatedBytes = -1; ///< size of the directory as far as we know; -1 = not counted yet
};

} // namespace winnow
