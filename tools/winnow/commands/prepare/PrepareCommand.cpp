// `winnow prepare`: compiles a list of specs into the cache before an engine starts, so that none
// of its requests has to wait for the compiler (fault F16).
#include "runtime/cache/Files.h"
#include "tools/winnow/ProgramFlags.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/commands/prepare/Prepare.h"
#include "tools/winnow/commands/prepare/SpecList.h"
#include "tools/winnow/commands/tune/TunedConfigs.h"
#include "tools/winnow/help.inc"
#include "tools/winnow/io/Flags.h"
#include "tools/winnow/io/Json.h"
#include <algorithm>
#include <fmt/format.h>

namespace winnow {
namespace {

struct PrepareFlags {
  const CLI::App *command = nullptr;
  ProgramFlags program;
  std::string helper;
};

/// Whether SPECS names a method instead of a file of specs.
bool isMethod(const std::string &specs) {
  const std::string ending = ".mlir";
  std::vector<MethodInfo> known = builtinMethods();
  return (specs.size() > ending.size() &&
          specs.compare(specs.size() - ending.size(), ending.size(), ending) == 0) ||
         std::any_of(known.begin(), known.end(),
                     [&](const MethodInfo &method) { return method.name == specs; });
}

/// The programs of SPECS, one for each architecture.
Result<std::vector<CompileRequest>> programsOf(const PrepareFlags &flags) {
  const std::string &specs = flags.program.method;
  std::vector<std::string> archs;
  WINNOW_TRY(archs, flags.program.architectures());
  CompileRequest request;
  WINNOW_TRY(request, flags.program.request());
  std::vector<CompileRequest> requests;
  if (isMethod(specs)) {
    for (const std::string &arch : archs) {
      requests.push_back(request);
      requests.back().arch = arch;
    }
    return requests;
  }
  Result<std::string> text = readWholeFile(systemFiles(), specs);
  if (!text) {
    std::vector<std::string> names;
    for (const MethodInfo &method : builtinMethods())
      names.push_back(method.name);
    std::string guess = nearest(specs, names);
    return fail(ErrorKind::Usage,
                text.error().message +
                    (guess.empty() ? "" : fmt::format("; did you mean the method {}?", guess)));
  }
  std::string flag = firstGiven(*flags.command, kSpecGroup);
  if (flag.empty() && flags.command->get_option("--config")->count() > 0)
    flag = "--config";
  if (!flag.empty())
    return fail(ErrorKind::Usage,
                fmt::format("{} goes with a method; each entry of {} has its own", flag, specs));
  Result<std::vector<CompileRequest>> listed = readSpecList(*text, archs);
  if (!listed)
    return fail(listed.error().kind, specs + ": " + listed.error().message);
  for (CompileRequest &one : *listed)
    one.nvrtcPath = request.nvrtcPath;
  return listed;
}

Status prepare(Session &session, const PrepareFlags &flags) {
  WINNOW_TRY(std::vector<CompileRequest> requests, programsOf(flags));
  TunedConfigs tuned(flags.program.tunes());
  for (CompileRequest &request : requests) // as the engine will choose
    tuned.fill(request, flags.program.workload, flags.program.deviceName);
  Cache cache;
  if (cache.options().directory.empty())
    return fail(ErrorKind::Usage, "prepare needs a cache directory: set WINNOW_CACHE_DIR or HOME");
  PrepareReport report = preparePrograms(requests, cache, Part::parse(flags.helper), {});
  if (session.json)
    printJson(nlohmann::json{{"programs", report.programs},
                             {"cached", report.cached},
                             {"failures", report.failures},
                             {"seconds", report.seconds},
                             {"directory", cache.options().directory}});
  else
    say(fmt::format("{}: {} programs, {} were in the cache, {} do not compile, {:.1f} s",
                    cache.options().directory, report.programs, report.cached,
                    report.failures.size(), report.seconds));
  if (report.failures.size() > 1)
    for (const std::string &failure : report.failures)
      say(failure);
  if (report.failures.empty())
    return {};
  return fail(ErrorKind::CompileFailed,
              report.failures.size() == 1
                  ? report.failures.front()
                  : fmt::format("{} programs do not compile", report.failures.size()));
}

} // namespace

void addPrepareCommand(CLI::App &app, Session &session) {
  CLI::App *command = app.add_subcommand("prepare", "Compiles a list of specs into the cache");
  command->footer(kPrepareHelp);
  auto flags = std::make_shared<PrepareFlags>();
  flags->command = command;
  flags->program.addTo(*command, /*methodRequired=*/true, "SPECS",
                       "JSON file with a list of specs, or a method (then the flags are its spec)");
  flags->program.addTargetFlags(*command, "sm_80,sm_89,sm_90a");
  flags->program.addTunedFlags(*command, /*withHints=*/true);
  command->add_option("--helper", flags->helper, "I/N: begin in this part, as a helper process")
      ->group("");
  setBody(*command, session, [&session, flags] { return prepare(session, *flags); });
}

} // namespace winnow
