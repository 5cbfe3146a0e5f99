// The select_decode kernel: the whole selection of one query token over summaries that the host
// keeps, by a thread block cluster, so that softmax weights stay in shared memory and no kernel is
// waited for between rows and ids. Each block of threads has a part of the summaries: some warps
// load, some multiply, a tile each in turn. Then blocks exchange what they have of the normalisers,
// and the first one selects. Device functions: templates/select/cluster_selection.cuh.
#include "compiler/kernels/Kernels.h"
#include "compiler/kernels/parts/DenseLength.h"
#include "compiler/kernels/parts/HeadWeights.h"
#include "compiler/kernels/parts/IdRow.h"
#include "compiler/kernels/top_k/Octaves.h"
#include "compiler/kernels/top_k/SelectRow.h"
#include "runtime/program/Budgets.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

constexpr int kRows = HeadWeights::kRows; ///< summaries of one shared tile
constexpr int kConsumers = 4, kProducers = 4, kStages = 8;
constexpr int kWarps = kConsumers + kProducers, kThreads = kWarps * kWarpThreads;
constexpr int kMostTiles = 32;    ///< of a block of threads, which keeps their weights
constexpr int kMostBlocks = 4096; ///< of a row, in the first block's shared memory
constexpr int kLeastTiles = 8;    ///< of a block of threads, about

/// Formula: the power of 2 up to 16 that begins with 1 and doubles where `reaches(2)`, 4, 8, 16
/// hold.
std::string powerWhere(function_ref<std::string(int)> reaches) {
  return llvm::formatv("(1 + {0} + 2 * {1} + 4 * {2} + 8 * {3})", reaches(2), reaches(4),
                       reaches(8), reaches(16))
      .str();
}

class InClusterBuilder {
public:
  InClusterBuilder(ModuleOp module, const SelectionPlan &plan, const ScorePlan &rows)
      : plan(plan), scores(rows.ofKeptRows()), means(*plan.normalizerMeans()),
        t(module, "select_decode",
          llvm::formatv(
              "select_decode of {0}: the {1} best blocks of a token, forced ones included, "
              "by a cluster over the summaries that the host keeps; ascending ids, -1 "
              "behind the last.",
              plan.method, plan.topk)
              .str(),
          kConsumers * kWarpThreads, residentBlocks(plan)),
        compressed(t, plan, scores), blockScores(t, plan, scores), weights(t, plan, scores),
        selection(t, plan, scores, kWarps, kMostBlocks / kWarps / RowSelection::kChunkBlocks,
                  /*together=*/true),
        octaves(t, plan, scores, kWarps) {}
  BuiltKernel build();

private:
  static int residentBlocks(const SelectionPlan &plan);
  void constants();
  void declare();
  void locate();
  void share();
  void weigh();
  void normalize();
  void score();
  void select();

  const SelectionPlan &plan;
  const ScorePlan scores;
  const NormalizerMeans means;
  KernelBuilder t;
  Summaries compressed;
  BlockScores blockScores;
  HeadWeights weights;
  RowSelection selection;
  OctaveSelection octaves;
  Value summaries, tileWeights, openSums, warpShares, shares, normalizers, rankRow;
  Value parts, part, tokens, token, row, tile, selectHead, firstHead, query;
  Value own, tiles, partTiles, begin, end, oldRows;
  HeadWeights::Seen seen;
  Value scale, warp, vote;
};

/// Two blocks of threads on a multiprocessor where their shared memory has room: while one selects
/// the other one reads.
int InClusterBuilder::residentBlocks(const SelectionPlan &plan) {
  return plan.headDim <= 128 ? 2 : 1;
}

void InClusterBuilder::constants() {
  planConstants(t, plan, {"kHeads", "kKvHeads", "kGroup", "kDim", "kBlock", "kTopK", "kLocal"});
  if (mayBeDense(plan))
    planConstants(t, plan, {"kDenseLength"});
  compressed.constants();
  weights.constants();
  weights.tileConstants();
  t.constant("kMostTiles", kMostTiles, "tiles of a block of threads");
  t.constant("kTilesPerEdge", scores.blocksPerEdge * plan.rowsPerBlock() / kRows,
             "a part begins at a multiple of so many");
  t.constant("kThreads", kThreads);
  selection.constants();
  compressed.scaleConstant();
}

void InClusterBuilder::declare() {
  const int heads = HeadWeights::tileHeads(plan), open = std::max(means.open(), 1);
  summaries = t.shared("summary_tile", t.type("SharedTile", {"@kRows", "@kDim", plan.element}),
                       sharedTileBytes(kRows, plan.headDim));
  tileWeights = t.shared("weights", t.type("TileWeights", {"@kTileHeads", "@kMostTiles"}),
                         16 * (4 * heads * kMostTiles + (heads * kMostTiles + 3) / 4));
  openSums = t.shared("open_sums", t.type("OpenSums", {"@kTileHeads", means.open(), "@kMostTiles"}),
                      8 * heads * open * kMostTiles);
  warpShares = t.shared("warp_shares", t.type("WarpShares", {kConsumers, "@kTileHeads"}),
                        8 * kConsumers * heads);
  // Other blocks write into it at any time.
  shares = t.shared("shares", t.type("ClusterShares", {"@kTileHeads", means.open()}),
                    kMostClusterBlocks * (heads * 8 * (1 + open) + 4), /*pinned=*/true);
  normalizers = t.shared("normalizers", t.type("NormalizerTable", {16}), 4 * 16);
  rankRow = t.shared("rank_row", t.type("RankRow", {kMostBlocks}),
                     2 * (kMostBlocks + (kMostBlocks / 4 + 7) / 8 * 8));
  selection.declare();
  octaves.declare();
}

/// The token of the cluster, the part of the block of threads.
void InClusterBuilder::locate() {
  Value first = t.field(t.params(), "token_begin");
  tokens = t.sub(t.field(t.params(), "token_end"), first, "tokens");
  parts = t.value("parts", "cluster_blocks");
  part = t.value("part", "cluster_block");
  token = t.div(t.blockIndex('x'), parts, "token");
  row = t.add(first, token, "row");
  tile = weights.findToken(row);
  selectHead = t.blockIndex('y', "select_head");
  firstHead = t.mul(selectHead, t.named("kGroup"), "first_head");
  query = weights.query(tile, firstHead);
}

/// The part's share of the tiles: those with scored summaries, or summaries of the normaliser that
/// the token sees. None where every block is selected anyway.
void InClusterBuilder::share() {
  own = t.div(t.field(tile, "position"), t.named("kBlock"), "own");
  Value scored = t.atLeast(own, t.named("kTopK"), "scored");
  if (mayBeDense(plan))
    scored = t.compute<arith::AndIOp>(scored, isSparse(t, plan, tile));
  seen = weights.seen(tile, own, firstHead, "");
  tiles = t.select(scored, seen.tiles, t.number(0), "tiles");
  Value pieces = t.mul(parts, t.named("kTilesPerEdge"));
  partTiles = t.mul(t.div(t.add(tiles, t.sub(pieces, t.number(1))), pieces),
                    t.named("kTilesPerEdge"), "part_tiles");
  begin = t.min(t.mul(part, partTiles), tiles, "begin");
  end = t.min(t.add(begin, partTiles), tiles, "end");
  // Rows of old keys were there before this launch: append writes those behind them.
  oldRows = weights.oldRows(tile);
}

/// The part's weights, and what its warps have of the normalisers.
void InClusterBuilder::weigh() {
  Value sums = t.fragment("sums", t.type("NormalizerSums", {means.open()}));
  scf::ForOp loop = t.loop("entry", begin, end, t.number(1), [&](Value entry) {
    Value firstRow = t.mul(entry, t.named("kRows"), "first_row");
    t.when(t.greater(t.add(firstRow, t.named("kRows")), oldRows),
           [&] { t.leaf("wait_earlier_kernels", {}); });
    std::prev(t.builder.getInsertionPoint())->setAttr("tile.of_producers", t.builder.getUnitAttr());
    t.leaf("load_rows",
           {summaries, seen.source, firstRow, seen.rows, t.value("thread", "thread_index")},
           {kWarpThreads});
    Value logits = t.fragment("logits", t.type("Accumulator", {16, "@kRows"}));
    t.leaf("clear", {logits});
    t.leaf("mma_abt", {logits, query, summaries});
    Value place = t.sub(entry, begin, "place");
    t.leaf("add_tile_normalizers",
           {sums, openSums, logits, place, firstRow, seen.normalizerVisible, scale},
           {"@kMeans", "@kMeanStep", "@kMeanStride"});
    t.leaf("store_tile_weights", {tileWeights, logits, place, firstRow, seen.visible, scale});
  });
  t.specializeWarps(loop, {kStages, kProducers, /*producersTakeTurns=*/true, /*lookAhead=*/true,
                           /*consumersTakeTurns=*/true});
  t.leaf("store_warp_share", {warpShares, sums});
}

/// The normalisers, known to every block of the cluster.
void InClusterBuilder::normalize() {
  const TemplateArgument layout[] = {"@kThreads", "@kMeans", "@kMeanStep", "@kMeanStride"};
  t.leaf("wait_cluster", {});
  t.leaf("send_share",
         {shares, warpShares, openSums, t.sub(end, begin), t.mul(begin, t.named("kRows")),
          seen.normalizerVisible, scale},
         layout);
  t.leaf("sync_cluster", {});
  t.leaf("merge_block_shares",
         {normalizers, shares, partTiles, tiles, seen.normalizerVisible, scale}, layout);
}

/// The part's block scores, to the first block of the cluster.
void InClusterBuilder::score() {
  Value ranks = t.value("ranks", "rank_row_of", {rankRow, t.number(0)});
  vote = t.fragment("vote", t.type("RangeVote"));
  Value quad = t.div(t.value("", "thread_index"), t.number(4), "quad");
  Value scoredEnd = t.min(seen.scoredEnd, t.mul(end, t.named("kRows")), "scored_end");
  t.loop("first", begin, end, t.div(t.named("kThreads"), t.number(4)), [&](Value first) {
    Value rowTile = t.add(first, quad, "row_tile");
    Value firstRow = t.mul(rowTile, t.named("kRows"), "first_row");
    Value exists = t.greater(scoredEnd, firstRow, "exists");
    Value rowScores = blockScores.cleared("RowScores");
    t.leaf("add_tile_heads",
           {rowScores, vote, tileWeights, normalizers, t.sub(rowTile, begin),
            t.compute<arith::AndIOp>(exists, t.less(firstRow, seen.rows))},
           {blockScores.combine(), "@kGroup", "@kTileHeads"});
    weights.storeTile(ranks, rowScores, firstRow, exists, seen.scoredEnd, seen.visible, seen.rows);
  });
  t.leaf("send_vote", {shares, vote});
  t.leaf("sync_cluster", {});
}

/// The ids, by the first block of the cluster.
void InClusterBuilder::select() {
  t.leaf("wait_earlier_kernels", {});
  t.returnIf(t.either(t.differ(part, t.number(0)), t.equal(t.field(tile, "tokens"), t.number(0))));
  Value ids =
      t.value("ids", "id_row", {t.pointer("ids"), selectHead, t.field(t.params(), "total_q"), row},
              {"@kTopK"});
  Value leaves = t.value("leaves", "any_vote", {shares});
  selection.select(tile, own, ids, warp,
                   [&] { return t.value("rank_row", "rank_row_of", {rankRow, t.number(0)}); });
  t.keep(rankRow);
  t.leaf("sync_threads", {}); // a mark among the ids
  t.when(t.either(leaves, t.value("", "is_unordered", {ids})), [&] {
    Value place = t.add(t.mul(selectHead, tokens), token);
    octaves.select(tile, selectHead, row, ids, octaves.room(place), warp);
  });
  std::prev(t.builder.getInsertionPoint())->setAttr("tile.uniform", t.builder.getUnitAttr());
}

BuiltKernel InClusterBuilder::build() {
  constants();
  declare();
  t.leaf("start_later_kernels", {});
  t.leaf("enter_cluster", {});
  scale = t.namedReal("kScale");
  warp = t.value("warp", "warp_index");
  locate();
  share();
  weigh();
  normalize();
  score();
  select();

  BuiltKernel built{t.finish(), {}};
  Kernel &recipe = built.recipe;
  recipe.step = "top_k";
  IdRow::describe(recipe.facts, plan, scores, kWarps, kMostBlocks);
  recipe.facts.tokens = 1;
  recipe.perChunk = true;
  recipe.inClusters = true;
  recipe.gridX = "token_count * cluster";
  recipe.gridY = std::to_string(plan.selectHeads());
  recipe.when = "(cluster > 0) * " + decodes();
  return built;
}

} // namespace

std::string clusterBlocks(const SelectionPlan &plan) {
  const int tileKeys = HeadWeights::tileKeys(plan);
  const int selections = plan.selectHeads(); // of a token
  // As few as hold the weights; more where the GPU has room for two on each multiprocessor.
  const std::string needed = powerWhere([&](int blocks) {
    return llvm::formatv("(max_k > {0})", blocks / 2 * kMostTiles * tileKeys).str();
  });
  const std::string room = powerWhere([&](int blocks) {
    return llvm::formatv("({0} * total_q <= sm_count)", selections * blocks / 2).str();
  });
  const std::string useful = powerWhere([&](int blocks) {
    return llvm::formatv("(max_k > {0})", (blocks * kLeastTiles - 1) * tileKeys).str();
  });
  // A few more selections than clusters of 16 find room for leave each with one turn of clusters of
  // 8, whose exchange nothing hides: there the chain of kernels is 5 % faster.
  const std::string oneTurn =
      llvm::formatv("({0} * total_q > sm_count) * ({1} * total_q <= sm_count)", selections * 8,
                    selections * 4)
          .str();
  const std::string fits =
      llvm::formatv("(max_k <= {0} * cluster_limit) * (max_k <= {1}) * (max_k > {2})",
                    kMostTiles * tileKeys, kMostBlocks * plan.block, plan.topk * plan.block)
          .str();
  return llvm::formatv(
             "(max_q <= {0}) * {1} * (1 - {2}) * min(cluster_limit, max({3}, min({4}, {5})))",
             kDecodeTokens, fits, oneTurn, needed, room, useful)
      .str();
}

bool selectsInOneKernel(const SelectionPlan &plan, const ScorePlan &scores) {
  return plan.weighsHeads() && scores.ranks && HeadWeights::headTiles(plan) == 1;
}

BuiltKernel buildSelectDecode(ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores) {
  return InClusterBuilder(module, plan, scores).build();
}

} // namespace winnow
