// One thread that sleeps until work begins, and then until it ends or has taken too long.
#include "tools/winnow/commands/soak/Watchdog.h"
#include "runtime/Error.h"
#include "tools/winnow/Session.h"
#include <fmt/format.h>
#include <unistd.h>
#include <utility>

namespace winnow {

Watchdog::Watchdog(int seconds) : seconds(seconds) {
  if (seconds > 0)
    thread = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    done = true;
  }
  changed.notify_all();
  if (thread.joinable())
    thread.join();
}

void Watchdog::begin(std::string work) {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    subject = std::move(work);
    deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    watching = true;
  }
  changed.notify_all();
}

void Watchdog::end() {
  const std::lock_guard<std::mutex> lock(mutex);
  watching = false;
}

void Watchdog::watch() {
  std::unique_lock<std::mutex> lock(mutex);
  while (!done) {
    if (!watching) {
      changed.wait(lock);
      continue;
    }
    changed.wait_until(lock, deadline);
    if (watching && !done && std::chrono::steady_clock::now() >= deadline) {
      say(fmt::format("winnow: {}, has not ended within {} s: it hangs", subject, seconds));
      ::_exit(static_cast<int>(ErrorKind::DeviceFailed)); // no destructor could free the device
    }
  }
}

} // namespace winnow
