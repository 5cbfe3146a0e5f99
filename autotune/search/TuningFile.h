// The file of a sweep: lines are appended, each with one write and fsync, and never changed. A
// writer that is killed leaves at most one cut line, which readers skip and the next writer ends;
// so a sweep goes on where it stopped, and several may append to one file.
#pragma once
#include "runtime/cache/Files.h"
#include "runtime/tuned/TuningRecord.h"
#include <set>

namespace winnow {

class TuningFile {
public:
  /// Reads what is there; the file is created by the first append. Error: Usage for a file that
  /// cannot be read.
  static Result<TuningFile> open(const std::string &path, Files &files = systemFiles());

  /// What stood in the file when it was opened.
  const TuningLines &lines() const { return found; }
  /// Whether a measured record of this key with at least this effort stands in the file.
  bool has(const TuningKey &key, const std::string &effort) const;
  /// Appends lines, all or (on a full disk) none. Error: Usage with path and reason.
  Status append(const std::vector<std::string> &lines);
  const std::string &path() const { return name; }

private:
  TuningFile(std::string name, Files &files) : name(std::move(name)), files(&files) {}

  std::string name;
  Files *files;
  TuningLines found;
  std::set<std::string> finished; ///< key and effort of measured records
};

} // namespace winnow
