// The `winnow` command: parses the command line and hands over to one command. Exit codes: 0 ok, 1
// wrong result, 2 usage, 3 unsupported, 4 compile failed, 5 device failed.
#include "tools/winnow/Session.h"
#include "tools/winnow/help.inc"
#include <fmt/format.h>

int main(int argc, char **argv) {
  using namespace winnow;
  Session session;
  CLI::App app("Winnow compiles block-sparse attention methods to GPU kernels (and to the CPU) and "
               "runs them");
  app.set_version_flag("--version", WINNOW_VERSION);
  app.add_flag("--json", session.json, "One JSON value on stdout instead of text");
  app.fallthrough(); // --json may stand behind the command
  app.require_subcommand(1);
  app.footer(kWinnowHelp);
  app.get_formatter()->column_width(34);
  app.failure_message([](const CLI::App *, const CLI::Error &error) {
    return fmt::format("winnow: {} (see --help)\n", error.what());
  });
  addCompileCommand(app, session);
  addRunCommand(app, session);
  addCheckCommand(app, session);
  addBenchCommand(app, session);
  addModelCommand(app, session);
  addTuneCommand(app, session);
  addReportCommand(app, session);
  addMethodsCommand(app, session);
  addDoctorCommand(app, session);
  addPrepareCommand(app, session);
  addCacheCommand(app, session);
  addDbCommand(app, session);
  try { // CLI11 reports by exception; nothing below it throws
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    constexpr int usage = static_cast<int>(ErrorKind::Usage);
    return app.exit(error) == 0 ? 0 : usage;
  }
  return session.exitCode;
}
