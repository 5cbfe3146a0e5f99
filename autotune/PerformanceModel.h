// A performance model of the mma.sync kernels: what a candidate should take on a GPU that nobody
// has at hand. A kernel's multiprocessor is a set of pipes (tensor cores, shared memory,
// exponential unit, instruction issue, L2, device memory) beside three latencies (what producers
// issue, how far the ring reaches ahead, what a warp does in a row). The busiest one bounds the
// time; the others lengthen it the more the nearer they come to it. What it chooses carries origin
// "model".
#pragma once
#include "autotune/DeviceProfile.h"
#include "autotune/SearchSpace.h"
#include "runtime/TuningRecord.h"

namespace winnow {

/// What the program runs on. Of the method only the forced blocks matter beyond what the kernels
/// themselves say.
struct ModelWorkload {
  TuningKey key;
  int init = 0, local = 1;
};
/// The workload of a key, with the forced blocks of `program`'s top-k kernels.
ModelWorkload workloadOf(const TuningKey &key, const ProgramImage &program);

/// Numbers that no data sheet gives. Fitted on one H200 running the kernels of the mma.sync level:
/// infllm_v2 of MiniCPM4.1's shape, attention of 131,072 and 32,768 tokens over 96 and 16 blocks at
/// L = 128, 32, 8 and 1 with 3 and 5 ring stages, with 1 and 4 producer warps, with 16 and 32 rows
/// per warp, and its selection (tests/autotune/PerformanceModelTest.cpp has the points). They are
/// taken over to other GPUs as they are.
struct ModelConstants {
  /// Exponent of the norm that joins pipes and latencies: large where the busiest one hides the
  /// others, 1 where they add up.
  double norm = 3;
  /// Clocks that a warp alone spends on a logit of its own between the two products.
  double softmaxClocks = 6;
  /// The same once per key tile: list look-up, barriers, first operands.
  double visitClocks = 80;
  double skipClocks = 40; ///< per key tile that no token of the warp wants
  /// Per ldmatrix of a warp without free registers to load ahead into.
  double exposedLoadClocks = 10;
  double spillClocks = 10;        ///< per spilled register and key tile
  double copyClocks = 22;         ///< of a producer warp per cp.async (512 bytes)
  double loadedLatency = 3;       ///< latency under load, times the idle one
  double tileClocks = 7000;       ///< attend: once per tile: launch, queries, lists, output
  double scanClocks = 60;         ///< attend: per 32 key tiles, marked or not
  double softmaxInstructions = 7; ///< per logit of a lane, in attend
  double scoreTileClocks = 370;   ///< score: a warp alone, per 16 rows and 32 summaries, beside mma
  double scoreStepClocks = 900;   ///< score: per tile of summaries: barriers and its operand
  double searchInstructions = 740; ///< top_k: per row of scores
  double pairInstructions = 60;    ///< top_k: per 32 pairs of scores of a row, all steps together
};

/// A pipe or a latency and how long it alone would take.
struct Pipe {
  const char *name;
  double ms;
};
struct KernelPrediction {
  std::string kernel;
  double ms = 0;
  int residentBlocks = 1;
  std::vector<Pipe> pipes;
};
struct Prediction {
  double ms = 0;
  std::vector<KernelPrediction> kernels;
};

/// Error: Unsupported for kernels on warpgroups, which the model does not describe.
Result<Prediction> predict(const ModelWorkload &workload, const Candidate &candidate,
                           const DeviceProfile &profile, const ModelConstants &constants = {});
/// predict()'s time of the whole phase, in milliseconds.
Result<double> predictMs(const ModelWorkload &workload, const Candidate &candidate,
                         const DeviceProfile &profile);

/// Whether the default, predicted to take `defaultMs`, stays although a candidate takes `leastMs`:
/// within 2 % the model tells nothing apart.
bool keepsDefault(double leastMs, double defaultMs);

struct ModelChoice {
  size_t index = 0; ///< of the space's candidates
  double ms = 0, defaultMs = 0;
};
/// The candidate with the least predicted time, or the default where that stays.
Result<ModelChoice> choose(const SearchSpace &space, const ModelWorkload &workload,
                           const DeviceProfile &profile);

} // namespace winnow
