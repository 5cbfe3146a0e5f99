// Runs the `winnow` binary as a user would and keeps what it said: for tests of exit codes,
// messages and files.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace winnow {

struct Outcome {
  int exitCode = -1; ///< 128 + signal where it was killed
  std::string out, err;
  long errLines() const;
};

/// A file's bytes; empty where it cannot be read.
std::string contentOf(const std::string &path);

/// A folder of its own for one test, removed at the end; every run has its cache in it unless told
/// otherwise.
class ToolRunner {
public:
  ToolRunner();
  ~ToolRunner();
  ToolRunner(const ToolRunner &) = delete;
  ToolRunner &operator=(const ToolRunner &) = delete;

  /// `environment` adds to a bare environment (PATH and the library path stay).
  Outcome run(const std::vector<std::string> &arguments) const;
  std::string path(const std::string &name) const { return (folder / name).string(); }
  /// Files in the folder, sorted, without the runner's own and the cache.
  std::vector<std::string> files() const;

  std::map<std::string, std::string> environment;
  long fileSizeLimit = 0;     ///< bytes; 0 = none: the way to a full disk that needs no disk
  long addressSpaceLimit = 0; ///< bytes; 0 = none
  std::string input;          ///< stdin, if not empty

private:
  std::filesystem::path folder;
};

} // namespace winnow
