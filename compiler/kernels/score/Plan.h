// How the kernels of a selection fit together: what summarize writes, what score reads and writes,
// what top_k reads. Chosen once per program, by the target's features and the config; the builders
// and the workspace formulas follow it.
#pragma once
#include "compiler/select/plans/SelectionPlan.h"
#include "runtime/device/Target.h"
#include "runtime/program/ProgramImage.h"

namespace winnow {

struct ScorePlan {
  bool warpgroups = false; ///< the score kernel multiplies by wgmma, summaries are tile images
  bool ranks = false;      ///< block scores are 16-bit ranks, not fp32
  bool folded = false;     ///< summaries hold scale * log2 e
  bool kept = false;       ///< summaries are the rows that the host keeps: means, without a factor
  bool clusters = false;   ///< at decode a thread block cluster makes a token's whole selection
  bool step = false;       ///< one kernel makes a whole step of decode (kernels/step)
  bool edgeWords = false;  ///< edges in a row of ranks take a word each
  int cubicEvery = 0;      ///< of a thread's columns, every so many take 2^x by a cubic; 0: none
  int blocksPerEdge = 0;   ///< blocks from one edge to the next
  Config config;           ///< with what was chosen, where it was left open
  // Of the kernel on warpgroups.
  int pairs = 0;      ///< pairs of heads of one token, one for each mma tile of 64 query rows
  int sets = 0;       ///< sets of tokens of an item of work
  int stages = 0;     ///< of the ring of summaries
  int tileTokens = 0; ///< tokens of an item of work
  int mmaTiles() const { return sets * pairs; }
  static constexpr int kConsumers = 3;  ///< warpgroups that compute
  static constexpr int kTileRows = 128; ///< summaries of one tile
  /// Sequences of up to kFusedBlocks are scored and selected from by one kernel.
  bool fused = false;
  static constexpr int kFusedBlocks = 2048; ///< of one row: what a warp's registers hold
  static constexpr int kScratchItems = 2;   ///< items of a fused block of threads that are in work

  /// Formula: whether the longest sequence is one for the fused kernel.
  std::string fits(int block) const;

  /// The same scores from the rows that the host keeps.
  ScorePlan ofKeptRows() const {
    ScorePlan scores = *this;
    scores.kept = true;
    scores.folded = false;
    return scores;
  }

  /// The device type of an element of a row of block scores.
  const char *element() const { return ranks ? "ScoreRank" : "float"; }
  int elementBytes() const { return ranks ? 2 : 4; }
};

/// The device type of a pooling (templates/select/pooling.cuh).
const char *deviceType(Pooling pooling);

/// The facts of a kernel that scores summaries, as far as they follow from the plans.
KernelFacts scoreFacts(const SelectionPlan &plan, const ScorePlan &scores);

/// `warpgroups`: the score kernel is the one on warpgroups.
ScorePlan planScore(const SelectionPlan &plan, bool warpgroups, const Config &given);

/// Adds the workspace buffers of a selecting method, its chunks and the score layout to `image`, as
/// formulas of the shape.
void describeScores(ProgramImage &image, const SelectionPlan &plan, const ScorePlan &scores);

} // namespace winnow
