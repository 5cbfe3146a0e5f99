// A sweep: tasks one after the other on each GPU, the candidates of the next program compiled while
// the present one is timed. All that may crash or hang happens in workers (Worker.h); what they are
// asked is documented here, so that a test can stand in for a GPU.
//
// Requests to a compiling worker:
//   {do: "compile", method, spec, config, phase, arch, ptx, emulated, nvrtc, directory} -> {path}:
//   the phase's image file
// Requests to a measuring worker, in this order:
//   {do: "open", gpu, arch, ptx, device}         -> {device, driver, arch}
//   {do: "program", method, spec, phase}         -> {} what candidates belong to from now on
//   {do: "load", candidate, path}                -> {}
//   {do: "cases", candidate}                     -> {fault}: adversarial small inputs, compared
//   with the reference (F26) {do: "workload", tokens, overlap, batch}     -> {floor_ms}: inputs in
//   device memory {do: "check", candidate}                     -> {fault}: sampled rows of the
//   workload, compared with the reference {do: "time", candidate}                      -> {ms,
//   clock_mhz, watts}: one launch, replayed from a graph, cold L2
#pragma once
#include "autotune/search/Race.h"
#include "autotune/search/SearchSpace.h"
#include "autotune/search/TuningFile.h"
#include <atomic>
#include <map>

namespace winnow {

/// One thing to tune. `key.arch` and `key.device` are filled in by the GPU that takes it.
struct TuneTask {
  TuningKey key;
};

/// The same for tasks that share a program, and so its candidates.
std::string programOf(const TuneTask &task);

struct TuneOptions {
  Effort effort = Effort::Quick;
  bool verifyAll = true; ///< compare every candidate with the reference, or only the winner
  std::vector<int> gpus{0};
  int jobs = 0;                                ///< compiling workers; 0: one per core
  double compileTimeout = 60, runTimeout = 30; ///< seconds
  std::string onlyDevice;                      ///< refuse GPUs of another name; empty: any
  std::string arch;                            ///< empty: the device's own
  bool ptx = false;
  std::string
      emulated; ///< "emulated:ARCH" in place of the GPUs, to try a sweep of decode or backward
  std::string nvrtcPath;
  bool resume = false;
  RaceOptions race;
  std::vector<std::string> compileCommand, measureCommand; ///< of the workers
  std::string scratch;    ///< folder for images and the workers' log; made and removed
  std::string code, date; ///< for the records
};

/// What the tuner needs of a compiler.
struct TuneCompiler {
  std::function<Result<ProgramImage>(const TuneTask &task, const Config &config)> lower;
  std::vector<TunableRange> ranges; ///< of all phases
};

struct TuneProgress {
  int done = 0, skipped = 0, failed = 0, total = 0; ///< tasks
  double share = 0;                                 ///< of everything, 0..1
  std::string doing; ///< "attend infllm_v2 131072 tokens: compiling 17 of 22"
};

struct TuneReport {
  int done = 0, skipped = 0;
  std::vector<std::string> failures; ///< one sentence per task that gave no record
  std::vector<TuningRecord> records; ///< of this run
  bool stopped = false;              ///< by `stop`; the file has every finished task
};

/// Runs the tasks and appends their records and trials to `file`. `stop` ends it after at most one
/// launch or compilation. `tell` is called from several threads, never two at once. Error:
/// DeviceFailed where no GPU can be used at all; Usage for a file that cannot be written.
Result<TuneReport> tune(const std::vector<TuneTask> &tasks, const TuneCompiler &compiler,
                        const TuneOptions &options, TuningFile &file, const std::atomic<bool> &stop,
                        const std::function<void(const TuneProgress &)> &tell);

} // namespace winnow
