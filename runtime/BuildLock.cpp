// Locks of bytes of one file, by open file description (fcntl(2), F_OFD_SETLK): other threads of
// this process are kept out like other processes, and closing another file gives nothing back.
#include "runtime/BuildLock.h"
#include <cerrno>
#include <fcntl.h>

namespace winnow {

BuildLock::BuildLock(Files &files, const std::string &directory, const std::string &key)
    : files(files) {
  const std::string path = directory + "/.lock";
  file = files.open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  // 60 bits of the key: two programs that share a byte would only wait for each other.
  for (char digit : key.substr(0, 15))
    byte = byte * 16 + (digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

BuildLock::~BuildLock() {
  if (file < 0)
    return;
  // Closing is not enough: a child that was forked meanwhile has the open file, and with it the
  // lock, for as long as it lives.
  if (taken)
    files.unlock(file, byte);
  files.close(file);
}

BuildLock::State BuildLock::tryTake() {
  if (file < 0)
    return State::None;
  if (files.tryLock(file, byte) == 0) {
    taken = true;
    return State::Taken;
  }
  // POSIX lets a lock that is held answer either way; EINTR only asks for another try.
  return errno == EAGAIN || errno == EACCES || errno == EINTR ? State::Busy : State::None;
}

} // namespace winnow
