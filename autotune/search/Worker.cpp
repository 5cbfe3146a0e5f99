// Child processes, each at one end of a socket. A child is killed with its process group, dies with
// its parent, and is the first that the kernel ends when memory runs out, so that the tuner itself
// survives what its candidates do.
#include "autotune/search/Worker.h"
#include "runtime/JsonText.h"
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <iostream>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace winnow {

using Json = nlohmann::json;

namespace {

constexpr size_t kLongestLine = 1 << 20; ///< of an answer, far above any

bool isKind(ErrorKind kind) {
  return kind >= ErrorKind::WrongResult && kind <= ErrorKind::NotReady;
}

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// The child between fork and exec: only calls that may follow a fork.
[[noreturn]] void becomeWorker(char **argv, int channel, const char *logPath) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  int log = ::open(*logPath ? logPath : "/dev/null", O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(channel, 0);
  ::dup2(channel, 1);
  ::dup2(log, 2);
  if (int score = ::open("/proc/self/oom_score_adj", O_WRONLY); score >= 0) {
    (void)!::write(score, "1000", 4);
    ::close(score);
  }
  ::execv(argv[0], argv);
  ::_exit(127);
}

} // namespace

Worker::Worker(std::vector<std::string> command, std::string logPath)
    : command(std::move(command)), logPath(std::move(logPath)) {}

Worker::~Worker() { stop(); }

Status Worker::start() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return fail(ErrorKind::DeviceFailed,
                fmt::format("cannot start a worker: {}", std::strerror(errno)));
  std::vector<char *> argv;
  for (std::string &word : command)
    argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t child = ::fork();
  if (child == 0)
    becomeWorker(argv.data(), ends[1], logPath.c_str());
  ::close(ends[1]);
  channel = ends[0];
  if (child < 0) {
    stop();
    return fail(ErrorKind::DeviceFailed,
                fmt::format("cannot start a worker: {}", std::strerror(errno)));
  }
  process = child;
  pending.clear();
  ++startCount;
  return {};
}

void Worker::stop() {
  if (process > 0) {
    ::kill(-process, SIGKILL);
    ::kill(process, SIGKILL); // should it not have its own group yet
    while (::waitpid(process, nullptr, 0) < 0 && errno == EINTR)
      ;
    process = 0;
  }
  if (channel >= 0)
    ::close(channel);
  channel = -1;
}

std::string Worker::ending() {
  int status = 0;
  // Its side is closed; the exit follows at once, unless it closed it by itself.
  for (int i = 0; i < 200 && ::waitpid(process, &status, WNOHANG) == 0; ++i)
    ::usleep(5000);
  std::string text = "the worker closed its side";
  if (WIFSIGNALED(status))
    text = fmt::format("the worker died of signal {} ({})", WTERMSIG(status),
                       ::strsignal(WTERMSIG(status)));
  else if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
    text = fmt::format("the worker {} could not be started", command[0]);
  else if (WIFEXITED(status))
    text = fmt::format("the worker ended with status {}", WEXITSTATUS(status));
  stop();
  return text;
}

Status Worker::send(const std::string &line) {
  size_t done = 0;
  while (done < line.size()) {
    ssize_t written = ::send(channel, line.data() + done, line.size() - done, MSG_NOSIGNAL);
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return fail(ErrorKind::DeviceFailed, ending());
    done += static_cast<size_t>(written);
  }
  return {};
}

Result<std::string> Worker::readLine(double timeoutSeconds) {
  double deadline = seconds() + timeoutSeconds;
  for (;;) {
    if (size_t end = pending.find('\n'); end != std::string::npos) {
      std::string line = pending.substr(0, end);
      pending.erase(0, end + 1);
      return line;
    }
    double left = deadline - seconds();
    struct pollfd waiting = {channel, POLLIN, 0};
    int ready =
        left > 0 ? ::poll(&waiting, 1, static_cast<int>(std::min(left * 1000 + 1, 1e9))) : 0;
    if (ready < 0 && errno == EINTR)
      continue;
    if (ready <= 0) {
      stop();
      return fail(ErrorKind::DeviceFailed, fmt::format("no answer within {:g} s", timeoutSeconds));
    }
    if (pending.size() > kLongestLine) {
      stop();
      return fail(ErrorKind::DeviceFailed,
                  fmt::format("the worker wrote over {} bytes without an answer", kLongestLine));
    }
    char buffer[65536];
    ssize_t got = ::read(channel, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return fail(ErrorKind::DeviceFailed, ending());
    pending.append(buffer, static_cast<size_t>(got));
  }
}

Result<Json> Worker::ask(const Json &request, double timeoutSeconds) {
  if (!running())
    WINNOW_CHECK(start());
  if (Status sent = send(request.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
      !sent)
    return tl::unexpected(sent.error());
  WINNOW_TRY(std::string line, readLine(timeoutSeconds));
  std::optional<Result<Json>> answer = readAnswer(line);
  if (!answer)
    answer = fail(ErrorKind::DeviceFailed, fmt::format("the worker answered '{:.80}'", line));
  // After a device failure the worker's context is of no use any more.
  if (!*answer && answer->error().kind == ErrorKind::DeviceFailed)
    stop();
  return *answer;
}

std::optional<Result<Json>> readAnswer(const std::string &line) {
  Result<Json> answer = parseJson(line);
  const Json value = answer ? *answer : Json();
  JsonFields<Json> fields(value);
  const bool ok = fields.flag("ok");
  const auto kind =
      static_cast<ErrorKind>(fields.whole("kind", static_cast<int>(ErrorKind::DeviceFailed)));
  const std::string error = fields.text("error", "the worker failed without a word");
  if (!value.contains("ok") || !fields.status() || (!ok && !isKind(kind)))
    return std::nullopt;
  return ok ? answer : fail(kind, error);
}

std::string answerLine(const std::string &line, const RequestHandler &handle) {
  Result<Json> request = parseJson(line);
  Result<Json> result = fail(ErrorKind::Usage, "a request that is no JSON object");
  try { // memory may run out: that is the candidate's failure, not the worker's end
    if (request && request->is_object())
      result = handle(*request);
  } catch (const std::exception &error) {
    result = fail(ErrorKind::DeviceFailed, fmt::format("the worker failed: {}", error.what()));
  }
  Json answer = result ? std::move(*result) : Json::object();
  answer["ok"] = static_cast<bool>(result);
  if (!result) {
    answer["error"] = result.error().message;
    answer["kind"] = static_cast<int>(result.error().kind);
  }
  return answer.dump(-1, ' ', false, Json::error_handler_t::replace);
}

int serveRequests(const RequestHandler &handle) {
  std::FILE *answers = ::fdopen(::dup(1), "w");
  ::dup2(2, 1);
  if (!answers)
    return 1;
  for (std::string line; std::getline(std::cin, line);) {
    fmt::print(answers, "{}\n", answerLine(line, handle));
    std::fflush(answers);
  }
  return 0;
}

} // namespace winnow
