// The device side of `winnow bench backward`: one workload in device memory, launches of gradients
// and of attention before them that are timed, and a comparison of sampled gradients with the fp64
// reference.
#pragma once
#include "tools/winnow/backends/CudaTensors.h"
#include "tools/winnow/backends/DeviceClock.h"
#include "tools/winnow/backends/LaunchGraph.h"
#include "tools/winnow/commands/bench/BenchDevice.h"

namespace winnow {

/// Times of one kind of launch under one regime.
struct RegimeTiming {
  double medianMs = 0, lowerMs = 0, upperMs = 0; ///< median and quartiles
  int clock = 0;                                 ///< MHz while it ran, the median; 0: unknown
};

/// What one variant showed.
struct BackwardTiming {
  /// Of a launch of gradients, and of one of attention and gradients in turn. A card that is
  /// limited by power is slower back to back than where it idles before each launch.
  RegimeTiming paced, backToBack, bothPaced, bothBackToBack;
  size_t scratchBytes = 0;                             ///< of a launch of gradients
  std::vector<std::pair<std::string, double>> kernels; ///< medians in ms, of gradients
  std::string fault; ///< of the comparison with the reference; empty: none
};

/// Launches of one variant that are timed as one: while workload and workspace stay, again and
/// again.
struct BackwardTurn {
  const Variant *variant = nullptr;
  bool withAttention = false;
  std::optional<LaunchGraph> graph; ///< none under the emulator
};

class BackwardBench : public MeasuredDevice {
public:
  /// `device`: as launchDevice takes it; times mean nothing under the emulator. Errors: Usage,
  /// DeviceFailed.
  static Result<std::unique_ptr<BackwardBench>> open(const std::string &device);

  /// Brings one workload into device memory. `ids` of attention, null for a method that selects
  /// nothing, and `dout`, like the output, must outlive their use here as the problem does.
  Status place(const reference::Problem &problem, int selectHeads, const int32_t *ids,
               const uint16_t *dout);
  /// Makes the workspace large enough for either launch of a variant. Whether it moved: turns made
  /// before are of no use then.
  Result<bool> reserve(const Variant &variant);
  /// Launches attention and gradients; all results start out as NaN.
  Status launchBoth(const Variant &variant);
  /// What the last launches gave.
  Result<CaseAnswer> answer() const;
  /// Compares about `count` rows of an answer, and as many keys, with the reference: the first
  /// fault, or empty.
  std::string faultOf(const reference::Method &method, const CaseAnswer &answer, int count) const;
  /// All three in turn; `count` 0: nothing is compared.
  Result<std::string> check(const Side &side, int count);
  /// Checks every variant, then times all of them in interleaved rounds; `idleMs`: of a paced
  /// launch, before it.
  Result<std::vector<BackwardTiming>> measure(const std::vector<Side> &sides, int rounds,
                                              int checked, int idleMs, const std::string &label);

  Result<BackwardTurn> turn(const Variant &variant, bool withAttention) const;
  /// Its milliseconds; `megahertz`: the clock meanwhile.
  Result<double> timed(const BackwardTurn &turn, int &megahertz) const;

private:
  LaunchArgs args(bool backward) const;
  Status launch(const Variant &variant, bool backward, KernelTimer *timer = nullptr) const;
  Status launch(const BackwardTurn &turn) const;
  /// A timing of each side; `idleMs` 0: back to back.
  Result<std::vector<RegimeTiming>> regime(const std::vector<Side> &sides, bool withAttention,
                                           int rounds, int idleMs);
  Status kernelTimes(const Variant &variant, int rounds, BackwardTiming &timing) const;

  DeviceTensors tensors;
  const reference::Problem *problem = nullptr;
  const uint16_t *dout = nullptr;
  int selectHeads = 0;
};

} // namespace winnow
