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
constexpr int kConsumers = 4; ///< warps that multiply, as many as load, where it is left open
constexpr int kStages = 8;
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

/// The scores of the rows that the host keeps, of a kernel whose blocks send each other edges.
ScorePlan exchanged(const ScorePlan &rows) {
  ScorePlan scores = rows.ofKeptRows();
  scores.edgeWords = scores.config.decodeExchange == DecodeExchange::Messages;
  return scores;
}

class InClusterBuilder {
public:
  InClusterBuilder(ModuleOp module, const SelectionPlan &plan, const ScorePlan &rows)
      : plan(plan), scores(exchanged(rows)), means(*plan.normalizerMeans()),
        consumers(scores.config.decodeSelectWarps), warps(2 * consumers),
        t(module, "select_decode",
          llvm::formatv(
              "select_decode of {0}: the {1} best blocks of a token, forced ones included, "
              "by a cluster over the summaries that the host keeps; ascending ids, -1 "
              "behind the last.",
              plan.method, plan.topk)
              .str(),
          consumers * kWarpThreads, residentBlocks()),
        compressed(t, plan, scores), blockScores(t, plan, scores), weights(t, plan, scores),
        selection(t, plan, scores, warps, kMostBlocks / warps / RowSelection::kChunkBlocks,
                  /*together=*/true),
        octaves(t, plan, scores, warps) {}
  BuiltKernel build();

private:
  bool sendsMessages() const { return scores.edgeWords; }
  bool makesRows() const { return scores.config.decodeNewRows == DecodeNewRows::Make; }
  int residentBlocks() const;
  void constants();
  void declare();
  void locate();
  void share();
  void makeNewRow();
  void waitForRows(Value firstRow);
  void weigh();
  void normalize();
  void score();
  void select();

  const SelectionPlan &plan;
  const ScorePlan scores;
  const NormalizerMeans means;
  const int consumers, warps; ///< `warps`: consumers, and as many that load
  KernelBuilder t;
  Summaries compressed;
  BlockScores blockScores;
  HeadWeights weights;
  RowSelection selection;
  OctaveSelection octaves;
  Value summaries, tileWeights, openSums, warpShares, shares, normalizers, rankRow;
  Value parts, part, tokens, token, row, tile, selectHead, firstHead, query;
  Value messages, votes, sent;
  Value own, tiles, partTiles, begin, end, oldRows;
  Value added, newRow, newTile, hasNewRow; ///< `added`: rows that the step's keys finish
  HeadWeights::Seen seen;
  Value scale, warp, vote;
};

/// Two blocks of threads on a multiprocessor where their shared memory, and registers of more
/// warps, have room: while one selects the other one reads.
int InClusterBuilder::residentBlocks() const {
  return plan.headDim <= 128 && consumers == kConsumers ? 2 : 1;
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
  t.constant("kThreads", warps * kWarpThreads);
  selection.constants();
  compressed.scaleConstant();
  if (makesRows())
    t.constant("kFactor", 1.0, "the host's rows are plain means");
}

void InClusterBuilder::declare() {
  const int heads = HeadWeights::tileHeads(plan), open = std::max(means.open(), 1);
  summaries = t.shared("summary_tile", t.type("SharedTile", {"@kRows", "@kDim", plan.element}),
                       sharedTileBytes(kRows, plan.headDim));
  tileWeights = t.shared("weights", t.type("TileWeights", {"@kTileHeads", "@kMostTiles"}),
                         16 * (4 * heads * kMostTiles + (heads * kMostTiles + 3) / 4));
  openSums = t.shared("open_sums", t.type("OpenSums", {"@kTileHeads", means.open(), "@kMostTiles"}),
                      8 * heads * open * kMostTiles);
  warpShares = t.shared("warp_shares", t.type("WarpShares", {consumers, "@kTileHeads"}),
                        8 * consumers * heads);
  // Other blocks write into it at any time.
  shares = t.shared("shares", t.type("ClusterShares", {"@kTileHeads", means.open()}),
                    kMostClusterBlocks * (heads * 8 * (1 + open) + 4), /*pinned=*/true);
  normalizers = t.shared("normalizers", t.type("NormalizerTable", {16}), 4 * 16);
  const int edges = (kMostBlocks / 4 + 7) / 8 * 8;
  if (sendsMessages()) {
    messages = t.shared("messages", t.type("MessageBarriers", {2}), 2 * 8, /*pinned=*/true);
    votes = t.shared("votes", t.type("WarpVotes", {warps}), 4 * kMostClusterBlocks * warps,
                     /*pinned=*/true);
    rankRow =
        t.shared("rank_row", t.type("RankRow", {kMostBlocks, 4}), 2 * kMostBlocks + 4 * edges);
  } else {
    rankRow = t.shared("rank_row", t.type("RankRow", {kMostBlocks}), 2 * (kMostBlocks + edges));
  }
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

/// The summary that the step's new key finishes, where it is a single one, by the warp that will
/// multiply its tile: the part then waits for no rows of append's.
void InClusterBuilder::makeNewRow() {
  added = t.sub(seen.rows, oldRows, "added");
  newTile = t.div(oldRows, t.named("kRows"), "new_tile");
  auto both = [&](Value a, Value b) { return t.compute<arith::AndIOp>(a, b); };
  Value isInPart = both(t.atLeast(newTile, begin), t.less(newTile, end));
  Value turn = t.rem(t.sub(newTile, begin), t.number(consumers));
  hasNewRow = t.compute<arith::AndIOp>(both(t.equal(added, t.number(1)), isInPart),
                                       t.equal(turn, warp), "has_new_row");
  newRow = t.fragment("new_row", t.type("NewRow"));
  t.when(hasNewRow, [&] {
    Value kvHead = compressed.kvHead(firstHead);
    Value keys = t.value("keys", "paged_rows",
                         {t.params(), t.pointer("k"), t.pointer("k_stride"), tile, kvHead},
                         {plan.keyElement});
    t.leaf("make_new_row", {newRow, keys, oldRows, meanFactor(t, plan, kvHead)},
           {plan.element, "@kWindow", "@kStride", "@kDim"});
  });
}

/// By producers, before they load a tile: append has ended where it may have written rows of it.
void InClusterBuilder::waitForRows(Value firstRow) {
  Value isNew = t.greater(t.add(firstRow, t.named("kRows")), oldRows);
  if (makesRows())
    isNew = t.compute<arith::AndIOp>(isNew, t.greater(added, t.number(1)));
  t.when(isNew, [&] { t.leaf("wait_earlier_kernels", {}); });
  std::prev(t.builder.getInsertionPoint())->setAttr("tile.of_producers", t.builder.getUnitAttr());
}

/// The part's weights, and what its warps have of the normalisers.
void InClusterBuilder::weigh() {
  Value sums = t.fragment("sums", t.type("NormalizerSums", {means.open()}));
  // A row that this kernel makes is not read, since append may be writing it.
  Value limit = seen.rows;
  if (makesRows())
    limit = t.select(t.greater(added, t.number(1)), seen.rows, oldRows, "row_limit");
  scf::ForOp loop = t.loop("entry", begin, end, t.number(1), [&](Value entry) {
    Value firstRow = t.mul(entry, t.named("kRows"), "first_row");
    waitForRows(firstRow);
    t.leaf("load_rows",
           {summaries, seen.source, firstRow, limit, t.value("thread", "thread_index")},
           {kWarpThreads});
    if (makesRows())
      t.when(t.compute<arith::AndIOp>(hasNewRow, t.equal(entry, newTile)),
             [&] { t.leaf("put_new_row", {summaries, newRow, t.sub(oldRows, firstRow)}); });
    Value logits = t.fragment("logits", t.type("Accumulator", {16, "@kRows"}));
    t.leaf("clear", {logits});
    t.leaf("mma_abt", {logits, query, summaries});
    Value place = t.sub(entry, begin, "place");
    t.leaf("add_tile_normalizers",
           {sums, openSums, logits, place, firstRow, seen.normalizerVisible, scale},
           {"@kMeans", "@kMeanStep", "@kMeanStride"});
    t.leaf("store_tile_weights", {tileWeights, logits, place, firstRow, seen.visible, scale});
  });
  t.specializeWarps(loop, {kStages, consumers, /*producersTakeTurns=*/true, /*lookAhead=*/true,
                           /*consumersTakeTurns=*/true});
  t.leaf("store_warp_share", {warpShares, sums});
}

/// The normalisers, known to every block of the cluster.
void InClusterBuilder::normalize() {
  const TemplateArgument layout[] = {"@kThreads", "@kMeans", "@kMeanStep", "@kMeanStride"};
  Value partTileCount = t.sub(end, begin), firstRow = t.mul(begin, t.named("kRows"));
  t.leaf("wait_cluster", {});
  if (sendsMessages()) {
    t.leaf("post_share",
           {shares, messages, warpShares, openSums, partTileCount, firstRow, seen.normalizerVisible,
            scale},
           layout);
    t.leaf("wait_shares", {messages});
  } else {
    t.leaf("send_share",
           {shares, warpShares, openSums, partTileCount, firstRow, seen.normalizerVisible, scale},
           layout);
    t.leaf("sync_cluster", {});
  }
  t.leaf("merge_block_shares",
         {normalizers, shares, partTiles, tiles, seen.normalizerVisible, scale}, layout);
}

/// The part's block scores, to the first block of the cluster.
void InClusterBuilder::score() {
  Value ranks = t.value("ranks", sendsMessages() ? "rank_row_address" : "rank_row_of",
                        {rankRow, t.number(0)});
  vote = t.fragment("vote", t.type("RangeVote"));
  if (sendsMessages())
    sent = t.fragment("sent", t.type("SentBytes"));
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
    weights.hideTile(rowScores, firstRow, seen.scoredEnd, seen.visible, seen.rows);
    if (sendsMessages())
      blockScores.postOfThread(ranks, sent, messages, rowScores, firstRow, seen.rows, exists);
    else
      blockScores.storeOfThread(ranks, rowScores, firstRow, seen.rows, exists);
  });
  if (sendsMessages()) {
    t.leaf("post_votes", {votes, sent, messages, vote});
  } else {
    t.leaf("send_vote", {shares, vote});
    t.leaf("sync_cluster", {});
  }
}

/// The ids, by the first block of the cluster.
void InClusterBuilder::select() {
  t.leaf("wait_earlier_kernels", {});
  t.returnIf(t.either(t.differ(part, t.number(0)), t.equal(t.field(tile, "tokens"), t.number(0))));
  Value ids =
      t.value("ids", "id_row", {t.pointer("ids"), selectHead, t.field(t.params(), "total_q"), row},
              {"@kTopK"});
  if (sendsMessages())
    t.leaf("wait_ranks", {messages});
  Value leaves = sendsMessages() ? t.value("leaves", "any_warp_vote", {votes})
                                 : t.value("leaves", "any_vote", {shares});
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
  if (sendsMessages())
    t.leaf("init_messages", {messages, shares, t.number(warps)});
  t.leaf("enter_cluster", {});
  scale = t.namedReal("kScale");
  warp = t.value("warp", "warp_index");
  locate();
  share();
  if (makesRows())
    makeNewRow();
  weigh();
  normalize();
  score();
  select();

  BuiltKernel built{t.finish(), {}};
  Kernel &recipe = built.recipe;
  recipe.step = "top_k";
  IdRow::describe(recipe.facts, plan, scores, warps, kMostBlocks);
  recipe.facts.tokens = 1;
  recipe.perChunk = true;
  recipe.inClusters = true;
  recipe.gridX = "token_count * cluster";
  recipe.gridY = std::to_string(plan.selectHeads());
  recipe.when = "(cluster > 0) * " + decodes();
  return built;
}

} // namespace

void chooseDecode(Config &config) {
  if (config.decodeClusters == DecodeClusters::Default)
    config.decodeClusters = DecodeClusters::Some;
  if (config.decodeClusterBlocks == 0)
    config.decodeClusterBlocks = kMostClusterBlocks;
  if (config.decodeSelectWarps == 0)
    config.decodeSelectWarps = kConsumers;
  if (config.decodeExchange == DecodeExchange::Default)
    config.decodeExchange = DecodeExchange::Messages;
  if (config.decodeNewRows == DecodeNewRows::Default)
    config.decodeNewRows = DecodeNewRows::Make;
}

std::string clusterBlocks(const SelectionPlan &plan, const Config &config) {
  const int tileKeys = HeadWeights::tileKeys(plan);
  const int selections = plan.selectHeads(); // of a token
  // As few as hold the weights; more, up to 8, where the GPU has room for two on each
  // multiprocessor, and 16 where they take half of it at most: each wants 16 places in one GPC, at
  // once.
  const std::string needed = powerWhere([&](int blocks) {
    return llvm::formatv("(max_k > {0})", blocks / 2 * kMostTiles * tileKeys).str();
  });
  const std::string room = powerWhere([&](int blocks) {
    const int least = blocks == kMostClusterBlocks ? 2 * blocks : blocks / 2;
    return llvm::formatv("({0} * total_q <= sm_count)", selections * least).str();
  });
  const std::string useful = powerWhere([&](int blocks) {
    return llvm::formatv("(max_k > {0})", (blocks * kLeastTiles - 1) * tileKeys).str();
  });
  // A few more selections than clusters of 16 find room for leave each with one turn of clusters of
  // 8, whose exchange nothing hides: there the chain of kernels is no slower.
  const std::string oneTurn =
      config.decodeClusters == DecodeClusters::All
          ? "0"
          : llvm::formatv("({0} * total_q > sm_count) * ({1} * total_q <= sm_count)",
                          selections * 8, selections * 4)
                .str();
  const std::string fits =
      llvm::formatv("(max_k <= {0} * cluster_limit) * (max_k <= {1}) * (max_k > {2})",
                    kMostTiles * tileKeys, kMostBlocks * plan.block, plan.topk * plan.block)
          .str();
  std::string wanted = llvm::formatv("min({0}, {1})", room, useful).str();
  if (config.decodeClusterBlocks < kMostClusterBlocks)
    wanted = llvm::formatv("min({0}, {1})", config.decodeClusterBlocks, wanted).str();
  return llvm::formatv("(max_q <= {0}) * {1} * (1 - {2}) * min(cluster_limit, max({3}, {4}))",
                       kDecodeTokens, fits, oneTurn, needed, wanted)
      .str();
}

bool selectsInOneKernel(const SelectionPlan &plan, const ScorePlan &scores) {
  return plan.weighsHeads() && scores.ranks && HeadWeights::headTiles(plan) == 1;
}

BuiltKernel buildSelectDecode(ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores) {
  return InClusterBuilder(module, plan, scores).build();
}

} // namespace winnow
