// Finds what is missing, starts helpers, waits, compiles what they left. The build locks of the
// cache tell what others are compiling; nobody waits before there is nothing else to do.
#include "tools/winnow/commands/prepare/Prepare.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/commands/prepare/Programs.h"
#include <algorithm>
#include <charconv>
#include <csignal>
#include <fcntl.h>
#include <fmt/format.h>
#include <fstream>
#include <iterator>
#include <set>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace winnow {
namespace {

constexpr int kNotStarted = 127; ///< exit status of a child without its program, as shells have it

/// This process's own command line.
std::vector<std::string> ownArguments() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(file), {});
  std::vector<std::string> words;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = std::min(text.find('\0', begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

/// A copy of this process for one part; 0 where it cannot be started.
pid_t startHelper(int index, int count, const std::vector<std::string> &flags) {
  std::vector<std::string> words = ownArguments();
  if (words.empty())
    return 0;
  words.insert(words.end(), flags.begin(), flags.end());
  words.insert(words.end(), {"--helper", fmt::format("{}/{}", index, count)});
  std::vector<char *> argv;
  for (std::string &word : words)
    argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t child = ::fork();
  if (child == 0) { // until exec only calls that may follow a fork
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    int nowhere = ::open("/dev/null", O_WRONLY);
    ::dup2(nowhere, 1);
    ::dup2(nowhere, 2);
    ::execv("/proc/self/exe", argv.data());
    ::_exit(kNotStarted);
  }
  return std::max(0, child);
}

} // namespace

std::optional<Part> Part::parse(const std::string &text) {
  Part part;
  const char *end = text.data() + text.size();
  auto [slash, first] = std::from_chars(text.data(), end, part.index);
  if (first != std::errc() || slash == end || *slash != '/')
    return std::nullopt;
  auto [rest, second] = std::from_chars(slash + 1, end, part.count);
  bool valid = second == std::errc() && rest == end && part.index >= 0 && part.index < part.count;
  return valid ? std::optional(part) : std::nullopt;
}

namespace {

struct Missing {
  const CompileRequest *request;
  std::string key;
};

/// Compiles whatever nobody else is compiling, from `first` on and around; returns what was left to
/// others.
std::vector<Missing> compileFree(const std::vector<Missing> &missing, size_t first, Cache &cache,
                                 std::vector<std::string> &failures) {
  std::vector<Missing> busy;
  for (size_t i = 0; i < missing.size(); ++i) {
    const Missing &one = missing[(first + i) % missing.size()];
    Result<std::optional<Cache::Obtained>> obtained =
        cache.obtainUnlessBusy(one.key, [&] { return compileProgram(*one.request); });
    if (!obtained)
      failures.push_back(fmt::format("{} {} [{}]: {}", one.request->method,
                                     one.request->spec.text(), one.request->config.text(),
                                     obtained.error().message));
    else if (!*obtained)
      busy.push_back(one);
  }
  return busy;
}

} // namespace

PrepareReport preparePrograms(const std::vector<CompileRequest> &requests, Cache &cache,
                              const std::optional<Part> &helper,
                              const std::vector<std::string> &helperFlags) {
  PrepareReport report;
  double began = now();
  std::set<std::string> seen;
  std::vector<Missing> missing;
  for (const CompileRequest &request : requests) {
    Result<std::string> key = programKey(request);
    if (!key) {
      report.failures.push_back(key.error().message);
      continue;
    }
    if (!seen.insert(*key).second)
      continue;
    report.programs++;
    if (cache.load(*key))
      report.cached++;
    else
      missing.push_back({&request, *key});
  }
  const size_t first = helper ? missing.size() * helper->index / helper->count : 0;
  if (helper) {
    compileFree(missing, first, cache, report.failures);
    return report;
  }
  int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  int helpers = std::min(cores, static_cast<int>(missing.size()));
  // Emulated code is made by processes of clang's anyway, and this one remembers what programs
  // share.
  if (!missing.empty() && missing.front().request->form == CodeForm::Emulated)
    helpers = 1;
  std::vector<pid_t> children;
  if (helpers > 1 && !cache.options().directory.empty())
    for (int i = 0; i < helpers; ++i)
      children.push_back(startHelper(i, helpers, helperFlags));
  auto failed = std::count_if(children.begin(), children.end(), [](pid_t child) {
    int status = 0;
    if (child <= 0 || ::waitpid(child, &status, 0) != child || !WIFEXITED(status))
      return true;
    // Programs that do not compile are told below; a helper of a wrong command line never began.
    int code = WEXITSTATUS(status);
    return code == kNotStarted || code == static_cast<int>(ErrorKind::Usage);
  });
  if (failed > 0)
    say(fmt::format("{} of {} compiling processes could not do their part", failed, helpers));
  // What helpers left: programs that do not compile, to learn why, and those that others are at.
  for (const Missing &one : compileFree(missing, first, cache, report.failures))
    if (Result<ObtainedProgram> program = obtainProgram(*one.request, cache); !program)
      report.failures.push_back(program.error().message);
  report.seconds = now() - began;
  return report;
}

void PrepareOption::addTo(CLI::App &command) {
  command.add_flag("--prepare", only, "Compile for --arch into the cache and stop; needs no GPU");
  command.add_option("--helper", helper, "I/N: begin in this part, as a helper process")->group("");
}

Status PrepareOption::run(const std::vector<CompileRequest> &requests, Cache &cache) const {
  const PrepareReport report = preparePrograms(requests, cache, Part::parse(helper));
  say(fmt::format("{} programs, {} were in the cache, {:.1f} s", report.programs, report.cached,
                  report.seconds));
  if (!report.failures.empty())
    return fail(ErrorKind::CompileFailed, report.failures.front());
  return {};
}

} // namespace winnow
