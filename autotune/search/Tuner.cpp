// The sweep itself: programs queue up, each GPU takes the next one, and while it is timed the
// following one is compiled.
#include "autotune/search/Tuner.h"
#include "autotune/search/ProgramTuner.h"
#include "runtime/Threads.h"
#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <fmt/format.h>
#include <future>
#include <memory>
#include <thread>

namespace winnow {

namespace {

class Sweep {
public:
  Sweep(const std::vector<TuneTask> &tasks, const TuneCompiler &compiler,
        const TuneOptions &options, TuningFile &file, const std::atomic<bool> &stop,
        const std::function<void(const TuneProgress &)> &tell)
      : compiler(compiler), options(options), file(file), stop(stop), tell(tell) {
    progress.total = static_cast<int>(tasks.size());
    for (const TuneTask &task : tasks) {
      std::string name = programOf(task);
      auto it = std::find_if(programs.begin(), programs.end(),
                             [&](const Program &p) { return p.name == name; });
      if (it == programs.end()) {
        programs.emplace_back();
        it = programs.end() - 1;
        it->name = name;
      }
      it->tasks.push_back(task);
    }
  }

  Result<TuneReport> run() {
    std::error_code code;
    std::filesystem::create_directories(options.scratch, code);
    if (code)
      return fail(ErrorKind::Usage,
                  fmt::format("cannot create {}: {}", options.scratch, code.message()));
    std::atomic<size_t> next{0};
    runOnThreads(options.gpus.size(), [&](bool) {
      for (size_t i; (i = next++) < options.gpus.size();)
        runLane(options.gpus[i]);
    });
    report.stopped = stop;
    report.done = progress.done, report.skipped = progress.skipped;
    if (!fatal.message.empty() && report.done + report.skipped == 0 && report.failures.empty())
      return tl::unexpected(fatal);
    if (!writeFault.message.empty())
      return tl::unexpected(writeFault);
    if (!fatal.message.empty() && !stop)
      report.failures.push_back(fatal.message);
    if (!stop)
      std::filesystem::remove_all(options.scratch,
                                  code); // images of candidates: of no use any more
    return std::move(report);
  }

private:
  struct Program {
    std::string name;
    std::vector<TuneTask> tasks;
    bool prepared = false; ///< or being prepared
    std::shared_future<std::shared_ptr<CandidateSet>> candidates;
  };

  /// Begins to compile the candidates of a program, once.
  void prepare(size_t index) {
    std::lock_guard<std::mutex> lock(mutex);
    if (index >= programs.size() || programs[index].prepared || stop)
      return;
    programs[index].prepared = true;
    TuneTask task = programs[index].tasks.front();
    task.key.arch = arch;
    int jobs = options.jobs > 0
                   ? options.jobs
                   : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    jobs = std::max(1, jobs / static_cast<int>(options.gpus.size()));
    programs[index].candidates =
        std::async(std::launch::async, [this, task, jobs] {
          return compileCandidates(task, compiler, options, jobs, stop,
                                   [this](const std::string &what) { say(what); });
        }).share();
  }

  /// Begins with the next program that nobody has begun with and that has something left to do.
  void prepareNext(size_t index, const MeasuringWorker &worker) {
    auto isOpen = [&](const Program &program) {
      std::lock_guard<std::mutex> lock(mutex);
      return !program.prepared &&
             std::any_of(program.tasks.begin(), program.tasks.end(),
                         [&](const TuneTask &task) { return !isDone(task, worker); });
    };
    for (size_t i = index + 1; i < programs.size(); ++i)
      if (isOpen(programs[i]))
        return prepare(i);
  }

  bool isDone(TuneTask task, const MeasuringWorker &worker) const {
    task.key.arch = worker.arch(), task.key.device = worker.device();
    return options.resume && file.has(task.key, name(options.effort));
  }

  void runLane(int gpu) {
    MeasuringWorker worker(options, gpu);
    if (Status opened = worker.open(); !opened) {
      std::lock_guard<std::mutex> lock(mutex);
      fatal = opened.error();
      return;
    }
    {
      // Candidates are compiled once for all GPUs.
      std::lock_guard<std::mutex> lock(mutex);
      if (!options.onlyDevice.empty() && worker.device() != options.onlyDevice) {
        fatal = {ErrorKind::Usage,
                 fmt::format("GPU {} is a {}, not a {}: leave --device-profile out to tune for it",
                             gpu, worker.device(), options.onlyDevice)};
        return;
      }
      if (arch.empty())
        arch = worker.arch();
      if (arch != worker.arch()) {
        fatal = {
            ErrorKind::Usage,
            fmt::format("GPU {} needs code for {}, others of this sweep for {}: tune them apart",
                        gpu, worker.arch(), arch)};
        return;
      }
    }
    for (size_t index; !stop && (index = next++) < programs.size();) {
      Program &program = programs[index];
      std::vector<TuneTask> open;
      for (TuneTask task : program.tasks) {
        task.key.arch = worker.arch(), task.key.device = worker.device();
        if (isDone(task, worker))
          finishTask(&TuneProgress::skipped);
        else
          open.push_back(task);
      }
      if (open.empty())
        continue;
      prepare(index);
      if (stop || !program.candidates.valid())
        return;
      std::shared_ptr<CandidateSet> set = program.candidates.get();
      if (stop)
        return;
      prepareNext(index, worker);
      tuneProgram(worker, open, *set);
      program.candidates = {};
    }
  }

  void tuneProgram(MeasuringWorker &worker, const std::vector<TuneTask> &open, CandidateSet &set) {
    ProgramTuner tuner(worker, set, compiler.ranges, options, stop);
    for (const TuneTask &task : open) {
      if (stop)
        return;
      std::string what =
          fmt::format("{} {} at {} tokens", task.key.phase, task.key.method, task.key.tokens);
      if (task.key.overlap)
        what += fmt::format(", L = {}", task.key.overlap);
      if (task.key.batch)
        what += fmt::format(", {} sequences", task.key.batch);
      say(what);
      Result<TuneOutcome> outcome = tuner.run(task, [this](double share) { part(share); });
      if (stop)
        return; // what was not finished is measured again when the sweep goes on
      if (!outcome) {
        std::lock_guard<std::mutex> lock(mutex);
        report.failures.push_back(
            fmt::format("{} [{}]: {}", what, task.key.spec.text(), outcome.error().message));
      } else if (Status written = keep(*outcome); !written) {
        std::lock_guard<std::mutex> lock(mutex);
        writeFault = written.error();
        next = programs.size();
        return;
      }
      finishTask(outcome ? &TuneProgress::done : &TuneProgress::failed);
    }
  }

  Status keep(const TuneOutcome &outcome) {
    std::vector<std::string> lines;
    for (const TuningTrial &trial : outcome.trials)
      lines.push_back(trialLine(trial));
    lines.push_back(recordLine(outcome.record)); // the last one: with it the task counts as done
    std::lock_guard<std::mutex> lock(mutex);
    report.records.push_back(outcome.record);
    return file.append(lines);
  }

  void finishTask(int TuneProgress::*counter) {
    std::lock_guard<std::mutex> lock(mutex);
    progress.*counter += 1;
    update(0);
  }
  void part(double share) {
    std::lock_guard<std::mutex> lock(mutex);
    update(share);
  }
  void say(const std::string &what) {
    std::lock_guard<std::mutex> lock(mutex);
    progress.doing = what;
    update(0);
  }
  void update(double share) {
    double finished = progress.done + progress.skipped + progress.failed + share;
    progress.share = std::max(progress.share, finished / std::max(1, progress.total));
    if (tell)
      tell(progress);
  }

  const TuneCompiler &compiler;
  const TuneOptions &options;
  TuningFile &file;
  const std::atomic<bool> &stop;
  const std::function<void(const TuneProgress &)> &tell;
  std::vector<Program> programs;
  std::atomic<size_t> next{0};
  std::mutex mutex; ///< guards what follows, and the file
  std::string arch; ///< of all GPUs
  TuneProgress progress;
  TuneReport report;
  Error fatal, writeFault;
};

} // namespace

std::string programOf(const TuneTask &task) {
  return task.key.phase + task.key.method + task.key.spec.text();
}

Result<TuneReport> tune(const std::vector<TuneTask> &tasks, const TuneCompiler &compiler,
                        const TuneOptions &options, TuningFile &file, const std::atomic<bool> &stop,
                        const std::function<void(const TuneProgress &)> &tell) {
  return Sweep(tasks, compiler, options, file, stop, tell).run();
}

} // namespace winnow
