// The backward_keys kernel of the mma.sync level: a block of threads has some keys, and takes the
// query rows of all tokens that attend to them, a stage at a time. See
// compiler/kernels/backward/Keys.cpp for the kernel.
#include "autotune/model/ModelKernels.h"
#include <algorithm>
#include <cmath>

namespace winnow {

namespace {

constexpr int kCopyBytes = 512, kElementBytes = 2, kSumBytes = 4;
constexpr int kWarpKeys = 16;
/// Instructions per logit of a lane beside those of a softmax: dP - delta, times P, two roundings.
constexpr double kChangeInstructions = 3;
/// What a warp alone spends on a logit, as a share of attention's: there is a change beside it.
constexpr double kChangeShare = 1.5;

struct Sizes {
  int warps, producers, stages, tokens, rows, keys, dim, valueDim, group, topk, laneRegisters;

  int dims() const { return dim + valueDim; }
  double stageBytes() const { return static_cast<double>(rows) * dims() * kElementBytes; }
  /// mma.sync instructions of a warp and stage: S, dP, dV and dK of its keys.
  double products() const { return rows * 2.0 * dims() / 128; }
  /// ldmatrix of a warp and stage: the stage twice, its own keys and values once.
  double operandLoads() const {
    return (2 * stageBytes() + static_cast<double>(kWarpKeys) * dims() * kElementBytes) /
           kCopyBytes;
  }
  double logits() const { return static_cast<double>(kWarpKeys) * rows / kWarpThreads; }
};

Result<Sizes> sizesOf(const Kernel &kernel) {
  FactReader fact(kernel);
  Sizes s{};
  s.warps = fact(&KernelFacts::warps);
  s.producers = fact(&KernelFacts::producers);
  s.stages = fact(&KernelFacts::stages);
  s.tokens = fact(&KernelFacts::tokens);
  s.rows = fact(&KernelFacts::queryRows);
  s.keys = fact(&KernelFacts::tileKeys);
  s.dim = fact(&KernelFacts::headDim);
  s.valueDim = fact(&KernelFacts::valueDim);
  s.group = fact(&KernelFacts::group);
  s.topk = fact(&KernelFacts::topk);
  s.laneRegisters = fact(&KernelFacts::laneRegisters);
  WINNOW_CHECK(fact.status());
  return s;
}

/// The pipes and latencies of one stage.
Pipes stageOf(const Sizes &s, int resident, double spilled, const DeviceProfile &profile,
              const ModelConstants &constants) {
  const double uneven = imbalance(resident * s.warps), bytes = s.stageBytes();
  const double spillBytes = 2.0 * spilled * kSumBytes * kWarpThreads;
  Pipes pipes(constants.norm);
  pipes.add("tensor", s.warps * s.products() * mmaClocks(profile) / kSchedulers * uneven);
  pipes.add("shared memory", (s.warps * (s.operandLoads() * kCopyBytes + spillBytes) + bytes) /
                                 DeviceProfile::kSharedBytes);
  pipes.add("exp2", s.warps * s.logits() * kWarpThreads / DeviceProfile::kExponentials * uneven);
  pipes.add("issue",
            s.warps *
                (s.products() + s.operandLoads() + 2 * spilled + constants.visitInstructions +
                 s.logits() * (constants.softmaxInstructions + kChangeInstructions)) /
                kSchedulers * uneven);
  // Tokens that attend to a block are scattered: every one of its query rows comes from L2.
  pipes.add("L2", bytes / profile.perClock(profile.l2Bandwidth));
  pipes.add("producers", bytes / kCopyBytes * constants.copyClocks / s.producers / resident);
  const double refill =
      constants.loadedLatency * profile.latency + bytes / profile.perClock(profile.l2Bandwidth);
  pipes.add("ring", refill / std::max(1, s.stages - 1) / resident);
  pipes.add("warp latency",
            (s.products() * mmaClocks(profile) +
             s.logits() * constants.softmaxClocks * kChangeShare + constants.visitClocks +
             s.operandLoads() * constants.exposedLoadClocks + spilled * constants.spillClocks) /
                resident);
  return pipes;
}

} // namespace

Result<KernelPrediction> predictKeyGradients(const ModelWorkload &workload,
                                             const Candidate &candidate, const Kernel &kernel,
                                             const DeviceProfile &profile,
                                             const ModelConstants &constants) {
  WINNOW_TRY(const Sizes s, sizesOf(kernel));
  WINNOW_TRY(const Multiprocessor multiprocessor, profile.multiprocessor());
  double parts = 1;
  if (!candidate.parts.empty()) {
    WINNOW_TRY(const Formula formula, Formula::parse(candidate.parts, Variable::ChunkTokens));
    WINNOW_TRY(const int64_t value, formula.evaluate(shapeOf(workload, profile)));
    parts = static_cast<double>(std::max<int64_t>(1, value));
  }
  const TuningKey &key = workload.key;
  const int cap = threadRegisters(multiprocessor.registers, kWarpThreads * (s.warps + s.producers));
  const double spilled = kernel.registers
                             ? kernel.spillBytes / static_cast<double>(kSumBytes)
                             : spillsOf(s.laneRegisters + kOtherRegisters - cap, /*masks=*/false);
  const int resident = residentBlocks(
      kernel,
      kernel.registers ? kernel.registers : std::min(cap, s.laneRegisters + kOtherRegisters),
      multiprocessor);

  // Keys that a token attends to, on average; a stage has some tokens for some keys.
  const double tokens = key.tokens, block = key.spec.block;
  const double selected = s.topk * block;
  const double attended =
      s.topk == 0 || selected >= tokens ? tokens / 2 : selected * (1 - selected / tokens / 2);
  const double headTiles = static_cast<double>(key.spec.heads) / s.group;
  const double items = tokens / s.keys * key.spec.kvHeads * (s.topk == 0 ? 1 : parts);
  // Each list of tokens ends in a stage that is half empty.
  const double stages = headTiles * tokens * attended / s.keys / s.tokens + items / 2;
  const Pipes pipes = stageOf(s, resident, spilled, profile, constants);
  const double clocks = stages * pipes.joined() + items * constants.tileClocks / resident;
  // The first block is every token's: with one range nobody helps whoever has it.
  const double longest =
      headTiles / key.spec.kvHeads * tokens / parts / s.tokens * pipes.joined() * resident;
  const double sums = parts > 1 ? 2 * parts * tokens * key.spec.kvHeads * s.dims() * kSumBytes : 0;

  KernelPrediction prediction;
  prediction.residentBlocks = resident;
  prediction.ms = profile.milliseconds(std::max(clocks / profile.multiprocessors, longest)) +
                  1000 * sums / profile.dramBandwidth + profile.launchMicros / 1000;
  prediction.pipes = pipes.inMilliseconds(stages / profile.multiprocessors, profile);
  prediction.pipes.push_back({"longest list", profile.milliseconds(longest)});
  prediction.pipes.push_back({"sums of ranges", 1000 * sums / profile.dramBandwidth});
  return prediction;
}

} // namespace winnow
