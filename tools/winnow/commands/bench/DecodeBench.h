// The device side of `winnow bench decode`: a batch over pages in several disjoint sets of tensors,
// launched in turn as one graph, so that no launch finds in L2 what the one before it has read.
#pragma once
#include "tools/winnow/backends/DeviceClock.h"
#include "tools/winnow/backends/LaunchGraph.h"
#include "tools/winnow/commands/bench/BenchDevice.h"
#include "tools/winnow/commands/bench/DecodeInputs.h"

namespace winnow {

/// What one row of the benchmark showed; times of one launch.
struct DecodeTiming {
  double medianUs = 0, fastestUs = 0;                  ///< over the rounds
  std::vector<std::pair<std::string, double>> kernels; ///< medians in microseconds
  int clock = 0;                                       ///< MHz while it ran; 0: unknown
  double bytesRead = 0;                                ///< by definition, see DecodeInputs
  std::string fault; ///< of the comparison with the reference; empty: none
};

/// A launch over every set in turn: while sets and workspace stay, it can be timed again.
struct DecodeTurn {
  const Variant *variant = nullptr;
  Phase phase = Phase::All;
  int launches = 0;
  std::optional<LaunchGraph> graph; ///< none under the emulator
};

class DecodeBench : public MeasuredDevice {
public:
  /// `device`: the number of a GPU, or emulated or emulated:ARCH, which executes the kernels
  /// without one (times mean nothing then). Errors: Usage for another text; DeviceFailed.
  static Result<std::unique_ptr<DecodeBench>> open(const std::string &device);

  /// Makes sets until the keys and values that launches read in turn are kColdBytes, or memory or
  /// kMostBytes are full. Returns why not even one fits, or an empty text. The inputs must outlive
  /// their use here.
  Result<std::string> place(const DecodeInputs &inputs, const reference::Method &method,
                            const Variant &variant);
  /// Makes the workspace large enough for another variant of the program that was placed. Whether
  /// it moved: turns made before are of no use then.
  Result<bool> reserve(const Variant &variant);
  /// Launches once over every set and compares: the first fault, or empty.
  Result<std::string> check(const reference::Method &method, const Variant &variant, Phase phase,
                            int rows);
  Result<DecodeTurn> turn(const Variant &variant, Phase phase) const;
  /// Microseconds of one of its launches; `megahertz`, where given: the clock meanwhile.
  Result<double> timed(const DecodeTurn &turn, int *megahertz = nullptr) const;
  /// Block lists [select_heads, total_q, topk] of every set.
  Status placeIds(const std::vector<int32_t> &ids);
  /// Compares about `rows` rows with the reference (0: none) and every set with the first one, then
  /// times.
  Result<DecodeTiming> measure(const reference::Method &method, const Variant &variant, Phase phase,
                               int rounds, int rows);
  int setCount() const { return static_cast<int>(sets.size()); }

  /// Whether what the sets read in turn is at least twice L2, so that none of it is still there.
  bool cold(const reference::Method &method) const;

  static constexpr double kColdBytes = 256e6; ///< several times the L2 of any GPU
  static constexpr double kMostBytes = 24e9;  ///< of all sets, unless one alone is larger

private:
  struct Set {
    DeviceBuffer keys, values, q, out, lse, ids, seqK, table, kBegin, cuQ, cuK;
    DeviceBuffer kScale, vScale;             ///< empty where keys are not fp8
    DeviceBuffer rows[kMostRows], rowsTable; ///< the summaries that the host keeps
  };
  Result<Set> makeSet(int index) const;
  /// Slots of one sequence where rows have a table of their own, since pages do not hold whole
  /// strides; else 0.
  int64_t ownSlots() const;
  size_t rowsBytes(size_t index) const;
  Status makeRows(const Variant &variant, Set &set) const;
  Status finishUploads() const;
  size_t setBytes() const;
  LaunchArgs args(const Set &set, Phase phase) const;
  Status launch(const Variant &variant, const Set &set, Phase phase, KernelTimer *timer) const;
  Status check(const reference::Method &method, const Variant &variant, Phase phase, int rows,
               DecodeTiming &timing);
  Result<std::string> compare(const reference::Method &method, Phase phase, int rows);
  Status download(const Set &set, CaseAnswer &answer) const;
  Status launchInTurn(const DecodeTurn &turn) const;
  Status time(const Variant &variant, Phase phase, int rounds, DecodeTiming &timing);
  Status kernelTimes(const Variant &variant, Phase phase, int rounds, DecodeTiming &timing);

  const DecodeInputs *inputs = nullptr;
  std::vector<SummaryShape> summaries; ///< of the program: the rows that sets have
  int selectHeads = 0;
  std::vector<Set> sets;
  DeviceBuffer workspace;
  CaseAnswer answer; ///< of the first set
};

} // namespace winnow
