// A process that does what may crash, hang or exhaust memory: compiling and running candidates
// (fault F29). Requests and answers are one JSON line each, over the process's stdin and stdout;
// its stderr goes to a file. A worker that dies or does not answer in time is reported in one
// sentence, and the next request starts a fresh one.
#pragma once
#include "runtime/Error.h"
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace winnow {

class Worker {
public:
  /// `command`: program and arguments. `logPath`: where its stderr is appended; empty: nowhere.
  Worker(std::vector<std::string> command, std::string logPath);
  ~Worker();
  Worker(const Worker &) = delete;
  Worker &operator=(const Worker &) = delete;

  /// Sends a request and waits for its answer, an object with "ok". Errors: those that the worker
  /// answers (its process lives on); DeviceFailed where it died, hung or answered nonsense, and
  /// running() is false.
  Result<nlohmann::json> ask(const nlohmann::json &request, double timeoutSeconds);
  bool running() const { return process > 0; }
  /// How many times a process was started.
  int starts() const { return startCount; }
  /// Kills the process, if there is one.
  void stop();

private:
  Status start();
  Status send(const std::string &line);
  Result<std::string> readLine(double timeoutSeconds);
  /// Reaps the process and says how it ended.
  std::string ending();

  std::vector<std::string> command;
  std::string logPath;
  pid_t process = 0;
  int channel = -1;    ///< our end of the socket
  std::string pending; ///< read beyond the last line
  int startCount = 0;
};

/// What a worker's line says: its answer, or the error that it answered. Nothing where the line is
/// no answer at all.
std::optional<Result<nlohmann::json>> readAnswer(const std::string &line);

/// The worker's side: what it does for a request.
using RequestHandler = std::function<Result<nlohmann::json>(const nlohmann::json &)>;
/// The line that answers a line: of `handle`, or of what went wrong before or in it.
std::string answerLine(const std::string &line, const RequestHandler &handle);
/// Answers each line of stdin until it ends. What else is printed to stdout in between goes to
/// stderr, so that a chatty library cannot break the protocol.
int serveRequests(const RequestHandler &handle);

} // namespace winnow
