// Reading and publishing of whole files. Interrupted calls are repeated and short writes continued;
// any other error ends the attempt with nothing left behind.
#include "runtime/cache/Files.h"
#include "runtime/cache/Digest.h"
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <climits>
#include <csignal>
#include <cstring>
#include <ctime>
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <new>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

namespace winnow {

namespace {

constexpr std::string_view kTemporaryPrefix = ".winnow-tmp.";

constexpr time_t kStaleSeconds = 3600;

/// The part of a path before the file's name: "" or something that ends in '/'.
std::string folderOf(const std::string &path) { return path.substr(0, path.rfind('/') + 1); }

/// Names this boot of this host and this process's space of process numbers (a container has its
/// own), so that a number in a name is asked about only where it means something. Zero: not known.
uint64_t hostIdentity() {
  char boot[64], space[64];
  int file = ::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  ssize_t bootSize = file < 0 ? -1 : ::read(file, boot, sizeof boot);
  if (file >= 0)
    ::close(file);
  ssize_t spaceSize = ::readlink("/proc/self/ns/pid", space, sizeof space);
  if (bootSize <= 0 || spaceSize <= 0)
    return 0;
  Sha256 sha;
  sha.update(std::string_view(boot, static_cast<size_t>(bootSize)));
  sha.update(std::string_view(space, static_cast<size_t>(spaceSize)));
  std::array<uint8_t, 32> digest = sha.finish();
  uint64_t identity = 0;
  std::memcpy(&identity, digest.data(), sizeof identity);
  return identity;
}

/// Unique across threads, processes and the hosts of a shared file system.
std::string temporaryPath(const std::string &path) {
  static std::atomic<unsigned> counter{0};
  uint64_t random = 0;
  if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
    random = 0; // process, thread and counter still tell writers of one host apart
  return fmt::format("{}{}{:016x}.{}.{}.{}.{:016x}", folderOf(path), kTemporaryPrefix,
                     hostIdentity(), getpid(), static_cast<long>(syscall(SYS_gettid)), counter++,
                     random);
}

/// Whether the process that made a temporary of this name was one of this host and is gone.
bool isWriterDead(std::string_view name) {
  uint64_t host = 0;
  pid_t process = 0;
  const char *end = name.data() + name.size();
  auto parsed = std::from_chars(name.data() + kTemporaryPrefix.size(), end, host, 16);
  if (parsed.ec != std::errc() || parsed.ptr == end || *parsed.ptr != '.' || host == 0 ||
      host != hostIdentity())
    return false;
  parsed = std::from_chars(parsed.ptr + 1, end, process);
  return parsed.ec == std::errc() && process > 0 && ::kill(process, 0) != 0 && errno == ESRCH;
}

int writeAll(Files &files, int file, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t written = files.write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return written < 0 ? errno : ENOSPC;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return 0;
}

int setLock(int file, off_t byte, short type) {
  struct flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return ::fcntl(file, F_OFD_SETLK, &lock);
}

/// Opens a regular file and reads its first `bytes` at most, where it has no more than `limit`.
int readOpened(Files &files, const std::string &path, int flags, uint64_t bytes, uint64_t limit,
               FileContent &content) {
  // O_NONBLOCK: a planted FIFO must not hang the reader before fstat can refuse it.
  int file = files.open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | flags, 0);
  if (file < 0)
    return errno;
  int code = ::fstat(file, &content.info) == 0 ? 0 : errno;
  if (code == 0 && !S_ISREG(content.info.st_mode))
    code = S_ISDIR(content.info.st_mode) ? EISDIR : EINVAL;
  const uint64_t size = code == 0 ? static_cast<uint64_t>(content.info.st_size) : 0;
  if (size > limit)
    code = EFBIG;
  content.bytes.clear();
  try {
    content.bytes.resize(code == 0 ? std::min(size, bytes) : 0);
  } catch (const std::bad_alloc &) {
    code = ENOMEM;
  }
  size_t done = 0;
  while (code == 0 && done < content.bytes.size()) {
    ssize_t got = files.read(file, content.bytes.data() + done, content.bytes.size() - done);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      code = errno;
    if (got <= 0)
      break; // shorter than it said: the caller's checks will find out
    done += static_cast<size_t>(got);
  }
  content.bytes.resize(done);
  files.close(file);
  return code;
}

/// Where the links of `path` lead, whether something is there or not. `replaceable`: a file can be
/// put there by rename. Returns 0 or an errno.
int followLinks(std::string &path, bool &replaceable) {
  constexpr int kMaxLinks = 40; // as the kernel's
  struct stat info{}, proc{};
  for (int links = 0; links < kMaxLinks; ++links) {
    if (::lstat(path.c_str(), &info) != 0) {
      replaceable = true; // absent; or publishing will tell
      return 0;
    }
    replaceable = S_ISREG(info.st_mode);
    if (S_ISBLK(info.st_mode))
      return EPERM; // a disk: nobody means that
    // The links of /proc/self/fd (/dev/stdout) stand for open files, which a name cannot replace.
    bool isOpenFile = ::stat("/proc/self", &proc) == 0 && proc.st_dev == info.st_dev;
    if (!S_ISLNK(info.st_mode) || isOpenFile)
      return 0;
    // As the kernel's protected_symlinks: in a folder like /tmp, no link that somebody else
    // planted.
    std::string folder = folderOf(path);
    struct stat around{};
    constexpr mode_t kShared = S_ISVTX | S_IWOTH;
    if (::stat(folder.empty() ? "." : folder.c_str(), &around) != 0 ||
        ((around.st_mode & kShared) == kShared && info.st_uid != ::geteuid() &&
         info.st_uid != around.st_uid))
      return EACCES;
    char target[PATH_MAX];
    ssize_t length = ::readlink(path.c_str(), target, sizeof target);
    if (length < 0)
      return errno;
    std::string_view name(target, static_cast<size_t>(length));
    path = (name.substr(0, 1) == "/" ? "" : folder).append(name);
  }
  return ELOOP;
}

/// Appends to what is there. A reader that goes away is EPIPE, not a signal.
int writeThrough(Files &files, const std::string &path, std::string_view bytes) {
  // O_NONBLOCK: a FIFO that nobody reads is ENXIO; without it, the open waits for ever.
  int file = files.open(path.c_str(), O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
  if (file < 0)
    return errno;
  (void)::fcntl(file, F_SETFL, O_APPEND);
  sigset_t pipe, before;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &pipe, &before);
  int code = writeAll(files, file, bytes);
  struct timespec now{};
  if (code == EPIPE && sigismember(&before, SIGPIPE) == 0)
    (void)::sigtimedwait(&pipe, nullptr, &now);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (files.close(file) != 0 && code == 0)
    code = errno;
  return code;
}

} // namespace

int Files::open(const char *path, int flags, mode_t mode) { return ::open(path, flags, mode); }
ssize_t Files::read(int file, void *buffer, size_t bytes) { return ::read(file, buffer, bytes); }
ssize_t Files::write(int file, const void *buffer, size_t bytes) {
  return ::write(file, buffer, bytes);
}
int Files::sync(int file) { return ::fsync(file); }
int Files::close(int file) { return ::close(file); }
int Files::rename(const char *from, const char *to) { return ::rename(from, to); }
int Files::remove(const char *path) { return ::unlink(path); }
ssize_t Files::readAt(int file, void *buffer, size_t bytes, off_t offset) {
  return ::pread(file, buffer, bytes, offset);
}
int Files::tryLock(int file, off_t byte) { return setLock(file, byte, F_WRLCK); }
int Files::unlock(int file, off_t byte) { return setLock(file, byte, F_UNLCK); }

Files &systemFiles() {
  static Files &files = *new Files; // never destroyed: see Spec.cpp
  return files;
}

int readFile(Files &files, const std::string &path, bool followLinks, uint64_t limit,
             FileContent &content) {
  return readOpened(files, path, followLinks ? 0 : O_NOFOLLOW, limit, limit, content);
}

int readBeginning(Files &files, const std::string &path, uint64_t bytes, FileContent &content) {
  return readOpened(files, path, 0, bytes, UINT64_MAX, content);
}

const char *fileProblem(int code) {
  return code == ENXIO    ? "nobody reads what is written there"
         : code == EINVAL ? "it is no regular file"
         : code == EFBIG  ? "it is too large"
                          : std::strerror(code);
}

Result<std::string> readWholeFile(Files &files, const std::string &path, uint64_t limit) {
  FileContent content;
  int code = readFile(files, path, /*followLinks=*/true, limit, content);
  if (code == EFBIG)
    return fail(ErrorKind::Usage,
                fmt::format("cannot read {}: it has {} bytes, and no more than {} are read of such "
                            "a file",
                            path, content.info.st_size, limit));
  if (code != 0)
    return fail(ErrorKind::Usage, fmt::format("cannot read {}: {}", path, fileProblem(code)));
  return std::move(content.bytes);
}

bool isOwn(const struct stat &info, bool orRoot) {
  bool owned = info.st_uid == ::geteuid() || (orRoot && info.st_uid == 0);
  return owned && (info.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

int publish(Files &files, const std::string &path, std::string_view bytes, mode_t mode) {
  std::string temporary = temporaryPath(path);
  int file = files.open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (file < 0)
    return errno;
  int code = writeAll(files, file, bytes);
  if (code == 0 && files.sync(file) != 0)
    code = errno;
  if (files.close(file) != 0 && code == 0)
    code = errno;
  if (code == 0 && files.rename(temporary.c_str(), path.c_str()) != 0)
    code = errno;
  if (code != 0)
    files.remove(temporary.c_str());
  return code;
}

Status publishFile(Files &files, const std::string &path, std::string_view bytes, mode_t mode) {
  std::string target = path;
  bool replaceable = false;
  int code = followLinks(target, replaceable);
  if (code == 0 && replaceable)
    removeStaleTemporaries(files, folderOf(target));
  if (code == 0)
    code = replaceable ? publish(files, target, bytes, mode) : writeThrough(files, target, bytes);
  if (code != 0)
    return fail(ErrorKind::Usage, fmt::format("cannot write {}: {}", path, fileProblem(code)));
  return {};
}

int makeDirectories(const std::string &path) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    std::string prefix = path.substr(0, slash);
    if (::mkdir(prefix.c_str(), 0700) != 0 && errno != EEXIST) {
      int code = errno;
      struct stat info;
      // A parent on a read-only file system says EROFS although it exists.
      if (::stat(prefix.c_str(), &info) != 0 || !S_ISDIR(info.st_mode))
        return code;
    }
    if (slash == std::string::npos)
      return 0;
  }
}

bool isTemporaryName(std::string_view name) {
  return name.substr(0, kTemporaryPrefix.size()) == kTemporaryPrefix;
}

void removeStaleTemporaries(Files &files, const std::string &directory) {
  DIR *handle = ::opendir(directory.empty() ? "." : directory.c_str());
  if (!handle)
    return;
  std::vector<std::string> stale;
  while (const dirent *entry = ::readdir(handle)) {
    struct stat info;
    if (isTemporaryName(entry->d_name) &&
        ::fstatat(::dirfd(handle), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISREG(info.st_mode) &&
        (isWriterDead(entry->d_name) || ::time(nullptr) - info.st_mtime > kStaleSeconds))
      stale.emplace_back(entry->d_name);
  }
  ::closedir(handle);
  const char *separator = directory.empty() || directory.back() == '/' ? "" : "/";
  for (const std::string &name : stale)
    files.remove(fmt::format("{}{}{}", directory, separator, name).c_str());
}

} // namespace winnow
