// Joins the compiler's requests to the runtime's look-up.
#include "tools/winnow/commands/tune/TunedConfigs.h"
#include "compiler/driver/CompileHook.h"
#include "tools/winnow/Session.h"
#include <fmt/format.h>

namespace winnow {

static TuningOptions turned(bool on) {
  TuningOptions options;
  options.on = on;
  return options;
}

TunedConfigs::TunedConfigs(bool on, const Cache *cache) : TunedConfigs(turned(on), cache) {}

TunedConfigs::TunedConfigs(TuningOptions options, const Cache *cache) {
  options.log = [](const std::string &line) { say("winnow: " + line); };
  CompileHook hook = compilerHook();
  if (cache)
    hook.check = [cache, key = hook.key, check = hook.check](const ProgramRequest &request) {
      Result<std::string> name = key(request);
      return name && cache->contains(*name) ? Status() : check(request);
    };
  // Only a text of decisions can be wrong, and there is none.
  chooser = std::move(*ConfigChooser::create(std::move(options), hook));
}

ChosenConfig TunedConfigs::fill(CompileRequest &request, const Workload &workload,
                                const std::string &device) {
  ProgramRequest open{request.method, request.spec, request.config, request.arch, workload};
  ChosenConfig choice = *chooser->choose(open, device); // fails in replay-only mode alone
  request.config = choice.config;
  request.spec = choice.spec(request.spec);
  return choice;
}

std::string choiceText(const ChosenConfig &choice, bool selects) {
  auto words = [](const char *phase, const TunedAnswer &answer) {
    bool plain = answer.rung == Rung::Exact || answer.rung >= Rung::Default;
    return fmt::format("{} {}{}", phase, name(answer.rung), plain ? "" : ", " + answer.why);
  };
  std::string text;
  for (const auto &[phase, answer] : choice.answers())
    if (selects || answer != &choice.select)
      text += (text.empty() ? "" : "; ") + words(phase, *answer);
  if (!choice.resolved.empty())
    text += fmt::format("; dense_len {}, {}", name(choice.crossing.rung), choice.crossing.why);
  return text;
}

nlohmann::json choiceJson(const ChosenConfig &choice) {
  auto object = [](const TunedAnswer &answer) {
    return nlohmann::json{
        {"rung", name(answer.rung)}, {"config", shortText(answer.config)}, {"why", answer.why}};
  };
  nlohmann::json json;
  for (const auto &[phase, answer] : choice.answers())
    json[phase] = object(*answer);
  if (!choice.resolved.empty())
    json["dense_len"] = {{"rung", name(choice.crossing.rung)},
                         {"points", choice.crossing.points},
                         {"why", choice.crossing.why}};
  return json;
}

} // namespace winnow
