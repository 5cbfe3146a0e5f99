// One look-up per request, remembered: the second prepare of a program costs a search in a map.
#include "runtime/tuned/ConfigChooser.h"
#include "runtime/Printable.h"
#include "runtime/program/CrossingPoints.h"
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace winnow {

namespace {

constexpr const char *kTurnedOff = "tuned configurations are turned off";
/// How recordLine and trialLine begin.
constexpr std::string_view kLineBegin = "{\"schema\":1,\"kind\":\"";
static_assert(kTuningSchema == 1, "kLineBegin has it in words");

std::string quoted(const std::string &text) { return "\"" + text + "\""; }

/// Lines of a tuned file by their text, without parsing them.
struct LineFilter {
  std::vector<std::string> words;
  bool matches(std::string_view line) const {
    return std::all_of(words.begin(), words.end(), [&](const std::string &word) {
      return ::memmem(line.data(), line.size(), word.data(), word.size()) != nullptr;
    });
  }
};

/// What every record has in its line that tuningDistance can compare with `key`.
LineFilter tilesOf(const TuningKey &key) {
  const std::string tiles = fmt::format(" head_dim={} value_dim={} block={} ", key.spec.headDim,
                                        key.spec.valueWidth(), key.spec.block);
  return {{tiles, quoted(key.arch), quoted(key.phase), quoted(key.method)}};
}

TunedAnswer &answerOf(ChosenConfig &choice, const std::string &phase) {
  if (phase == kDecodePhase)
    return choice.decode ? *choice.decode : choice.decode.emplace();
  if (phase == kBackwardPhase)
    return choice.backward ? *choice.backward : choice.backward.emplace();
  return phase == "select" ? choice.select : choice.attend;
}

/// The caller's configuration, with the same words for every phase that it leaves open.
ChosenConfig untuned(const ProgramRequest &request, const std::string &why) {
  ChosenConfig choice;
  choice.config = request.config;
  for (const char *phase : tunedPhases(request.spec)) {
    bool open = isOpen(request.config, phase);
    answerOf(choice, phase).rung = open ? Rung::Default : Rung::Given;
    answerOf(choice, phase).why = open ? why : "set by the caller";
  }
  return choice;
}

ChosenConfig replayed(const Decision &decision) {
  ChosenConfig choice;
  choice.config = decision.config;
  choice.resolved = decision.resolved;
  choice.crossing.rung = decision.crossing, choice.crossing.why = "as decided elsewhere";
  if (!decision.resolved.empty())
    choice.crossing.points = decision.resolved.begin()->second;
  std::vector<std::pair<const char *, Rung>> rungs{{"select", decision.select},
                                                   {"attend", decision.attend}};
  if (decision.decode)
    rungs.emplace_back(kDecodePhase, *decision.decode);
  if (decision.backward)
    rungs.emplace_back(kBackwardPhase, *decision.backward);
  for (const auto &[phase, rung] : rungs) {
    TunedAnswer &answer = answerOf(choice, phase);
    answer.rung = rung, answer.why = "as decided elsewhere";
    for (const Tunable *tunable : phaseTunables(phase))
      tunable->set(answer.config, tunable->get(decision.config));
  }
  return choice;
}

} // namespace

std::vector<std::pair<const char *, const TunedAnswer *>> ChosenConfig::answers() const {
  std::vector<std::pair<const char *, const TunedAnswer *>> all{{"select", &select},
                                                                {"attend", &attend}};
  if (decode)
    all.emplace_back(kDecodePhase, &*decode);
  if (backward)
    all.emplace_back(kBackwardPhase, &*backward);
  return all;
}

bool ChosenConfig::isTuned() const {
  const auto all = answers();
  return std::any_of(all.begin(), all.end(),
                     [](const auto &one) { return one.second->rung < Rung::Default; });
}

Spec ChosenConfig::spec(Spec asked) const {
  for (const auto &[param, points] : resolved)
    asked.params[param] = points;
  return asked;
}

ConfigChooser::ConfigChooser(TuningOptions given, const CompileHook &hook)
    : options(std::move(given)), check(hook.check), parameters(hook.parameters) {}

Result<std::unique_ptr<ConfigChooser>> ConfigChooser::create(TuningOptions options,
                                                             const CompileHook &hook) {
  WINNOW_TRY(std::vector<Decision> decisions, parseDecisions(options.decisions));
  std::unique_ptr<ConfigChooser> chooser(new ConfigChooser(std::move(options), hook));
  for (const Decision &decision : decisions)
    chooser->choices[{decision.request, decision.device}] = replayed(decision);
  return chooser;
}

Result<ChosenConfig> ConfigChooser::choose(const ProgramRequest &request,
                                           const std::string &device) {
  TuningKey key;
  key.method = request.method;
  key.spec = request.spec;
  const bool looksUp = options.on && hasOpenPhase(request.config, request.spec);
  if (!looksUp && takeAutos(key).empty())
    return untuned(request, options.on ? "" : kTurnedOff);
  const std::pair<std::string, std::string> name(request.text(), device);
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (auto it = choices.find(name); it != choices.end())
      return it->second;
  }
  if (options.replayOnly)
    return fail(ErrorKind::NotReady,
                fmt::format("no decision for {} on {}: replay-only mode runs nothing that was not "
                            "decided before; export decisions that include it",
                            name.first, device));
  ChosenConfig choice = answer(request, device);
  std::lock_guard<std::mutex> lock(mutex);
  // Another thread's answer is the same, unless it has been overruled meanwhile: that one stands.
  return choices.emplace(name, std::move(choice)).first->second;
}

ChosenConfig ConfigChooser::answer(const ProgramRequest &request, const std::string &device) {
  ChosenConfig choice = untuned(request, options.on ? "" : kTurnedOff);
  TuningKey key;
  key.method = request.method;
  key.spec = request.spec;
  const std::vector<std::string> autos = takeAutos(key);
  const Workload workload = request.workload.bucket();
  key.tokens = static_cast<int>(workload.tokens);
  key.arch = request.arch;
  key.device = device;
  for (const char *phase : tunedPhases(request.spec)) {
    if (!options.on || !isOpen(request.config, phase))
      continue;
    key.phase = phase;
    key.overlap = dependsOnOverlap(phase) ? workload.overlap : 0;
    key.batch = key.phase == kDecodePhase ? workload.batch : 0;
    auto merged = [&](const Config &config) {
      ProgramRequest whole = request;
      whole.config = choice.config;
      for (const Tunable *tunable : phaseTunables(phase))
        tunable->set(whole.config, tunable->get(config));
      return whole;
    };
    LegalConfig legal;
    if (check)
      legal = [&](const Config &config) { return check(merged(config)); };
    TunedAnswer found = search(key, legal);
    choice.config = merged(found.config).config;
    answerOf(choice, phase) = std::move(found);
  }
  if (autos.empty())
    return choice;
  key.phase = kCrossingPhase;
  key.tokens = key.overlap = key.batch = 0;
  choice.crossing = lookUpCrossing(recordsFor(key), key);
  for (const std::string &param : autos)
    choice.resolved[param] = choice.crossing.points;
  return choice;
}

ChosenConfig ConfigChooser::overrule(const ProgramRequest &request, const std::string &device,
                                     const std::string &why) {
  warn(fmt::format("{} runs with its default configuration, the tuned one failed: {}",
                   request.method, why));
  ChosenConfig choice = untuned(request, "the tuned configuration failed: " + why);
  std::lock_guard<std::mutex> lock(mutex);
  ChosenConfig &held = choices[{request.text(), device}];
  // Crossing points are no tunables: what they decide is the program's meaning, and stays.
  choice.crossing = held.crossing, choice.resolved = held.resolved;
  held = choice;
  return choice;
}

std::string ConfigChooser::decisions() const {
  std::lock_guard<std::mutex> lock(mutex);
  auto rungOf = [](const std::optional<TunedAnswer> &answer) {
    return answer ? std::optional(answer->rung) : std::nullopt;
  };
  std::string lines;
  for (const auto &[name, choice] : choices)
    lines += decisionLine({name.first, name.second, choice.config, choice.select.rung,
                           choice.attend.rung, choice.resolved, choice.crossing.rung,
                           rungOf(choice.decode), rungOf(choice.backward)}) +
             "\n";
  return lines;
}

void ConfigChooser::logChoice(const ProgramRequest &request, const std::string &device,
                              const ChosenConfig &choice, bool selects) const {
  auto isSure = [](const TunedAnswer &answer) {
    return answer.rung == Rung::Exact || answer.rung == Rung::Given;
  };
  bool isAllSure = choice.resolved.empty() || choice.crossing.rung == Rung::Exact;
  std::vector<std::string> phases;
  for (const auto &[phase, answer] : choice.answers()) {
    if (answer == &choice.select && !selects)
      continue;
    isAllSure = isAllSure && isSure(*answer);
    phases.push_back(fmt::format("{}: {}, {} [{}]", phase, name(answer->rung), answer->why,
                                 wordText(answer->config)));
  }
  if (!options.log || !options.on || isAllSure)
    return;
  const CrossingAnswer &crossing = choice.crossing;
  const std::string dense = choice.resolved.empty()
                                ? ""
                                : fmt::format("; dense_len: {}, {} [{}]", name(crossing.rung),
                                              crossing.why, crossing.points);
  options.log(
      fmt::format("{} on {}: {}{}", request.method, device, fmt::join(phases, "; "), dense));
}

TunedDatabase ConfigChooser::load(const std::function<bool(std::string_view)> &wanted) {
  TunedDatabase database = TunedDatabase::load(options.files, options.shipped, wanted,
                                               [this](TuningKey &key) { fillIn(key); });
  for (const std::string &fault : database.faults())
    warn("tuned configurations: " + fault);
  return database;
}

TunedAnswer ConfigChooser::search(const TuningKey &key, const LegalConfig &legal) {
  std::map<std::string, Status> verdicts; // a check takes milliseconds: once for each configuration
  LegalConfig once;
  if (legal)
    once = [&](const Config &config) {
      auto it = verdicts.find(config.text());
      return it != verdicts.end() ? it->second
                                  : verdicts.emplace(config.text(), legal(config)).first->second;
    };
  if (std::optional<TunedAnswer> same = searchSame(key, once))
    return *same;
  return lookUp(recordsFor(key), key, once, [this](const std::string &message) { warn(message); });
}

/// The usual case at a fraction of the time: only lines about this very problem are parsed. Nothing
/// where a record of another problem may come before them, by the order of lookUp().
std::optional<TunedAnswer> ConfigChooser::searchSame(const TuningKey &key,
                                                     const LegalConfig &legal) {
  const Spec &spec = key.spec;
  const LineFilter tiles = tilesOf(key);
  const LineFilter same{
      {fmt::format("\"spec\":\"heads={} kv_heads={} head_dim={} value_dim={} block={} "
                   "topk={} dtype={} ",
                   spec.heads, spec.kvHeads, spec.headDim, spec.valueWidth(), spec.block, spec.topk,
                   winnow::name(spec.dtype)),
       fmt::format("\"tokens\":{},\"overlap\":{},{}", key.tokens, key.overlap,
                   key.phase == kDecodePhase ? fmt::format("\"batch\":{},", key.batch) : "")}};
  const LineFilter measured{{"\"origin\":\"measured\""}}, own{{quoted(key.device)}};
  // Of lines about other problems.
  bool hasMeasured = false, hasOwnMeasured = false, hasOwn = false, hasStrange = false;
  const TunedDatabase database = load([&](std::string_view line) {
    if (!tiles.matches(line))
      return false;
    // Written by hand: its words may lie otherwise.
    hasStrange |= line.substr(0, kLineBegin.size()) != kLineBegin;
    if (same.matches(line))
      return true;
    const bool isMeasured = measured.matches(line), isOwn = own.matches(line);
    hasMeasured |= isMeasured, hasOwn |= isOwn, hasOwnMeasured |= isMeasured && isOwn;
    return false;
  });
  if (hasStrange)
    return std::nullopt;
  TunedAnswer found =
      lookUp(database, key, legal, [this](const std::string &message) { warn(message); });
  if (found.rung == Rung::Exact)
    return found;
  if (!found.record || tuningDistance(key, found.record->key) != 0.0)
    return std::nullopt;
  const bool isOwn = found.record->key.device == key.device;
  const bool stands =
      found.rung == Rung::OtherDevice ? !hasOwnMeasured : !hasMeasured && (isOwn || !hasOwn);
  return stands ? std::optional(found) : std::nullopt;
}

/// The records that could answer: those of the same tiles (tuningDistance knows no others). Most
/// lines of the files are about others and are not even parsed.
const TunedDatabase &ConfigChooser::recordsFor(const TuningKey &key) {
  const LineFilter tiles = tilesOf(key);
  const std::string name = fmt::format("{}", fmt::join(tiles.words, ""));
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (auto it = records.find(name); it != records.end())
      return *it->second;
  }
  auto whole = std::make_unique<const TunedDatabase>(
      load([&](std::string_view line) { return tiles.matches(line); }));
  std::lock_guard<std::mutex> lock(mutex);
  return *records.emplace(name, std::move(whole)).first->second; // another thread's is the same
}

/// Names every parameter of the method, so that "local=33" and leaving it at 33 are the same.
void ConfigChooser::fillIn(TuningKey &key) {
  if (!parameters)
    return;
  std::map<std::string, std::string> known;
  std::unique_lock<std::mutex> lock(mutex);
  if (auto it = defaults.find(key.method); it != defaults.end()) {
    known = it->second;
  } else {
    lock.unlock();
    if (auto declared = parameters(key.method)) // an unknown method has none
      known = std::move(*declared);
    lock.lock();
    defaults[key.method] = known;
  }
  key.spec.params.insert(known.begin(), known.end());
}

/// Fills the key in, and takes the parameters that are `auto` out of it: which tunables are best
/// does not depend on them. Returns those whose points are to be looked up.
std::vector<std::string> ConfigChooser::takeAutos(TuningKey &key) {
  fillIn(key);
  std::vector<std::string> autos;
  std::map<std::string, std::string> &params = key.spec.params;
  for (auto it = params.begin(); it != params.end();) {
    if (it->second == CrossingPoints::kUnresolved)
      autos.push_back(it->first);
    it = CrossingPoints::isAuto(it->second) ? params.erase(it) : std::next(it);
  }
  return autos;
}

void ConfigChooser::warn(const std::string &message) {
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (!warned.insert(message).second)
      return;
  }
  if (options.log)
    options.log(printable(message));
  else
    std::fprintf(stderr, "winnow: %s\n", printable(message).c_str());
}

} // namespace winnow
