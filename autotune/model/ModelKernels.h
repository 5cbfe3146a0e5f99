// The model's formulas per kernel; PerformanceModel.cpp adds them up.
#pragma once
#include "autotune/model/PerformanceModel.h"
#include "runtime/program/Formula.h"

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

/// Facts of one kernel, for a model that can do without none of those that it asks for: it reads
/// all, then looks at status() before it computes.
class FactReader {
public:
  explicit FactReader(const Kernel &kernel) : kernel(kernel) {}
  /// The fact; 0 where the kernel lacks it.
  int operator()(KernelFacts::Fact KernelFacts::*fact);
  /// Error: Unsupported, naming the kernel and the first fact that it lacks.
  Status status() const;

private:
  const Kernel &kernel;
  const char *lacking = nullptr;
};

/// Whether the launcher runs the kernel.
bool launched(const Kernel &kernel, const Variables &shape);
/// The launch shape of a workload: one sequence.
Variables shapeOf(const ModelWorkload &workload, const DeviceProfile &profile);

/// Spilled registers of a lane, fitted to 20 kernels of attention that ptxas 13.0 compiled: one for
/// each that is missing, many more where accumulators have to go. `masks`: rows of a warp may want
/// different key tiles.
double spillsOf(int missing, bool masks);
/// The factor by which warps that do not fill all schedulers alike slow their pipes.
double imbalance(int warps);
/// Clocks of the tensor cores of one scheduler per mma.sync of 16 x 8 x 16.
double mmaClocks(const DeviceProfile &profile);

// Errors: Unsupported where the kernel lacks a fact.
/// Of attention, and of backward_queries.
Result<KernelPrediction> predictAttend(const ModelWorkload &workload, const Kernel &kernel,
                                       const DeviceProfile &profile,
                                       const ModelConstants &constants);
/// Gradients of keys and values, and where `candidate` cuts tokens into ranges the joining of their
/// sums.
Result<KernelPrediction> predictKeyGradients(const ModelWorkload &workload,
                                             const Candidate &candidate, const Kernel &kernel,
                                             const DeviceProfile &profile,
                                             const ModelConstants &constants);
/// A launch of decode: all of its kernels. Error: also for methods whose summaries are not kept.
Result<Prediction> predictDecode(const ModelWorkload &workload, const Candidate &candidate,
                                 const DeviceProfile &profile, const ModelConstants &constants);
/// Means over keys; a rescore kernel, which rarely has a row to look at, is counted like one.
Result<KernelPrediction> predictSummarize(const ModelWorkload &workload, const Kernel &kernel,
                                          const DeviceProfile &profile);
Result<KernelPrediction> predictScore(const ModelWorkload &workload, const Candidate &candidate,
                                      const Kernel &kernel, const DeviceProfile &profile,
                                      const ModelConstants &constants);
/// `score` says how the scores lie.
Result<KernelPrediction> predictTopK(const ModelWorkload &workload, const Candidate &candidate,
                                     const Kernel &score, const DeviceProfile &profile,
                                     const ModelConstants &constants);
/// A top_k kernel that writes forced blocks alone.
Result<KernelPrediction> predictForced(const ModelWorkload &workload, const Kernel &kernel,
                                       const DeviceProfile &profile,
                                       const ModelConstants &constants);

} // namespace winnow
