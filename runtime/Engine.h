// The library's front door: prepare programs (slow, may compile), then find and launch them (fast,
// never compiles). The C API in winnow.h is a thin layer over this class.
#pragma once
#include "runtime/program/Launcher.h"
#include "runtime/tuned/ConfigChooser.h"
#include <array>

namespace winnow {

struct EngineOptions {
  CacheOptions cache = defaultCacheOptions();
  CompileHook hook;       ///< empty: cached kernels only
  std::string driverPath; ///< as Driver::open
  bool allowPtx = false;  ///< as LoadOptions
  TuningOptions tuning;   ///< where tunables come from that a request leaves open
};

/// What tells one content of a method's file from the next, without reading it: an edited text is
/// another program (F09). Zeros for a built-in method.
std::array<int64_t, 4> textVersion(const std::string &method);

/// Thread-safe.
class Engine {
public:
  /// Errors: Driver::open's.
  static Result<std::unique_ptr<Engine>> create(EngineOptions options);

  struct Prepared {
    std::shared_ptr<const LoadedProgram> program;
    ImageOrigin origin = ImageOrigin::Memory;
    std::shared_ptr<const ChosenConfig> choice; ///< never null
  };
  /// Compiles or loads what `request` names and loads it onto `device`. An empty arch means the
  /// device's own; tunables that the request leaves open are looked up. An image from the cache
  /// that the driver refuses is built again, once (F06); a tuned configuration that no program can
  /// be had with gives way to the default. The second time, neither key nor cache is looked at.
  /// Makes the device's context current.
  Result<Prepared> prepare(ProgramRequest request, int device);
  /// prepare() for many requests, on as many threads as there are cores: one result per request.
  /// `goOn` (may be empty) is told after each; once it says false, no other request is begun.
  std::vector<Result<Prepared>>
  prepareAll(const std::vector<ProgramRequest> &requests, int device,
             const std::function<bool(const ProgramRequest &)> &goOn = {});
  /// From now on nothing is compiled: see KernelStore::seal.
  void seal() { images->seal(); }
  KernelStore::Counters counters() const;
  /// The program of an equal request that was prepared for this device. Error: NotReady; never
  /// compiles or loads.
  Result<Prepared> find(ProgramRequest request, int device) const;
  /// Loads an image file's program onto `device`.
  Result<Prepared> prepareImage(const std::string &path, int device);

  /// The configurations decided on so far, as JSON lines for TuningOptions::decisions (fault F14).
  std::string decisions() const { return chooser->decisions(); }

  const std::shared_ptr<Driver> &driver() const { return gpu; }
  KernelStore &store() { return *images; }

private:
  Engine() = default;
  Status completeArch(ProgramRequest &request, int device) const;
  Result<Prepared> prepareWith(const ProgramRequest &request, const Spec &spec,
                               const Config &config, int device);
  Result<std::shared_ptr<const LoadedProgram>> loadOnce(std::shared_ptr<const ProgramImage> image,
                                                        int device, bool *refused);

  std::shared_ptr<Driver> gpu;
  std::unique_ptr<ConfigChooser> chooser;
  std::unique_ptr<KernelStore> images;
  bool allowPtx = false;
  mutable std::mutex mutex; ///< guards the maps; never held over a load
  struct Ready {
    Prepared prepared;
    std::array<int64_t, 4> textVersion; ///< of the method's file, where it is one
  };
  std::map<std::pair<std::string, int>, Ready> byRequest; ///< request text, device
  uint64_t refusals = 0;    ///< prepare() that would have had to compile after seal()
  uint64_t requestHits = 0; ///< prepare() answered by byRequest
  std::map<std::pair<std::string, int>, std::shared_ptr<const LoadedProgram>>
      byKey; ///< image key, device
};

} // namespace winnow
