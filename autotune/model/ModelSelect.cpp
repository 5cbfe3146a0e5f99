// The kernels before attention, at the mma.sync level: summarize reads keys once, score multiplies
// queries with summaries tile by tile, top_k searches each row of block scores. See
// compiler/kernels/score/OnWarps.cpp and compiler/kernels/top_k/OfRanks.cpp for the kernels.
#include "autotune/model/ModelKernels.h"
#include <algorithm>
#include <cmath>

namespace winnow {

namespace {

constexpr int kPositions = 16; ///< of tiles in the sequence, over which times are averaged
constexpr int kElementBytes = 2, kMmaRows = 16, kWarpSummaries = 32;

/// The block scores and their chunks.
struct ScoreLayout {
  double rowBytes;   ///< of one token and selection, edges left out
  double chunkBytes; ///< of a whole chunk
  int chunks, selectHeads;
};

/// Tokens of one chunk by the program's formula, for rows of so many scores.
Result<int64_t> chunkTokens(const ModelWorkload &workload, const Candidate &candidate,
                            int rowScores, const DeviceProfile &profile) {
  Variables shape = shapeOf(workload, profile);
  shape[Variable::ScoreStride] = rowScores;
  WINNOW_TRY(Formula tokens, Formula::parse(candidate.chunkTokens, Variable::ScoreStride));
  Result<int64_t> value = tokens.evaluate(shape);
  return value ? std::clamp<int64_t>(*value, 1, workload.key.tokens) : value;
}

Result<ScoreLayout> layoutOf(const ModelWorkload &workload, const Candidate &candidate,
                             const Kernel &score, const DeviceProfile &profile) {
  const TuningKey &key = workload.key;
  FactReader fact(score);
  const int group = fact(&KernelFacts::group), scoreBytes = fact(&KernelFacts::scoreBytes);
  WINNOW_CHECK(fact.status());
  const int rowScores = (key.tokens + key.spec.block - 1) / key.spec.block;
  WINNOW_TRY(int64_t chunk, chunkTokens(workload, candidate, rowScores, profile));
  ScoreLayout layout{};
  layout.selectHeads = key.spec.heads / group;
  layout.rowBytes = static_cast<double>(rowScores) * scoreBytes;
  layout.chunks = static_cast<int>((key.tokens + chunk - 1) / chunk);
  layout.chunkBytes = static_cast<double>(chunk) * layout.rowBytes * layout.selectHeads;
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

/// The sizes and the form of one score kernel; see KernelFacts.
struct ScoreSizes {
  int warps, tokens, rowTiles, queryRows, laneRegisters, dim, group, topk, local;
  int tileSummaries, blockSummaries;
  bool softmax, folded;
  int normalizerStride; ///< where it is a softmax
};

Result<ScoreSizes> sizesOf(const Kernel &kernel) {
  FactReader fact(kernel);
  ScoreSizes s{};
  s.warps = fact(&KernelFacts::warps);
  s.tokens = fact(&KernelFacts::tokens);
  s.rowTiles = fact(&KernelFacts::rowTiles);
  s.queryRows = fact(&KernelFacts::queryRows);
  s.laneRegisters = fact(&KernelFacts::laneRegisters);
  s.dim = fact(&KernelFacts::headDim);
  s.group = fact(&KernelFacts::group);
  s.topk = fact(&KernelFacts::topk);
  s.local = fact(&KernelFacts::local);
  s.tileSummaries = fact(&KernelFacts::tileSummaries);
  s.blockSummaries = fact(&KernelFacts::blockSummaries);
  s.softmax = fact(&KernelFacts::softmax) != 0;
  s.folded = fact(&KernelFacts::folded) != 0;
  if (s.softmax)
    s.normalizerStride = fact(&KernelFacts::normalizerStride);
  WINNOW_CHECK(fact.status());
  return s;
}

class ScoreModel {
public:
  ScoreModel(const ModelWorkload &workload, const Kernel &kernel, const ScoreSizes &sizes,
             const ScoreLayout &layout, const DeviceProfile &profile,
             const Multiprocessor &multiprocessor, const ModelConstants &constants)
      : workload(workload), s(sizes), layout(layout), profile(profile), constants(constants),
        mostRegisters(threadRegisters(multiprocessor.registers, kernel.blockThreads)) {
    // ptxas takes what it may where blocks of threads are alone anyway.
    const int used = kernel.registers ? kernel.registers : std::min(mostRegisters, 215);
    resident = residentBlocks(kernel, used, multiprocessor);
  }

  KernelPrediction run() const;

private:
  bool scoresAt(int position) const { return position / workload.key.spec.block >= s.topk; }
  double stepsAt(Walk walk, int position) const;
  double orderClocks(Walk walk) const;
  Pipes step(Walk walk) const;

  const ModelWorkload &workload;
  const ScoreSizes &s;
  const ScoreLayout &layout;
  const DeviceProfile &profile;
  const ModelConstants &constants;
  const int mostRegisters; ///< of a thread
  int resident;
};

/// Tiles of summaries that a token tile at `position` multiplies with.
double ScoreModel::stepsAt(Walk walk, int position) const {
  if (!scoresAt(position))
    return 0; // every block is selected
  if (walk == Walk::Normalize) {
    if (!s.softmax)
      return 0;
    return std::ceil(static_cast<double>(position) / s.normalizerStride / s.tileSummaries);
  }
  const int own = position / workload.key.spec.block;
  const double end = (own - s.local + 1.0) * s.blockSummaries;
  return std::ceil(std::max(0.0, end) / s.tileSummaries);
}

/// What a warp waits between the mma tiles of the normaliser. Folded sums end in a branch, for
/// references that must move; ptxas begins no product beyond it. Sums with maxima have none, but to
/// overlap the tiles of a set their logits must fit registers beside the operands and the sums.
double ScoreModel::orderClocks(Walk walk) const {
  if (walk != Walk::Normalize)
    return 0;
  const bool overlap = !s.folded && s.laneRegisters + kOtherRegisters <= mostRegisters;
  return overlap ? 0 : constants.scoreOrderClocks;
}

/// The pipes of a block of threads and one tile of summaries.
Pipes ScoreModel::step(Walk walk) const {
  const double uneven = imbalance(resident * s.warps);
  const double products = kWarpSummaries / 8.0 * (s.dim / 16.0); ///< mma of 16 rows of a warp
  const double operandBytes = static_cast<double>(kWarpSummaries) * s.dim * kElementBytes;
  const double queryBytes = static_cast<double>(kMmaRows) * s.dim * kElementBytes;
  const double tileBytes = static_cast<double>(s.tileSummaries) * s.dim * kElementBytes;
  // Of a lane, per 16 rows; a group of one head leaves half of its rows without scores.
  const double used = walk == Walk::Score && s.group == 1 ? 0.5 : 1;
  const double logits = kMmaRows * kWarpSummaries / 32.0 * used;
  constexpr int kTileInstructions = 20;

  Pipes pipes(constants.norm);
  pipes.add("tensor", s.warps * s.rowTiles * products * mmaClocks(profile) / kSchedulers * uneven);
  pipes.add("shared memory", (s.warps * (s.rowTiles * queryBytes + operandBytes) + tileBytes) /
                                 DeviceProfile::kSharedBytes);
  pipes.add("exp2", static_cast<double>(s.queryRows) * s.tileSummaries * used /
                        DeviceProfile::kExponentials * uneven);
  pipes.add("issue", s.warps * s.rowTiles *
                         (products + s.dim / 16.0 + logits * logitInstructions(walk, s.folded) +
                          kTileInstructions) /
                         kSchedulers * uneven);
  pipes.add("L2", tileBytes / profile.perClock(profile.l2Bandwidth));
  // One buffer: the next tile is on its way while this one is multiplied.
  pipes.add("ring", constants.loadedLatency * profile.latency / resident);
  const double perTile =
      products * mmaClocks(profile) + constants.scoreTileClocks + orderClocks(walk);
  pipes.add("warp latency", (s.rowTiles * perTile + constants.scoreStepClocks) / resident);
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
  const double tiles = std::ceil(static_cast<double>(key.tokens) / s.tokens) * layout.selectHeads;
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

Result<KernelPrediction> predictSummarize(const ModelWorkload &workload, const Kernel &kernel,
                                          const DeviceProfile &profile) {
  FactReader fact(kernel);
  const double window = fact(&KernelFacts::summaryKeys), stride = fact(&KernelFacts::summaryStride);
  WINNOW_CHECK(fact.status());
  const TuningKey &key = workload.key;
  const double bytes =
      static_cast<double>(key.tokens) * key.spec.kvHeads * key.spec.headDim * kElementBytes;
  const double read = 1000 * bytes / profile.dramBandwidth;
  const double again = 1000 * bytes * window / stride / profile.l2Bandwidth;
  KernelPrediction prediction;
  prediction.ms = std::max(read, again) + profile.launchMicros / 1000;
  prediction.pipes = {{"L2", again}, {"device memory", read}};
  return prediction;
}

Result<KernelPrediction> predictScore(const ModelWorkload &workload, const Candidate &candidate,
                                      const Kernel &kernel, const DeviceProfile &profile,
                                      const ModelConstants &constants) {
  WINNOW_TRY(ScoreSizes sizes, sizesOf(kernel));
  WINNOW_TRY(ScoreLayout layout, layoutOf(workload, candidate, kernel, profile));
  WINNOW_TRY(Multiprocessor multiprocessor, profile.multiprocessor());
  return ScoreModel(workload, kernel, sizes, layout, profile, multiprocessor, constants).run();
}

Result<KernelPrediction> predictTopK(const ModelWorkload &workload, const Candidate &candidate,
                                     const Kernel &score, const DeviceProfile &profile,
                                     const ModelConstants &constants) {
  const TuningKey &key = workload.key;
  WINNOW_TRY(ScoreLayout found, layoutOf(workload, candidate, score, profile));
  const ScoreLayout &layout = found;
  const double rows = static_cast<double>(key.tokens) * layout.selectHeads;
  // Early tokens select every block, without a search; later rows are causal, half on average.
  const double searched =
      rows * std::max(0.0, 1 - static_cast<double>(key.spec.topk) * key.spec.block / key.tokens);
  const double pairs = key.tokens / 2.0 / key.spec.block / 2 / 32;
  const double instructions =
      rows * constants.rowInstructions +
      searched * (constants.searchInstructions + constants.pairInstructions * pairs);
  const double search = profile.milliseconds(instructions / kSchedulers / profile.multiprocessors);
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

Result<KernelPrediction> predictForced(const ModelWorkload &workload, const Kernel &kernel,
                                       const DeviceProfile &profile,
                                       const ModelConstants &constants) {
  const TuningKey &key = workload.key;
  FactReader fact(kernel);
  const int group = fact(&KernelFacts::group), topk = fact(&KernelFacts::topk);
  WINNOW_CHECK(fact.status());
  const double rows = static_cast<double>(key.tokens) * key.spec.heads / group;
  const double issue = profile.milliseconds(rows * constants.rowInstructions / kSchedulers /
                                            profile.multiprocessors);
  const double write = 1000 * rows * topk * 4 / profile.dramBandwidth;
  KernelPrediction prediction;
  prediction.ms = std::max(issue, write) + profile.launchMicros / 1000;
  prediction.pipes = {{"issue", issue}, {"device memory", write}};
  return prediction;
}

} // namespace winnow
