// The score kernel on warpgroups: everything from log-sum-exp to pooling for one item of work, the
// tokens of an mma tile's sets and one selection, after the other. Persistent blocks of threads of
// four roles: three warpgroups compute, two threads of the fourth bring in summaries and queries.
// Row orders and arithmetic: templates/select/scoring_warpgroup.cuh.
//
// Protocol. Queries stay in shared memory for the whole item, as a ring of mma tiles that is filled
// once per item; summaries stream through a ring of stages: first those of the normaliser, which
// every consumer multiplies with its own mma tiles, then the scored ones, dealt to the consumers in
// turn, each multiplied with all mma tiles by one of them. A stage is free after 12 arrivals: one
// of each warp, or three of each warp of the consumer that it was dealt to. Three rules keep
// parities right, since a consumer does not wait for tiles that others got:
//  - the number of stages is a multiple of the number of consumers, so that among the dealt
//    tiles of an item a stage always belongs to the same consumer;
//  - a consumer waits for an item's queries before it waits for any of its summaries. They are
//    filled after every consumer has begun its last tile of the item before, when all summaries of
//    that item have landed: no stage is then two turns behind;
//  - a consumer that gets no tile of an item releases the queries after it has waited for them.
//
// The fused kernel selects too: two warps of the fourth warpgroup, while the consumers score the
// next item. A block of threads has scratch for the scores of two items in device memory, which is
// a ring of its own: full when every consumer is done with the item, empty when both selectors are.
#include "compiler/kernels/score/OnWarpgroups.h"
#include "compiler/kernels/parts/DenseLength.h"
#include "compiler/kernels/parts/IdRow.h"
#include "compiler/kernels/parts/SelectionPart.h"
#include "runtime/program/Budgets.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {

static constexpr int kConsumers = ScorePlan::kConsumers;
static constexpr int kSelectors = 2; ///< warps that select, of the fused kernel

ScoreWarpgroupsBuilder::ScoreWarpgroupsBuilder(ModuleOp module, const SelectionPlan &plan,
                                               const ScorePlan &scores,
                                               std::vector<TensorMapRecipe> &maps, bool selects)
    : plan(plan), scores(scores), selects(selects),
      ownTiles((scores.mmaTiles() + kConsumers - 1) / kConsumers),
      t(module, selects ? "score_top_k" : "score",
        llvm::formatv("{0} of {1}: block scores of every token, heads combined and summaries "
                      "pooled in registers{2}; blocks of threads stay and take one tile of {3} "
                      "tokens after the other.",
                      selects ? "score and top_k" : "score", plan.method,
                      selects ? ", and the best blocks of each token" : "", scores.tileTokens)
            .str(),
        128 * (kConsumers + 1), 1),
      summaries(t, plan, scores), blockScores(t, plan, scores), selection(t, plan, scores, 1) {
  declareMap(maps);
}

/// Queries as [heads, total_q, dim]: a box lands as 8 tokens of one head, then of the next one. The
/// kernels of one program share the map.
void ScoreWarpgroupsBuilder::declareMap(std::vector<TensorMapRecipe> &maps) {
  TensorMapRecipe recipe;
  recipe.tensor = "q";
  recipe.extents = {std::to_string(plan.headDim), "total_q", std::to_string(plan.heads)};
  recipe.strides = {int64_t(2) * plan.headDim * plan.heads, int64_t(2) * plan.headDim};
  recipe.box = {64, 8, isPair() ? 2 : 1};
  auto same = llvm::find_if(maps, [&](const TensorMapRecipe &other) {
    return other.tensor == recipe.tensor && other.box == recipe.box;
  });
  map = llvm::formatv("map[{0}]", same - maps.begin()).str();
  if (same == maps.end())
    maps.push_back(recipe);
}

void ScoreWarpgroupsBuilder::constants() {
  const int tileBytes = panelTileBytes(ScorePlan::kTileRows, plan.headDim);
  planConstants(
      t, plan,
      {"kHeads", "kKvHeads", "kGroup", "kSelectHeads", "kDim", "kBlock", "kTopK", "kLocal"});
  if (mayBeDense(plan))
    planConstants(t, plan, {"kDenseLength"});
  summaries.constants();
  t.constant("kConsumers", kConsumers, "warpgroups that compute");
  t.constant("kConsumerThreads", 128 * kConsumers);
  t.constant("kPairs", scores.pairs, "pairs of heads of one token");
  if (scores.sets > 1)
    t.constant("kSets", scores.sets, isPair() ? "sets of 32 tokens" : "sets of 64 tokens");
  t.constant("kMmaTiles", scores.mmaTiles(), "mma tiles of 64 query rows: sets x pairs");
  if (softmax())
    t.constant("kOwnTiles", ownTiles, "mma tiles whose normalisers a warpgroup makes");
  t.constant("kTokens", scores.tileTokens, "tokens of one item of work");
  t.constant("kRows", ScorePlan::kTileRows, "summaries of one tile");
  t.constant("kStages", scores.stages, "stages of the ring of summaries; a multiple of kConsumers");
  t.constant("kTileBytes", tileBytes, "bytes of one tile of summaries");
  t.constant("kQueryBytes", tileBytes / 2, "bytes of one mma tile of queries");
  if (scores.folded)
    t.constant("kCubicEvery", scores.cubicEvery,
               "of a thread's columns, every so many take 2^x by a cubic; 0: none");
  if (selects) {
    t.constant("kScratchItems", ScorePlan::kScratchItems, "items whose scores have room");
    t.constant("kSelectors", kSelectors, "warps that select");
    selection.constants();
  }
  summaries.scaleConstant();
}

/// Shared objects and barriers, by all threads.
void ScoreWarpgroupsBuilder::declare() {
  const int tileBytes = panelTileBytes(ScorePlan::kTileRows, plan.headDim);
  auto makeRing = [&](StringRef name, const char *count, tile::ObjectType tile, int bytes) {
    return t.shared(name, t.type("Ring", {count, tile}), bytes, true);
  };
  queries = makeRing("queries", "@kMmaTiles", t.type("PanelTile", {64, "@kDim", plan.element}),
                     scores.mmaTiles() * tileBytes / 2);
  ring = makeRing("summaries", "@kStages", t.type("PanelTile", {"@kRows", "@kDim", plan.element}),
                  scores.stages * tileBytes);
  if (softmax())
    table = t.shared("table", t.type("NormalizerTable", {"kMmaTiles * 64"}),
                     256 * scores.mmaTiles(), true);
  barriers = t.shared("barriers", t.type("RingBarriers", {"@kStages"}),
                      kBarrierBytes * scores.stages, true);
  queryBarriers = t.shared("query_barriers", t.type("RingBarriers", {"@kMmaTiles"}),
                           kBarrierBytes * scores.mmaTiles(), true);
  if (selects)
    scoreBarriers = t.shared("score_barriers", t.type("RingBarriers", {"@kScratchItems"}),
                             kBarrierBytes * ScorePlan::kScratchItems, true);
  t.when(t.equal(t.value("", "thread_index"), t.number(0)), [&] {
    Value releases = t.mul(t.number(4), t.named("kConsumers"), "releases");
    t.leaf("init_barriers", {barriers, t.number(1), releases});
    t.leaf("init_barriers", {queryBarriers, t.number(1), releases});
    if (selects)
      t.leaf("init_barriers", {scoreBarriers, releases, t.named("kSelectors")});
    t.leaf("fence_barriers", {});
  });
  t.leaf("sync_threads", {});
  warpgroup = t.value("warpgroup", "warpgroup_index");
  Value tokens =
      t.sub(t.field(t.params(), "token_end"), t.field(t.params(), "token_begin"), "chunk");
  slots = t.add(t.div(tokens, t.named("kTokens")), t.field(t.params(), "batch"), "slots");
  items = t.mul(slots, t.named("kSelectHeads"), "items");
}

/// The items of the block of threads, heaviest first: late tokens see the most summaries. Every
/// other round runs backwards, so that nobody gets the heavier item each time.
void ScoreWarpgroupsBuilder::overItems(function_ref<void()> body) {
  overItems(false, [&](Value) { body(); });
}

void ScoreWarpgroupsBuilder::overItems(bool all, function_ref<void(Value)> body) {
  Value grid = t.gridDimension('x'), block = t.blockIndex('x');
  Value rounds = t.div(t.sub(t.add(items, grid), t.number(1)), grid, "rounds");
  t.loop("round", t.number(0), rounds, t.number(1), [&](Value round) {
    Value back = t.sub(t.sub(grid, t.number(1)), block);
    Value place = t.select(t.equal(t.rem(round, t.number(2)), t.number(0)), block, back, "place");
    Value item = t.add(t.mul(round, grid), place, "item");
    selectHead = t.rem(item, t.named("kSelectHeads"), "select_head");
    Value slot =
        t.max(t.number(0), t.sub(t.sub(slots, t.number(1)), t.div(item, t.named("kSelectHeads"))),
              "slot");
    tile = summaries.findTile(slot);
    own = t.div(t.value("", "last_position", {tile}), t.named("kBlock"), "own");
    auto both = [&](Value a, Value b) { return t.compute<arith::AndIOp>(a, b); };
    // Where every block is selected anyway, scores are not needed.
    Value valid = both(t.less(item, items), t.greater(t.field(tile, "tokens"), t.number(0)));
    Value scored = t.atLeast(own, t.named("kTopK"));
    if (!all)
      scored = both(valid, scored);
    if (mayBeDense(plan))
      scored = both(scored, isSparse(t, plan, tile));
    t.when(all ? valid : scored, [&] { body(scored); });
  });
}

Value ScoreWarpgroupsBuilder::scoreRow(Value token, StringRef hint) {
  if (!selects)
    return blockScores.row(selectHead, t.add(t.field(tile, "row"), token), hint);
  Value item =
      t.add(t.mul(t.blockIndex('x'), t.named("kScratchItems")), t.field(scoreCursor, "stage"));
  Value none = t.number(0);
  return blockScores.rowAt(none, t.add(t.mul(item, t.named("kTokens")), token), none, hint);
}

/// A warp of the fused kernel: every so many tokens of each item, those without scores too.
void ScoreWarpgroupsBuilder::selectRows() {
  scoreCursor = t.fragment("score_cursor", t.type("Cursor", {"@kScratchItems"}));
  Value selector = t.rem(t.value("", "warp_index"), t.named("kSelectors"), "selector");
  overItems(true, [&](Value scored) {
    t.when(scored, [&] { t.leaf("wait_full", {scoreBarriers, scoreCursor}); });
    t.loop("token", selector, t.field(tile, "tokens"), t.named("kSelectors"), [&](Value token) {
       Value ownBlock =
           t.div(t.add(t.field(tile, "position"), token), t.named("kBlock"), "own_block");
       Value ids = t.value("ids", "id_row",
                           {t.pointer("ids"), selectHead, t.field(t.params(), "total_q"),
                            t.add(t.field(tile, "row"), token)},
                           {"@kTopK"});
       // Places are made anew for each token: all of them would not fit the registers.
       selection.select(
           tile, ownBlock, ids, selector, [&] { return scoreRow(token, "rank_row"); },
           t.value("start", "varying_zero"));
     })->setAttr("tile.unroll", t.builder.getI32IntegerAttr(1));
    t.when(scored, [&] {
      t.leaf("release", {scoreBarriers, scoreCursor});
      t.leaf("advance", {scoreCursor});
    });
  });
}

void ScoreWarpgroupsBuilder::countTiles() {
  if (softmax()) {
    coarseRows = summaries.rows(plan.normalizer, tile, "coarse_rows");
    Value end = summaries.visibleToLast(plan.normalizer, tile, coarseRows);
    coarseTiles = tiles(t.max(t.number(1), end), "coarse_tiles");
  }
  fineEnd = summaries.scoredEnd(own);
  fineTiles = tiles(fineEnd, "fine_tiles");
}

/// One thread: the item's summaries, tile after tile.
void ScoreWarpgroupsBuilder::feedSummaries() {
  cursor = t.fragment("cursor", t.type("Cursor", {"@kStages"}));
  auto feed = [&](int summary, StringRef name, Value count) {
    Value source = summaries.source(summary, tile, summaries.kvHead(firstHead), name);
    t.loop("index", t.number(0), count, t.number(1), [&](Value index) {
      t.leaf("wait_empty", {barriers, cursor});
      Value landed = t.value("landed", "full_barrier", {barriers, cursor});
      t.leaf("arrive_expecting", {landed, t.named("kTileBytes")});
      Value stage = t.value("", "stage", {ring, cursor});
      t.leaf("copy_image", {stage, source, index, landed});
      t.leaf("advance", {cursor});
    });
  };
  overItems([&] {
    countTiles();
    firstHead = t.mul(selectHead, t.named("kGroup"), "first_head");
    if (softmax())
      feed(plan.normalizer, "coarse", coarseTiles);
    feed(plan.fine, "fine", fineTiles);
  });
}

/// One thread: the item's queries, once every consumer is done with the item before.
void ScoreWarpgroupsBuilder::feedQueries() {
  queryCursor = t.fragment("query_cursor", t.type("Cursor", {"@kMmaTiles"}));
  overItems([&] {
    firstHead = t.mul(selectHead, t.named("kGroup"), "first_head");
    overQueries([&](Value mmaTile) {
      t.leaf("wait_empty", {queryBarriers, queryCursor});
      Value landed = t.value("landed", "full_barrier", {queryBarriers, queryCursor});
      t.leaf("arrive_expecting", {landed, t.named("kQueryBytes")});
      Value head = firstHead, row;
      if (isPair()) {
        head = t.add(firstHead, t.mul(t.rem(mmaTile, t.named("kPairs")), t.number(2)), "head");
        row = t.mul(t.div(mmaTile, t.named("kPairs")), t.number(32));
      } else {
        row = t.mul(mmaTile, t.number(64));
      }
      Value tile64 = t.value("", "stage", {queries, queryCursor});
      t.leaf("copy_query_tile",
             {tile64, t.field(t.params(), map), landed, head, t.add(t.field(tile, "row"), row)},
             {"@kGroup"});
    });
    t.leaf("next_turn", {queryCursor});
  });
}

KernelFacts ScoreWarpgroupsBuilder::facts() const {
  KernelFacts facts = scoreFacts(plan, scores);
  facts.warps = 4 * kConsumers;
  facts.producers = 2;
  facts.mmaWarps = 4;
  facts.stages = scores.stages;
  facts.tokens = scores.tileTokens;
  facts.rowTiles = scores.mmaTiles();
  facts.queryRows = 64 * scores.mmaTiles();
  facts.headPairs = scores.pairs;
  facts.scoreBytes = scores.elementBytes();
  facts.tileSummaries = ScorePlan::kTileRows;
  if (selects)
    IdRow::describe(facts, plan, scores, 1, ScorePlan::kFusedBlocks);
  return facts;
}

BuiltKernel ScoreWarpgroupsBuilder::build() {
  constants();
  if (!softmax())
    hook = blockScores.rewrite();
  declare();
  // 65,536 registers for the block: three warpgroups of 160, one of 32; of 144 and 80 where that
  // one selects.
  t.when(
      t.less(warpgroup, t.named("kConsumers")),
      [&] {
        t.leaf("claim_registers", {}, {selects ? 144 : 160});
        consume();
      },
      [&] {
        t.leaf("release_registers", {}, {selects ? 80 : 32});
        // Two threads, so that neither stream waits for the other.
        Value thread = t.sub(t.value("", "thread_index"), t.named("kConsumerThreads"), "producer");
        t.when(t.equal(thread, t.number(0)), [&] { feedSummaries(); });
        t.when(t.equal(thread, t.number(32)), [&] { feedQueries(); });
        if (selects)
          t.when(t.atLeast(thread, t.number(128 - 32 * kSelectors)), [&] { selectRows(); });
      });
  BuiltKernel built{t.finish(), {}};
  built.recipe.step = selects ? "top_k" : "score";
  built.recipe.facts = facts();
  built.recipe.perChunk = true;
  // Where every block of the longest sequence is selected, no score is needed at all.
  built.recipe.when =
      llvm::formatv("ceil_div(max_k, {0}) > {1}", plan.block,
                    scores.fused ? std::max(plan.topk, ScorePlan::kFusedBlocks) : plan.topk)
          .str();
  if (selects)
    built.recipe.when = scores.fits(plan.block);
  built.recipe.gridX = llvm::formatv("min(sm_count, (token_count / {0} + batch) * {1})",
                                     scores.tileTokens, plan.selectHeads())
                           .str();
  built.recipe.gridY = "1";
  return built;
}

BuiltKernel buildScoreWarpgroups(ModuleOp module, const SelectionPlan &plan,
                                 const ScorePlan &scores, std::vector<TensorMapRecipe> &maps,
                                 bool selects) {
  return ScoreWarpgroupsBuilder(module, plan, scores, maps, selects).build();
}

} // namespace winnow
