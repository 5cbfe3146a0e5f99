// Checks of flags, and the nearest name to one that is not known.
#include "tools/winnow/io/Flags.h"
#include "tools/winnow/Session.h"
#include <algorithm>
#include <fmt/ranges.h>
#include <numeric>

namespace winnow {
namespace {

/// How many letters have to be changed, added, dropped or swapped with their neighbour.
size_t distance(const std::string &a, const std::string &b) {
  std::vector<std::vector<size_t>> steps(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i)
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        steps[i][j] = i + j;
        continue;
      }
      steps[i][j] = std::min(
          {steps[i - 1][j] + 1, steps[i][j - 1] + 1, steps[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        steps[i][j] = std::min(steps[i][j], steps[i - 2][j - 2] + 1);
    }
  return steps[a.size()][b.size()];
}

/// "winnow db ls".
std::string nameOf(const CLI::App *command) {
  return command->get_parent() ? nameOf(command->get_parent()) + " " + command->get_name()
                               : "winnow"; // whatever its path is
}

std::vector<std::string> commandsOf(const CLI::App &app) {
  std::vector<std::string> names;
  for (const CLI::App *command : app.get_subcommands([](const CLI::App *) { return true; }))
    names.push_back(command->get_name());
  return names;
}

/// The flags that a command takes, its parents' too, with their dashes.
std::vector<std::string> flagsOf(const CLI::App *command) {
  std::vector<std::string> names;
  for (; command; command = command->get_parent())
    for (const CLI::Option *option : command->get_options())
      for (const std::string &name : option->get_lnames())
        if (!option->get_group().empty())
          names.push_back("--" + name);
  return names;
}

} // namespace

CLI::Validator listOf(const CLI::Validator &piece) {
  std::string description = piece.get_description();
  return {[piece](std::string &text) -> std::string {
            size_t begin = 0;
            for (size_t end = 0; end != std::string::npos; begin = end + 1) {
              end = text.find(',', begin);
              std::string one = text.substr(begin, end - begin);
              if (one.empty())
                return fmt::format("'{}' has an empty piece", text);
              if (std::string problem = piece(one); !problem.empty())
                return problem;
            }
            return {};
          },
          description.empty() ? description : description + ",..."};
}

void addNumberList(CLI::App &command, const char *name, std::string &target, const char *meaning,
                   int most) {
  command.add_option(name, target, meaning)->capture_default_str()->check(listOf(between(1, most)));
}

void refuseEmptyValues(CLI::App &app) {
  for (CLI::Option *option : app.get_options())
    if (option->get_items_expected_max() > 0)
      option->check([](const std::string &text) {
        return text.empty() ? std::string("its value is empty") : std::string();
      });
  for (CLI::App *command : app.get_subcommands([](CLI::App *) { return true; }))
    refuseEmptyValues(*command);
}

std::string nearest(const std::string &word, const std::vector<std::string> &names) {
  std::string best;
  size_t least = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string &name : names) {
    const size_t common = std::min(word.size(), name.size());
    bool begins = common > 2 && word.compare(0, common, name, 0, common) == 0;
    size_t away = begins ? 1 : distance(word, name);
    if (away < least)
      best = name, least = away;
  }
  return best;
}

std::string whatIsWrong(const CLI::App &app, const CLI::Error &error) {
  const CLI::App *command = &app;
  while (!command->get_subcommands().empty())
    command = command->get_subcommands().front();
  const std::vector<std::string> commands = commandsOf(*command);
  const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
  const auto code = static_cast<CLI::ExitCodes>(error.get_exit_code());
  const bool needsCommand =
      code == CLI::ExitCodes::RequiredError && command->get_require_subcommand_min() > 0;
  if (needsCommand && unknown.empty())
    return fmt::format("`{}` needs a command: {}", nameOf(command), fmt::join(commands, ", "));
  if (unknown.empty() || (code != CLI::ExitCodes::ExtrasError && !needsCommand))
    return error.what();
  auto flag = std::find_if(unknown.begin(), unknown.end(),
                           [](const std::string &word) { return word[0] == '-'; });
  const bool isFlag = flag != unknown.end();
  const std::string word = isFlag ? flag->substr(0, flag->find('=')) : unknown.front();
  std::string guess = nearest(word, isFlag ? flagsOf(command) : commands);
  if (!guess.empty())
    guess = fmt::format("; did you mean {}?", guess);
  if (isFlag)
    return fmt::format("`{}` has no flag {}{}", nameOf(command), word, guess);
  if (commands.empty())
    return fmt::format("`{}` takes no '{}'", nameOf(command), word);
  return fmt::format("`{}` has no command '{}'{}", nameOf(command), word,
                     guess.empty() ? fmt::format("; known: {}", fmt::join(commands, ", ")) : guess);
}

std::string firstGiven(const CLI::App &command, const std::string &group) {
  for (const CLI::Option *option : command.get_options())
    if (option->get_group() == group && option->count() > 0)
      return option->get_name();
  return {};
}

} // namespace winnow
