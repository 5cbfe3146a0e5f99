// Walks a path component by component, as the system would, and looks at each. What was found in
// order stays so: only the user and root could change it.
#include "runtime/device/LibraryPath.h"
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace winnow {

namespace {

constexpr int kMostLinks = 40; ///< on one path, as in the kernel

/// The components of a path, the last one first.
void pushComponents(const std::string &path, std::vector<std::string> &todo) {
  for (size_t end = path.size(); end > 0;) {
    const size_t slash = path.rfind('/', end - 1);
    const size_t begin = slash == std::string::npos ? 0 : slash + 1;
    if (begin < end)
      todo.push_back(path.substr(begin, end - begin));
    end = slash == std::string::npos ? 0 : slash;
  }
}

class Walk {
public:
  explicit Walk(const std::string &library) : library(library) {}

  Result<std::string> run() {
    std::array<char, PATH_MAX> here{};
    if (library[0] != '/' && ::getcwd(here.data(), here.size()))
      pushComponents(std::string(here.data()) + "/" + library, todo);
    else
      pushComponents(library, todo);
    struct stat info{};
    WINNOW_CHECK(look("/", info));
    while (!todo.empty()) {
      const std::string name = std::move(todo.back());
      todo.pop_back();
      if (name == "..")
        at.erase(at.empty() ? 0 : at.rfind('/'));
      if (name == "." || name == "..")
        continue;
      const std::string next = at + "/" + name;
      WINNOW_CHECK(look(next, info));
      if (!S_ISLNK(info.st_mode))
        at = next;
      else if (Status status = follow(next); !status)
        return tl::unexpected(status.error());
    }
    if (!S_ISREG(info.st_mode))
      return fail(ErrorKind::Usage, fmt::format("{} is no library", library));
    const std::string folder = at.substr(0, at.rfind('/'));
    if (::lstat(folder.c_str(), &info) == 0 && isOpenToOthers(info))
      return writable(folder, info); // the sticky bit lets others put files beside the library
    return at;
  }

private:
  static bool isOpenToOthers(const struct stat &info) {
    return (info.st_mode & (S_IWGRP | S_IWOTH)) != 0;
  }
  tl::unexpected<Error> writable(const std::string &path, const struct stat &info) const {
    return fail(ErrorKind::Usage,
                fmt::format("{} is not opened, because others can write {} (mode {:o}): run chmod "
                            "go-w on that, or use a library in a folder of your own",
                            library, path, info.st_mode & 07777));
  }

  /// One step of the way. The mode of a symbolic link means nothing.
  Status look(const std::string &path, struct stat &info) const {
    if (::lstat(path.c_str(), &info) != 0)
      return fail(ErrorKind::Usage,
                  fmt::format("{}: {}", path == library ? path : library + " (" + path + ")",
                              std::strerror(errno)));
    if (info.st_uid != ::geteuid() && info.st_uid != 0)
      return fail(ErrorKind::Usage,
                  fmt::format("{} is not opened, because {} belongs to user {}, who is neither you "
                              "nor root: use a library in a folder of your own",
                              library, path, info.st_uid));
    const bool leadsOn = S_ISDIR(info.st_mode) && (info.st_mode & S_ISVTX) != 0;
    if (!S_ISLNK(info.st_mode) && isOpenToOthers(info) && !leadsOn)
      return writable(path, info);
    return {};
  }

  Status follow(const std::string &link) {
    std::array<char, PATH_MAX> target{};
    const ssize_t size = ::readlink(link.c_str(), target.data(), target.size());
    if (size <= 0 || size == static_cast<ssize_t>(target.size()) || ++links > kMostLinks)
      return fail(ErrorKind::Usage, fmt::format("{}: too many symbolic links", library));
    if (target[0] == '/')
      at.clear();
    pushComponents(std::string(target.data(), static_cast<size_t>(size)), todo);
    return {};
  }

  const std::string &library;
  std::vector<std::string> todo; ///< components, the next one last
  std::string at;                ///< where the walk is; empty: /
  int links = 0;
};

} // namespace

Result<std::string> trustedLibrary(const std::string &path) { return Walk(path).run(); }

} // namespace winnow
