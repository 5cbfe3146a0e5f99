// A process that does what may crash, hang or exhaust memory: compiling and running candidates
// (fault F29). Requests and answers are one JSON line each, over the process's stdin and stdout;
// its stderr goes to a file. A worker that dies or does not answer in time is reported in one
// sentence, and the next request starts a fresh one.
#pragma once
#include "runtime/Error.h"
#include <functional>
#include <nlohmann/json.hpp>
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

/// The worker's side: calls `handle` for each request until stdin ends, and prints its answers.
/// What else is printed to stdout in between goes to stderr, so that a chatty library cannot break
/// the protocol.
int serveRequests(const std::function<Result<nlohmann::json>(const nlohmann::json &)> &handle);

} // namespace winnow
