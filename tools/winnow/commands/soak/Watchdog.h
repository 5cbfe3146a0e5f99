// Ends the process where something that it waits for does not end: a kernel that hangs cannot be
// stopped in any other way, and whoever waits for it never comes back.
#pragma once
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace winnow {

class Watchdog {
public:
  /// `seconds`: what a watched piece of work may take; 0: any time.
  explicit Watchdog(int seconds);
  ~Watchdog();
  Watchdog(const Watchdog &) = delete;
  Watchdog &operator=(const Watchdog &) = delete;

  /// Watches from here to `end`. `work`: the subject of the sentence that the process ends with.
  void begin(std::string work);
  void end();

private:
  void watch();

  const int seconds;
  std::mutex mutex; ///< guards what follows
  std::condition_variable changed;
  std::string subject;
  std::chrono::steady_clock::time_point deadline;
  bool watching = false, done = false;
  std::thread thread;
};

} // namespace winnow
