// The kernel cache: one file per program image, "<key>.winnow", in one writable directory and any
// number of read-only ones, and bundles of many. It only ever saves work: whatever is wrong with a
// file or a directory is a miss, told once, never an error. Files appear by rename, so readers and
// writers of any number of processes need not know of each other; a lock per key (BuildLock.h) only
// keeps them from building the same program twice.
#pragma once
#include "runtime/cache/Bundle.h"
#include "runtime/cache/Files.h"
#include "runtime/program/ImageFormat.h"
#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace winnow {

/// A store that the host keeps, by key. Both may be empty; called from any thread.
struct HostStorage {
  std::function<std::optional<std::string>(const std::string &key)> load;
  std::function<void(const std::string &key, const std::string &bytes)> store;
};

struct CacheOptions {
  std::string directory; ///< writable directory, created (0700) by the first store; empty = none
  std::vector<std::string> readOnly;          ///< searched after it, in order
  std::vector<std::string> bundles;           ///< bundle files, searched after the directories
  std::vector<std::string_view> bundleMemory; ///< bundles in memory, which must stay there
  HostStorage storage;                        ///< searched last, by key alone
  uint64_t limitBytes = uint64_t(1)
                        << 30; ///< least recently used entries go when the directory exceeds this
  std::chrono::milliseconds lockTimeout{120000}; ///< for another process that builds the program
  std::chrono::milliseconds lockNotice{2000};    ///< of waiting for it, before `warn` is told
  std::function<void(const std::string &)>
      warn;                          ///< one-line warnings; default: stderr, each once in a process
  std::vector<std::string> problems; ///< settings that cannot be used, told at the first use
  Files *files = nullptr;            ///< for tests; default: the real calls
};

/// Directories, bundles and limit from the environment (WINNOW_CACHE_DIR, WINNOW_CACHE_READONLY,
/// WINNOW_CACHE_BUNDLES, WINNOW_CACHE_LIMIT_MB, XDG_CACHE_HOME, HOME). Without any of them,
/// `directory` is empty: kernels live in memory only. A limit that is no number is a problem.
CacheOptions defaultCacheOptions();

/// Thread-safe.
class Cache {
public:
  explicit Cache(CacheOptions options = defaultCacheOptions());

  /// The valid image of this key, or nothing. Invalid files are deleted; files of other users are
  /// never read (F38).
  std::optional<ProgramImage> load(const std::string &key);
  /// Whether some layer has a file of this key; it may still turn out to be damaged.
  bool contains(const std::string &key) const;
  /// The most recently used image for which `matches` holds: for runtimes without a compiler, which
  /// know no keys.
  std::optional<ProgramImage> find(const std::function<bool(const ProgramImage &)> &matches);
  using Build = std::function<Result<ProgramImage>()>;
  struct Obtained {
    std::shared_ptr<const ProgramImage> image;
    bool built = false;
  };
  /// The image of this key, or else what `build` makes, stored. While another process builds it,
  /// waits for that one, but never longer than options().lockTimeout. Errors: `build`'s, store's;
  /// CompileFailed when the built image has another key.
  Result<Obtained> obtain(const std::string &key, const Build &build);
  /// As obtain, but nothing instead of waiting.
  Result<std::optional<Obtained>> obtainUnlessBusy(const std::string &key, const Build &build);
  /// What `build` makes, stored in the place of whatever the cache has. Errors: as obtain.
  Result<Obtained> replace(const std::string &key, const Build &build);
  /// Publishes an image under image.key. Error: only checkImage's, for an image that must not exist
  /// on disk (F05); a directory that cannot be written is a warning, told once (F23, F24).
  Status store(const ProgramImage &image);

  enum class Layer { Writable, ReadOnly, Bundle };
  struct Entry {
    std::string key;
    std::string place; ///< its directory or bundle file; "memory" for a bundle in memory
    uint64_t bytes = 0;
    int64_t lastUsed = 0; ///< nanoseconds since the epoch; 0 in bundles
    Layer layer = Layer::Writable;
  };
  /// All entries, in the order of look-ups; most recently used first within each directory.
  std::vector<Entry> entries() const;
  /// The image of an entry, or what is wrong with it. Changes nothing, not even when it was used.
  Result<ProgramImage> inspect(const Entry &entry) const;
  /// What the cache consists of, whether it is there and usable or not.
  struct LayerState {
    std::string place;
    Layer layer = Layer::Writable;
    bool missing = false; ///< there is nothing at this place
    std::string unused;   ///< why it is not used; empty where it is
    size_t entries = 0, temporaries = 0;
    uint64_t bytes = 0, temporaryBytes = 0;
  };
  std::vector<LayerState> layers() const;
  /// Deletes least recently used entries until the writable directory holds at most `limitBytes`,
  /// and the temporaries of killed processes. Returns how many entries went.
  size_t prune(uint64_t limitBytes);
  const CacheOptions &options() const { return settings; }

private:
  /// One attempt to read one key in one layer.
  struct Reading {
    enum class Outcome { Good, Missing, Unreadable, Untrusted, Damaged } outcome = Outcome::Missing;
    std::string problem; ///< one sentence, unless good or missing
    std::optional<ProgramImage> image;
    struct stat info{}; ///< of the file that was read
  };
  struct OpenBundle {
    std::string place;
    Result<std::shared_ptr<const Bundle>> bundle;
  };
  Reading readEntry(const std::string &path, Layer layer, const std::string &key) const;
  Reading readBundle(const OpenBundle &from, const Bundle::Entry &entry) const;
  Reading decode(const std::string &where, std::string_view bytes, const std::string &key,
                 Reading reading) const;
  std::optional<ProgramImage> loadFrom(const std::string &directory, Layer layer,
                                       const std::string &key);
  std::optional<ProgramImage> accept(Reading reading) const;
  bool trusts(const struct stat &info, Layer layer) const;
  bool trustsDirectory(const std::string &directory, Layer layer) const;
  /// Opened at the first call, and then once and for all.
  const std::vector<OpenBundle> &openBundles() const;
  bool openForWriting();
  Result<std::optional<Obtained>> obtainOr(const std::string &key, const Build &build, bool wait);
  void listLayer(const std::string &directory, Layer layer, std::vector<Entry> &out) const;
  void tellProblems() const;
  void warnOnce(const std::string &topic, const std::string &message) const;

  CacheOptions settings;
  Files &files;
  mutable std::mutex
      mutex; ///< guards the members below; never held over a file's reading or writing
  mutable std::set<std::string> warned;
  bool writeFailed = false;    ///< the directory cannot be used: do not try again
  int64_t estimatedBytes = -1; ///< size of the directory as far as we know; -1 = not counted yet
  mutable std::once_flag bundlesOpened, problemsTold;
  mutable std::vector<OpenBundle> bundles; ///< see openBundles
};

} // namespace winnow
