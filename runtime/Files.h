// The system calls behind the cache, and the one way in which Winnow publishes a file: unique
// temporary name in the same directory, write, fsync, rename. Tests replace the calls to inject
// errors and to kill the process between two of them.
#pragma once
#include "runtime/Error.h"
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <sys/types.h>

namespace winnow {

/// POSIX file calls with their usual results (-1 and errno on failure).
class Files {
public:
  virtual ~Files() = default;
  virtual int open(const char *path, int flags, mode_t mode);
  virtual ssize_t read(int file, void *buffer, size_t bytes);
  virtual ssize_t write(int file, const void *buffer, size_t bytes);
  virtual int sync(int file);
  virtual int close(int file);
  virtual int rename(const char *from, const char *to);
  virtual int remove(const char *path);
  virtual ssize_t readAt(int file, void *buffer, size_t bytes, off_t offset);
  /// Takes the write lock of one byte of an open file, or fails at once (EAGAIN: another open file
  /// has it). The lock is the open file's: it goes with unlock(), or with the last process that has
  /// this open file.
  virtual int tryLock(int file, off_t byte);
  virtual int unlock(int file, off_t byte);
};

/// The real calls.
Files &systemFiles();

/// A file's bytes and what the open file said about itself (owner, mode), so that both belong to
/// the same file.
struct FileContent {
  std::string bytes;
  struct stat info{};
};

/// Reads a regular file whole. Returns 0 or an errno; symbolic links are refused (ELOOP) when
/// `followLinks` is false.
int readFile(Files &files, const std::string &path, bool followLinks, FileContent &content);
/// As readFile for files named by the user. Error: Usage with path and reason.
Result<std::string> readWholeFile(Files &files, const std::string &path);

/// Publishes `bytes` as `path`: readers see the old file, none, or the new one, never a part
/// (faults F01, F03, F04). Returns 0 or an errno, having removed the temporary file; never reads
/// the file again (F02).
int publish(Files &files, const std::string &path, std::string_view bytes, mode_t mode);
/// As publish for files named by the user. Error: Usage with path and reason.
Status publishFile(Files &files, const std::string &path, std::string_view bytes);

/// Whether a file name is that of a temporary of publish(), left by a process that was killed.
bool isTemporaryName(std::string_view name);

} // namespace winnow
