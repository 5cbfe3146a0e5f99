// From a request to a program image: memory, then the file cache, then the compiler if there is
// one. One build per key, whoever else wants that key waits for it, and no lock of this process is
// held while compiling (fault F31).
#pragma once
#include "runtime/cache/Cache.h"
#include "runtime/tuned/TunedLadder.h"
#include <atomic>
#include <future>
#include <map>
#include <memory>
#include <set>
#include <sys/types.h>

namespace winnow {

/// What a caller wants to run; fields as in Spec, Config and Target.
struct ProgramRequest {
  std::string method; ///< built-in name or path of a method's text
  Spec spec;
  Config config;
  std::string arch;       ///< Target::arch
  Workload workload = {}; ///< what the configuration is chosen for, where `config` leaves that open

  /// Canonical one-line text: equal requests have equal text. Workloads are equal when they fall
  /// into one bucket.
  std::string text() const;
};

/// The compiler, as the runtime sees it. Both functions are called from any thread, several at
/// once, and must not throw.
struct CompileHook {
  /// The cache key of a request: digest of everything that decides the code.
  std::function<Result<std::string>(const ProgramRequest &)> key;
  /// Builds the image; its `key` must be what `key` returned.
  std::function<Result<ProgramImage>(const ProgramRequest &)> build;
  /// May be empty. Refuses, in milliseconds, what `build` would refuse: tuned configurations pass
  /// here before they are used (fault F13).
  std::function<Status(const ProgramRequest &)> check = {};
  /// May be empty. The parameters that a method declares, with their defaults: a request may name
  /// any of them or none, and tuned configurations too.
  std::function<Result<std::map<std::string, std::string>>(const std::string &method)> parameters =
      {};
};

/// Where an image came from (fault F40).
enum class ImageOrigin { Memory, Disk, Compiled };
const char *name(ImageOrigin origin);

/// Thread-safe.
class KernelStore {
public:
  /// Without a hook the store serves images that were added or lie in the cache ("cached kernels
  /// only").
  explicit KernelStore(CacheOptions options = defaultCacheOptions(), CompileHook hook = {});

  struct Found {
    std::shared_ptr<const ProgramImage> image;
    ImageOrigin origin = ImageOrigin::Memory;
  };
  /// May compile, so it may take seconds. Errors: the hook's; Unsupported without a hook when
  /// nothing cached fits.
  Result<Found> prepare(const ProgramRequest &request);
  /// Whether prepare would find an image without compiling. False without a hook.
  bool isAtHand(const ProgramRequest &request) const;
  /// Keeps an image that came from elsewhere (a file): later requests that its spec and config
  /// satisfy find it without a hook, and `prepare` finds it under its key. Error: checkImage's.
  Status add(ProgramImage image);
  /// Forgets an image that the driver refused (F06). The cache keeps it, since other hosts may
  /// share it and their drivers may take it; this store remembers not to load it again. With a
  /// compiler the next prepare builds the program anew, and what it builds takes the entry's place;
  /// without one, prepare finds another program or none. Does nothing where another thread has done
  /// so already.
  void discard(const std::shared_ptr<const ProgramImage> &image);

  struct Counters {
    uint64_t memoryHits = 0, diskHits = 0, builds = 0;
    uint64_t refused = 0; ///< would have had to compile after seal()
  };
  Counters counters() const;
  /// From now on nothing is compiled (F16): what is in memory or in the cache is served as before,
  /// for anything else prepare fails with NotReady. Builds under way are finished.
  void seal() { sealed = true; }
  Cache &cache() { return files; }

private:
  /// One key being built, or built. Waiters hold it by shared_ptr, so forgetting a key never
  /// disturbs them. A child that is forked during a build has the slot but not the thread that
  /// would finish it (see isAbandoned).
  struct Slot {
    Slot();
    explicit Slot(Found built);
    bool isDone() const;
    bool isAbandoned() const;
    std::promise<Result<Found>> promise; ///< kept by the thread that builds
    std::shared_future<Result<Found>> result;
    pid_t builder; ///< process
  };
  Result<Found> loadOrBuild(const ProgramRequest &request, const std::string &key, bool alone);
  Result<Found> joinBuild(const Slot &slot, std::unique_lock<std::mutex> &lock);
  Result<Found> findWithoutCompiler(const ProgramRequest &request);

  Cache files;
  CompileHook hook;
  mutable std::mutex mutex; ///< guards everything below; never held over a load or a build
  std::map<std::string, std::shared_ptr<Slot>> slots; ///< by key
  std::set<std::string> discarded; ///< keys whose images in the cache this driver refused
  Counters counts;
  std::atomic<bool> sealed{false};
};

} // namespace winnow
