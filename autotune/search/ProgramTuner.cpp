// Candidates from lowering to verdict. Whoever fails on the way is rejected with a reason, and the
// others go on.
#include "autotune/search/ProgramTuner.h"
#include "runtime/JsonText.h"
#include "runtime/Threads.h"
#include <algorithm>
#include <fmt/format.h>
#include <mutex>

namespace winnow {

using Json = nlohmann::json;

namespace {

/// Seconds for a request. Opening a device and making a long workload are the host's work, which
/// takes long where it has few cores; the rest is launches, and who takes long there hangs.
double patience(const Json &request, const TuneOptions &options) {
  const std::string what = JsonFields(request).text("do");
  return options.runTimeout * (what == "open" || what == "workload" ? 4 : 1);
}

/// A text of an answer, which a worker that went astray may have sent as anything.
Result<std::string> textOf(const Result<Json> &answer, const char *field) {
  if (!answer)
    return tl::unexpected(answer.error());
  JsonFields fields(*answer);
  std::string text = fields.text(field);
  if (!fields.status())
    return fail(ErrorKind::DeviceFailed, "the worker's answer: " + fields.status().error().message);
  return text;
}

double medianOf(const std::vector<double> &values) { return medianInterval(values).median; }

Json about(const char *what, const TuneTask &task) {
  return {{"do", what},
          {"method", task.key.method},
          {"spec", task.key.spec.text()},
          {"phase", task.key.phase}};
}

} // namespace

std::shared_ptr<CandidateSet>
compileCandidates(const TuneTask &task, const TuneCompiler &compiler, const TuneOptions &options,
                  int jobs, const std::atomic<bool> &stop,
                  const std::function<void(const std::string &)> &say) {
  auto set = std::make_shared<CandidateSet>();
  Result<SearchSpace> space =
      makeSearchSpace(task.key.phase, options.effort, phaseRanges(compiler.ranges, task.key.phase),
                      [&](const Config &config) { return compiler.lower(task, config); });
  if (!space) {
    set->error = space.error();
    return set;
  }
  set->space = std::move(*space);
  size_t count = set->space.candidates.size();
  set->paths.resize(count);
  set->faults.resize(count);
  std::atomic<size_t> next{0};
  runOnThreads(std::min<size_t>(count, static_cast<size_t>(jobs)), [&](bool) {
    Worker worker(options.compileCommand, options.scratch + "/compile.log");
    for (size_t i; !stop && (i = next++) < count;) {
      say(fmt::format("{} {}: compiling {} of {}", task.key.phase, task.key.method, i + 1, count));
      Json request = about("compile", task);
      request["config"] = shortText(set->space.candidates[i].config);
      request["arch"] = task.key.arch;
      request["ptx"] = options.ptx;
      request["emulated"] = !options.emulated.empty();
      request["gpu"] = options.gpus.front();
      request["nvrtc"] = options.nvrtcPath;
      request["directory"] = options.scratch;
      Result<std::string> path = textOf(worker.ask(request, options.compileTimeout), "path");
      if (path && path->empty())
        path = fail(ErrorKind::DeviceFailed, "the worker's answer names no file");
      if (path)
        set->paths[i] = *path;
      else
        set->faults[i] = "compiling: " + path.error().message;
    }
  });
  return set;
}

MeasuringWorker::MeasuringWorker(const TuneOptions &options, int gpu)
    : options(options), openRequest({{"do", "open"},
                                     {"gpu", gpu},
                                     {"arch", options.arch},
                                     {"ptx", options.ptx},
                                     {"device", options.emulated}}),
      worker(options.measureCommand, options.scratch + "/measure.log") {}

Status MeasuringWorker::open() {
  WINNOW_TRY(Json answer, worker.ask(openRequest, patience(openRequest, options)));
  JsonFields fields(answer);
  deviceName = fields.text("device");
  archName = fields.text("arch");
  driverText = fields.text("driver");
  return fields.status();
}

Status MeasuringWorker::revive() {
  if (worker.running())
    return {};
  WINNOW_CHECK(open());
  std::vector<Json> steps;
  if (!programRequest.is_null())
    steps.push_back(programRequest);
  for (const auto &[candidate, path] : loaded)
    steps.push_back({{"do", "load"}, {"candidate", candidate}, {"path", path}});
  if (!workloadRequest.is_null())
    steps.push_back(workloadRequest);
  for (const Json &step : steps)
    if (Result<Json> answer = worker.ask(step, patience(step, options)); !answer)
      return tl::unexpected(answer.error());
  return {};
}

Result<Json> MeasuringWorker::request(const Json &request) {
  WINNOW_CHECK(revive());
  return worker.ask(request, patience(request, options));
}

Status MeasuringWorker::program(const TuneTask &task) {
  loaded.clear();
  workloadRequest = Json();
  programRequest = Json();
  Json step = about("program", task);
  WINNOW_TRY(Json answer, request(step));
  programRequest = step;
  return {};
}

Status MeasuringWorker::load(size_t candidate, const std::string &path) {
  WINNOW_TRY(Json answer, request({{"do", "load"}, {"candidate", candidate}, {"path", path}}));
  loaded[candidate] = path;
  return {};
}

Result<Json> MeasuringWorker::workload(const TuneTask &task) {
  workloadRequest = Json();
  Json step{{"do", "workload"},
            {"tokens", task.key.tokens},
            {"overlap", task.key.overlap},
            {"batch", task.key.batch}};
  Result<Json> answer = request(step);
  if (answer)
    workloadRequest = step;
  return answer;
}

Result<Json> MeasuringWorker::ask(const char *what, size_t candidate) {
  return request({{"do", what}, {"candidate", candidate}});
}

ProgramTuner::ProgramTuner(MeasuringWorker &worker, CandidateSet &set,
                           const std::vector<TunableRange> &ranges, const TuneOptions &options,
                           const std::atomic<bool> &stop)
    : worker(worker), set(set), ranges(ranges), options(options), stop(stop) {}

std::string ProgramTuner::faultOf(const char *what, size_t candidate) {
  Result<std::string> fault = textOf(worker.ask(what, candidate), "fault");
  if (fault)
    return *fault;
  worker.forget(candidate);
  return fault.error().message;
}

Status ProgramTuner::loadAll(const TuneTask &task) {
  WINNOW_CHECK(worker.program(task));
  for (size_t i = 0; i < set.paths.size() && !stop; ++i) {
    if (set.paths[i].empty())
      continue;
    if (Status status = worker.load(i, set.paths[i]); !status)
      set.faults[i] = "loading: " + status.error().message;
    else if (options.verifyAll)
      set.faults[i] = faultOf("cases", i);
    if (!set.faults[i].empty()) {
      set.paths[i].clear();
      worker.forget(i);
    }
  }
  ready = true;
  return {};
}

Result<RaceResult> ProgramTuner::raceVerified(std::vector<Standing> standings,
                                              const std::function<void(double)> &progress) {
  auto check = [&](size_t i) {
    std::string fault = options.verifyAll ? "" : faultOf("cases", i);
    if (fault.empty())
      fault = faultOf("check", i);
    if (!fault.empty()) {
      standings[i].outcome = Outcome::Rejected;
      standings[i].reason = fault;
    }
    return fault.empty();
  };
  if (options.verifyAll)
    for (size_t i = 0; i < standings.size() && !stop; ++i)
      if (standings[i].outcome != Outcome::Rejected)
        check(i);
  const Json nothing;
  auto timer = [&](size_t i) -> Result<double> {
    if (stop)
      return fail(ErrorKind::DeviceFailed, "stopped");
    Result<Json> answer = worker.ask("time", i);
    JsonFields fields(answer ? *answer : nothing);
    const double clock = fields.number("clock_mhz"), power = fields.number("watts");
    const double milliseconds = fields.number("ms");
    if (answer && !fields.status())
      answer = tl::unexpected(fields.status().error());
    if (answer && !(milliseconds > 0))
      answer = fail(ErrorKind::DeviceFailed, "the worker's answer holds no time");
    if (!answer) {
      worker.forget(i);
      return tl::unexpected(answer.error());
    }
    clocks[i].push_back(clock);
    watts[i].push_back(power);
    return milliseconds;
  };
  for (;;) {
    Result<RaceResult> result = race(standings, timer, options.race, progress);
    // A winner that is wrong was never one: the race is run again without it.
    if (!result || stop || options.verifyAll || check(result->best))
      return result;
  }
}

/// Stored changes take gigabytes of scratch, which whoever trains may have no room for: a tenth of
/// the time is worth them.
constexpr double kWorthGigabytes = 0.9;

Result<TuneOutcome> ProgramTuner::run(const TuneTask &task,
                                      const std::function<void(double)> &progress) {
  if (!set.error.message.empty())
    return tl::unexpected(set.error);
  if (!ready)
    WINNOW_CHECK(loadAll(task));
  WINNOW_TRY(Json placed, worker.workload(task));
  size_t count = set.space.candidates.size();
  clocks.assign(count, {});
  watts.assign(count, {});
  std::vector<Standing> standings(count);
  for (size_t i = 0; i < count; ++i) {
    if (set.space.candidates[i].config.backwardChanges == BackwardChanges::Stored)
      standings[i].mostRatio = kWorthGigabytes;
    if (!set.faults[i].empty()) {
      standings[i].outcome = Outcome::Rejected;
      standings[i].reason = set.faults[i];
    }
  }
  WINNOW_TRY(RaceResult result, raceVerified(std::move(standings), progress));
  return outcomeOf(task, result, JsonFields(placed).number("floor_ms"));
}

TuneOutcome ProgramTuner::outcomeOf(const TuneTask &task, const RaceResult &result,
                                    double floorMs) const {
  TuneOutcome outcome;
  std::vector<Candidate> served;
  for (size_t i = 0; i < result.standings.size(); ++i) {
    const Standing &standing = result.standings[i];
    if (standing.outcome != Outcome::Rejected)
      served.push_back(set.space.candidates[i]);
    TuningTrial trial;
    trial.key = task.key;
    trial.config = set.space.candidates[i].config;
    trial.outcome = name(standing.outcome);
    trial.reason = standing.reason;
    trial.ms = standing.ms, trial.low = standing.low, trial.high = standing.high;
    trial.rounds = standing.rounds;
    outcome.trials.push_back(std::move(trial));
  }
  for (const SearchSpace::Pruned &pruned : set.space.pruned) {
    TuningTrial trial;
    trial.key = task.key;
    trial.config = pruned.config;
    trial.outcome = "pruned";
    trial.reason = pruned.reason;
    outcome.trials.push_back(std::move(trial));
  }
  const Standing &best = result.standings[result.best];
  TuningRecord &record = outcome.record;
  record.key = task.key;
  record.config = set.space.candidates[result.best].config;
  record.effort = name(options.effort);
  record.ms = best.ms, record.low = best.low, record.high = best.high;
  const Standing &standard = result.standings[0];
  record.defaultMs = standard.outcome == Outcome::Rejected ? 0 : standard.ms;
  record.floorMs = floorMs;
  record.rounds = best.rounds;
  record.clockMhz = static_cast<int>(medianOf(clocks[result.best]));
  record.watts = static_cast<int>(medianOf(watts[result.best]));
  record.tried = static_cast<int>(result.standings.size());
  record.rejected = record.tried - static_cast<int>(served.size());
  record.pruned = static_cast<int>(set.space.pruned.size());
  record.verified = options.verifyAll ? "all" : "winner";
  record.edges = edgesOf(record.config, ranges, served);
  record.protocol =
      "graph replay, cold L2, interleaved rounds, finalists again in another order (2)";
  record.code = options.code;
  record.driver = worker.driver();
  record.date = options.date;
  return outcome;
}

} // namespace winnow
