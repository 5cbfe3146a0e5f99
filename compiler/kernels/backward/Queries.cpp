// The backward_queries kernel: dQ, by blocks of threads that own queries. On warps the way through
// the keys is that of attention on warps (KeyWalk.h), and so is who wants what; a warp makes the
// weights anew from the log-sum-exp, so there is neither a maximum nor anything to rescale.
#include "compiler/kernels/attend/KeyWalk.h"
#include "compiler/kernels/backward/QueriesFrame.h"

using namespace mlir;

namespace winnow {
namespace {

class BackwardQueries : QueriesFrame {
public:
  BackwardQueries(ModuleOp module, const BackwardPlan &plan, const AttendSizes &sizes)
      : QueriesFrame(module, plan, sizes, "a block of threads each", kWarpThreads * sizes.warps),
        keyWalk(t, plan, sizes, tokens, tileList, source, mask) {}
  BuiltKernel build();

private:
  void declareRows();
  void step(const KeysAtHand &keys);

  KeyWalk keyWalk;
  Value outputGradient;
};

void BackwardQueries::declareRows() {
  row.index = keyWalk.warp;
  tokens.declare(row);
  outputGradient =
      t.fragment("output_gradient", t.type("LeftOperand", {16, "@kValueDim", plan.element}));
  declareGradient();
  keyWalk.findRows(row);
  declareRegions();
  tokens.load(row, keyWalk.firstHead);
  t.leaf("load_query", {outputGradient, t.pointer("dout"), row.rows, keyWalk.firstHead},
         {"@kHeads"});
  loadStatistics(keyWalk.firstHead);
  t.leaf("clear", {row.output});
}

/// dS = P (dO V^T - delta), dQ += dS K.
void BackwardQueries::step(const KeysAtHand &keys) {
  logits.declare(row);
  t.leaf("clear", {row.logits});
  t.leaf("mma_abt", {row.logits, row.query, keyWalk.keyTile});
  Value change = t.fragment("changes", t.type("Accumulator", {16, "@kKeys"}));
  t.leaf("clear", {change});
  t.leaf("mma_abt", {change, outputGradient, keyWalk.valueTile});
  changes.prepare(row, keys, change, statistics);
  logits.rewrite(row, keys);
  mask.hide(row, keys);
  changes.weigh(row, change, statistics);
  Value factor = t.fragment("factor", t.type("LeftOperand", {16, "@kKeys", plan.element}));
  t.leaf("round_to_operand", {factor, change});
  t.leaf("mma_ab", {row.output, factor, keyWalk.keyTile});
}

BuiltKernel BackwardQueries::build() {
  keyWalk.constants();
  constants();
  keyWalk.locate();
  declareRows();
  keyWalk.walk(row, [&](const KeysAtHand &keys) { step(keys); });
  storeGradient(row, keyWalk.firstHead);
  BuiltKernel built = finishByTiles("backward");
  built.recipe.facts.laneRegisters =
      queryGradientLaneRegisters(plan.headDim, plan.valueDim, sizes.keys);
  return built;
}

Result<BuiltKernel> buildOnWarps(ModuleOp module, const BackwardPlan &plan, const Target &target,
                                 Config &config) {
  // Of a key tile a warp holds twice what attention does, and of a row dO beside q: few warps, so
  // that a thread has all 255 registers, and tiles of at most 32 keys.
  constexpr int kWarps = 4, kProducers = 4, kKeys = 32;
  Config walk; // that of attention whose keys are walked alike
  walk.attendWarps = config.backwardQueryWarps ? config.backwardQueryWarps : kWarps;
  walk.attendProducers = kProducers;
  walk.attendKeys = config.backwardQueryKeys ? config.backwardQueryKeys : kKeys;
  walk.attendRows = 16;
  walk.attendStages = config.backwardQueryStages;
  const Result<AttendSizes> sizes = chooseAttendOnWarps(plan, target, walk);
  if (!sizes && (config.backwardQueryStages || config.backwardQueryKeys))
    return fail(ErrorKind::Unsupported,
                llvm::formatv("backward_query_stages={0} and backward_query_keys={1} do not fit "
                              "the {2} bytes of shared memory of {3}: take less",
                              config.backwardQueryStages, config.backwardQueryKeys,
                              target.sharedPerBlock, target.arch)
                    .str());
  if (!sizes)
    return tl::unexpected(sizes.error());
  config.backwardQueryWarps = sizes->warps;
  config.backwardQueryStages = sizes->stages;
  config.backwardQueryKeys = sizes->keys;
  return BackwardQueries(module, plan, *sizes).build();
}

} // namespace

Result<BuiltKernel> buildBackwardQueries(ModuleOp module, const BackwardPlan &plan,
                                         const Target &target, Config &config,
                                         std::vector<TensorMapRecipe> &maps) {
  const BackwardForm asked = config.backwardQueries;
  if (asked == BackwardForm::Warpgroups && !(target.hasWarpgroupMma && target.hasBulkCopy))
    return fail(ErrorKind::Unsupported,
                llvm::formatv("backward_queries=warpgroups needs products of warpgroups, which {0} "
                              "has not",
                              target.arch)
                    .str());
  const bool hasSizes = // of warps
      config.backwardQueryWarps || config.backwardQueryStages || config.backwardQueryKeys;
  const bool wantsWarps =
      asked == BackwardForm::Warps || (asked == BackwardForm::Default && hasSizes);
  if (!wantsWarps && target.hasWarpgroupMma && target.hasBulkCopy) {
    Result<AttendSizes> sizes = chooseGradientsOnWarpgroups(plan, target);
    config.backwardQueries = BackwardForm::Warpgroups;
    if (sizes)
      return buildQueriesOnWarpgroups(module, plan, *sizes, maps);
    if (asked == BackwardForm::Warpgroups)
      return tl::unexpected(sizes.error());
  }
  config.backwardQueries = BackwardForm::Warps;
  return buildOnWarps(module, plan, target, config);
}

} // namespace winnow
