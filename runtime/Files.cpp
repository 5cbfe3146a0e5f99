// Reading and publishing of whole files. Interrupted calls are repeated and short writes continued;
// any other error ends the attempt with nothing left behind.
#include "runtime/Files.h"
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace winnow {

namespace {

constexpr std::string_view kTemporaryPrefix = ".winnow-tmp.";

/// Unique across threads, processes and the hosts of a shared file system.
std::string temporaryPath(const std::string &path) {
  static std::atomic<unsigned> counter{0};
  uint64_t random = 0;
  if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
    random = 0; // process, thread and counter still tell writers of one host apart
  size_t slash = path.rfind('/');
  std::string directory = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  return fmt::format("{}{}{}.{}.{}.{:016x}", directory, kTemporaryPrefix, getpid(),
                     static_cast<long>(syscall(SYS_gettid)), counter++, random);
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

Error describe(const std::string &path, const char *verb, int code) {
  return {ErrorKind::Usage, fmt::format("cannot {} {}: {}", verb, path, std::strerror(code))};
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

int readFile(Files &files, const std::string &path, bool followLinks, FileContent &content) {
  // O_NONBLOCK: a planted FIFO must not hang the reader before fstat can refuse it.
  int file = files.open(path.c_str(),
                        O_RDONLY | O_CLOEXEC | O_NONBLOCK | (followLinks ? 0 : O_NOFOLLOW), 0);
  if (file < 0)
    return errno;
  int code = ::fstat(file, &content.info) == 0 ? 0 : errno;
  if (code == 0 && !S_ISREG(content.info.st_mode))
    code = S_ISDIR(content.info.st_mode) ? EISDIR : EINVAL;
  content.bytes.resize(code == 0 ? static_cast<size_t>(content.info.st_size) : 0);
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

Result<std::string> readWholeFile(Files &files, const std::string &path) {
  FileContent content;
  if (int code = readFile(files, path, /*followLinks=*/true, content))
    return tl::unexpected(describe(path, "read", code));
  return std::move(content.bytes);
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

Status publishFile(Files &files, const std::string &path, std::string_view bytes) {
  if (int code = publish(files, path, bytes, 0666))
    return tl::unexpected(describe(path, "write", code));
  return {};
}

bool isTemporaryName(std::string_view name) {
  return name.substr(0, kTemporaryPrefix.size()) == kTemporaryPrefix;
}

} // namespace winnow
