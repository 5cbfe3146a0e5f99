// `winnow tune`: a sweep over specs. The words, the progress, Ctrl-C and the workers' command lines
// are here; the sweep itself is autotune/search/Tuner.h.
#include "autotune/search/DeviceProfile.h"
#include "autotune/search/Tuner.h"
#include "runtime/tuned/TunedLadder.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/commands/bench/SpecGrid.h"
#include "tools/winnow/commands/prepare/Prepare.h"
#include "tools/winnow/commands/tune/TuneWorker.h"
#include "tools/winnow/help.inc"
#include "tools/winnow/io/Flags.h"
#include "tools/winnow/io/Json.h"
#include <algorithm>
#include <charconv>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fmt/format.h>
#include <map>
#include <sstream>
#include <thread>
#include <unistd.h>

namespace winnow {
namespace {

constexpr int kStopped = 130; ///< exit status after Ctrl-C, as shells have it

/// "0-3,5" -> 0 1 2 3 5.
Result<std::vector<int>> parseGpus(const std::string &text) {
  std::vector<int> gpus;
  for (const std::string &piece : splitList(text)) {
    int first = 0, last = 0;
    const char *end = piece.data() + piece.size();
    auto [after, code] = std::from_chars(piece.data(), end, first);
    last = first;
    bool valid = code == std::errc();
    if (valid && after != end && *after == '-') {
      auto [rest, second] = std::from_chars(after + 1, end, last);
      valid = second == std::errc();
      after = rest;
    }
    if (!valid || after != end || first < 0 || last < first || last > 1023)
      return fail(ErrorKind::Usage,
                  fmt::format("--gpus {}: write numbers and ranges, as in 0-3,5", text));
    for (int gpu = first; gpu <= last; ++gpu)
      gpus.push_back(gpu);
  }
  std::sort(gpus.begin(), gpus.end());
  gpus.erase(std::unique(gpus.begin(), gpus.end()), gpus.end());
  if (gpus.empty())
    return fail(ErrorKind::Usage, "--gpus names no GPU");
  return gpus;
}

/// Programs are dealt out whole, so that no two hosts compile the same candidates; where there are
/// fewer of them than hosts, single tasks are.
std::vector<TuneTask> tasksOf(const Part &part, const std::vector<TuneTask> &tasks) {
  std::map<std::string, int> sizes;
  for (const TuneTask &task : tasks)
    sizes[programOf(task)]++;
  const bool whole = static_cast<int>(sizes.size()) >= part.count;
  std::map<std::string, size_t> owners;
  std::vector<int> loads(part.count);
  std::vector<TuneTask> kept;
  for (size_t i = 0; i < tasks.size(); ++i) {
    std::string name = whole ? programOf(tasks[i]) : std::to_string(i);
    auto [owner, isNew] = owners.emplace(name, 0);
    if (isNew) { // to the host with the least to do so far
      owner->second = std::min_element(loads.begin(), loads.end()) - loads.begin();
      loads[owner->second] += whole ? sizes[name] : 1;
    }
    if (static_cast<int>(owner->second) == part.index)
      kept.push_back(tasks[i]);
  }
  return kept;
}

std::vector<std::string> splitWords(const std::string &text) {
  std::vector<std::string> words;
  std::istringstream stream(text);
  for (std::string word; stream >> word;)
    words.push_back(word);
  return words;
}

/// Sets a flag at SIGINT or SIGTERM; a second one, at least kAgainSeconds later (`timeout` and some
/// job managers send the first to the process and to its group), ends the process. Signals are
/// taken by a thread, so no handler needs a global.
class Interrupts {
public:
  Interrupts() {
    ::sigemptyset(&signals);
    for (int signal : {SIGINT, SIGTERM})
      ::sigaddset(&signals, signal);
    ::pthread_sigmask(SIG_BLOCK, &signals, &before);
    thread = std::thread([this] {
      constexpr double kAgainSeconds = 0.3;
      double first = 0;
      while (!done) {
        struct timespec wait = {0, 50000000};
        if (::sigtimedwait(&signals, nullptr, &wait) < 0)
          continue;
        if (stopped.exchange(true)) {
          if (now() - first > kAgainSeconds)
            ::_exit(kStopped);
          continue;
        }
        first = now();
        say("stopping: what is finished is in the file (again to stop at once)");
      }
    });
  }
  ~Interrupts() {
    done = true;
    thread.join();
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  std::atomic<bool> stopped{false};

private:
  sigset_t signals, before;
  std::atomic<bool> done{false};
  std::thread thread;
};

/// A bar with the time left on a terminal; elsewhere a line per finished task.
class TuneBar {
public:
  TuneBar() : terminal(::isatty(2) != 0), began(now()) {}
  ~TuneBar() { clear(); }

  void show(const TuneProgress &progress) {
    int finished = progress.done + progress.failed + progress.skipped;
    if (!terminal) {
      if (finished > told)
        say(fmt::format("{} of {} tasks done{}, {}", finished, progress.total,
                        progress.failed ? fmt::format(", {} failed", progress.failed) : "",
                        left(progress)));
      told = std::max(told, finished);
      return;
    }
    double time = now();
    if (time - lastDrawn < 0.1)
      return;
    lastDrawn = time;
    std::string line = fmt::format("[{:<24}] {} of {}, {}: {}",
                                   std::string(static_cast<size_t>(progress.share * 24), '#'),
                                   finished, progress.total, left(progress), progress.doing);
    if (line.size() > 110)
      line.resize(110);
    fmt::print(stderr, "\r{:<{}}", line, std::max(width, line.size()));
    width = line.size();
    std::fflush(stderr);
  }
  void clear() {
    if (width)
      fmt::print(stderr, "\r{:{}}\r", "", width);
    width = 0;
  }

private:
  std::string left(const TuneProgress &progress) const {
    double skipped = static_cast<double>(progress.skipped) / std::max(1, progress.total);
    double share = progress.share - skipped, rest = 1 - progress.share;
    if (share < 0.01)
      return "time left unknown";
    auto seconds = static_cast<int>((now() - began) / share * rest);
    return fmt::format("{}:{:02} left", seconds / 60, seconds % 60);
  }

  bool terminal;
  double began, lastDrawn = 0;
  size_t width = 0;
  int told = 0;
};

class TuneCommand {
public:
  TuneCommand(CLI::App &command, Session &session) : session(session) {
    command.add_option("SPECS", specs, "A method, or a JSON file of grids");
    grid.addTo(command);
    command.add_option("--space", space, "quick, full or exhaustive")->capture_default_str();
    command.add_option("--db", database, "The file that records are appended to")
        ->capture_default_str();
    command.add_flag("--resume", options.resume, "Leave out tasks that the file has records of");
    command
        .add_option("--verify", verify, "Compare with the reference: all candidates or the winner")
        ->capture_default_str()
        ->check(CLI::IsMember({"all", "winner"}));
    command.add_option("--gpus", gpus, "GPUs to use, as in 0-3,5")
        ->check(listOf())
        ->capture_default_str();
    command.add_option("--jobs", options.jobs, "Compiling processes; default: one per core")
        ->check(between(1, 1024));
    command.add_option("--timeout-compile", options.compileTimeout, "Seconds for one candidate")
        ->capture_default_str()
        ->check(between(0.001, 1e6));
    command
        .add_option("--timeout-run", options.runTimeout,
                    "Seconds for one request to the GPU's process")
        ->capture_default_str()
        ->check(between(0.001, 1e6));
    command.add_option(
        "--shard", shard,
        "I/N: part I (from 0) of N equal parts of the programs, or of the tasks where "
        "there are fewer programs than N");
    command.add_option("--arch", options.arch,
                       "Code for another architecture than the device's own");
    command.add_flag("--ptx", options.ptx, "With --arch: PTX, compiled by the driver")
        ->needs("--arch");
    command.add_option("--nvrtc", options.nvrtcPath,
                       "Path of libnvrtc; default: searched (see `winnow doctor`)");
    command.add_option(
        "--device-profile", profile,
        "Tune the shipped lists of specs, on a GPU of this kind: a100, rtx4090, h200, ...");
    command.add_flag("--list", listOnly, "Print the tasks and stop");
    command.add_option(
        "--device", options.emulated,
        "emulated:ARCH: without a GPU, to try a sweep of --phase decode or backward; its times "
        "mean nothing");
    // Of the tests: a program in place of both kinds of workers.
    command.add_option("--worker", worker)->group("");
    command.add_option("--serve", serve)->group("");
  }

  Status run() {
    if (!serve.empty()) {
      session.exitCode = runTuneWorker(serve);
      return {};
    }
    Effort effort = Effort::Quick;
    WINNOW_TRY(effort, parseEffort(space));
    options.effort = effort;
    WINNOW_TRY(options.gpus, parseGpus(gpus));
    if (!options.emulated.empty() && options.emulated.rfind("emulated:", 0) != 0)
      return fail(ErrorKind::Usage, fmt::format("--device {}: write emulated:ARCH; GPUs are named "
                                                "by --gpus",
                                                options.emulated));
    std::optional<Part> part = Part::parse(shard);
    if (!shard.empty() && !part)
      return fail(ErrorKind::Usage, fmt::format("--shard {}: write I/N with I below N", shard));
    if (!profile.empty()) {
      const DeviceProfile *known = nullptr;
      WINNOW_TRY(known, findProfile(profile));
      options.onlyDevice = known->device;
    }
    std::vector<TuneTask> tasks;
    WINNOW_TRY(tasks, makeTasks());
    if (part)
      tasks = tasksOf(*part, tasks);
    if (listOnly) {
      for (const TuneTask &task : tasks)
        fmt::print("{} {} [{}] tokens={} overlap={}{}\n", task.key.phase, task.key.method,
                   task.key.spec.text(), task.key.tokens, task.key.overlap,
                   task.key.batch ? fmt::format(" batch={}", task.key.batch) : "");
      return {};
    }
    completeOptions();
    std::filesystem::path folder = std::filesystem::path(database).parent_path();
    if (std::error_code code; !folder.empty() && !std::filesystem::is_directory(folder, code))
      return fail(ErrorKind::Usage,
                  fmt::format("--db {}: there is no folder {}", database, folder.string()));
    std::optional<TuningFile> file;
    WINNOW_TRY(TuningFile opened, TuningFile::open(database));
    file.emplace(std::move(opened));
    for (const std::string &fault : file->lines().faults)
      say(fmt::format("{}, {}: not read", database, fault));
    Interrupts interrupts;
    TuneBar bar;
    double began = now();
    Result<TuneReport> report = tune(tasks, compiler(), options, *file, interrupts.stopped,
                                     [&](const TuneProgress &progress) { bar.show(progress); });
    bar.clear();
    if (!report)
      return tl::unexpected(report.error());
    return finish(*report, now() - began);
  }

private:
  std::string lowerArch() const {
    const size_t colon = options.emulated.find(':');
    if (colon != std::string::npos)
      return options.emulated.substr(colon + 1);
    return options.arch.empty() ? defaultTarget().arch : options.arch;
  }

  Result<ProgramImage> lower(const std::string &method, const Spec &spec, const std::string &arch,
                             const Config &config) const {
    CompileRequest request;
    request.method = method;
    request.spec = spec;
    request.arch = arch;
    request.config = config;
    WINNOW_TRY(auto lowered, lowerProgram(request));
    return std::move(lowered.first);
  }

  Result<std::vector<TuneTask>> makeTasks() const {
    if (specs.empty() && profile.empty())
      return fail(ErrorKind::Usage, "say what to tune: a method, or a JSON file of grids");
    bool isFile = specs.size() > 5 && specs.compare(specs.size() - 5, 5, ".json") == 0;
    if (std::string flag = grid.firstGiven(); !flag.empty() && (isFile || specs.empty()))
      return fail(ErrorKind::Usage, fmt::format("{} describes specs of a method; {} does so itself",
                                                flag, specs.empty() ? "the shipped list" : specs));
    std::vector<GridEntry> entries;
    if (specs.empty()) {
      for (const char *list : {kShippedModels, kShippedSpecs, kShippedDecode, kShippedBackward}) {
        std::vector<GridEntry> more;
        WINNOW_TRY(more, SpecGrid::parse(list, "the shipped list"));
        entries.insert(entries.end(), more.begin(), more.end());
      }
    } else if (isFile) {
      std::string text;
      WINNOW_TRY(text, readWholeFile(systemFiles(), specs));
      WINNOW_TRY(entries, SpecGrid::parse(text, specs));
    } else {
      WINNOW_TRY(entries, grid.entries(specs));
    }
    std::vector<TuneTask> tasks;
    for (const GridEntry &entry : entries) {
      // The key names every default, so the spec is read once by the compiler; whether a kernel
      // serves it too.
      for (const std::string &phase : entry.phases) {
        Spec spec = entry.spec;
        spec.paged |= phase == kDecodePhase;
        spec.backward |= phase == kBackwardPhase;
        ProgramImage image;
        WINNOW_TRY(image, lower(entry.method, spec, lowerArch(), Config()));
        addTasks(entry, phase, image, tasks);
      }
    }
    if (tasks.empty())
      return fail(ErrorKind::Usage, "nothing to tune: these methods have no such phase");
    return tasks;
  }

  /// The tasks of one phase of one program.
  static void addTasks(const GridEntry &entry, const std::string &phase, const ProgramImage &image,
                       std::vector<TuneTask> &tasks) {
    const bool selects = phase == "select", decodes = phase == kDecodePhase;
    if (selects && image.selectHeads == 0)
      return;
    // Attention begins where the selection ended, decode with the longest text: those tensors are
    // still there for what follows.
    std::vector<int> lengths = entry.tokens;
    if (!selects)
      std::reverse(lengths.begin(), lengths.end());
    const bool overlaps = dependsOnOverlap(phase) && image.selectHeads > 0;
    for (int tokens : lengths)
      for (int overlap : overlaps ? entry.overlaps : std::vector<int>{0})
        for (int batch : decodes ? entry.batches : std::vector<int>{0})
          tasks.push_back({{phase, entry.method, image.spec, tokens, overlap, "", "", batch}});
  }

  TuneCompiler compiler() const {
    TuneCompiler made;
    made.lower = [this](const TuneTask &task, const Config &config) {
      return lower(task.key.method, task.key.spec, task.key.arch, config);
    };
    made.ranges = tunableRanges();
    return made;
  }

  void completeOptions() {
    options.verifyAll = verify == "all";
    options.scratch = database + ".work";
    options.date = today();
    options.code = generatorIdentity();
    std::vector<std::string> own{"/proc/self/exe", "tune", "--serve"};
    for (auto [command, kind] :
         {std::pair(&options.compileCommand, "compile"), {&options.measureCommand, "measure"}}) {
      *command = own;
      if (!worker.empty()) {
        *command = splitWords(worker);
      }
      command->emplace_back(kind);
    }
    RaceOptions &race = options.race;
    // With 16 compiling processes, a quick sweep of one spec shall take 15 s and a full one 90 s.
    race.budgetSeconds = options.effort == Effort::Quick  ? 2
                         : options.effort == Effort::Full ? 20
                                                          : 300;
    if (options.effort == Effort::Quick)
      race.maxRounds = 12, race.finalRounds = 12, race.finalists = 3;
  }

  Status finish(const TuneReport &report, double seconds) {
    double logSum = 0;
    for (const TuningRecord &record : report.records)
      logSum += record.defaultMs > 0 ? std::log(record.defaultMs / record.ms) : 0;
    double gain =
        report.records.empty() ? 1 : std::exp(logSum / static_cast<double>(report.records.size()));
    if (session.json) {
      nlohmann::json object{{"done", report.done},
                            {"skipped", report.skipped},
                            {"failures", report.failures},
                            {"stopped", report.stopped},
                            {"seconds", seconds},
                            {"mean_gain", gain},
                            {"records", nlohmann::json::array()}};
      for (const TuningRecord &record : report.records)
        object["records"].push_back(nlohmann::json::parse(recordLine(record), nullptr, false));
      printJson(object);
    } else {
      Table table({"phase", "method", "tokens", "L", "batch", "tuned", "default", "gain", "tried",
                   "config"});
      for (const TuningRecord &r : report.records)
        table.add({r.key.phase, r.key.method, std::to_string(r.key.tokens),
                   r.key.overlap ? std::to_string(r.key.overlap) : "-",
                   r.key.batch ? std::to_string(r.key.batch) : "-", durationText(r.ms),
                   durationText(r.defaultMs),
                   fmt::format("{:.3f}x", r.defaultMs > 0 ? r.defaultMs / r.ms : 1),
                   std::to_string(r.tried), wordText(r.config)});
      if (!report.records.empty())
        fmt::print("{}", table.text());
      say(fmt::format("{} tasks done, {} were in the file, {} failed, {:.1f} s; tuned over default "
                      "{:.3f}x (geometric "
                      "mean); {}",
                      report.done, report.skipped, report.failures.size(), seconds, gain,
                      database));
      tellEdges(report.records);
    }
    for (const std::string &failure : report.failures)
      say(failure);
    if (report.stopped) {
      say("stopped; go on with --resume");
      session.exitCode = kStopped;
      return {};
    }
    if (!report.failures.empty())
      return fail(ErrorKind::DeviceFailed,
                  fmt::format("{} tasks gave no record", report.failures.size()));
    return {};
  }

  /// F28: the optimum may lie outside of what was tried.
  static void tellEdges(const std::vector<TuningRecord> &records) {
    std::map<std::string, int> counts;
    for (const TuningRecord &record : records)
      for (const std::string &edge : record.edges)
        counts[edge]++;
    for (const auto &[tunable, count] : counts)
      say(fmt::format("the best {} is the last value that was tried in {} of {} tasks: a better "
                      "one may lie beyond",
                      tunable, count, records.size()));
  }

  Session &session;
  SpecGrid grid;
  TuneOptions options;
  std::string specs, space = "quick", database = "tuned.jsonl", verify = "all", gpus = "0", shard,
                     profile, worker, serve;
  bool listOnly = false;
};

} // namespace

void addTuneCommand(CLI::App &app, Session &session) {
  CLI::App *command = app.add_subcommand("tune", "Finds the best configurations on a GPU");
  command->footer(kTuneHelp);
  auto state = std::make_shared<TuneCommand>(*command, session);
  setBody(*command, session, [state] { return state->run(); });
}

} // namespace winnow
