// The system calls behind the cache, how files are read (never more than a limit), and the one way
// in which Winnow publishes a file: unique temporary name in the same directory, write, fsync,
// rename. Tests replace the calls to inject
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

/// What is read at most of a text that the user names: a method, a list of specs, a table.
inline constexpr uint64_t kMaxTextBytes = uint64_t(64) << 20;

/// Reads a regular file whole. Returns 0 or an errno: EFBIG for one of more than `limit` bytes
/// (nothing is allocated or read, `content.info` is set), ENOMEM where memory does not suffice;
/// symbolic links are refused (ELOOP) when `followLinks` is false.
int readFile(Files &files, const std::string &path, bool followLinks, uint64_t limit,
             FileContent &content);
/// As readFile, but no more than the first `bytes` of a file of any size.
int readBeginning(Files &files, const std::string &path, uint64_t bytes, FileContent &content);
/// As readFile for files named by the user. Error: Usage with path and reason.
Result<std::string> readWholeFile(Files &files, const std::string &path,
                                  uint64_t limit = kMaxTextBytes);
/// What an errno of readFile, readBeginning or publishFile means, in words.
const char *fileProblem(int code);

/// Whether nobody but this user (or root, where `orRoot`) can have written what `info` describes
/// (F38).
bool isOwn(const struct stat &info, bool orRoot);

/// Publishes `bytes` as `path`: readers see the old file, none, or the new one, never a part
/// (faults F01, F03, F04). Returns 0 or an errno, having removed the temporary file; never reads
/// the file again (F02). Whatever was at `path` is replaced.
int publish(Files &files, const std::string &path, std::string_view bytes, mode_t mode);
/// As publish for files named by the user: a link is followed, and what is neither absent nor a
/// regular file (a device, a FIFO, an open file in /proc) is written to and stays what it is. First
/// removes what killed processes left in the folder. Error: Usage with path and reason.
Status publishFile(Files &files, const std::string &path, std::string_view bytes,
                   mode_t mode = 0666);

/// mkdir -p; what is created is for this user only. Returns 0 or an errno.
int makeDirectories(const std::string &path);

/// Whether a file name is that of a temporary of publish().
bool isTemporaryName(std::string_view name);
/// Removes the temporaries in `directory` whose writer is dead, as far as this host can tell, and
/// those that nobody has written to for an hour.
void removeStaleTemporaries(Files &files, const std::string &directory);

} // namespace winnow
