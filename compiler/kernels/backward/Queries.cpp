// The backward_queries kernel: dQ, by blocks of threads that own queries. The way through the keys
// is that of attention on warps (KeyWalk.h), and so is who wants what; a warp makes the weights
// anew from the log-sum-exp, so there is neither a maximum nor anything to rescale.
#include "compiler/kernels/attend/KeyWalk.h"
#include "compiler/kernels/backward/Backward.h"
#include "compiler/kernels/parts/Changes.h"
#include "compiler/kernels/parts/Logits.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

class BackwardQueries {
public:
  BackwardQueries(ModuleOp module, const BackwardPlan &plan, const AttendSizes &sizes)
      : plan(plan), sizes(sizes),
        t(module, "backward_queries",
          llvm::formatv("backward_queries of {0}: the gradient of the queries of {1} tokens of {2} "
                        "query heads, a block of threads each.",
                        plan.method, sizes.tokens, plan.group)
              .str(),
          kWarpThreads * sizes.warps, 1),
        tokens(t, plan), tileList(t, plan, TileList::By::Block, "@kKeys"),
        source(t, plan, KeySource::Tiles::Shared), logits(t, plan), mask(t, plan, "kKeys"),
        changes(t, plan), keyWalk(t, plan, sizes, tokens, tileList, source, mask) {}
  BuiltKernel build();

private:
  void declareRows();
  void step(const KeysAtHand &keys);

  const BackwardPlan &plan;
  const AttendSizes &sizes;
  KernelBuilder t;
  Tokens tokens;
  TileList tileList;
  KeySource source;
  Logits logits;
  Mask mask;
  Changes changes;
  KeyWalk keyWalk;
  RowTile row;
  Value outputGradient, statistics;
};

void BackwardQueries::declareRows() {
  row.index = keyWalk.warp;
  tokens.declare(row);
  outputGradient =
      t.fragment("output_gradient", t.type("LeftOperand", {16, "@kValueDim", plan.element}));
  row.output = t.fragment("query_gradient", t.type("Accumulator", {16, "@kDim"}));
  statistics = t.fragment("statistics", t.type("RowStatistics"));
  keyWalk.findRows(row);
  logits.declareRegion(/*takesFactors=*/false);
  changes.declareRegion();
  tokens.load(row, keyWalk.firstHead);
  t.leaf("load_query", {outputGradient, t.pointer("dout"), row.rows, keyWalk.firstHead},
         {"@kHeads"});
  t.leaf("load_statistics",
         {statistics, backwardBuffer(t, BackwardBuffer::Statistics), row.rows, keyWalk.firstHead},
         {"@kHeads"});
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
  t.constant("kSoftmaxScale", plan.scale, "what a logit has been multiplied by");
  logits.constants();
  keyWalk.locate();
  declareRows();
  keyWalk.walk(row, [&](const KeysAtHand &keys) { step(keys); });
  t.leaf("store_query_gradient",
         {t.pointer("dq"), row.output, row.rows, keyWalk.firstHead, t.namedReal("kSoftmaxScale")},
         {"@kHeads", plan.element});
  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "backward";
  built.recipe.facts = attendFacts(plan, sizes);
  built.recipe.gridX = llvm::formatv("total_q / {0} + batch", sizes.tokens).str();
  built.recipe.gridY = std::to_string(plan.heads / plan.group);
  return built;
}

} // namespace

Result<BuiltKernel> buildBackwardQueries(ModuleOp module, const BackwardPlan &plan,
                                         const Target &target) {
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

} // namespace winnow
