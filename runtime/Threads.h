// One way to spread work over threads that survives a machine without room: as many threads as the
// system gives, and what one of them throws is thrown where the work was asked for. An exception
// that left a thread would end the process.
#pragma once
#include <cstddef>
#include <functional>

namespace winnow {

/// Calls `work` on the caller's thread with `true` and on up to `threads` - 1 others with `false`,
/// and waits for all. `work` shares out its items by itself. The first exception comes back to the
/// caller.
void runOnThreads(size_t threads, const std::function<void(bool isCaller)> &work);

} // namespace winnow
