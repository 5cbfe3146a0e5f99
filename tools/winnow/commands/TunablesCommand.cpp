// `winnow tunables`: what --config takes, from the table that everything else reads.
#include "runtime/program/Tunables.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/help.inc"
#include "tools/winnow/io/Json.h"
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace winnow {
namespace {

nlohmann::json tunableJson(const Tunable &tunable) {
  nlohmann::json object{{"name", tunable.name},
                        {"phase", tunable.phase},
                        {"meaning", tunable.meaning},
                        {"values", nlohmann::json::array()}};
  if (tunable.upTo)
    object["up_to"] = tunable.upTo;
  else if (tunable.words.empty())
    object["values"] = tunable.values;
  for (const TunableWord &word : tunable.words)
    object["values"].push_back(
        {{"value", word.value}, {"word", word.word}, {"meaning", word.meaning}});
  return object;
}

std::string tunablesText() {
  Table table({"tunable", "phase", "values", "what it decides"});
  for (const Tunable &tunable : tunables()) {
    table.add({tunable.name, tunable.phase,
               fmt::format("({})", tunable.words.empty() ? tunable.valuesText() : "a word"),
               tunable.meaning});
    for (const TunableWord &word : tunable.words)
      table.add({"", "", fmt::format("{} ({})", word.word, word.value),
                 fmt::format("  {}", word.meaning)});
  }
  return table.text();
}

} // namespace

void addTunablesCommand(CLI::App &app, Session &session) {
  CLI::App *command = app.add_subcommand("tunables", "Lists the tunables that --config takes");
  command->footer(kTunablesHelp);
  setBody(*command, session, [&session]() -> Status {
    if (!session.json) {
      fmt::print("{}", tunablesText());
      return {};
    }
    nlohmann::json list = nlohmann::json::array();
    for (const Tunable &tunable : tunables())
      list.push_back(tunableJson(tunable));
    printJson(list);
    return {};
  });
}

} // namespace winnow
