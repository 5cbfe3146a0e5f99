// A launch captured once and replayed: no host time between its kernels, as engines run it.
#pragma once
#include "runtime/device/Driver.h"
#include <functional>
#include <memory>

namespace winnow {

class LaunchGraph {
public:
  /// Captures what `launch` enqueues on `stream`. Errors: launch's; DeviceFailed.
  static Result<LaunchGraph> capture(const std::shared_ptr<Driver> &driver, CUstream stream,
                                     const std::function<Status()> &launch);
  LaunchGraph(LaunchGraph &&other) noexcept;
  LaunchGraph &operator=(LaunchGraph &&other) noexcept;
  ~LaunchGraph();
  Status replay(CUstream stream) const;

private:
  LaunchGraph() = default;
  std::shared_ptr<Driver> driver;
  CUgraphExec graph = nullptr;
};

} // namespace winnow
