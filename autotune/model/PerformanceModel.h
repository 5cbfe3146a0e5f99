// A performance model of the mma.sync kernels: what a candidate should take on a GPU that nobody
// has at hand. A kernel's multiprocessor is a set of pipes (tensor cores, shared memory,
// exponential unit, instruction issue, L2, device memory) beside three latencies (what producers
// issue, how far the ring reaches ahead, what a warp does in a row). The busiest one bounds the
// time; the others lengthen it the more the nearer they come to it. Sizes and form of a kernel are
// its facts, how scores are split into chunks its program's formulas: nothing here restates what a
// builder chose. What the model chooses carries origin "model". A launch of decode, whose blocks of
// threads stream and wait, is ModelDecode.cpp's.
#pragma once
#include "autotune/search/DeviceProfile.h"
#include "autotune/search/SearchSpace.h"
#include "runtime/tuned/TuningRecord.h"

namespace winnow {

/// What the program runs on. Of the method only the forced blocks matter beyond what the kernels
/// themselves say.
struct ModelWorkload {
  TuningKey key;
  int init = 0, local = 1;
};
/// The workload of a key, with the forced blocks of `program`'s top-k kernels. Error: Unsupported
/// where these lack the facts.
Result<ModelWorkload> workloadOf(const TuningKey &key, const ProgramImage &program);

/// Numbers that no data sheet gives, fitted on one H200 running the kernels of the mma.sync levels:
///  - infllm_v2 of MiniCPM4.1's shape: attention of 131,072 and 32,768 tokens over 96 and 16 blocks
///    at L = 128, 32, 8 and 1 with 3 and 5 ring stages, with 1 and 4 producer warps, with 16 and 32
///    rows per warp, and its selection (tests/autotune/PerformanceModelTest.cpp has the points);
///  - sweeps of infllm_v2 over 16,384 tokens (tests/autotune/trials_80.jsonl): d 64 and 128, G 1, 4
///    and 16, blocks of 64 and 128, top-16 and 96, L = 1 and 32. Only the 12 specs for which an
///    even number of these hold: d = 128, G = 4, blocks of 128, top-96. The others, and
///    trials_89.jsonl, were kept for checking the constants; the formulas were chosen with all of
///    them in view.
/// Instructions are counted in what ptxas 13.0 makes of the kernels. All are taken over to other
/// GPUs as they are. Gradients have no constants of their own and were not among what was fitted:
/// they are counted with those of attention.
struct ModelConstants {
  /// Exponent of the norm that joins pipes and latencies: large where the busiest one hides the
  /// others, 1 where they add up.
  double norm = 3.1;
  /// Clocks that a warp alone spends on a logit of its own between the two products.
  double softmaxClocks = 14.8;
  /// The same once per row tile and key tile: list look-up, barriers, first operands, maxima
  /// across lanes.
  double visitClocks = 60;
  double skipClocks = 40; ///< per key tile that no token of the warp wants
  /// Per ldmatrix of a warp without free registers to load ahead into.
  double exposedLoadClocks = 8.3;
  double spillClocks = 10;  ///< per spilled register and key tile
  double copyClocks = 23.5; ///< of a producer warp per cp.async (512 bytes)
  /// Latency under load, times the idle one, beside the time that a stage takes to come in.
  double loadedLatency = 0.95;
  /// Attend: chance that a token's logits in a key tile exceed its running maximum by so much that
  /// the row tile's outputs must be rescaled; rows of one token do so together. Not measured: row
  /// tiles of many tokens run slower by about that work, with otherwise the same instructions.
  double raiseChance = 0.11;
  double raiseClocks = 5;           ///< of a warp alone per instruction of such a rescaling
  double tileClocks = 4300;         ///< attend: once per tile: launch, queries, lists, output
  double scanClocks = 60;           ///< attend: per 32 key tiles, marked or not
  double softmaxInstructions = 4.5; ///< attend: per logit of a lane
  double visitInstructions = 65;    ///< attend: per row tile and key tile
  double scoreTileClocks = 287; ///< score: a warp alone, per 16 rows and 32 summaries, beside mma
  double scoreStepClocks = 840; ///< score: per tile of summaries: barriers and its operand
  /// Score: once per tile of tokens: queries come in, and warps merge their normalisers by turns.
  double scoreOnceClocks = 11700;
  /// Score: what a warp alone waits per 16 rows and 32 summaries of the normaliser where the
  /// products of the next ones cannot begin before these exponentials are summed.
  double scoreOrderClocks = 280;
  double rowInstructions = 300;     ///< top_k: per row of scores, searched or not
  double searchInstructions = 1170; ///< top_k: per row of scores
  double pairInstructions = 60;     ///< top_k: per 32 pairs of scores of a row, all steps together

  // Decode. Between the kernels of a launch of which the later one is started early, measured by
  // time stamps (docs/kernels/attend-decode.md); the others fitted on the launches that
  // tests/autotune/ModelDecodeTest.cpp has, in clocks of a launch that no power limit slows.
  double earlyMicros = 1.35;
  /// What a block of threads that streams keys or summaries waits for beside its tiles: token,
  /// lists, queries, the first tile, its result.
  double streamClocks = 3770;
  double searchClocks = 21960;  ///< top_k: beside its weights: normalisers, search, ids
  double clusterClocks = 18280; ///< select_decode: exchanges, search, ids
  double shortClocks = 1490;    ///< append and merge: beside a row's parts
  double partClocks = 300;      ///< merge: per part that a warp joins to those before
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

/// Error: Unsupported for kernels on warpgroups, which the model does not describe (decode has
/// none), and for kernels that lack a fact which it needs.
Result<Prediction> predict(const ModelWorkload &workload, const Candidate &candidate,
                           const DeviceProfile &profile, const ModelConstants &constants = {});
/// predict()'s time of the whole phase, in milliseconds.
Result<double> predictMs(const ModelWorkload &workload, const Candidate &candidate,
                         const DeviceProfile &profile);

/// Whether a phase's default, predicted to take `defaultMs`, stays although a candidate takes
/// `leastMs`: within 2 % the model tells nothing apart; of gradients, for which nothing was fitted,
/// within 10 %; of decode within 12 %, by which its times miss measured ones at worst.
bool keepsDefault(std::string_view phase, double leastMs, double defaultMs);

struct ModelChoice {
  size_t index = 0; ///< of the space's candidates
  double ms = 0, defaultMs = 0;
};
/// The candidate with the least predicted time, or the default where that stays.
Result<ModelChoice> choose(const SearchSpace &space, const ModelWorkload &workload,
                           const DeviceProfile &profile);

} // namespace winnow
