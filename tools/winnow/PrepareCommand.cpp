// `winnow prepare`: compiles a list of specs into the cache before an engine starts, so that none
// of its requests has to wait for the compiler (fault F16).
#include "runtime/Files.h"
#include "tools/winnow/Prepare.h"
#include "tools/winnow/ProgramFlags.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/SpecList.h"
#include "tools/winnow/TunedConfigs.h"
#include "tools/winnow/help.inc"
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace winnow {
namespace {

struct PrepareFlags {
  std::string path, arch = "sm_80,sm_89,sm_90a", nvrtcPath, helper;
  ProgramFlags tuning; ///< of these the ones of addTunedFlags
};

Status prepare(Session &session, const PrepareFlags &flags) {
  Result<std::string> text = readWholeFile(systemFiles(), flags.path);
  if (!text)
    return tl::unexpected(text.error());
  std::vector<std::string> archs = splitList(flags.arch);
  for (const std::string &arch : archs)
    if (Result<const Target *> target = findTarget(arch); !target)
      return tl::unexpected(target.error());
  Result<std::vector<CompileRequest>> requests = readSpecList(*text, archs);
  if (!requests)
    return fail(requests.error().kind, flags.path + ": " + requests.error().message);
  TunedConfigs tuned(flags.tuning.tunes());
  for (CompileRequest &request : *requests) {
    request.nvrtcPath = flags.nvrtcPath;
    // As the engine will choose: a program of other tunables would be compiled for nothing.
    tuned.fill(request, flags.tuning.workload, flags.tuning.deviceName);
  }
  Cache cache;
  if (cache.options().directory.empty())
    return fail(ErrorKind::Usage, "prepare needs a cache directory: set WINNOW_CACHE_DIR or HOME");
  PrepareReport report = preparePrograms(*requests, cache, Part::parse(flags.helper), {});
  if (session.json)
    fmt::print("{}\n", nlohmann::json{{"programs", report.programs},
                                      {"cached", report.cached},
                                      {"failures", report.failures},
                                      {"seconds", report.seconds},
                                      {"directory", cache.options().directory}}
                           .dump(2));
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
  command->add_option("SPECS", flags->path, "JSON file: a list of specs")->required();
  command->add_option("--arch", flags->arch, "Architectures of entries that name none")
      ->capture_default_str();
  flags->tuning.addTunedFlags(*command, /*withHints=*/true);
  command->add_option("--nvrtc", flags->nvrtcPath, "Path of libnvrtc; default: searched");
  command->add_option("--helper", flags->helper, "I/N: begin in this part, as a helper process")
      ->group("");
  setBody(*command, session, [&session, flags] { return prepare(session, *flags); });
}

} // namespace winnow
