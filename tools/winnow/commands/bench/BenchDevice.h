// The GPU side of `winnow bench`: ways of compiling a program loaded side by side, one workload in
// device memory, launches that are timed, and a comparison of sampled rows with the fp64 reference.
#pragma once
#include "tools/winnow/backends/CudaTensors.h"
#include "tools/winnow/backends/DeviceClock.h"
#include "tools/winnow/backends/LaunchGraph.h"
#include "tools/winnow/commands/bench/DecodeInputs.h"
#include "tools/winnow/commands/prepare/Programs.h"
#include <optional>

namespace winnow {

/// One way of compiling the program.
struct Variant {
  std::string name;
  std::shared_ptr<const ProgramImage> image;
  std::shared_ptr<const LoadedProgram> program;
};

/// A variant and what it has to compute: its parameters may be others than its neighbours'.
struct Side {
  Variant variant;
  reference::Method method;
};

/// What one variant showed in one phase.
struct Timing {
  double medianMs = 0, lowerMs = 0, upperMs = 0; ///< median and quartiles
  double fastestMs = 0;
  int clock = 0;                                       ///< MHz while it ran, the median; 0: unknown
  std::vector<std::pair<std::string, double>> kernels; ///< medians, where there are several
  std::string fault; ///< of the comparison with the reference; empty: none
};

/// The pool of keys, or of values where they lie apart, in device memory, a piece at a time.
Result<DeviceBuffer> uploadedPool(const std::shared_ptr<Driver> &driver, const DecodeInputs &inputs,
                                  const std::vector<int32_t> &table, bool values);

/// The value below which a share of the sorted values lies.
double quantile(const std::vector<double> &sorted, double share);

/// What launches are measured on: a GPU, or the emulator, whose times mean nothing.
class MeasuredDevice {
public:
  const DeviceInfo &info() const { return device; }
  std::string driverText() const; ///< "driver 580.159.04, CUDA 13.0"
  bool emulated() const { return form == CodeForm::Emulated; }
  CodeForm codeForm() const { return form; }
  const std::shared_ptr<Driver> &cuda() const { return driver; }
  const Stream &queue() const { return *stream; }
  const DeviceClock &gauge() const { return *clock; }
  /// `ptx`: of the architecture's virtual counterpart.
  Result<Variant> load(std::string name, std::shared_ptr<const ProgramImage> image,
                       bool ptx = false) const;
  /// Of the image file `path`.
  Result<Variant> loadFile(std::string name, const std::string &path, bool ptx) const;

protected:
  /// `name`: as launchDevice takes it. Errors: Usage for another text; DeviceFailed.
  Status openDevice(const std::string &name);

  std::shared_ptr<Driver> driver;
  DeviceInfo device;
  CodeForm form = CodeForm::Cubin;
  std::optional<DeviceClock> clock;
  std::optional<Stream> stream;
};

class BenchDevice : public MeasuredDevice {
public:
  /// Errors: DeviceFailed without a driver or this device.
  static Result<std::unique_ptr<BenchDevice>> open(int index);

  /// Brings one workload into device memory, the queries a piece at a time; keys and values in
  /// pages where `pages` is not null. The inputs must outlive their use here.
  Status place(BenchInputs &inputs, const DecodeInputs *pages, int selectHeads, int checkedRows);
  Status placeIds(const HostArray<int32_t> &ids);
  /// Makes the workspace large enough for a variant on the present workload.
  Status reserve(const Variant &variant);
  /// Launches once and compares the sampled rows with the reference: the first fault, or empty.
  Result<std::string> check(const reference::Method &method, const Variant &variant, Phase phase);
  /// A launch as a graph, to be replayed on `queue()` while the workload and the workspace stay.
  Result<LaunchGraph> capture(const Variant &variant, Phase phase);
  /// Checks every variant, then times all of them in interleaved rounds.
  Result<std::vector<Timing>> measure(const std::vector<Side> &sides, Phase phase, int rounds,
                                      const std::string &label);

private:
  LaunchArgs launchArgs(Phase phase) const;
  Status launch(const Variant &variant, const LaunchArgs &args, KernelTimer *timer);
  Result<double> timedLaunch(const Variant &variant, const LaunchArgs &args, Timing &timing);
  Status kernelTimes(const Variant &variant, const LaunchArgs &args, int rounds, Timing &timing);
  /// The first fault of the sampled rows, or empty.
  Result<std::string> verify(const reference::Method &method, const Variant &variant, Phase phase);
  Status downloadRows(const reference::Method &method);
  Status copyOut(void *host, const DeviceBuffer &from, size_t offset, size_t bytes) const;

  DeviceTensors tensors;
  const BenchInputs *inputs = nullptr;
  const DecodeInputs *pages = nullptr;
  std::vector<int> rows; ///< compared with the reference
  // What the reference says of them, as long as the workload and the spec stay. Attention: only
  // over given ids, which are the same for every variant.
  std::string expectedSpec;
  std::optional<reference::Selection> expectedSelection;
  std::optional<reference::Attention> expectedAttention;
  HostArray<uint16_t> out;
  HostArray<float> lse;
  HostArray<int32_t> ids;
  std::vector<int> clocks;
};

} // namespace winnow
