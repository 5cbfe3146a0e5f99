// fork, exec and wait for the binary under test.
#include "tests/tools/ToolRunner.h"
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace winnow {

std::string contentOf(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

long Outcome::errLines() const { return std::count(err.begin(), err.end(), '\n'); }

ToolRunner::ToolRunner() {
  std::string pattern = (std::filesystem::temp_directory_path() / "winnow-test-XXXXXX").string();
  folder = ::mkdtemp(pattern.data());
  environment["WINNOW_CACHE_DIR"] = path("cache");
  for (const char *kept :
       {"PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CUDA_HOME", "WINNOW_NVRTC", "TMPDIR"})
    if (const char *value = std::getenv(kept))
      environment[kept] = value;
}

ToolRunner::~ToolRunner() {
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}

std::vector<std::string> ToolRunner::files() const {
  std::vector<std::string> names;
  for (const auto &entry : std::filesystem::directory_iterator(folder))
    if (std::string name = entry.path().filename().string();
        name != "cache" && name != "stdout" && name != "stderr" && name != "stdin")
      names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

Outcome ToolRunner::run(const std::vector<std::string> &arguments) const {
  std::vector<std::string> words = {WINNOW_BINARY};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> settings;
  for (const auto &[name, value] : environment)
    if (!value.empty())
      settings.push_back(name + "=" + value);
  auto pointers = [](std::vector<std::string> &strings) {
    std::vector<char *> list;
    for (std::string &s : strings)
      list.push_back(s.data());
    list.push_back(nullptr);
    return list;
  };
  std::vector<char *> argv = pointers(words), envp = pointers(settings);
  std::string outPath = path("stdout"), errPath = path("stderr"), inPath = path("stdin");
  if (!input.empty())
    std::ofstream(inPath) << input;

  pid_t child = ::fork();
  if (child == 0) {
    int out = ::open(outPath.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int err = ::open(errPath.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::dup2(out, 1);
    ::dup2(err, 2);
    ::chdir(folder.c_str());
    if (!input.empty())
      ::dup2(::open(inPath.c_str(), O_RDONLY), 0);
    if (addressSpaceLimit > 0) {
      rlimit limit{static_cast<rlim_t>(addressSpaceLimit), static_cast<rlim_t>(addressSpaceLimit)};
      ::setrlimit(RLIMIT_AS, &limit);
    }
    if (fileSizeLimit > 0) {
      ::signal(SIGXFSZ, SIG_IGN); // so that writes fail instead of killing
      rlimit limit{static_cast<rlim_t>(fileSizeLimit), static_cast<rlim_t>(fileSizeLimit)};
      ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    ::execve(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  Outcome outcome;
  outcome.exitCode = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  outcome.out = contentOf(outPath);
  outcome.err = contentOf(errPath);
  return outcome;
}

} // namespace winnow
