// The device side of `winnow soak`: arrays that stay where they are, launches over them that are
// captured once, and replays after the arrays' contents have changed.
#pragma once
#include "tools/winnow/backends/Backend.h"
#include "tools/winnow/backends/CudaTensors.h"
#include "tools/winnow/backends/LaunchGraph.h"
#include "tools/winnow/commands/soak/BusyStream.h"
#include "tools/winnow/commands/soak/SoakInputs.h"
#include "tools/winnow/commands/soak/Watchdog.h"

namespace winnow {

class SoakDevice {
public:
  /// `device`: as launchDevice takes it. `limit`: seconds that a launch may take; 0: any time.
  static Result<std::unique_ptr<SoakDevice>> open(const std::string &device, int limit);

  const DeviceInfo &info() const { return device; }
  CodeForm codeForm() const { return form; }
  bool emulated() const { return form == CodeForm::Emulated; }

  /// Brings the pool into device memory and captures the launches of `phases`, and the append
  /// before them. `direct`: launches come one by one instead, as under the emulator. The inputs
  /// must outlive their use here.
  Status place(const SoakInputs &inputs, std::shared_ptr<const ProgramImage> image,
               const std::vector<Phase> &phases, bool direct);
  /// From now on another stream keeps half of the GPU busy. Returns the multiprocessors.
  Result<int> beBusy();
  /// Error: DeviceFailed where it was not busy.
  Status stopBusy();

  /// Changes the arrays to this step's, appends the rows of earlier keys, and launches. `what`:
  /// the launch in words.
  Result<CaseAnswer> run(const SoakStep &step, Phase phase, const std::string &what);
  long launches() const { return count; }

private:
  struct Launch {
    LaunchArgs args;
    std::optional<LaunchGraph> graph; ///< none: launched directly
  };
  LaunchArgs args(Phase phase) const;
  Status makeRows();
  Status launch(const Launch &one);
  Status append(const SoakStep &step);
  template <typename T> static Status upload(DeviceBuffer &buffer, const std::vector<T> &list) {
    return buffer.upload(list.data(), list.size() * sizeof(T));
  }

  std::shared_ptr<Driver> driver;
  DeviceInfo device;
  CodeForm form = CodeForm::Cubin;
  std::optional<Stream> stream;
  std::optional<Watchdog> watchdog;
  const SoakInputs *inputs = nullptr;
  std::unique_ptr<LoadedProgram> program;
  DeviceBuffer keys, values, q, out, lse, ids, givenIds, seqK, table, kBegin, cuQ, workspace;
  DeviceBuffer kScale, vScale;             ///< of fp8 keys alone
  DeviceBuffer rows[kMostRows], rowsTable; ///< the summaries that the host keeps
  std::map<Phase, Launch> captured;
  std::unique_ptr<BusyStream> busy;
  long count = 0;
};

} // namespace winnow
