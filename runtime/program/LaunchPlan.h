// What a shape decides before the first kernel of a launch, and the plan that a program made last:
// hosts launch a program layer after layer, step after step, with the same shape.
#pragma once
#include "runtime/program/Formula.h"
#include "templates/Params.h"
#include <array>
#include <mutex>

namespace winnow {

struct LaunchPlan {
  Variables variables;
  std::array<int64_t, WINNOW_MAX_BUFFERS> offset{};
  size_t bufferCount = 0;
  int64_t workspaceBytes = 0;
};

class LastPlan {
public:
  /// All that a plan of one program depends on.
  using Key = std::array<int, 7>;

  /// The plan that `make` gives for `key`, kept from the call before where that had the same key.
  /// A thread that finds another one here makes its own: nobody waits.
  template <typename Make> Result<LaunchPlan> of(const Key &key, const Make &make) {
    const std::unique_lock<std::mutex> lock(mutex, std::try_to_lock);
    if (!lock)
      return make();
    if (isThere && key == keyOfLast)
      return last;
    Result<LaunchPlan> made = make();
    isThere = bool(made);
    if (made)
      keyOfLast = key, last = *made;
    return made;
  }

private:
  std::mutex mutex;
  bool isThere = false;
  Key keyOfLast{};
  LaunchPlan last;
};

} // namespace winnow
