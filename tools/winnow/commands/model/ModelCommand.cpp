// `winnow model`: the performance model at work. choose writes tuned configurations for a GPU that
// is not at hand, check compares its choices with a measured sweep, explain shows what it thinks a
// candidate waits for. Needs no GPU.
#include "autotune/search/SearchSpace.h"
#include "runtime/cache/Files.h"
#include "tools/winnow/ProgramFlags.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/commands/bench/BenchInputs.h"
#include "tools/winnow/commands/bench/BenchReport.h"
#include "tools/winnow/commands/bench/SpecGrid.h"
#include "tools/winnow/commands/model/ModelReport.h"
#include "tools/winnow/commands/prepare/Programs.h"
#include "tools/winnow/help.inc"
#include "tools/winnow/io/Flags.h"
#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <set>

namespace winnow {
namespace {

Result<ProgramImage> lowered(const CompileRequest &request) {
  WINNOW_TRY(auto program, lowerProgram(request));
  return std::move(program.first);
}

/// Useful operations of a phase at the rate of the tensor cores, or the selected keys and values of
/// decode at that of memory, in milliseconds.
Result<double> floorOf(const GridEntry &point, const TuningKey &key, const DeviceProfile &profile) {
  reference::Method axes;
  WINNOW_TRY(axes, readAxes(point.method, point.spec));
  if (key.phase == kDecodePhase) {
    const Spec &spec = key.spec;
    const bool isDense = !axes.selects || key.tokens < axes.denseLen;
    const double keys =
        isDense ? key.tokens : std::min<double>(key.tokens, double(spec.topk) * spec.block);
    const double bytes = keys * key.batch * spec.kvHeads * (spec.headDim + spec.valueWidth()) *
                         spec.keyElementBytes();
    return 1000 * bytes / profile.dramBandwidth;
  }
  WINNOW_TRY(const Target *target, profile.target());
  reference::Problem problem = reference::problemOf(point.spec);
  problem.cuQ = problem.cuK = {0, key.tokens};
  const double operations = key.phase == kBackwardPhase ? gradientOperations(axes, problem)
                            : key.phase == "attend"     ? attendOperations(axes, problem)
                                                        : scoreOperations(axes, problem);
  return operations / target->tensorTflops * 1e-9;
}

class ChooseCommand {
public:
  ChooseCommand(CLI::App &command, Session &session) : session(session) {
    command.add_option("SPECS", specs, "Methods and JSON files of grids")->required();
    grid.addTo(command);
    command.add_option("--device-profile", profileName, "The GPU to choose for")->required();
    command.add_option("--arch", arch,
                       "Choose among kernels of this architecture; default: the GPU's own");
    command.add_option("--space", space, "Candidates: quick, full or exhaustive")
        ->capture_default_str();
    command.add_option("--db", database, "File of JSON lines to write")->required();
  }

  Status run() {
    WINNOW_TRY(profile, findProfile(profileName));
    WINNOW_TRY(target, profile->target());
    if (!arch.empty()) {
      WINNOW_TRY(target, findTarget(arch));
    }
    WINNOW_TRY(effort, parseEffort(space));
    std::vector<GridEntry> points;
    WINNOW_TRY(points, entries());
    {
      Progress progress("choosing");
      for (size_t i = 0; i < points.size(); ++i) {
        for (const std::string &phase : points[i].phases)
          WINNOW_CHECK(choosePhase(points[i], phase));
        progress.show(static_cast<double>(i + 1) / points.size());
      }
    }
    std::string text;
    for (const TuningRecord &record : records)
      text += recordLine(record) + "\n";
    WINNOW_CHECK(publishFile(systemFiles(), database, text, 0644));
    const auto changed = std::count_if(records.begin(), records.end(), [](const TuningRecord &r) {
      return shortText(r.config) != "default";
    });
    if (session.json)
      fmt::print("{{\"records\": {}, \"changed\": {}}}\n", records.size(), changed);
    else
      fmt::print("{}: {} records of {} specs for {}, {} of them other than the default; predicted, "
                 "not measured\n",
                 database, records.size(), points.size(), profile->device, changed);
    return {};
  }

private:
  Result<std::vector<GridEntry>> entries() const {
    std::vector<GridEntry> all, some;
    for (const std::string &name : specs) {
      if (name.size() > 5 && name.compare(name.size() - 5, 5, ".json") == 0) {
        std::string text;
        WINNOW_TRY(text, readWholeFile(systemFiles(), name));
        WINNOW_TRY(some, SpecGrid::parse(text, name));
      } else {
        WINNOW_TRY(some, grid.entries(name));
      }
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  }

  Status choosePhase(const GridEntry &point, const std::string &phase) {
    CompileRequest request;
    request.method = point.method;
    request.spec = point.spec;
    request.spec.backward = phase == kBackwardPhase;
    request.spec.paged |= phase == kDecodePhase;
    request.arch = target->arch;
    ProgramImage program;
    WINNOW_TRY(program, lowered(request));
    if (phase == "select" && program.selectHeads == 0)
      return {};
    SearchSpace candidates;
    WINNOW_TRY(candidates, makeSearchSpace(phase, effort, phaseRanges(tunableRanges(), phase),
                                           [&](const Config &config) {
                                             CompileRequest one = request;
                                             one.config = config;
                                             return lowered(one);
                                           }));
    for (int tokens : point.tokens)
      for (int overlap : dependsOnOverlap(phase) ? point.overlaps : std::vector<int>{0})
        for (int batch : phase == kDecodePhase ? point.batches : std::vector<int>{0}) {
          const TuningKey key{phase,
                              program.method,
                              program.spec,
                              tokensBucket(tokens),
                              overlapBucket(overlap),
                              target->arch,
                              profile->device,
                              batch > 0 ? batchBucket(batch) : 0};
          WINNOW_CHECK(chooseKey(point, key, program, candidates));
        }
    return {};
  }

  Status chooseKey(const GridEntry &point, const TuningKey &key, const ProgramImage &program,
                   const SearchSpace &candidates) {
    TuningRecord record;
    record.key = key;
    ModelWorkload workload;
    WINNOW_TRY(workload, workloadOf(key, program));
    ModelChoice choice;
    WINNOW_TRY(choice, choose(candidates, workload, *profile));
    record.config = candidates.candidates[choice.index].config;
    record.origin = "model";
    record.effort = name(effort);
    record.ms = record.low = record.high = choice.ms;
    record.defaultMs = choice.defaultMs;
    WINNOW_TRY(record.floorMs, floorOf(point, key, *profile));
    record.pruned = static_cast<int>(candidates.pruned.size());
    record.protocol = "performance model";
    record.code = generatorIdentity();
    record.date = today();
    if (seen.insert(key.text()).second)
      records.push_back(std::move(record));
    return {};
  }

  Session &session;
  SpecGrid grid;
  std::vector<std::string> specs;
  std::string profileName, arch, space = "full", database;
  const DeviceProfile *profile = nullptr;
  const Target *target = nullptr; ///< of the kernels
  Effort effort = Effort::Full;
  std::vector<TuningRecord> records;
  std::set<std::string> seen; ///< keys: grids may overlap
};

class ModelCheckCommand {
public:
  explicit ModelCheckCommand(CLI::App &command) {
    command.add_option("TRIALS", files, "What `winnow tune` wrote")->required();
    command.add_option("--device-profile", profileName, "The GPU that it ran on")->required();
    command
        .add_option("--median", median, "Most percent that choices may be slower, in the median")
        ->check(between(0.0, 1e6))
        ->capture_default_str();
    command.add_option("--worst", worst, "The same at worst")
        ->check(between(0.0, 1e6))
        ->capture_default_str();
    command.add_option("--least", least, "Fewest specs that count as a validation")
        ->check(between(0, 1000000))
        ->capture_default_str();
    command.add_option(
        "--into", target,
        "A markdown file: a summary replaces what stands between <!-- model:begin --> "
        "and <!-- model:end -->");
  }

  Status run() {
    const DeviceProfile *profile = nullptr;
    WINNOW_TRY(profile, findProfile(profileName));
    std::vector<ModelJudgement> judgements;
    WINNOW_TRY(judgements, judge(*profile));
    if (target.empty())
      fmt::print("{}", modelTable(judgements, *profile));
    else
      WINNOW_CHECK(replaceBetweenMarks(target, modelSummary(judgements, *profile), "model"));
    std::set<std::string> specs;
    for (const ModelJudgement &one : judgements)
      specs.insert(one.key.method + one.key.spec.text());
    const ModelVerdict verdict = verdictOf(judgements);
    if (100 * verdict.median > median || 100 * verdict.worst > worst)
      return fail(ErrorKind::WrongResult,
                  fmt::format("the model's choices are {:.1f} % slower than the best in the median "
                              "and {:.1f} % at worst; allowed are {} and {} %",
                              100 * verdict.median, 100 * verdict.worst, median, worst));
    if (static_cast<int>(specs.size()) < least)
      return fail(ErrorKind::WrongResult,
                  fmt::format("{} specs are no validation: {} at least", specs.size(), least));
    return {};
  }

private:
  Result<std::vector<ModelJudgement>> judge(const DeviceProfile &profile) const {
    std::map<std::string, std::vector<TuningTrial>> keys;
    for (const std::string &path : files) {
      std::string text;
      WINNOW_TRY(text, readWholeFile(systemFiles(), path, kMaxTunedBytes));
      TuningLines lines = parseTuningLines(text);
      for (const std::string &fault : lines.faults)
        say(fmt::format("{}: {}", path, fault));
      for (TuningTrial &trial : lines.trials)
        if (trial.ms > 0 && trial.outcome != "rejected" && trial.key.device == profile.device)
          keys[trial.key.text()].push_back(std::move(trial));
    }
    std::vector<ModelJudgement> judgements;
    for (const auto &[text, trials] : keys) {
      ModelJudgement one;
      WINNOW_TRY(one, judgeKey(trials, profile));
      judgements.push_back(std::move(one));
    }
    if (judgements.empty())
      return fail(ErrorKind::Usage,
                  fmt::format("no timed trial on an {} in these files", profile.device));
    return judgements;
  }

  static Result<ModelJudgement> judgeKey(const std::vector<TuningTrial> &trials,
                                         const DeviceProfile &profile) {
    ModelJudgement one;
    one.key = trials.front().key;
    one.candidates = static_cast<int>(trials.size());
    SearchSpace timed;
    std::vector<double> predicted, measured;
    for (const TuningTrial &trial : trials) {
      CompileRequest request;
      request.method = one.key.method, request.spec = one.key.spec;
      request.config = trial.config, request.arch = one.key.arch;
      ProgramImage program;
      WINNOW_TRY(program, lowered(request));
      ModelWorkload workload;
      WINNOW_TRY(workload, workloadOf(one.key, program));
      double ms = 0;
      WINNOW_TRY(ms,
                 predictMs(workload, candidateOf(trial.config, program, one.key.phase), profile));
      predicted.push_back(ms);
      measured.push_back(trial.ms);
      if (shortText(trial.config) == "default")
        one.defaultMs = trial.ms;
    }
    const size_t best = std::min_element(measured.begin(), measured.end()) - measured.begin();
    size_t choice = std::min_element(predicted.begin(), predicted.end()) - predicted.begin();
    for (size_t i = 0; i < trials.size(); ++i)
      if (shortText(trials[i].config) == "default" &&
          keepsDefault(one.key.phase, predicted[choice], predicted[i]))
        choice = i;
    one.choice = trials[choice].config, one.best = trials[best].config;
    one.choiceMs = measured[choice], one.bestMs = measured[best];
    one.predictedMs = predicted[choice];
    one.rankCorrelation = rankCorrelation(predicted, measured);
    return one;
  }

  std::vector<std::string> files;
  std::string profileName, target;
  double median = 5, worst = 15;
  int least = 1;
};

class ExplainCommand {
public:
  explicit ExplainCommand(CLI::App &command) {
    flags.addTo(command);
    flags.addTargetFlags(command, "");
    command.add_option("--device-profile", profileName, "The GPU")->required();
    command.add_option("--seq", tokens, "Tokens")
        ->check(between(1, kMostTokens))
        ->capture_default_str();
    command.add_option("--overlap", overlap, "Likeness of neighbours")
        ->check(between(1, kMostTokens))
        ->capture_default_str();
    command.add_option("--batch", batch, "Sequences of a launch of decode (paged programs)")
        ->check(between(1, kMostSequences))
        ->capture_default_str();
  }

  Status run() {
    const DeviceProfile *profile = nullptr;
    const Target *own = nullptr;
    WINNOW_TRY(profile, findProfile(profileName));
    WINNOW_TRY(own, profile->target());
    if (flags.arch.empty())
      flags.arch = own->arch;
    CompileRequest request;
    WINNOW_TRY(request, flags.request());
    ProgramImage program;
    WINNOW_TRY(program, lowered(request));
    Table table({"kernel", "blocks per SM", "pipe", "ms alone", "ms"});
    Status left; // of the first phase that is not described
    bool described = false;
    for (const std::string phase : tunedPhases(program.spec)) {
      const TuningKey key{
          phase,   program.method, program.spec,    tokens,
          overlap, program.arch,   profile->device, phase == kDecodePhase ? batch : 0};
      ModelWorkload workload;
      WINNOW_TRY(workload, workloadOf(key, program));
      Result<Prediction> prediction =
          predict(workload, candidateOf(request.config, program, phase), *profile);
      if (!prediction) {
        say(fmt::format("{}: {}", phase, prediction.error().message));
        if (left)
          left = tl::unexpected(prediction.error());
        continue;
      }
      described = true;
      for (const KernelPrediction &kernel : prediction->kernels) {
        table.add({kernel.kernel, std::to_string(kernel.residentBlocks), "all", "",
                   fmt::format("{:.4f}", kernel.ms)});
        for (const Pipe &pipe : kernel.pipes)
          table.add({"", "", pipe.name, fmt::format("{:.4f}", pipe.ms), ""});
      }
    }
    if (!described)
      return left;
    fmt::print("{}", table.text());
    say(fmt::format("predicted for {}; nothing was measured", profile->device));
    return {};
  }

private:
  ProgramFlags flags;
  std::string profileName;
  int tokens = 131072, overlap = 32, batch = 16;
};

} // namespace

void addModelCommand(CLI::App &app, Session &session) {
  CLI::App *command =
      app.add_subcommand("model", "Chooses configurations for a GPU that is not at hand");
  command->footer(kModelHelp);
  command->require_subcommand(1);
  CLI::App *chooseApp =
      command->add_subcommand("choose", "Writes the model's choices as tuned configurations");
  auto chooser = std::make_shared<ChooseCommand>(*chooseApp, session);
  setBody(*chooseApp, session, [chooser] { return chooser->run(); });
  CLI::App *checkApp =
      command->add_subcommand("check", "Compares the model's choices with measured sweeps");
  auto checker = std::make_shared<ModelCheckCommand>(*checkApp);
  setBody(*checkApp, session, [checker] { return checker->run(); });
  CLI::App *explainApp =
      command->add_subcommand("explain", "What the model thinks that each kernel waits for");
  auto explainer = std::make_shared<ExplainCommand>(*explainApp);
  setBody(*explainApp, session, [explainer] { return explainer->run(); });
}

} // namespace winnow
