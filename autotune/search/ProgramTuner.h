// One program's candidates: compiled by a pool of workers, then loaded, checked and raced by one
// that has the GPU.
#pragma once
#include "autotune/search/Tuner.h"
#include "autotune/search/Worker.h"

namespace winnow {

/// The candidates of a program and where their images lie.
struct CandidateSet {
  SearchSpace space;
  std::vector<std::string> paths;  ///< one per candidate; empty where it was rejected
  std::vector<std::string> faults; ///< why
  Error error;                     ///< message not empty: not even the default can be lowered
};

/// Lowers and compiles all candidates with `jobs` workers.
std::shared_ptr<CandidateSet>
compileCandidates(const TuneTask &task, const TuneCompiler &compiler, const TuneOptions &options,
                  int jobs, const std::atomic<bool> &stop,
                  const std::function<void(const std::string &)> &say);

/// The worker that has a GPU. When it dies, the next request starts another one and brings it to
/// the same state.
class MeasuringWorker {
public:
  MeasuringWorker(const TuneOptions &options, int gpu);
  Status open();
  const std::string &device() const { return deviceName; }
  const std::string &arch() const { return archName; }
  const std::string &driver() const { return driverText; }

  /// Begins a program without candidates.
  Status program(const TuneTask &task);
  Status load(size_t candidate, const std::string &path);
  Result<nlohmann::json> workload(const TuneTask &task);
  /// A request about a loaded candidate. Errors: as Worker::ask.
  Result<nlohmann::json> ask(const char *what, size_t candidate);
  /// Leaves a candidate out when a new process is brought to the present state.
  void forget(size_t candidate) { loaded.erase(candidate); }

private:
  Result<nlohmann::json> request(const nlohmann::json &request);
  Status revive();

  const TuneOptions &options;
  nlohmann::json openRequest, programRequest, workloadRequest;
  std::map<size_t, std::string> loaded;
  Worker worker;
  std::string deviceName, archName, driverText;
};

struct TuneOutcome {
  TuningRecord record;
  std::vector<TuningTrial> trials;
};

class ProgramTuner {
public:
  ProgramTuner(MeasuringWorker &worker, CandidateSet &set, const std::vector<TunableRange> &ranges,
               const TuneOptions &options, const std::atomic<bool> &stop);

  /// Tunes one task. Error: DeviceFailed where every candidate failed or the workload cannot be
  /// placed.
  Result<TuneOutcome> run(const TuneTask &task, const std::function<void(double)> &progress);

private:
  /// Loads the candidates and tries them on small adversarial inputs, once per program.
  Status loadAll(const TuneTask &task);
  /// The fault that `what` finds with a candidate; empty: none.
  std::string faultOf(const char *what, size_t candidate);
  Result<RaceResult> raceVerified(std::vector<Standing> standings,
                                  const std::function<void(double)> &progress);
  TuneOutcome outcomeOf(const TuneTask &task, const RaceResult &result, double floorMs) const;

  MeasuringWorker &worker;
  CandidateSet &set;
  const std::vector<TunableRange> &ranges;
  const TuneOptions &options;
  const std::atomic<bool> &stop;
  bool ready = false;
  std::vector<std::vector<double>> clocks, watts; ///< per candidate, of the present task
};

} // namespace winnow
