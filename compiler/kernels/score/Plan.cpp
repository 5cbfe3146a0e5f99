// The choices of ScorePlan, and the workspace that follows from them.
#include "compiler/kernels/score/Plan.h"
#include "compiler/kernels/Kernels.h"
#include "compiler/kernels/parts/HeadWeights.h"
#include "compiler/kernels/step/Step.h"
#include "runtime/program/Budgets.h"
#include "llvm/Support/FormatVariadic.h"

namespace winnow {
namespace {

constexpr int kTileRows = ScorePlan::kTileRows; ///< what the score layout counts in

/// Size of the block scores. Few chunks, since the last items of each leave multiprocessors idle:
/// one chunk for 131,072 tokens of two selections.
constexpr int kDefaultMiB = 1152;

/// Size of the weights that decode keeps of a chunk's heads: for 2,000 tokens of two selections
/// against 131,072 keys.
constexpr int64_t kHeadWeightBytes = int64_t(1) << 29;

constexpr int kMostMmaTiles = 8; ///< of one item of work, on warpgroups: 512 query rows

} // namespace

std::string ScorePlan::fits(int block) const {
  return fused ? llvm::formatv("(ceil_div(max_k, {0}) <= {1})", block, kFusedBlocks).str() : "0";
}

const char *deviceType(Pooling pooling) {
  switch (pooling) {
  case Pooling::Sum:
    return "Sum";
  case Pooling::Max:
    return "Max";
  case Pooling::Overlap:
    return "Overlap";
  }
  llvm_unreachable("no other pooling");
}

KernelFacts scoreFacts(const SelectionPlan &plan, const ScorePlan &scores) {
  KernelFacts facts;
  facts.headDim = plan.headDim;
  facts.group = plan.group;
  facts.topk = plan.topk;
  facts.local = plan.local;
  facts.summaryKeys = plan.summaries[plan.fine].window;
  facts.summaryStride = plan.summaries[plan.fine].stride;
  facts.blockSummaries = plan.rowsPerBlock();
  facts.softmax = plan.normalizer >= 0;
  if (plan.normalizer >= 0)
    facts.normalizerStride = plan.summaries[plan.normalizer].stride;
  facts.folded = scores.folded;
  return facts;
}

ScorePlan planScore(const SelectionPlan &plan, bool warpgroups, const Config &given) {
  ScorePlan scores;
  Config &config = scores.config = given;
  const bool softmax = plan.normalizer >= 0;
  scores.warpgroups = warpgroups;
  scores.pairs = (plan.group + 1) / 2;
  scores.sets = kMostMmaTiles / scores.pairs;
  scores.stages = (plan.headDim <= 64 ? 2 : 1) * ScorePlan::kConsumers;
  scores.tileTokens = (plan.group == 1 ? 64 : 32) * scores.sets;
  // Ranks order like scores, but do not add: where edges are summed, scores stay fp32. Raw scores
  // have a sign and any size: so do they.
  scores.ranks = softmax && (plan.pool == Pooling::Max || plan.pad() == 0);
  // On warps a maximum over heads gains nothing from weights: a product more per logit; and at 256
  // elements the summaries leave no registers for them.
  scores.folded = softmax && config.scoreFold != YesNo::No &&
                  (scores.warpgroups || (plan.combine == Reduction::Sum &&
                                         (plan.headDim < 256 || config.scoreFold == YesNo::Yes)));
  // A cubic in the first head of each pair, in every n-th of a thread's columns: one in 2 n of all
  // exponentials. Columns must lie alike in every block.
  const ScorePoly poly =
      config.scorePoly == ScorePoly::Default ? ScorePoly::Eighth : config.scorePoly;
  const int every = static_cast<int>(poly) / 2;
  if (scores.warpgroups && scores.folded && poly != ScorePoly::None &&
      plan.rowsPerBlock() % every == 0)
    scores.cubicEvery = every;
  scores.blocksPerEdge = (scores.warpgroups ? kTileRows : 32) / plan.rowsPerBlock();
  scores.fused = config.scoreForm == ScoreForm::Fused && scores.warpgroups && scores.ranks;
  if (config.scoreForm == ScoreForm::Default)
    config.scoreForm = ScoreForm::Separate;
  if (config.scoreFold == YesNo::Default)
    config.scoreFold = scores.folded ? YesNo::Yes : YesNo::No;
  if (config.scorePoly == ScorePoly::Default)
    config.scorePoly =
        scores.cubicEvery ? static_cast<ScorePoly>(2 * scores.cubicEvery) : ScorePoly::None;
  if (config.scoreChunkMiB == 0)
    config.scoreChunkMiB = kDefaultMiB;
  return scores;
}

void describeScores(ProgramImage &image, const SelectionPlan &plan, const ScorePlan &scores) {
  for (size_t i = 0; i < plan.summaries.size(); ++i) {
    const int stride = plan.summaries[i].stride, rowBytes = plan.headDim * 2;
    std::string bytes =
        scores.warpgroups
            ? llvm::formatv("{0} * (total_k / {1} + batch) * {2}", plan.kvHeads, kTileRows * stride,
                            panelTileBytes(kTileRows, plan.headDim))
                  .str()
            : llvm::formatv("{0} * max(1, total_k / {1}) * {2}", plan.kvHeads, stride, rowBytes)
                  .str();
    image.buffers.push_back({llvm::formatv("summary_{0}", i).str(), bytes});
  }
  // A row: the blocks of whole tiles of 128 summaries, then the edges, to a multiple of 16 bytes
  // (templates/select/score_row.cuh).
  const int tileBlocks = kTileRows / plan.rowsPerBlock(), tileKeys = tileBlocks * plan.block;
  std::string tiles = llvm::formatv("max(1, ceil_div(max_k, {0}))", tileKeys).str();
  image.scoreStride = llvm::formatv("{0} * {1}", tiles, tileBlocks).str();
  if (plan.pad() > 0)
    image.scoreStride +=
        llvm::formatv(" + ceil_div({0} * {1}, 8) * 8", tiles, tileBlocks / scores.blocksPerEdge)
            .str();
  const int64_t budget = (int64_t(image.config.scoreChunkMiB) << 20) / scores.elementBytes();
  std::string fitting =
      llvm::formatv("max(256, {0} / ({1} * score_stride))", budget, image.selectHeads).str();
  if (scores.warpgroups) {
    // Chunks that give every multiprocessor the same number of items, the empty last slot of each
    // sequence included: what is left over costs a whole item's time.
    std::string round = llvm::formatv("({0} * sm_count)", scores.tileTokens).str();
    std::string spare = llvm::formatv("{0} * batch", scores.tileTokens).str();
    fitting =
        llvm::formatv("max(min({0}, {1}), ({0} + {2}) / {1} * {1} - {2})", fitting, round, spare)
            .str();
  }
  std::string rows = llvm::formatv("{0} * chunk_tokens", image.selectHeads).str();
  if (scores.fused) { // no chunks: scratch does not grow with the tokens
    std::string fits = scores.fits(plan.block);
    fitting = llvm::formatv("max({0}, {1} * total_q)", fitting, fits).str();
    rows = llvm::formatv("({0} * sm_count * {1} + (1 - {0}) * {2})", fits,
                         ScorePlan::kScratchItems * scores.tileTokens, rows)
               .str();
    if (plan.keepsRows()) // decode kernels have a row for each token
      rows = llvm::formatv("max({0}, (max_q <= {1}) * {2} * chunk_tokens)", rows, kDecodeTokens,
                           image.selectHeads)
                 .str();
  }
  // Weights of decode kernels lie in device memory but where a cluster makes the whole selection.
  const std::string weighs = llvm::formatv("(max_q <= {0})", kDecodeTokens).str() +
                             (scores.clusters ? " * (cluster == 0)" : "");
  if (plan.weighsHeads()) // whose weights take more room than scores
    fitting = llvm::formatv("min({0}, max(1, {1} / max(1, {2})) + (1 - {3}) * {0})", fitting,
                            kHeadWeightBytes, headWeightBytes(plan), weighs)
                  .str();
  if (scores.clusters)
    image.cluster = clusterBlocks(plan, scores.config);
  if (scores.step)
    image.step = stepTiles(plan);
  image.chunkTokens = llvm::formatv("min(max(1, total_q), {0})", fitting).str();
  image.buffers.push_back(
      {"block_scores",
       llvm::formatv("{0} * {1} * score_stride", scores.elementBytes(), rows).str()});
  if (plan.normalizer >= 0) {
    std::string octaveRows = rescoreBlocks(plan);
    if (scores.ranks && plan.weighsHeads()) // a row for each of decode's
      octaveRows = llvm::formatv("max({0}, (max_q <= {1}) * {2} * chunk_tokens)", octaveRows,
                                 kDecodeTokens, image.selectHeads)
                       .str();
    if (scores.step) // a row for each block of threads
      octaveRows = llvm::formatv("max({0}, (step > 0) * sm_count)", octaveRows).str();
    image.buffers.push_back(
        {"octaves", llvm::formatv("4 * {0} * ceil_div(max_k, {1})", octaveRows, plan.block).str()});
  }
  if (plan.weighsHeads()) {
    image.buffers.push_back(
        {"part_sums",
         llvm::formatv("{0} * chunk_tokens * {1}", weighs, partSumsBytes(plan)).str()});
    std::string weightBytes =
        llvm::formatv("{0} * chunk_tokens * {1}", weighs, headWeightBytes(plan)).str();
    if (scores.step) // whose blocks of threads tell each other what they have in their place
      weightBytes = llvm::formatv("max({0}, {1})", weightBytes, stepExchangeBytes(plan)).str();
    image.buffers.push_back({"head_weights", weightBytes});
  }
}

} // namespace winnow
