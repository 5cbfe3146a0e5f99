// Names of the files in a cache directory and walks over it: what the two halves of Cache
// (Cache.cpp, CacheLayers.cpp) share. Private to them.
#pragma once
#include <cstdint>
#include <dirent.h>
#include <fcntl.h>
#include <string>
#include <string_view>
#include <sys/stat.h>

namespace winnow {

inline constexpr std::string_view kEntrySuffix = ".winnow";

inline int64_t nanoseconds(const struct timespec &time) {
  return int64_t(time.tv_sec) * 1000000000 + time.tv_nsec;
}

/// Keys become file names: only digests may.
inline bool isKey(std::string_view key) {
  return key.size() >= 16 && key.size() <= 128 &&
         key.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

inline std::string pathOf(const std::string &directory, const std::string &key) {
  return directory + "/" + key + std::string(kEntrySuffix);
}

/// The key that a file of this name is kept under; empty where it is no entry.
inline std::string_view keyOfName(std::string_view name) {
  if (name.size() <= kEntrySuffix.size() ||
      name.substr(name.size() - kEntrySuffix.size()) != kEntrySuffix)
    return {};
  name.remove_suffix(kEntrySuffix.size());
  return isKey(name) ? name : std::string_view();
}

/// Calls visit(name, stat) for every regular file; nothing for a directory that is not there.
template <typename Visit> void forEachFile(const std::string &directory, Visit visit) {
  DIR *handle = ::opendir(directory.c_str());
  if (!handle)
    return;
  while (const dirent *entry = ::readdir(handle)) {
    struct stat info;
    if (::fstatat(::dirfd(handle), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISREG(info.st_mode))
      visit(std::string_view(entry->d_name), info);
  }
  ::closedir(handle);
}

} // namespace winnow
