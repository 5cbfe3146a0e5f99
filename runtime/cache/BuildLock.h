// The lock that keeps several processes from compiling the same program side by side. It only
// saves work and is never needed for correctness (fault F07): the system takes it from a process
// that dies, whoever waits for it stops waiting at some time, and where the file system knows no
// locks everybody compiles. One file ".lock" per cache directory holds the locks of all keys, a
// byte each. Its content, a few hundred lines that are written over and over, only tells who waits
// whom it waits for.
#pragma once
#include "runtime/cache/Files.h"
#include <optional>

namespace winnow {

class BuildLock {
public:
  /// The lock of `key` (hexadecimal digits) in a directory that exists. Takes nothing yet.
  BuildLock(Files &files, const std::string &directory, const std::string &key);
  ~BuildLock();
  BuildLock(const BuildLock &) = delete;
  BuildLock &operator=(const BuildLock &) = delete;

  /// Taken: until the destructor. Busy: somebody is building this program now. None: locks do not
  /// work here, go on without.
  enum class State { Taken, Busy, None };
  State tryTake();

  /// Who had the lock when it was busy, as the holder wrote it: nothing where it did not, or has
  /// given the lock back since.
  struct Holder {
    pid_t process = 0;
    std::string host;
    bool isDead = false; ///< of this host, and not running any more
  };
  std::optional<Holder> holder() const;

private:
  void writeHolder(const std::string &text) const;

  Files &files;
  int file = -1;
  off_t byte = 0;
  pid_t taker = 0; ///< the process that has taken it
};

} // namespace winnow
