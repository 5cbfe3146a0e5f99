// `winnow check`: the conformance cases, the recorded answers or random draws on one device. A line
// per case (of random draws, per failing one); exit code 1 if any fails, and a case that cannot run
// counts as failed.
#include "reference/conformance/Append.h"
#include "reference/conformance/RandomCases.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/commands/check/CheckList.h"
#include "tools/winnow/commands/prepare/Prepare.h"
#include "tools/winnow/help.inc"
#include "tools/winnow/io/Flags.h"
#include "tools/winnow/io/Json.h"
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>

namespace winnow {
namespace {

bool sameProgram(const ConformanceCase &a, const ConformanceCase &b) {
  return a.method == b.method && a.spec.text() == b.spec.text() &&
         a.config.text() == b.config.text();
}

class CheckCommand {
public:
  CheckCommand(CLI::App &command, Session &session) : session(session) {
    command.add_option("--device", options.device, "auto, cuda, cuda:N, cpu or emulated")
        ->capture_default_str();
    command.add_option("--arch", options.arch,
                       "Compile for this architecture instead of the device's own");
    command.add_flag("--ptx", options.ptx, "Load PTX of the architecture's virtual counterpart");
    command.add_option("--threads", options.threads, "CPU threads; 0 stands for all cores")
        ->check(between(0, 4096));
    command.add_option("--filter", filter,
                       "Only cases whose name has a match of this regular expression");
    command.add_option("--config", configText,
                       "Tunables that every case gets; cases without such kernels are left out");
    command.add_flag("--small", small,
                     "The small cases instead of the table: 27 specs with every method and "
                     "every value of every tunable");
    command.add_option("--save", saveFolder,
                       "Folder that gets the answers: CASE.out.npy, CASE.lse.npy, CASE.ids.npy");
    command.add_option("--against", againstFolder,
                       "Folder of answers that another device gave by --save: compare with them");
    command.add_option("--layout", layout,
                       "Where every case's tensors lie: packed (with strides), halves, pages, rows "
                       "or pairs");
    command.add_option("--page-size", pageSize, "Tokens of a page, for --layout")
        ->check(between(1, 1 << 20))
        ->capture_default_str();
    command.add_flag("--large", large, "Also the cases that need many GB of memory");
    command.add_flag("--list", listOnly, "Print the names of the cases and stop");
    command.add_option("--recorded", recordedDirectory, "Folder with recorded answers");
    command.add_option("--method", recordedMethod, "The method that gave the recorded answers");
    command
        .add_option("--tolerance", tolerance,
                    "Relative distance of block scores that counts as a tie")
        ->check(between(0.0, 1.0))
        ->capture_default_str();
    std::string random = "Random draws";
    command.add_option("--random", choice.draws, "Run this many random cases instead of the table")
        ->check(between(1, 1000000))
        ->excludes("--filter")
        ->excludes("--recorded")
        ->excludes("--small")
        ->group(random);
    seedOption = command.add_option("--seed", choice.seed, "What the draws come from")
                     ->check(between<uint64_t>(0, UINT64_MAX))
                     ->capture_default_str()
                     ->group(random);
    command.add_option("--random-only", choice.only, "Run this draw alone, counted from 0")
        ->check(between(0, 1000000))
        ->group(random);
    backwardOption = command.add_flag("--backward", choice.backward, "Draws with gradients alone")
                         ->group(random);
    command.add_flag("--prepare", prepareOnly,
                     "Compile for --arch into the cache and stop; needs no GPU");
    command
        .add_option("--part", partText,
                    "I/N: this part of the cases alone, for several processes side by side")
        ->take_last();
    command.add_option("--helper", helperText, "I/N: begin in this part, as a helper process")
        ->group("");
  }

  Status run() {
    try { // the one way to learn whether a regular expression is valid
      pattern = std::regex(filter);
    } catch (const std::regex_error &error) {
      return fail(ErrorKind::Usage, fmt::format("--filter {}: {}", filter, error.what()));
    }
    Result<Config> config = Config::parse(configText);
    if (!config)
      return fail(ErrorKind::Usage, fmt::format("--config: {}", config.error().message));
    choice.fixed = *config;
    if (recordedDirectory.empty() != recordedMethod.empty())
      return fail(ErrorKind::Usage, "--recorded and --method go together");
    if (choice.only >= 0 && choice.draws == 0)
      choice.draws = choice.only + 1;
    for (const CLI::Option *option : {seedOption, backwardOption})
      if (option->count() > 0 && choice.draws == 0)
        return fail(ErrorKind::Usage, option->get_name() + " is for --random");
    part = Part::parse(partText);
    if (!partText.empty() && !part)
      return fail(ErrorKind::Usage, fmt::format("--part {}: write I/N with I below N", partText));
    if (prepareOnly)
      return prepare();
    if ((choice.draws == 0 && !small) || listOnly) {
      choice.arch = options.arch.empty() ? targets().front().arch : options.arch;
      WINNOW_CHECK(choose());
      if (listOnly) {
        Status status = applyConfig();
        return status ? list() : status;
      }
    }
    WINNOW_TRY(backend, openBackend(options, cache));
    say("on " + backend->description());
    if (!backend->isGpu() && !configText.empty())
      return fail(ErrorKind::Usage, "--config is for GPUs: the CPU's kernels have no tunables");
    // What is served does not depend on the CPU; its draws are those of the plainest architecture.
    choice.arch = backend->isGpu() ? backend->arch() : targets().front().arch;
    if (choice.draws > 0 || small)
      WINNOW_CHECK(choose());
    WINNOW_CHECK(applyConfig());
    WINNOW_CHECK(applyLayout());
    if (backend->isGpu())
      WINNOW_CHECK(leaveOutUnserved(backend->arch()));
    if (part)
      takePart();
    const AnswerFolder saved(saveFolder), against(againstFolder);
    if (!saveFolder.empty())
      WINNOW_CHECK(saved.make());
    if (backend->isGpu())
      tell(preparePrograms(requests(backend->arch()), cache, {}, helperFlags(backend->arch())));
    double began = now();
    bool serial = std::any_of(items.begin(), items.end(),
                              [](const CheckItem &item) { return item.test.large; });
    Progress progress("check");
    CheckRunner runner(*backend, tolerance);
    runner.use(saveFolder.empty() ? nullptr : &saved, againstFolder.empty() ? nullptr : &against);
    runner.run(items, serial, [&](const CheckItem &item, const Result<CaseResult> &result) {
      note(item, result);
      progress.show(static_cast<double>(passes + failures) / static_cast<double>(items.size()));
    });
    return finish(now() - began);
  }

private:
  /// --layout: every item of this kind that has none of its own.
  Status applyLayout() {
    if (layout.empty())
      return {};
    if (Result<Layout> known = parseLayout(layout); !known)
      return fail(ErrorKind::Usage, "--layout: " + known.error().message);
    for (CheckItem &item : items)
      if (item.test.layout.empty() && !item.recorded && !item.test.backward) {
        item.test.layout = layout;
        item.test.pageSize = pageSize;
        item.test.spec.paged = true;
      }
    return {};
  }
  /// Fills `items`.
  Status choose() {
    if (choice.draws > 0) {
      if (choice.only >= choice.draws)
        return fail(ErrorKind::Usage, fmt::format("--random-only {}: the draws of --random {} are "
                                                  "counted from 0 to {}",
                                                  choice.only, choice.draws, choice.draws - 1));
      WINNOW_TRY(items, randomItems(choice));
      return {};
    }
    if (small)
      return chooseSmall();
    WINNOW_TRY(std::vector<ConformanceCase> table, conformanceCases());
    if (!recordedDirectory.empty()) {
      WINNOW_TRY(recorded, loadRecorded(recordedDirectory, recordedMethod));
    }
    bool any = false;
    auto add = [&](const ConformanceCase &test, const RecordedCase *answers) {
      if (!filter.empty() && !std::regex_search(test.name, pattern))
        return;
      any = true;
      if (large || listOnly || !test.large)
        items.push_back({test, answers, ""});
    };
    for (const ConformanceCase &test : table)
      add(test, nullptr);
    for (const ConformanceCase &test : appendCases())
      add(test, nullptr);
    for (const RecordedCase &one : recorded)
      add(one.test, &one);
    if (!any)
      return fail(ErrorKind::Usage, fmt::format("--filter {}: no such case", filter));
    if (items.empty())
      return fail(ErrorKind::Usage, "only cases that need --large were chosen");
    return {};
  }

  /// --small: what the architecture serves, and a line on what it does not.
  Status chooseSmall() {
    std::vector<std::string> without;
    WINNOW_TRY(std::vector<CheckItem> found, smallItems(choice.arch, without));
    for (CheckItem &item : found)
      if (filter.empty() || std::regex_search(item.test.name, pattern))
        items.push_back(std::move(item));
    if (items.empty())
      return fail(ErrorKind::Usage, fmt::format("--filter {}: no such case", filter));
    if (!without.empty() && filter.empty())
      say(fmt::format("{} values of tunables have no kernels on {}: {}", without.size(),
                      choice.arch, fmt::join(without, "; ")));
    return {};
  }

  /// Gives every item the tunables of --config; leaves out those that have no such kernels.
  Status applyConfig() {
    if (configText.empty() || choice.draws > 0) // what is drawn has them already
      return {};
    std::vector<CheckItem> kept;
    std::string reason;
    for (CheckItem &item : items) {
      item.test.config = withFixed(item.test.config, choice.fixed);
      Status served = isServed(requestFor(item.test), choice.arch);
      if (isRefusal(served))
        reason = served.error().message;
      else
        kept.push_back(std::move(item));
    }
    if (kept.empty())
      return fail(ErrorKind::Usage,
                  fmt::format("--config {}: no case has such kernels: {}", configText, reason));
    if (kept.size() < items.size())
      say(fmt::format("{} cases are left out: they have no kernels with {}",
                      items.size() - kept.size(), configText));
    items = std::move(kept);
    return {};
  }

  /// Leaves out the cases that the architecture has no instructions for: whose keys are fp8, and
  /// whose own tunables need products of warpgroups.
  Status leaveOutUnserved(const std::string &arch) {
    WINNOW_TRY(const Target *target, findTarget(arch));
    auto leaveOut = [&](const char *what, auto isOf) -> Status {
      const size_t all = items.size();
      items.erase(std::remove_if(items.begin(), items.end(), isOf), items.end());
      if (items.empty() && all > 0)
        return fail(ErrorKind::Unsupported,
                    fmt::format("{} has no kernels for {}, and no other case was chosen: take "
                                "another --arch",
                                arch, what));
      if (items.size() < all)
        say(fmt::format("{} cases of {} are left out: {} has no kernels for them",
                        all - items.size(), what, arch));
      return {};
    };
    if (!target->hasFp8Conversion)
      WINNOW_CHECK(
          leaveOut("fp8 keys", [](const CheckItem &item) { return item.test.spec.hasFp8Keys(); }));
    if (!target->hasWarpgroupMma)
      WINNOW_CHECK(leaveOut("stored changes", [](const CheckItem &item) {
        return item.test.config.backwardChanges == BackwardChanges::Stored;
      }));
    return {};
  }

  /// Keeps the items of --part; neighbours that share a program stay together.
  void takePart() {
    std::vector<CheckItem> kept;
    int program = -1;
    for (size_t i = 0; i < items.size(); ++i) {
      program += i == 0 || !sameProgram(items[i - 1].test, items[i].test);
      if (program % part->count == part->index)
        kept.push_back(items[i]);
    }
    items = std::move(kept);
  }

  Status list() {
    for (const CheckItem &item : items)
      fmt::print("{}{}\n", choice.draws ? item.repeat : item.test.name,
                 item.test.large ? " (large)" : "");
    return {};
  }

  std::vector<CompileRequest> requests(const std::string &arch) const {
    std::vector<CompileRequest> list;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0 && sameProgram(items[i - 1].test, items[i].test))
        continue;
      list.push_back(requestFor(items[i].test));
      list.back().arch = arch;
      list.back().form = options.form();
    }
    return list;
  }

  /// What makes a copy of this process one that only compiles.
  std::vector<std::string> helperFlags(const std::string &arch) const {
    std::vector<std::string> words{"--prepare"};
    if (options.arch.empty())
      words.insert(words.end(), {"--arch", arch});
    return words;
  }

  /// --prepare: everything that a run would compile, without a device.
  Status prepare() {
    Result<const Target *> target = findTarget(options.arch);
    if (options.arch.empty())
      return fail(ErrorKind::Usage, "--prepare needs --arch: there may be no GPU to ask");
    if (!target)
      return tl::unexpected(target.error());
    if (cache.options().directory.empty())
      return fail(ErrorKind::Usage, "--prepare needs a cache directory: set WINNOW_CACHE_DIR");
    choice.arch = options.arch;
    WINNOW_CHECK(choose());
    WINNOW_CHECK(applyConfig());
    WINNOW_CHECK(leaveOutUnserved(options.arch));
    if (part)
      takePart();
    PrepareReport report = preparePrograms(requests(options.arch), cache, Part::parse(helperText));
    if (session.json)
      printJson(nlohmann::json{{"programs", report.programs},
                               {"cached", report.cached},
                               {"failures", report.failures},
                               {"seconds", report.seconds}});
    else
      fmt::print("{} programs for {}{}: {} were in the cache, {} do not compile, {:.1f} s\n",
                 report.programs, options.arch, options.ptx ? " (PTX)" : "", report.cached,
                 report.failures.size(), report.seconds);
    for (const std::string &failure : report.failures)
      say(failure);
    if (!report.failures.empty())
      return fail(ErrorKind::CompileFailed,
                  fmt::format("{} programs do not compile", report.failures.size()));
    return {};
  }

  void tell(const PrepareReport &report) {
    if (report.programs > report.cached)
      say(fmt::format("compiled {} of {} programs in {:.1f} s", report.programs - report.cached,
                      report.programs, report.seconds));
  }

  void note(const CheckItem &item, const Result<CaseResult> &result) {
    const ConformanceCase &test = item.test;
    bool passed = result && result->passed;
    std::string text = result ? result->text : "could not run: " + result.error().message;
    (passed ? passes : failures)++;
    if (choice.draws && passed && choice.only < 0)
      return;
    if (session.json) {
      nlohmann::json line{{"case", test.name}, {"passed", passed}, {"text", text}};
      if (!item.repeat.empty())
        line["repeat"] = item.repeat;
      if (result) {
        line["max_error"] = result->output.maxError;
        line["plain_error"] = result->output.plainError;
        line["lse_error"] = result->output.lseError;
        line["wrong_picks"] = result->selection.wrong;
        line["ties"] = result->selection.ties;
        line["picks"] = result->selection.picks;
        if (result->free.expected)
          line["recall"] = result->free.recall();
      }
      object["cases"].push_back(std::move(line));
      return;
    }
    fmt::print("{:<4} {:<28} {}{}{}\n", passed ? "ok" : "FAIL", test.name, text,
               item.repeat.empty() ? "" : "; repeat: ", item.repeat);
    std::fflush(stdout);
  }

  Status finish(double seconds) {
    if (session.json) {
      object["device"] = backend->description();
      object["passed"] = passes;
      object["failed"] = failures;
      object["seconds"] = seconds;
      if (choice.draws)
        object["seed"] = choice.seed;
      printJson(object);
    } else if (choice.draws) {
      fmt::print("random draws, seed {}: {} passed, {} failed, {:.1f} s\n", choice.seed, passes,
                 failures, seconds);
    } else {
      fmt::print("{} passed, {} failed, {:.1f} s\n", passes, failures, seconds);
    }
    if (failures)
      return fail(ErrorKind::WrongResult,
                  fmt::format("{} of {} cases failed", failures, passes + failures));
    return {};
  }

  Session &session;
  BackendOptions options;
  std::string filter, configText, recordedDirectory, recordedMethod;
  std::regex pattern;
  std::string saveFolder, againstFolder, layout;
  int pageSize = 64;
  bool small = false, large = false, listOnly = false, prepareOnly = false;
  RandomChoice choice;
  const CLI::Option *seedOption = nullptr, *backwardOption = nullptr;
  std::string partText, helperText;
  std::optional<Part> part;
  std::vector<CheckItem> items;
  std::vector<RecordedCase> recorded;
  double tolerance = 1.0 / 256;
  Cache cache;
  std::unique_ptr<Backend> backend;
  nlohmann::json object = nlohmann::json::object();
  int passes = 0, failures = 0;
};

} // namespace

void addCheckCommand(CLI::App &app, Session &session) {
  CLI::App *command = app.add_subcommand("check", "Runs the conformance cases on a device");
  command->footer(kCheckHelp);
  auto state = std::make_shared<CheckCommand>(*command, session);
  setBody(*command, session, [state] { return state->run(); });
}

} // namespace winnow
