// What all commands share: where words and data go, and how a command ends. Data is on stdout,
// words are on stderr, and a failure is one line and an exit code (see runtime/Error.h).
#pragma once
#include "runtime/Error.h"
#include "tools/winnow/io/CommandLine.h"
#include <functional>
#include <string>
#include <vector>

namespace winnow {

struct Session {
  bool json = false; ///< --json: one JSON value on stdout, nothing else
  int exitCode = 0;
};

/// Runs a command's body when the command line names it; a failure becomes a line on stderr and the
/// exit code.
void setBody(CLI::App &command, Session &session, std::function<Status()> body);

void addCompileCommand(CLI::App &app, Session &session);
void addRunCommand(CLI::App &app, Session &session);
void addMethodsCommand(CLI::App &app, Session &session);
void addTunablesCommand(CLI::App &app, Session &session);
void addDoctorCommand(CLI::App &app, Session &session);
void addPrepareCommand(CLI::App &app, Session &session);
void addCacheCommand(CLI::App &app, Session &session);
void addDbCommand(CLI::App &app, Session &session);
void addCheckCommand(CLI::App &app, Session &session);
void addBenchCommand(CLI::App &app, Session &session);
void addSoakCommand(CLI::App &app, Session &session);
void addModelCommand(CLI::App &app, Session &session);
void addTuneCommand(CLI::App &app, Session &session);
void addReportCommand(CLI::App &app, Session &session);

/// A line of words on stderr.
void say(const std::string &line);

/// Text in columns: the first left-aligned, numbers right-aligned.
class Table {
public:
  explicit Table(std::vector<std::string> header) : rows{std::move(header)} {}
  void add(std::vector<std::string> row) { rows.push_back(std::move(row)); }
  std::string text() const;

private:
  std::vector<std::vector<std::string>> rows;
};

/// A bar on stderr for steps that take a while; silent where stderr is no terminal and in the first
/// half second.
class Progress {
public:
  explicit Progress(std::string label);
  ~Progress();
  Progress(const Progress &) = delete;
  Progress &operator=(const Progress &) = delete;
  void show(double done); ///< 0..1
  std::function<void(double)> callback() {
    return [this](double done) { show(done); };
  }

private:
  std::string label;
  bool visible, drawn = false;
  double began = 0, lastDrawn = 0;
};

/// Seconds on a steady clock.
double now();
/// "2026-11-25", UTC.
std::string today();
/// "1.23 s", "45.6 ms", "789 us".
std::string durationText(double milliseconds);
/// Splits at commas; empty pieces are left out.
std::vector<std::string> splitList(const std::string &text);
/// The whole numbers of a list that its flag has checked.
std::vector<int> splitNumbers(const std::string &text);

} // namespace winnow
