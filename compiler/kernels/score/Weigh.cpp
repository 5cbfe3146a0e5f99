// The weigh kernel of decode: softmax weights of one token's heads for a part of the summaries that
// the host keeps, and the part's share of the normalisers, which top_k adds up. Each tile of heads
// reads a row once, by blocks of threads that do not wait for each other: as in attend_decode one
// warp computes and another keeps bytes on their way. Device functions:
// templates/select/head_weights.cuh.
#include "compiler/kernels/Kernels.h"
#include "compiler/kernels/parts/DenseLength.h"
#include "compiler/kernels/parts/HeadWeights.h"
#include "runtime/program/Budgets.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

constexpr int kRows = HeadWeights::kRows; ///< summaries of one shared tile
constexpr int kResident = 6;              ///< blocks of threads of one multiprocessor
constexpr int kProducers = 1, kMostStages = 8, kMostRingBytes = 34816;

/// Rings like those of attend_decode: as many stages as fit beside the other blocks of threads.
int ringStages(int tileBytes, const Target &target) {
  const int room = (target.sharedPerBlock + kSharedReserve) / kResident - kSharedReserve;
  return std::clamp(std::min(room, kMostRingBytes) / (tileBytes + kBarrierBytes), 2, kMostStages);
}

class WeighBuilder {
public:
  WeighBuilder(ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores,
               const Target &target)
      : plan(plan), target(target), means(*plan.normalizerMeans()),
        t(module, "weigh",
          llvm::formatv("weigh of {0}: softmax weights of one token's heads for a part of the "
                        "summaries that the host keeps.",
                        plan.method)
              .str(),
          kWarpThreads, kResident),
        compressed(t, plan, scores), weights(t, plan, scores) {}
  BuiltKernel build(const ScorePlan &scores);

private:
  void constants();
  void locate();
  void share();

  const SelectionPlan &plan;
  const Target &target;
  const NormalizerMeans means;
  KernelBuilder t;
  Summaries compressed;
  HeadWeights weights;
  Value summaries, query;
  Value part, parts, tokens, token, row, tile, headTile, firstHead, begin, end;
  HeadWeights::Seen seen;
};

void WeighBuilder::constants() {
  planConstants(t, plan, {"kHeads", "kKvHeads", "kDim", "kBlock", "kTopK", "kLocal"});
  if (mayBeDense(plan))
    planConstants(t, plan, {"kDenseLength"});
  compressed.constants();
  weights.constants();
  weights.tileConstants();
  compressed.scaleConstant();
}

/// The token, the tile of heads and the part of the block of threads.
void WeighBuilder::locate() {
  summaries = t.shared("summary_tile", t.type("SharedTile", {"@kRows", "@kDim", plan.element}),
                       sharedTileBytes(kRows, plan.headDim));
  Value first = t.field(t.params(), "token_begin");
  tokens = t.sub(t.field(t.params(), "token_end"), first, "tokens");
  parts = weights.parts();
  part = t.rem(t.blockIndex('x'), parts, "part");
  token = t.div(t.blockIndex('x'), parts, "token");
  row = t.add(first, token, "row");
  tile = weights.findToken(row);
  headTile = t.blockIndex('y', "head_tile");
  firstHead = t.mul(headTile, t.named("kTileHeads"), "first_head");
  query = weights.query(tile, firstHead);
}

/// The part's share of the tiles: those with scored summaries, or summaries of the normaliser that
/// the token sees.
void WeighBuilder::share() {
  Value own = t.div(t.field(tile, "position"), t.named("kBlock"), "own");
  // Where every block is selected anyway, scores are not needed.
  Value idle =
      t.either(t.equal(t.field(tile, "tokens"), t.number(0)), t.less(own, t.named("kTopK")));
  if (mayBeDense(plan))
    idle = t.either(idle, isDense(t, plan, tile));
  seen = weights.seen(tile, own, firstHead, "tiles");
  begin = t.div(t.mul(seen.tiles, part), parts, "begin");
  end = t.div(t.mul(seen.tiles, t.add(part, t.number(1))), parts, "end");
  // Rows of old keys were there before this launch: append writes those behind them. And only the
  // first chunk's weights lie where no kernel before reads others.
  Value isFresh = t.greater(t.mul(end, t.named("kRows")), weights.oldRows(tile));
  Value isLater = t.greater(t.field(t.params(), "token_begin"), t.number(0));
  t.when(t.either(t.either(idle, isLater), isFresh), [&] { t.leaf("wait_earlier_kernels", {}); });
  t.returnIf(idle);
}

BuiltKernel WeighBuilder::build(const ScorePlan &scores) {
  constants();
  t.leaf("start_later_kernels", {});
  locate();
  Value sums = t.fragment("sums", t.type("NormalizerSums", {means.open()}));
  share();
  // The tile before the first one says what the first one's normaliser needs of it.
  Value from = begin;
  if (means.open() > 0)
    from = t.select(t.less(begin, end), t.max(t.sub(begin, t.number(1)), t.number(0)), end, "from");
  Value column = weights.column(token, headTile), rowTiles = weights.rowTiles();
  Value scale = t.namedReal("kScale");
  scf::ForOp loop = t.loop("entry", from, end, t.number(1), [&](Value entry) {
    Value firstRow = t.mul(entry, t.named("kRows"), "first_row");
    t.leaf("load_rows",
           {summaries, seen.source, firstRow, seen.rows, t.value("thread", "thread_index")},
           {kWarpThreads});
    Value logits = t.fragment("logits", t.type("Accumulator", {16, "@kRows"}));
    t.leaf("clear", {logits});
    t.leaf("mma_abt", {logits, query, summaries});
    Value counts = t.atLeast(entry, begin, "counts");
    t.leaf("add_normalizer_rows", {sums, logits, firstRow, seen.normalizerVisible, counts, scale},
           {"@kMeans", "@kMeanStep", "@kMeanStride"});
    t.when(counts, [&] {
      t.leaf("store_head_weights",
             {weights.weights(), logits, column, rowTiles, entry, seen.visible, scale},
             {"@kTileHeads"});
    });
  });
  t.specializeWarps(loop, {ringStages(sharedTileBytes(kRows, plan.headDim), target), kProducers,
                           /*producersTakeTurns=*/true, /*lookAhead=*/true});
  t.leaf("store_normalizer_share", {weights.shares(), sums, part, token, tokens, firstHead},
         {"@kHeads", "@kTileHeads"});
  t.leaf("wait_earlier_kernels", {});

  BuiltKernel built{t.finish(), {}};
  Kernel &recipe = built.recipe;
  recipe.step = "score";
  recipe.facts = scoreFacts(plan, scores);
  recipe.facts.warps = 1;
  recipe.facts.producers = kProducers;
  recipe.facts.mmaWarps = 1;
  recipe.facts.tokens = 1;
  recipe.facts.queryRows = 16;
  recipe.facts.scoreBytes = scores.elementBytes();
  recipe.facts.tileSummaries = kRows;
  recipe.perChunk = true;
  recipe.when =
      llvm::formatv("(ceil_div(max_k, {0}) > {1}) * {2}", plan.block, plan.topk, decodes()).str();
  if (scores.clusters)
    launchWhen(built, "cluster == 0");
  recipe.gridX = "token_count * " + HeadWeights::parts(plan);
  recipe.gridY = std::to_string(plan.selectHeads() * HeadWeights::headTiles(plan));
  return built;
}

} // namespace

BuiltKernel buildWeigh(ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores,
                       const Target &target) {
  return WeighBuilder(module, plan, scores, target).build(scores);
}

} // namespace winnow
