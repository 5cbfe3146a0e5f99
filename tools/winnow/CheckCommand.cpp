// `winnow check`: the conformance cases and the recorded answers on one device. One line per case;
// exit code 1 if any case fails, and a case that cannot run counts as failed.
#include "tests/recorded/Recorded.h"
#include "tools/winnow/Backend.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/help.inc"
#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <regex>

namespace winnow {
namespace {

class CheckCommand {
public:
  CheckCommand(CLI::App &command, Session &session) : session(session) {
    command.add_option("--device", options.device, "auto, cuda, cuda:N or cpu")
        ->capture_default_str();
    command.add_option("--arch", options.arch,
                       "Compile for this architecture instead of the device's own");
    command.add_flag("--ptx", options.ptx, "Load PTX of the architecture's virtual counterpart");
    command.add_option("--threads", options.threads, "CPU threads; 0 stands for all cores");
    command.add_option("--filter", filter,
                       "Only cases whose name has a match of this regular expression");
    command.add_flag("--large", large, "Also the cases that need many GB of memory");
    command.add_flag("--list", listOnly, "Print the names of the cases and stop");
    command.add_option("--recorded", recordedDirectory, "Folder with recorded answers");
    command.add_option("--method", recordedMethod, "The method that gave the recorded answers");
    command
        .add_option("--tolerance", tolerance,
                    "Relative distance of block scores that counts as a tie")
        ->capture_default_str();
  }

  Status run() {
    Result<std::vector<ConformanceCase>> table = conformanceCases();
    if (!table)
      return tl::unexpected(table.error());
    try { // the one way to learn whether a regular expression is valid
      pattern = std::regex(filter);
    } catch (const std::regex_error &error) {
      return fail(ErrorKind::Usage, fmt::format("--filter {}: {}", filter, error.what()));
    }
    if (recordedDirectory.empty() != recordedMethod.empty())
      return fail(ErrorKind::Usage, "--recorded and --method go together");
    std::vector<RecordedCase> recorded;
    if (!recordedDirectory.empty()) {
      auto loaded = loadRecorded(recordedDirectory, recordedMethod);
      if (!loaded)
        return tl::unexpected(loaded.error());
      recorded = std::move(*loaded);
    }
    if (listOnly) {
      for (const ConformanceCase &test : *table)
        fmt::print("{}{}\n", test.name, test.large ? " (large)" : "");
      return {};
    }
    auto isChosen = [this](const ConformanceCase &test) { return chosen(test.name); };
    bool any = std::any_of(table->begin(), table->end(), isChosen) ||
               std::any_of(recorded.begin(), recorded.end(),
                           [&](const RecordedCase &one) { return isChosen(one.test); });
    if (!any)
      return fail(ErrorKind::Usage, fmt::format("--filter {}: no such case", filter));
    Result<std::unique_ptr<Backend>> opened = openBackend(options, cache);
    if (!opened)
      return tl::unexpected(opened.error());
    backend = std::move(*opened);
    say("on " + backend->description());
    auto runner = [this](const ConformanceCase &test, const CaseInputs &inputs) {
      return answer(test, inputs);
    };
    for (const ConformanceCase &test : *table)
      if (chosen(test.name) && (large || !test.large))
        note(test, runCase(test, readAxes, runner, tolerance));
    for (const RecordedCase &test : recorded)
      if (chosen(test.test.name))
        note(test.test, runRecorded(test, readAxes, runner));
    return finish();
  }

private:
  bool chosen(const std::string &name) const {
    return filter.empty() || std::regex_search(name, pattern);
  }

  Result<CaseAnswer> answer(const ConformanceCase &test, const CaseInputs &inputs) {
    BackendCall call;
    call.request.method = test.method;
    call.request.spec = test.spec;
    call.problem = &inputs.problem;
    call.ids = test.givenIds ? inputs.ids.data() : nullptr;
    Result<BackendAnswer> result = backend->run(call);
    if (!result)
      return tl::unexpected(result.error());
    return std::move(result->tensors);
  }

  void note(const ConformanceCase &test, const Result<CaseResult> &result) {
    bool passed = result && result->passed;
    std::string text = result ? result->text : "could not run: " + result.error().message;
    (passed ? passes : failures)++;
    if (session.json) {
      nlohmann::json line{{"case", test.name}, {"passed", passed}, {"text", text}};
      if (result) {
        line["max_error"] = result->output.maxError;
        line["plain_error"] = result->output.plainError;
        line["lse_error"] = result->output.lseError;
        line["wrong_picks"] = result->selection.wrong;
        line["ties"] = result->selection.ties;
        line["picks"] = result->selection.picks;
      }
      object["cases"].push_back(std::move(line));
      return;
    }
    fmt::print("{:<4} {:<28} {}\n", passed ? "ok" : "FAIL", test.name, text);
    std::fflush(stdout);
  }

  Status finish() {
    if (session.json) {
      object["device"] = backend->description();
      object["passed"] = passes;
      object["failed"] = failures;
      fmt::print("{}\n", object.dump(2));
    } else {
      fmt::print("{} passed, {} failed\n", passes, failures);
    }
    if (passes + failures == 0)
      return fail(ErrorKind::Usage, "only cases that need --large were chosen");
    if (failures)
      return fail(ErrorKind::WrongResult,
                  fmt::format("{} of {} cases failed", failures, passes + failures));
    return {};
  }

  Session &session;
  BackendOptions options;
  std::string filter, recordedDirectory, recordedMethod;
  std::regex pattern;
  bool large = false, listOnly = false;
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
