// Device copies of a call's tensors and the timing of its kernels: what running and benchmarking on
// a GPU share. The device's context must be current on the calling thread.
#pragma once
#include "reference/conformance/Conformance.h"
#include "reference/conformance/Layout.h"
#include "runtime/device/DeviceMemory.h"
#include "runtime/program/Launcher.h"
#include <map>

namespace winnow {

double median(std::vector<double> values);

/// A buffer with every byte set: NaN as a number, -1 as an id. What no kernel wrote is seen in the
/// results.
Result<DeviceBuffer> poisonedBuffer(const std::shared_ptr<Driver> &driver, size_t bytes);

struct DeviceTensors {
  DeviceBuffer q, k, v, out, lse, ids, cuQ, cuK, workspace;
  DeviceBuffer kScale, vScale;      ///< may be empty
  DeviceBuffer seqK, table, kBegin; ///< of stored tensors; then k holds keys and values
  DeviceBuffer rows[kMostRows], rowsTable;
  DeviceBuffer dout, dq, dk, dv; ///< of addGradients
  const StoredTensors *stored = nullptr;

  /// Uploads q, k, v and lengths; `givenIds` [select_heads, total_q, topk] may be null. Results
  /// start out poisoned.
  static Result<DeviceTensors> make(const std::shared_ptr<Driver> &driver,
                                    const reference::Problem &problem, int selectHeads,
                                    const int32_t *givenIds, const StoredTensors *stored = nullptr);
  /// Pointers and shape for the launcher.
  LaunchArgs args(const reference::Problem &problem) const;
  Result<CaseAnswer> download(const reference::Problem &problem, int selectHeads) const;

  /// What a launch of gradients has beside a launch of attention that has been made; results start
  /// out poisoned.
  Status addGradients(const std::shared_ptr<Driver> &driver, const reference::Problem &problem,
                      const uint16_t *given);
  LaunchArgs backwardArgs(const reference::Problem &problem) const;
  Status downloadGradients(const reference::Problem &problem, CaseAnswer &answer) const;
};

struct KernelTimes {
  std::map<std::string, double> kernels; ///< milliseconds, summed over chunks
  double select = 0, attend = 0;         ///< the two phases
};

/// Events around the kernels of one launch; give `observe` and the timer to LoadedProgram::launch.
class KernelTimer {
public:
  explicit KernelTimer(std::shared_ptr<Driver> driver) : driver(std::move(driver)) {}
  Status begin(CUstream stream);
  static void observe(void *user, const Kernel &kernel, int chunk, CUstream stream);
  /// Waits for the launch and reads the events.
  Result<KernelTimes> finish();

private:
  Status mark(CUstream stream);
  std::shared_ptr<Driver> driver;
  std::vector<Event> events;
  std::vector<std::pair<std::string, bool>> names; ///< kernel, and whether it belongs to attention
  Status failed;
};

} // namespace winnow
