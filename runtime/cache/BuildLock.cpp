// Locks of bytes of one file, by open file description (fcntl(2), F_OFD_SETLK): other threads of
// this process are kept out like other processes, and closing another file gives nothing back.
#include "runtime/cache/BuildLock.h"
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace winnow {

namespace {

constexpr off_t kLines = 512, kLineBytes = 128; ///< of the lock file's content

/// The name of this host, with nothing that a terminal would take for more than a name.
std::string hostName() {
  std::array<char, 65> name{};
  ::gethostname(name.data(), name.size() - 1);
  std::string host(name.data());
  for (char &c : host)
    if (c <= ' ' || c > '~')
      c = '?';
  return host.empty() ? "?" : host;
}

} // namespace

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
  // lock, for as long as it lives. That child in turn must not give back what is its parent's.
  if (taker == ::getpid()) {
    writeHolder("");
    files.unlock(file, byte);
  }
  files.close(file);
}

BuildLock::State BuildLock::tryTake() {
  if (file < 0)
    return State::None;
  if (files.tryLock(file, byte) == 0) {
    taker = ::getpid();
    writeHolder(fmt::format("{:x} {} {}", byte, taker, hostName()));
    return State::Taken;
  }
  // POSIX lets a lock that is held answer either way; EINTR only asks for another try.
  return errno == EAGAIN || errno == EACCES || errno == EINTR ? State::Busy : State::None;
}

/// Two keys may share a line: then one of them has no name to tell.
void BuildLock::writeHolder(const std::string &text) const {
  std::array<char, kLineBytes> line{};
  text.copy(line.data(), line.size() - 1);
  // Where it cannot be written, who waits knows less.
  (void)!::pwrite(file, line.data(), line.size(), byte % kLines * kLineBytes);
}

std::optional<BuildLock::Holder> BuildLock::holder() const {
  std::array<char, kLineBytes> line{};
  if (::pread(file, line.data(), line.size() - 1, byte % kLines * kLineBytes) <= 0)
    return std::nullopt;
  const std::string own = fmt::format("{:x} ", byte), text = line.data();
  if (text.compare(0, own.size(), own) != 0)
    return std::nullopt;
  Holder holder;
  const char *end = text.data() + text.size();
  auto [rest, code] = std::from_chars(text.data() + own.size(), end, holder.process);
  if (code != std::errc() || rest == end || *rest != ' ' || holder.process <= 0)
    return std::nullopt;
  for (const char *c = rest + 1; c != end && *c > ' ' && *c <= '~'; ++c)
    holder.host += *c;
  holder.isDead = holder.host == hostName() && ::kill(holder.process, 0) != 0 && errno == ESRCH;
  return holder;
}

} // namespace winnow
