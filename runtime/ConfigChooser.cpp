// One look-up per request, remembered: the second prepare of a program costs a search in a map.
#include "runtime/ConfigChooser.h"
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace winnow {

namespace {

constexpr const char *kPhases[] = {"select", "attend"};

TunedAnswer &answerOf(ChosenConfig &choice, const std::string &phase) {
  return phase == "select" ? choice.select : choice.attend;
}

/// The caller's configuration, with the same words for every phase that it leaves open.
ChosenConfig untuned(const Config &config, const std::string &why) {
  ChosenConfig choice;
  choice.config = config;
  for (const char *phase : kPhases) {
    bool open = isOpen(config, phase);
    answerOf(choice, phase).rung = open ? Rung::Default : Rung::Given;
    answerOf(choice, phase).why = open ? why : "set by the caller";
  }
  return choice;
}

ChosenConfig replayed(const Decision &decision) {
  ChosenConfig choice;
  choice.config = decision.config;
  choice.select.rung = decision.select, choice.attend.rung = decision.attend;
  for (const char *phase : kPhases) {
    for (const ConfigField &field : phaseFields(phase))
      answerOf(choice, phase).config.*field.member = decision.config.*field.member;
    answerOf(choice, phase).why = "as decided elsewhere";
  }
  return choice;
}

} // namespace

bool ChosenConfig::isTuned() const {
  auto found = [](const TunedAnswer &answer) { return answer.rung < Rung::Default; };
  return found(select) || found(attend);
}

ConfigChooser::ConfigChooser(TuningOptions given, const CompileHook &hook)
    : options(std::move(given)), check(hook.check), parameters(hook.parameters) {}

Result<std::unique_ptr<ConfigChooser>> ConfigChooser::create(TuningOptions options,
                                                             const CompileHook &hook) {
  Result<std::vector<Decision>> decisions = parseDecisions(options.decisions);
  if (!decisions)
    return tl::unexpected(decisions.error());
  std::unique_ptr<ConfigChooser> chooser(new ConfigChooser(std::move(options), hook));
  for (const Decision &decision : *decisions)
    chooser->choices[{decision.request, decision.device}] = replayed(decision);
  return chooser;
}

Result<ChosenConfig> ConfigChooser::choose(const ProgramRequest &request,
                                           const std::string &device) {
  if (!options.on)
    return untuned(request.config, "tuned configurations are turned off");
  if (!isOpen(request.config, kPhases[0]) && !isOpen(request.config, kPhases[1]))
    return untuned(request.config, {});
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
  ChosenConfig choice = untuned(request.config, {});
  TuningKey key;
  key.method = request.method;
  key.spec = request.spec;
  fillIn(key);
  const Workload workload = request.workload.bucket();
  key.tokens = static_cast<int>(workload.tokens);
  key.arch = request.arch;
  key.device = device;
  for (const char *phase : kPhases) {
    if (!isOpen(request.config, phase))
      continue;
    key.phase = phase;
    key.overlap = key.phase == "attend" ? workload.overlap : 0; // selection does not depend on it
    auto merged = [&](const Config &config) {
      ProgramRequest whole = request;
      whole.config = choice.config;
      for (const ConfigField &field : phaseFields(phase))
        whole.config.*field.member = config.*field.member;
      return whole;
    };
    LegalConfig legal;
    if (check)
      legal = [&](const Config &config) { return check(merged(config)); };
    TunedAnswer found =
        lookUp(recordsFor(key), key, legal, [this](const std::string &message) { warn(message); });
    choice.config = merged(found.config).config;
    answerOf(choice, phase) = std::move(found);
  }
  return choice;
}

ChosenConfig ConfigChooser::overrule(const ProgramRequest &request, const std::string &device,
                                     const std::string &why) {
  warn(fmt::format("{} runs with its default configuration, the tuned one failed: {}",
                   request.method, why));
  ChosenConfig choice = untuned(request.config, "the tuned configuration failed: " + why);
  std::lock_guard<std::mutex> lock(mutex);
  choices[{request.text(), device}] = choice;
  return choice;
}

std::string ConfigChooser::decisions() const {
  std::lock_guard<std::mutex> lock(mutex);
  std::string lines;
  for (const auto &[name, choice] : choices)
    lines += decisionLine(
                 {name.first, name.second, choice.config, choice.select.rung, choice.attend.rung}) +
             "\n";
  return lines;
}

void ConfigChooser::logChoice(const ProgramRequest &request, const std::string &device,
                              const ChosenConfig &choice, bool selects) const {
  auto isSure = [](const TunedAnswer &answer) {
    return answer.rung == Rung::Exact || answer.rung == Rung::Given;
  };
  if (!options.log || !options.on || (isSure(choice.attend) && (!selects || isSure(choice.select))))
    return;
  auto phase = [](const char *what, const TunedAnswer &answer) {
    return fmt::format("{}: {}, {} [{}]", what, name(answer.rung), answer.why,
                       shortText(answer.config));
  };
  options.log(fmt::format("{} on {}: {}{}", request.method, device,
                          selects ? phase("select", choice.select) + "; " : "",
                          phase("attend", choice.attend)));
}

/// The records that could answer: those of the same tiles (tuningDistance knows no others). Most
/// lines of the files are about others and are not even parsed.
const TunedDatabase &ConfigChooser::recordsFor(const TuningKey &key) {
  const std::string tiles = fmt::format(" head_dim={} value_dim={} block={} ", key.spec.headDim,
                                        key.spec.valueWidth(), key.spec.block);
  auto quoted = [](const std::string &text) { return "\"" + text + "\""; };
  const std::string words[] = {tiles, quoted(key.arch), quoted(key.phase), quoted(key.method)};
  const std::string name = fmt::format("{}", fmt::join(words, ""));
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (auto it = records.find(name); it != records.end())
      return *it->second;
  }
  auto whole = std::make_unique<const TunedDatabase>(TunedDatabase::load(
      options.files, options.shipped,
      [&](std::string_view line) {
        return std::all_of(std::begin(words), std::end(words), [&](const std::string &word) {
          return ::memmem(line.data(), line.size(), word.data(), word.size()) != nullptr;
        });
      },
      [this](TuningRecord &record) { fillIn(record.key); }));
  for (const std::string &fault : whole->faults())
    warn("tuned configurations: " + fault);
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

void ConfigChooser::warn(const std::string &message) {
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (!warned.insert(message).second)
      return;
  }
  if (options.log)
    options.log(message);
  else
    std::fprintf(stderr, "winnow: %s\n", message.c_str());
}

} // namespace winnow
