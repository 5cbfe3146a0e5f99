// Atomic file writing for the command line, on plain POSIX calls so that every error is seen where
// it happens.
#include "tools/winnow/WriteFile.h"
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <fstream>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>

namespace winnow {
namespace {

bool writeAll(int file, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t written = ::write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return false;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

} // namespace

Status writeFile(const std::string &path, std::initializer_list<std::string_view> pieces) {
  auto refuse = [&](int code) {
    return fail(ErrorKind::Usage, fmt::format("cannot write {}: {}", path, std::strerror(code)));
  };
  std::string temporary = path + ".XXXXXX";
  int file = ::mkostemp(temporary.data(), O_CLOEXEC);
  if (file < 0)
    return refuse(errno);
  bool good = ::fchmod(file, 0644) == 0;
  for (std::string_view piece : pieces)
    good = good && writeAll(file, piece);
  good = good && ::fsync(file) == 0;
  int code = errno;
  if (::close(file) != 0 && good) {
    good = false;
    code = errno;
  }
  if (good && ::rename(temporary.c_str(), path.c_str()) != 0) {
    good = false;
    code = errno;
  }
  if (good)
    return {};
  ::unlink(temporary.c_str());
  return refuse(code);
}

Result<std::string> readFile(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  if (!file || !(content << file.rdbuf()))
    return fail(ErrorKind::Usage,
                fmt::format("cannot read {}: {}", path, std::strerror(errno ? errno : EIO)));
  return content.str();
}

} // namespace winnow
