// The kernels before attention, at the mma.sync level: summarize reads keys once, score multiplies
// queries with summaries tile by tile, top_k searches each row of block scores. See
// compiler/tile/BuildScore.cpp and BuildTopKKeys.cpp for the kernels.
#include "autotune/ModelKernels.h"
#include <algorithm>
#include <cmath>

namespace winnow {

namespace {

constexpr int kPositions = 16; ///< of tiles in the sequence, over which times are averaged
constexpr int kElementBytes = 2, kMmaRows = 16, kWarpSummaries = 32;

/// The block scores and their chunks, as compiler/tile/ScorePlan.cpp lays them out.
struct ScoreLayout {
  double rowBytes;   ///< of one token and selection, edges left out
  double chunkBytes; ///< of a whole chunk
  int chunks, selectHeads;
};

ScoreLayout layoutOf(const ModelWorkload &workload, const Candidate &candidate,
                     const KernelShape &score) {
  const TuningKey &key = workload.key;
  ScoreLayout layout{};
  layout.selectHeads = key.spec.heads / std::max(1, score.constant("kGroup", 1));
  const double blocks = std::ceil(static_cast<double>(key.tokens) / key.spec.block);
  layout.rowBytes = blocks * (score.names("ScoreKey") ? 2 : 4);
  const double budget = candidate.effective.scoreChunkMiB * 1048576.0;
  const double fitting = std::clamp(std::floor(budget / (layout.rowBytes * layout.selectHeads)),
                                    256.0, std::max(256.0, static_cast<double>(key.tokens)));
  layout.chunks = static_cast<int>(std::ceil(key.tokens / fitting));
  layout.chunkBytes = std::min<double>(fitting, key.tokens) * layout.rowBytes * layout.selectHeads;
  return layout;
}

/// The two walks over tiles of summaries: for the log-sum-exp of each row, then for the scores.
enum class Walk { Normalize, Score };

/// Instructions per logit of a lane, counted in what ptxas makes of them.
double logitInstructions(Walk walk, bool folded) {
  if (walk == Walk::Normalize)
    return folded ? 3.3 : 4.4; // the rows' maxima cost a comparison per logit
  return folded ? 2.1 : 3.4;
}

class ScoreModel {
public:
  ScoreModel(const ModelWorkload &workload, const KernelShape &shape, const ScoreLayout &layout,
             const DeviceProfile &profile, const ModelConstants &constants)
      : workload(workload), shape(shape), layout(layout), profile(profile), constants(constants),
        dim(shape.constant("kDim", 128)), rows(shape.constant("kRows", 128)),
        queryRows(shape.constant("kQueryRows", 256)), tokens(shape.constant("kTokens", 16)),
        warps(shape.recipe().blockThreads / 32), pairs(shape.constant("kPairs", 8)),
        warpTiles(shape.constant("kSets", 1) * pairs), folded(shape.names("add_powers")) {
    // ptxas takes what it may where blocks of threads are alone anyway.
    const int most = mostRegisters(shape.recipe().blockThreads);
    const int used = shape.recipe().registers ? shape.recipe().registers : std::min(most, 215);
    resident = residentBlocks(shape.recipe(), used, profile);
  }

  KernelPrediction run() const;

private:
  bool scoresAt(int position) const {
    return position / workload.key.spec.block >= shape.constant("kTopK", 1);
  }
  double stepsAt(Walk walk, int position) const;
  double orderClocks(Walk walk) const;
  Pipes step(Walk walk) const;

  const ModelWorkload &workload;
  const KernelShape &shape;
  const ScoreLayout &layout;
  const DeviceProfile &profile;
  const ModelConstants &constants;
  int dim, rows, queryRows, tokens, warps, pairs, warpTiles;
  bool folded;
  int resident;
};

/// Tiles of summaries that a token tile at `position` multiplies with.
double ScoreModel::stepsAt(Walk walk, int position) const {
  if (!scoresAt(position))
    return 0; // every block is selected
  if (walk == Walk::Normalize) {
    if (!shape.names("NormalizerTable"))
      return 0;
    const int stride = std::max(1, shape.constant("kStride", 16));
    return std::ceil(static_cast<double>(position) / shape.constant("kCoarseStride", stride) /
                     rows);
  }
  const int own = position / workload.key.spec.block;
  const double end = (own - shape.constant("kLocal", 0) + 1.0) * shape.constant("kRowsPerBlock", 4);
  return std::ceil(std::max(0.0, end) / rows);
}

/// What a warp waits between the mma tiles of the normaliser. Folded sums end in a branch, for
/// references that must move; ptxas begins no product beyond it. Sums with maxima have none, but to
/// overlap the tiles of a set their logits must fit registers beside the operands and the sums.
double ScoreModel::orderClocks(Walk walk) const {
  if (walk != Walk::Normalize)
    return 0;
  constexpr int kLogits = 16, kSums = 4, kQueryLoads = 8, kOtherRegisters = 31;
  const int needed = dim / 2 + kSums * warpTiles + kLogits * pairs + kQueryLoads + kOtherRegisters;
  const bool overlap = !folded && needed <= mostRegisters(shape.recipe().blockThreads);
  return overlap ? 0 : constants.scoreOrderClocks;
}

/// The pipes of a block of threads and one tile of summaries.
Pipes ScoreModel::step(Walk walk) const {
  constexpr int kSchedulers = DeviceProfile::kSchedulers;
  const double uneven = imbalance(resident * warps);
  const double products = kWarpSummaries / 8.0 * (dim / 16.0); ///< mma of 16 rows of a warp
  const double operandBytes = static_cast<double>(kWarpSummaries) * dim * kElementBytes;
  const double queryBytes = static_cast<double>(kMmaRows) * dim * kElementBytes;
  const double tileBytes = static_cast<double>(rows) * dim * kElementBytes;
  // Of a lane, per 16 rows; a group of one head leaves half of its rows without scores.
  const double used = walk == Walk::Score && shape.constant("kGroup", 2) == 1 ? 0.5 : 1;
  const double logits = kMmaRows * kWarpSummaries / 32.0 * used;
  constexpr int kTileInstructions = 20;

  Pipes pipes(constants.norm);
  pipes.add("tensor", warps * warpTiles * products * mmaClocks(profile) / kSchedulers * uneven);
  pipes.add("shared memory", (warps * (warpTiles * queryBytes + operandBytes) + tileBytes) /
                                 DeviceProfile::kSharedBytes);
  pipes.add("exp2",
            static_cast<double>(queryRows) * rows * used / DeviceProfile::kExponentials * uneven);
  pipes.add("issue", warps * warpTiles *
                         (products + dim / 16.0 + logits * logitInstructions(walk, folded) +
                          kTileInstructions) /
                         kSchedulers * uneven);
  pipes.add("L2", tileBytes / profile.perClock(profile.l2Bandwidth));
  // One buffer: the next tile is on its way while this one is multiplied.
  pipes.add("ring", constants.loadedLatency * profile.latency / resident);
  const double perTile =
      products * mmaClocks(profile) + constants.scoreTileClocks + orderClocks(walk);
  pipes.add("warp latency", (warpTiles * perTile + constants.scoreStepClocks) / resident);
  return pipes;
}

KernelPrediction ScoreModel::run() const {
  const TuningKey &key = workload.key;
  Pipes mean(constants.norm);
  double perTile = 0;
  for (int i = 0; i < kPositions; ++i) {
    const int position = static_cast<int>((i + 0.5) / kPositions * key.tokens);
    if (scoresAt(position))
      perTile += constants.scoreOnceClocks / kPositions;
    for (Walk walk : {Walk::Normalize, Walk::Score}) {
      const double steps = stepsAt(walk, position) / kPositions;
      const Pipes pipes = step(walk);
      perTile += steps * pipes.joined() * resident;
      mean.addScaled(pipes, steps);
    }
  }
  const double tiles = std::ceil(static_cast<double>(key.tokens) / tokens) * layout.selectHeads;
  const double rounds = tiles / (profile.multiprocessors * resident);
  // Heaviest tiles first, so that a launch ends with half a light one; but the tiles of a chunk are
  // all alike, and each chunk is a launch.
  const double idle = layout.chunks > 1 ? 0.5 * layout.chunks : 0.25;
  const double compute = profile.milliseconds(perTile * std::max(1.0, rounds + idle));
  // Half of each row is written; what a chunk leaves in L2 never reaches device memory.
  const double written = static_cast<double>(key.tokens) * layout.selectHeads * layout.rowBytes / 2;
  const double spilled = std::max(0.0, 1 - profile.l2Bytes / 2 / layout.chunkBytes);
  const double write = 1000 * written * spilled / profile.dramBandwidth;

  KernelPrediction prediction;
  prediction.ms = std::pow(std::pow(compute, constants.norm) + std::pow(write, constants.norm),
                           1 / constants.norm) +
                  layout.chunks * profile.launchMicros / 1000;
  prediction.residentBlocks = resident;
  prediction.pipes = mean.inMilliseconds(rounds * resident, profile);
  prediction.pipes.push_back({"device memory", write});
  return prediction;
}

} // namespace

KernelPrediction predictSummarize(const ModelWorkload &workload, const Kernel &kernel,
                                  const DeviceProfile &profile) {
  const KernelShape shape(kernel);
  const TuningKey &key = workload.key;
  const double bytes =
      static_cast<double>(key.tokens) * key.spec.kvHeads * key.spec.headDim * kElementBytes;
  const double window = shape.constant("kWindow", 32), stride = shape.constant("kStride", 16);
  const double read = 1000 * bytes / profile.dramBandwidth;
  const double again = 1000 * bytes * window / stride / profile.l2Bandwidth;
  KernelPrediction prediction;
  prediction.ms = std::max(read, again) + profile.launchMicros / 1000;
  prediction.pipes = {{"L2", again}, {"device memory", read}};
  return prediction;
}

KernelPrediction predictScore(const ModelWorkload &workload, const Candidate &candidate,
                              const Kernel &kernel, const DeviceProfile &profile,
                              const ModelConstants &constants) {
  const KernelShape shape(kernel);
  const ScoreLayout layout = layoutOf(workload, candidate, shape);
  return ScoreModel(workload, shape, layout, profile, constants).run();
}

KernelPrediction predictTopK(const ModelWorkload &workload, const Candidate &candidate,
                             const Kernel &kernel, const Kernel &score,
                             const DeviceProfile &profile, const ModelConstants &constants) {
  const TuningKey &key = workload.key;
  const ScoreLayout layout = layoutOf(workload, candidate, KernelShape(score));
  const double rows = static_cast<double>(key.tokens) * layout.selectHeads;
  // Early tokens select every block, without a search; later rows are causal, half on average.
  const double searched =
      rows * std::max(0.0, 1 - static_cast<double>(key.spec.topk) * key.spec.block / key.tokens);
  const double pairs = key.tokens / 2.0 / key.spec.block / 2 / 32;
  const double instructions =
      rows * constants.rowInstructions +
      searched * (constants.searchInstructions + constants.pairInstructions * pairs);
  const double search =
      profile.milliseconds(instructions / DeviceProfile::kSchedulers / profile.multiprocessors);
  const bool stays = layout.chunkBytes < profile.l2Bytes / 2;
  const double read =
      1000 * rows * layout.rowBytes / 2 / (stays ? profile.l2Bandwidth : profile.dramBandwidth);
  const double write = 1000 * rows * key.spec.topk * 4 / profile.dramBandwidth;

  KernelPrediction prediction;
  prediction.ms =
      std::pow(std::pow(search, constants.norm) + std::pow(read + write, constants.norm),
               1 / constants.norm) +
      layout.chunks * profile.launchMicros / 1000;
  prediction.pipes = {{"issue", search}, {stays ? "L2" : "device memory", read + write}};
  return prediction;
}

} // namespace winnow
