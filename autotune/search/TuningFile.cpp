// Appending to the file of a sweep. O_APPEND and a single write keep lines of several writers
// apart.
#include "autotune/search/TuningFile.h"
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace winnow {

static const char *const kEfforts[] = {"quick", "full", "exhaustive"};

Result<TuningFile> TuningFile::open(const std::string &path, Files &files) {
  TuningFile file(path, files);
  FileContent content;
  int code = readFile(files, path, /*followLinks=*/true, kMaxTunedBytes, content);
  if (code != 0 && code != ENOENT)
    return fail(ErrorKind::Usage, fmt::format("cannot read {}: {}", path, fileProblem(code)));
  if (code == 0)
    file.found = parseTuningLines(content.bytes);
  for (const TuningRecord &record : file.found.records)
    if (record.origin == "measured")
      file.finished.insert(record.key.text() + " " + record.effort);
  return file;
}

bool TuningFile::has(const TuningKey &key, const std::string &effort) const {
  bool enough = false;
  for (const char *candidate : kEfforts) {
    enough |= effort == candidate;
    if (enough && finished.count(key.text() + " " + candidate))
      return true;
  }
  return false;
}

Status TuningFile::append(const std::vector<std::string> &lines) {
  auto failed = [&](int code) {
    return fail(ErrorKind::Usage, fmt::format("cannot write {}: {}", name, std::strerror(code)));
  };
  // Not for others to write, whatever the umask allows: it may become one of WINNOW_TUNED (F38).
  int file = files->open(name.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file < 0)
    return failed(errno);
  std::string text;
  off_t size = ::lseek(file, 0, SEEK_END);
  char last = '\n';
  if (size > 0 && ::pread(file, &last, 1, size - 1) == 1 && last != '\n')
    text = "\n"; // ends the line that a killed writer left
  for (const std::string &line : lines)
    text += line + "\n";
  int code = 0;
  ssize_t written = files->write(file, text.data(), text.size());
  if (written < 0 || static_cast<size_t>(written) != text.size()) {
    code = written < 0 ? errno : ENOSPC;
    // What fitted is taken back, if nobody wrote behind it.
    if (written > 0 && ::lseek(file, 0, SEEK_END) == size + written && ::ftruncate(file, size) != 0)
      code = errno;
  }
  if (code == 0 && files->sync(file) != 0)
    code = errno;
  if (files->close(file) != 0 && code == 0)
    code = errno;
  return code ? Status(failed(code)) : Status();
}

} // namespace winnow
