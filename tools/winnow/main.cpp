// The `winnow` command: parses the command line and hands over to one command. Exit codes: 0 ok, 1
// wrong result, 2 usage, 3 unsupported, 4 compile failed, 5 device failed or out of memory.
// Whatever a library throws ends here, in a sentence.
#include "compiler/driver/Compile.h"
#include "runtime/Printable.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/help.inc"
#include "tools/winnow/io/Flags.h"
#include <cerrno>
#include <cstring>
#include <exception>
#include <fmt/format.h>
#include <new>
#include <unistd.h>

namespace winnow {
namespace {

constexpr int kUsage = static_cast<int>(ErrorKind::Usage);
constexpr int kDeviceFailed = static_cast<int>(ErrorKind::DeviceFailed);

/// Of the exception in flight.
Error exceptionError() {
  try {
    throw;
  } catch (const std::bad_alloc &) {
    return {ErrorKind::DeviceFailed, "out of memory: give the process more of it or ask for less"};
  } catch (const std::exception &error) {
    return {ErrorKind::DeviceFailed, fmt::format("unexpected failure: {}", error.what())};
  } catch (...) {
    return {ErrorKind::DeviceFailed, "unexpected failure of an unknown kind"};
  }
}

/// For what nothing can catch: memory that runs out inside LLVM, which knows no exceptions, or in a
/// thread of a library. No memory is asked for.
[[noreturn]] void leave(const char *sentence) {
  (void)!::write(2, sentence, std::strlen(sentence));
  ::_exit(kDeviceFailed);
}

int runCommandLine(int argc, char **argv) {
  Session session;
  CLI::App app("Winnow compiles block-sparse attention methods to GPU kernels (and to the CPU) and "
               "runs them");
  app.set_version_flag("--version", WINNOW_VERSION);
  app.add_flag("--json", session.json, "One JSON value on stdout instead of text");
  app.fallthrough(); // --json may stand behind the command
  app.require_subcommand(1);
  app.footer(kWinnowHelp);
  app.get_formatter()->column_width(34);
  app.failure_message([](const CLI::App *root, const CLI::Error &error) {
    return fmt::format("winnow: {} (see --help)\n",
                       printable(whatIsWrong(*root, error), /*keepLines=*/false));
  });
  addCompileCommand(app, session);
  addRunCommand(app, session);
  addCheckCommand(app, session);
  addBenchCommand(app, session);
  addSoakCommand(app, session);
  addModelCommand(app, session);
  addTuneCommand(app, session);
  addReportCommand(app, session);
  addMethodsCommand(app, session);
  addTunablesCommand(app, session);
  addDoctorCommand(app, session);
  addPrepareCommand(app, session);
  addCacheCommand(app, session);
  addDbCommand(app, session);
  refuseEmptyValues(app);
  try { // CLI11 reports by exception
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  } catch (...) {
    const Error error = exceptionError();
    say("winnow: " + error.message);
    return static_cast<int>(error.kind);
  }
  if (std::fflush(stdout) != 0) {
    say(fmt::format("winnow: cannot write to stdout: {}", std::strerror(errno)));
    return kUsage;
  }
  return session.exitCode;
}

} // namespace
} // namespace winnow

int main(int argc, char **argv) {
  std::set_terminate([] { winnow::leave("winnow: out of memory, or a failure in a thread\n"); });
  winnow::setOutOfMemoryHandler([] { winnow::leave("winnow: out of memory\n"); });
  return winnow::runCommandLine(argc, argv);
}
