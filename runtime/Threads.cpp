// Exceptions are caught here and nowhere else: code with MLIR in it is compiled without them.
#include "runtime/Threads.h"
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace winnow {

void runOnThreads(size_t threads, const std::function<void(bool isCaller)> &work) {
  std::exception_ptr failure;
  std::mutex mutex;
  auto guarded = [&](bool isCaller) {
    try {
      work(isCaller);
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex);
      if (!failure)
        failure = std::current_exception();
    }
  };
  std::vector<std::thread> helpers;
  helpers.reserve(threads);
  for (bool more = true; more && helpers.size() + 1 < threads;) {
    try {
      helpers.emplace_back(guarded, false);
    } catch (const std::exception &) {
      more = false; // the system gives no more of them: those that there are do the work
    }
  }
  guarded(true);
  for (std::thread &helper : helpers)
    helper.join();
  if (failure)
    std::rethrow_exception(failure);
}

} // namespace winnow
