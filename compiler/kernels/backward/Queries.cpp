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
  return finishByTiles("backward");
}

Result<BuiltKernel> buildOnWarps(ModuleOp module, const BackwardPlan &plan, const Target &target) {
  // Of a key tile a warp holds twice what attention does, and of a row dO beside q: few warps, so
  // that a thread has all 255 registers, and tiles of at most 32 keys.
  Config config;
  config.attendWarps = 4;
  config.attendProducers = 4;
  config.attendKeys = 32;
  config.attendRows = 16;
  WINNOW_TRY(AttendSizes sizes, chooseAttendOnWarps(plan, target, config));
  return BackwardQueries(module, plan, sizes).build();
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
  if (asked != BackwardForm::Warps && target.hasWarpgroupMma && target.hasBulkCopy) {
    Result<AttendSizes> sizes = chooseGradientsOnWarpgroups(plan, target);
    config.backwardQueries = BackwardForm::Warpgroups;
    if (sizes)
      return buildQueriesOnWarpgroups(module, plan, *sizes, maps);
    if (asked == BackwardForm::Warpgroups)
      return tl::unexpected(sizes.error());
  }
  config.backwardQueries = BackwardForm::Warps;
  return buildOnWarps(module, plan, target);
}

} // namespace winnow
