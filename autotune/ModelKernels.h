// The model's formulas per kernel; PerformanceModel.cpp adds them up.
#pragma once
#include "autotune/KernelShape.h"
#include "autotune/PerformanceModel.h"

namespace winnow {

/// Clocks of one multiprocessor per pipe, summed over the work of one block of threads, and joined.
class Pipes {
public:
  explicit Pipes(double norm) : norm(norm) {}
  void add(const char *name, double clocks);
  /// The norm of all pipes.
  double joined() const;
  /// Adds `share` of another block's pipes, for means.
  void addScaled(const Pipes &other, double share);
  std::vector<Pipe> inMilliseconds(double factor, const DeviceProfile &profile) const;

private:
  struct Entry {
    const char *name;
    double clocks;
  };
  std::vector<Entry> entries;
  double norm; ///< see ModelConstants
};

/// The factor by which warps that do not fill all schedulers alike slow their pipes.
double imbalance(int warps);
/// Clocks of the tensor cores of one scheduler per mma.sync of 16 x 8 x 16.
double mmaClocks(const DeviceProfile &profile);

KernelPrediction predictAttend(const ModelWorkload &workload, const Kernel &kernel,
                               const DeviceProfile &profile, const ModelConstants &constants);
KernelPrediction predictSummarize(const ModelWorkload &workload, const Kernel &kernel,
                                  const DeviceProfile &profile);
KernelPrediction predictScore(const ModelWorkload &workload, const Candidate &candidate,
                              const Kernel &kernel, const DeviceProfile &profile,
                              const ModelConstants &constants);
/// `score` says how the scores lie.
KernelPrediction predictTopK(const ModelWorkload &workload, const Candidate &candidate,
                             const Kernel &kernel, const Kernel &score,
                             const DeviceProfile &profile, const ModelConstants &constants);

} // namespace winnow
