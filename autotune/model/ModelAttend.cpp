// The attend kernel of the mma.sync level, and backward_queries, which walks keys alike: a block of
// threads takes one tile of tokens, walks the union of their lists, and each warp skips the key
// tiles that its own tokens did not select. See compiler/kernels/attend/OnWarps.cpp for the kernel.
#include "autotune/model/ModelKernels.h"
#include "autotune/model/Overlap.h"
#include <algorithm>
#include <cmath>

namespace winnow {

namespace {

constexpr int kPositions = 16; ///< of tiles in the sequence, over which times are averaged
constexpr int kCopyBytes = 512, kElementBytes = 2;
/// Registers of a lane beside its accumulators and operands, as ptxas 13.0 takes them where it may.
/// Where the rows of a warp may want different key tiles, it takes up to kMaskRegisters more than
/// it needs, but spills no more than kMaskSpills for them.
constexpr int kLavishRegisters = 65, kMaskRegisters = 22, kMaskSpills = 17;
constexpr double kSpillTraffic = 256; ///< bytes of a warp's register, written and read
constexpr int kFreeForLoads = 8;      ///< registers of two ldmatrix results in flight
/// Instructions of a rescaling beside one per output: new maxima, factors and sums of two rows.
constexpr int kRaiseInstructions = 12;

} // namespace

double spillsOf(int missing, bool masks) {
  constexpr int kBearable = 20;
  const double spills = missing > kBearable ? missing * missing / static_cast<double>(kBearable)
                                            : std::max(0, missing);
  return masks ? std::max<double>(spills, std::clamp(missing + kMaskRegisters, 0, kMaskSpills))
               : spills;
}

namespace {

/// The sizes of one kernel.
struct Sizes {
  int warps, producers, stages, keys, tilesPerBlock, tokens, rowTiles, rowTokens, dim, valueDim;
  int bitmapTiles, topk, threads, selectHeads, laneRegisters;
  bool gradients; ///< of queries: products with keys, values and keys again, and no maximum

  double tileBytes() const { return static_cast<double>(keys) * (dim + valueDim) * kElementBytes; }
  /// mma.sync instructions of a warp and key tile.
  double products() const {
    return rowTiles * keys / 128.0 * (gradients ? 2 * dim + valueDim : dim + valueDim);
  }
  /// Of a producer's copies, and of a warp's ldmatrix.
  double copies() const { return tileBytes() / kCopyBytes; }
  double operandLoads() const {
    return copies() +
           (gradients ? static_cast<double>(keys) * dim * kElementBytes / kCopyBytes : 0);
  }
  double logits() const { return rowTiles * 16.0 * keys / 32; } ///< of a lane
  /// Instructions that a warp spends per key tile on rescaling the outputs of its row tiles, each
  /// token asking for it with `chance`.
  double raises(double chance) const {
    if (gradients)
      return 0;
    return rowTiles * (1 - std::pow(1 - chance, rowTokens)) * (valueDim / 2.0 + kRaiseInstructions);
  }
};

Result<Sizes> sizesOf(const Kernel &kernel, const ModelWorkload &workload) {
  FactReader fact(kernel);
  Sizes s{};
  s.warps = fact(&KernelFacts::warps);
  s.producers = fact(&KernelFacts::producers);
  s.stages = fact(&KernelFacts::stages);
  s.keys = fact(&KernelFacts::keys);
  s.tilesPerBlock = fact(&KernelFacts::tilesPerBlock);
  s.tokens = fact(&KernelFacts::tokens);
  s.rowTokens = fact(&KernelFacts::rowTokens);
  s.rowTiles = fact(&KernelFacts::rowTiles);
  s.dim = fact(&KernelFacts::headDim);
  s.valueDim = fact(&KernelFacts::valueDim);
  s.bitmapTiles = fact(&KernelFacts::bitmapTiles);
  s.topk = fact(&KernelFacts::topk);
  s.laneRegisters = fact(&KernelFacts::laneRegisters);
  const int group = fact(&KernelFacts::group);
  WINNOW_CHECK(fact.status());
  s.selectHeads = workload.key.spec.heads / group;
  s.threads = kWarpThreads * (s.warps + s.producers);
  s.gradients = isBackward(kernel);
  return s;
}

class AttendModel {
public:
  AttendModel(const ModelWorkload &workload, const Kernel &kernel, const Sizes &sizes,
              const DeviceProfile &profile, const Multiprocessor &multiprocessor,
              const ModelConstants &constants)
      : workload(workload), profile(profile), constants(constants), s(sizes) {
    const int cap = threadRegisters(multiprocessor.registers, s.threads), lane = s.laneRegisters;
    const bool masks = s.rowTokens * s.rowTiles > 1;
    registers = kernel.registers ? kernel.registers : std::min(cap, lane + kLavishRegisters);
    spilled =
        kernel.registers ? kernel.spillBytes / 4.0 : spillsOf(lane + kOtherRegisters - cap, masks);
    free = std::clamp(cap - lane - kOtherRegisters, 0, kFreeForLoads);
    resident = residentBlocks(kernel, registers, multiprocessor);
    const double room =
        profile.firstLevelPerSm - resident * (kernel.sharedBytes + multiprocessor.sharedReserve);
    const double spillBytes = spilled * 4 * 32 * s.warps * resident;
    spillMissed = spillBytes > 0 ? std::clamp(1 - room / spillBytes, 0.0, 1.0) : 0;
    lists = {workload.key.spec.block, s.topk, workload.init, workload.local,
             std::max(1, workload.key.overlap)};
  }

  KernelPrediction run() const;

private:
  double blocksWanted(double tokens, int own) const {
    return s.topk > 0 ? unionOfLists(lists, tokens, own) : own + 1;
  }
  Pipes tileAt(int own) const;
  double onceAt(int own) const;

  const ModelWorkload &workload;
  const DeviceProfile &profile;
  const ModelConstants &constants;
  const Sizes s;
  ListShape lists;
  int registers, free, resident;
  double spilled, spillMissed; ///< registers of a lane; share that L1 has no room for
};

/// The pipes of a tile whose tokens lie in block `own`.
Pipes AttendModel::tileAt(int own) const {
  const double loaded = blocksWanted(s.tokens, own) * s.tilesPerBlock;
  const double wanted = blocksWanted(s.rowTokens * s.rowTiles, own) * s.tilesPerBlock;
  const double share = std::min(1.0, wanted / loaded), visits = s.warps * wanted;
  const double bytes = loaded * s.tileBytes();
  const double uneven = imbalance(resident * s.warps);
  const double raises = s.raises(constants.raiseChance);

  Pipes pipes(constants.norm);
  pipes.add("tensor", visits * s.products() * mmaClocks(profile) / kSchedulers * uneven);
  // Each warp reads a key tile by itself, after a producer wrote it once. A spilled register is
  // written and read, 128 bytes each way.
  pipes.add("shared memory",
            (visits * (s.operandLoads() * kCopyBytes + spilled * kSpillTraffic) + bytes) /
                DeviceProfile::kSharedBytes);
  pipes.add("exp2", visits * s.logits() * 32 / DeviceProfile::kExponentials * uneven);
  pipes.add("issue",
            visits *
                (s.products() + s.operandLoads() + s.logits() * constants.softmaxInstructions +
                 2 * spilled + s.rowTiles * constants.visitInstructions + raises) /
                kSchedulers * uneven);
  pipes.add("L2", (bytes + visits * spilled * kSpillTraffic * spillMissed) /
                      profile.perClock(profile.l2Bandwidth));
  // Key and value rows of one head, up to here, are what concurrent tiles read again and again.
  const double footprint = (own + 1.0) * s.tilesPerBlock * s.tileBytes();
  const double missed = std::max(0.0, 1 - profile.l2Bytes / footprint);
  pipes.add("device memory", bytes * missed / profile.perClock(profile.dramBandwidth));

  // Latencies; blocks of threads that share a multiprocessor hide each other's.
  pipes.add("producers", loaded * s.copies() * constants.copyClocks / s.producers / resident);
  // A stage's data come one latency and one transfer after it is free, while the others are used.
  const double refill = constants.loadedLatency * profile.latency +
                        s.tileBytes() / profile.perClock(profile.l2Bandwidth);
  pipes.add("ring", loaded * refill / std::max(1, s.stages - 1) / resident);
  // A stage is free when its last reader is done, so warps wait for the one that wants most of
  // what the ring holds: the mean share plus what the luckiest of them exceeds it by.
  const double held = std::max(1.0, static_cast<double>(s.stages) / s.tilesPerBlock);
  const double most =
      std::min(1.0, share + std::sqrt(std::log(s.warps) * share * (1 - share) / held));
  const double exposed =
      constants.exposedLoadClocks * (1 - static_cast<double>(free) / kFreeForLoads);
  const double visit = s.products() * mmaClocks(profile) + s.logits() * constants.softmaxClocks +
                       s.rowTiles * constants.visitClocks + s.operandLoads() * exposed +
                       spilled * constants.spillClocks + raises * constants.raiseClocks;
  pipes.add("warp latency", loaded * (most * visit + (1 - most) * constants.skipClocks) / resident);
  return pipes;
}

/// Clocks before, between and after the walk, which nothing hides but another block of threads.
double AttendModel::onceAt(int own) const {
  const double keyTiles = (own + 1.0) * s.tilesPerBlock;
  // A list that cannot hold every wanted tile is made and walked window by window.
  const double passes = std::ceil(keyTiles / s.bitmapTiles);
  return (constants.tileClocks * (1 + passes) / 2 + constants.scanClocks * keyTiles / 32) /
         resident;
}

KernelPrediction AttendModel::run() const {
  const TuningKey &key = workload.key;
  Pipes mean(constants.norm);
  double clocks = 0, once = 0;
  for (int i = 0; i < kPositions; ++i) {
    const int own = static_cast<int>((i + 0.5) / kPositions * key.tokens) / key.spec.block;
    const Pipes pipes = tileAt(own);
    clocks += (pipes.joined() + onceAt(own)) / kPositions;
    once += onceAt(own) / kPositions;
    mean.addScaled(pipes, 1.0 / kPositions);
  }
  const double tiles = std::ceil(static_cast<double>(key.tokens) / s.tokens) * s.selectHeads;
  // The last tiles leave multiprocessors idle: half a tile's time on average, and never less than
  // one round.
  const double rounds = tiles / (profile.multiprocessors * resident);
  const double total = clocks * resident * std::max(1.0, rounds + 0.5);

  KernelPrediction prediction;
  prediction.ms = profile.milliseconds(total) + profile.launchMicros / 1000;
  prediction.residentBlocks = resident;
  prediction.pipes = mean.inMilliseconds(rounds * resident, profile);
  prediction.pipes.push_back({"per tile", profile.milliseconds(once * rounds * resident)});
  return prediction;
}

} // namespace

Result<KernelPrediction> predictAttend(const ModelWorkload &workload, const Kernel &kernel,
                                       const DeviceProfile &profile,
                                       const ModelConstants &constants) {
  WINNOW_TRY(Sizes sizes, sizesOf(kernel, workload));
  WINNOW_TRY(Multiprocessor multiprocessor, profile.multiprocessor());
  return AttendModel(workload, kernel, sizes, profile, multiprocessor, constants).run();
}

} // namespace winnow
