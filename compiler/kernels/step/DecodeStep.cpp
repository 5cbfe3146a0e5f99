// See DecodeStep.h. Here: what the roles share, and the launch.
#include "compiler/kernels/step/DecodeStep.h"
#include "compiler/kernels/parts/DenseLength.h"
#include "compiler/kernels/step/Step.h"
#include "runtime/program/Budgets.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {

namespace {

constexpr int kRows = HeadWeights::kRows; ///< summaries of one tile, and keys of one
constexpr int kStages = 8;                ///< a multiple of the warps that take turns
static_assert(kStages % kStepComputers == 0 && kStages % kStepLoaders == 0);

/// The scores of the rows that the host keeps, of a kernel whose edges take a word each, one for
/// each tile of summaries.
ScorePlan told(const SelectionPlan &plan, const ScorePlan &rows) {
  ScorePlan scores = rows.ofKeptRows();
  scores.edgeWords = true;
  scores.blocksPerEdge = kRows / plan.rowsPerBlock();
  return scores;
}

/// Formula: selections of a launch.
std::string selectionsOf(const SelectionPlan &plan) {
  return llvm::formatv("({0} * total_q)", plan.selectHeads()).str();
}
/// Formula: tiles of 32 summaries of the longest sequence.
std::string rowTilesOf(const SelectionPlan &plan) {
  return llvm::formatv("ceil_div(max_k, {0})", HeadWeights::tileKeys(plan)).str();
}

} // namespace

bool makesStep(const SelectionPlan &plan, const AttendPlan &attend, const ScorePlan &scores,
               const Target &target) {
  return target.hasClusters && target.hasWarpgroupMma && scores.ranks && plan.weighsHeads() &&
         HeadWeights::headTiles(plan) == 1 && attend.headTiles == 1 && attend.group == plan.group &&
         !plan.hasFp8Keys() && !attend.logitHook && plan.headDim <= 128 &&
         attend.valueDim == plan.headDim && plan.block % kRows == 0 &&
         plan.normalizerMeans()->open() <= 1 && plan.rowsPerBlock() >= 4 &&
         plan.rowsPerBlock() <= 8 && plan.topk > plan.init + plan.local;
}

std::string stepTiles(const SelectionPlan &plan) {
  // Chunks that give each block of threads one, but not so small that telling takes longer.
  constexpr int unit = 2;
  const std::string even = llvm::formatv("ceil_div({0} * {1}, {2} * sm_count) * {2}",
                                         rowTilesOf(plan), selectionsOf(plan), unit)
                               .str();
  // One new summary of a sequence, at most; as many chunks of a block of threads as have places,
  // and no more of a selection than there are blocks of threads, lest two wait for each other.
  int newTokens = kDecodeTokens;
  for (const SelectionPlan::Summary &summary : plan.summaries)
    newTokens = std::min(newTokens, summary.stride);
  std::string fits =
      llvm::formatv("(max_q <= {0}) * (total_q <= {1}) * (max_k <= {2}) * (max_k > "
                    "{3}) * (step_limit >= sm_count) * (sm_count <= {7}) * ({4} * {5} <= {6} * "
                    "sm_count) * ({5} <= {8} * sm_count)",
                    newTokens, kStepTokens, kStepBlocks * plan.block, plan.topk * plan.block,
                    selectionsOf(plan), rowTilesOf(plan), unit * kStepChunks, kStepGrid,
                    kStepChunkTiles)
          .str();
  if (plan.crossing)
    fits += " * (max_k >= dense_length)";
  return llvm::formatv("{0} * min({1}, max({2}, {3}))", fits, kStepChunkTiles, unit, even).str();
}

std::string stepExchangeBytes(const SelectionPlan &plan) {
  return llvm::formatv("(step > 0) * {0} * ({1} * ceil_div({2}, max(1, step)) + 32 * {2})",
                       selectionsOf(plan), 16 * plan.group, rowTilesOf(plan))
      .str();
}
std::string stepParts(const SelectionPlan &plan) {
  return llvm::formatv("(step > 0) * 2 * ceil_div((sm_count + {0}) * {1}, 2)", selectionsOf(plan),
                       plan.group)
      .str();
}

DecodeStepBuilder::DecodeStepBuilder(ModuleOp module, const SelectionPlan &plan,
                                     const AttendPlan &attend, const ScorePlan &rows, int values,
                                     int states)
    : plan(plan), attend(attend), scores(told(plan, rows)), means(*plan.normalizerMeans()),
      values(values), states(states),
      t(module, "decode_step",
        llvm::formatv("decode_step of {0}: the {1} best blocks of every token, forced ones "
                      "included, and softmax attention to them; blocks of threads that all run at "
                      "the same time.",
                      plan.method, plan.topk)
            .str(),
        kWarpThreads * kStepWarps, 1),
      compressed(t, plan, scores), blockScores(t, plan, scores), weights(t, plan, scores),
      selection(t, plan, scores, kStepSelectors,
                kStepBlocks / kStepSelectors / RowSelection::kChunkBlocks, /*together=*/true),
      octaves(t, plan, scores, kStepSelectors), tokens(t, attend),
      source(t, attend, KeySource::Tiles::Shared, /*once=*/true), logits(t, attend),
      mask(t, attend, "kKeys"), softmax(t, attend, {}), epilogue(t, attend) {}

void DecodeStepBuilder::constants() {
  planConstants(
      t, plan,
      {"kHeads", "kKvHeads", "kGroup", "kSelectHeads", "kDim", "kBlock", "kTopK", "kLocal"});
  t.constant("kValueDim", attend.valueDim, "elements of one value or output row");
  if (mayBeDense(plan))
    planConstants(t, plan, {"kDenseLength"});
  compressed.constants();
  weights.constants();
  weights.tileConstants();
  t.constant("kKeys", kRows, "keys of one tile");
  t.constant("kTilesPerBlock", plan.block / kRows, "key tiles of one selectable block");
  t.constant("kTokens", kStepTokens, "tokens of a launch, at most");
  t.constant("kForced", plan.init + plan.local, "blocks that are not searched for");
  t.constant("kForcedTiles", (plan.init + plan.local) * (plan.block / kRows), "their key tiles");
  t.constant("kChoiceTiles", plan.topk * (plan.block / kRows),
             "key tiles of all blocks of a choice");
  t.constant("kChunkTiles", kStepChunkTiles, "tiles of a chunk of summaries, at most");
  t.constant("kScores", kStepScores, "chunks whose weights wait");
  t.constant("kThreads", kStepSelectors * kWarpThreads, "threads that select; that normalise");
  t.constant("kComputers", kStepComputers, "warps that multiply");
  t.constant("kStages", kStages, "stages of the ring");
  selection.constants();
  compressed.scaleConstant();
  t.constant("kFactor", 1.0, "the host's rows are plain means");
}

/// Shared objects and barriers, by all threads.
void DecodeStepBuilder::declare() {
  const int heads = plan.group, open = std::max(means.open(), 1),
            tiles = kStepScores * kStepChunkTiles;
  const int tileBytes = sharedTileBytes(kRows, plan.headDim);
  auto pinned = [&](StringRef name, tile::ObjectType type, int bytes) {
    return t.shared(name, type, bytes, /*pinned=*/true);
  };
  tile::ObjectType keyTile = t.type("SharedTile", {"@kKeys", "@kDim", plan.element}),
                   valueTile = t.type("SharedTile", {"@kKeys", "@kValueDim", plan.element});
  keyRing = pinned("key_ring", t.type("Ring", {"@kStages", keyTile}), kStages * tileBytes);
  valueRing = pinned("value_ring", t.type("Ring", {"@kStages", valueTile}), kStages * tileBytes);
  const int weightBytes = 16 * (4 * heads * tiles + (heads * tiles + 3) / 4),
            joinedBytes = kStepComputers * 16 * (4 * attend.valueDim + 8);
  tile::ObjectType weightType = t.type("TileWeights", {"@kTileHeads", "kScores * kChunkTiles"}),
                   joinedType = t.type("JoinedSums", {"@kComputers", "@kValueDim"});
  Value overlay = pinned("weights_or_sums", t.type("Overlay", {weightType, joinedType}),
                         std::max(weightBytes, joinedBytes));
  tileWeights = t.value("weights", "first_of", {overlay});
  joined = t.value("joined", "second_of", {overlay});
  openSums = pinned("open_sums",
                    t.type("OpenSums", {"@kTileHeads", means.open(), "kScores * kChunkTiles"}),
                    8 * heads * open * tiles);
  warpShares = pinned("warp_shares", t.type("WarpShares", {"kScores * kComputers", "@kTileHeads"}),
                      8 * kStepScores * kStepComputers * heads);
  rankRow = pinned("rank_row", t.type("RankRow", {kStepBlocks, 4}),
                   2 * kStepBlocks + 4 * ((kStepBlocks / 4 + 7) / 8 * 8));
  table = pinned("table", t.type("StepTable", {"@kTokens"}),
                 52 * kStepTokens + 8 * (kStepTokens + 4) + 4 * (kStepGrid + 4));
  chunkList = pinned("chunk_list", t.type("ChunkList", {kStepChunks}), 2 * kStepChunks + 16);
  lists = pinned("lists", t.type("IdLists", {"@kTopK"}), 2 * 4 * ((plan.topk + 3) / 4 * 4));
  normalizers = pinned("normalizers", t.type("NormalizerTable", {"kScores * kTableRows"}),
                       4 * 16 * kStepScores);
  auto ring = [&](StringRef name, TemplateArgument stages, int count) {
    return pinned(name, t.type("RingBarriers", {stages}), kBarrierBytes * count);
  };
  barriers = ring("barriers", "@kStages", kStages);
  scoreBarriers = ring("score_barriers", "@kScores", kStepScores);
  tableBarriers = ring("table_barriers", "@kScores", kStepScores);
  listBarriers = ring("list_barriers", 2, 2);
  clearedBarriers = ring("cleared_barriers", 1, 1);
  pieceBarriers = ring("piece_barriers", 1, 1);
  counts = pinned("counts", t.type("WarpCounts", {"2 * kWarps"}), 4 * 2 * kStepSelectors);
  octaves.declare();

  thread = t.value("thread", "thread_index");
  warp = t.value("warp", "warp_index");
  block = t.blockIndex('x', "block");
  blocks = t.gridDimension('x');
  // By a warp that has no token to look at, see fillTable.
  static_assert(kStepTokens <= kWarpThreads * (kStepWarps - 1));
  t.when(t.equal(thread, t.number(kWarpThreads * kStepWarps - 1)), [&] {
    t.leaf("init_ring", {barriers, t.number(kWarpThreads), t.number(1)});
    const int selectors = kStepSelectors * kWarpThreads, computers = kStepComputers * kWarpThreads;
    t.leaf("init_barriers", {scoreBarriers, t.number(computers), t.number(selectors)});
    t.leaf("init_barriers", {clearedBarriers, t.number(1), t.number(1)});
    t.leaf("init_barriers", {pieceBarriers, t.number(selectors), t.number(1)});
    t.leaf("init_barriers",
           {tableBarriers, t.number(kStepNormalizers * kWarpThreads), t.number(1)});
    t.leaf("init_barriers",
           {listBarriers, t.number(selectors), t.number(computers + kStepLoaders * kWarpThreads)});
  });
}

/// What each token sees, and how much work of each kind its selections are.
void DecodeStepBuilder::fillTable() {
  chunkTiles = t.field(t.params(), "step");
  t.when(t.less(thread, t.named("kTokens")), [&] {
    Value tile = t.value("token_tile", "find_step_token",
                         {t.pointer("cu_q"), t.keyLengths(true), t.field(t.params(), "batch"),
                          t.field(t.params(), "total_q"), thread});
    Work work;
    work.tile = tile;
    work.firstHead = t.number(0);
    Value exists = t.differ(t.field(tile, "tokens"), t.number(0));
    work.own = t.div(t.field(tile, "position"), t.named("kBlock"), "own");
    Value chooses = t.compute<arith::AndIOp>(exists, t.atLeast(work.own, t.named("kTopK")));
    if (mayBeDense(plan))
      chooses = t.compute<arith::AndIOp>(chooses, isSparse(t, plan, tile));
    seeSummaries(work);
    Value none = t.number(0);
    Value all = t.select(exists, mask.visibleTiles(tile), none, "all_tiles");
    t.leaf("put_step_token",
           {table, thread, tile, work.seen.rows, work.seen.visible, work.seen.normalizerVisible,
            work.seen.scoredEnd, work.tiles, t.select(chooses, work.chunks, none),
            t.select(chooses, t.named("kChoiceTiles"), all)});
  });
  t.leaf("sum_step_tokens", {table});
  t.leaf("sync_threads", {});
  t.leaf("fill_chunk_list", {chunkList, table, t.field(t.params(), "total_q"), block, blocks},
         {"@kSelectHeads"});
  t.leaf("sync_threads", {});
}

/// The block's share of each kind.
void DecodeStepBuilder::shareOut() {
  scale = t.namedReal("kScale");
  selections = t.mul(t.named("kSelectHeads"), t.field(t.params(), "total_q"), "selections");
  mostTiles = weights.rowTiles();
  mostChunks = t.div(t.add(mostTiles, t.sub(chunkTiles, t.number(1))), chunkTiles, "most_chunks");
  exchange = t.value("exchange", "exchange_of",
                     {t.pointer(t.bufferMember(plan.scoreBuffer() + 3)), selections,
                      t.named("kTileHeads"), mostChunks, mostTiles});
  // Two tiles to a stage, where a chunk has one for each warp that multiplies.
  itemTiles = t.select(t.atLeast(chunkTiles, t.number(2 * kStepComputers)), t.number(2),
                       t.number(1), "item_tiles");
}

/// Until something is ready that all roles need once.
void DecodeStepBuilder::await(Value barriersOfIt) {
  t.leaf("wait_full", {barriersOfIt, t.fragment("once", t.type("Cursor", {1}))});
}

/// The block's parts, by a role; they are cut by the warps that select.
void DecodeStepBuilder::shareKeys() {
  await(pieceBarriers);
  parts = t.value("parts", "step_parts", {table, t.field(t.params(), "total_q"), block},
                  {"@kSelectHeads"});
}

DecodeStepBuilder::Work DecodeStepBuilder::workOf(Value item) {
  Work work;
  work.item = item;
  work.tile = t.field(item, "tile");
  work.selection = t.field(item, "selection");
  work.selectHead = t.field(item, "select_head");
  work.begin = t.field(item, "begin");
  work.end = t.field(item, "end");
  work.firstHead = t.mul(work.selectHead, t.named("kGroup"), "first_head");
  work.own = t.div(t.field(work.tile, "position"), t.named("kBlock"), "own");
  work.chooses = t.atLeast(work.own, t.named("kTopK"));
  if (mayBeDense(plan))
    work.chooses = t.compute<arith::AndIOp>(work.chooses, isSparse(t, plan, work.tile));
  work.forcedFrom = t.add(t.sub(work.own, t.named("kLocal")), t.number(1), "forced_from");
  return work;
}

void DecodeStepBuilder::seeSummaries(Work &work) {
  work.seen = weights.seen(work.tile, work.own, work.firstHead, "");
  // Blocks without any summary have ranks, too.
  Value scored = t.div(t.add(work.seen.scoredEnd, t.number(kRows - 1)), t.named("kRows"));
  work.tiles = t.max(work.seen.tiles, scored, "tiles");
  work.chunks =
      t.div(t.add(work.tiles, t.sub(chunkTiles, t.number(1))), chunkTiles, "chunks_of_it");
}

/// A chunk of the block's: `begin` and `end` are its tiles.
DecodeStepBuilder::Work DecodeStepBuilder::chunk(Value index) {
  Value ofLaunch = t.add(block, t.mul(index, blocks), "chunk");
  Work work = workOf(
      t.value("item", "listed_chunk", {chunkList, table, index, ofLaunch}, {"@kSelectHeads"}));
  auto sight = [&](const char *member) { return t.field(work.item, member); };
  work.seen.rows = sight("rows");
  work.seen.visible = sight("visible");
  work.seen.normalizerVisible = sight("normalizer_visible");
  work.seen.scoredEnd = sight("scored_end");
  work.tiles = sight("tiles");
  work.chunks = sight("all");
  work.begin = t.mul(t.field(work.item, "begin"), chunkTiles, "begin");
  work.end = t.min(t.add(work.begin, chunkTiles), work.tiles, "end");
  return work;
}

/// Stages of a chunk, without a division by a number that the launch alone knows.
Value DecodeStepBuilder::stagesOf(const Work &work) {
  Value tiles = t.sub(work.end, work.begin);
  Value pairs = t.div(t.add(tiles, t.number(1)), t.number(2));
  return t.select(t.greater(itemTiles, t.number(1)), pairs, tiles, "count");
}

void DecodeStepBuilder::overChunks(Body<Work> body) {
  t.loop("index", t.number(0), t.value("", "count_chunks", {chunkList}), t.number(1),
         [&](Value index) { body(chunk(index)); });
}

void DecodeStepBuilder::overParts(Body<Work> body) {
  t.loop("index", t.number(0), t.value("", "count_step_parts", {parts}), t.number(1),
         [&](Value index) {
           Work work =
               workOf(t.value("item", "step_part", {table, parts, index}, {"@kSelectHeads"}));
           work.count = t.max(t.number(0), t.sub(work.end, work.begin), "count");
           findChosen(work);
           body(work);
         });
}

/// Of a selection's tiles a part has the same share of the forced ones as of the chosen ones: so
/// each block of threads has something to read while blocks are being chosen.
void DecodeStepBuilder::findChosen(Work &work) {
  auto forcedBefore = [&](Value entry) {
    return t.div(t.mul(entry, t.named("kForcedTiles")), t.named("kChoiceTiles"));
  };
  Value first = forcedBefore(work.begin), early = t.sub(forcedBefore(work.end), first);
  work.early = t.select(work.chooses, early, work.count, "early");
  work.firstForced = t.select(work.chooses, first, work.begin, "first_forced");
  work.firstChosen = t.sub(work.begin, first, "first_chosen");
  work.needsIds =
      t.compute<arith::AndIOp>(hasItems(work), t.greater(work.count, work.early), "needs_ids");
}

Value DecodeStepBuilder::hasItems(const Work &work) { return t.greater(work.count, t.number(0)); }

/// Over the `count` stages from the cursor's on, those that fall to the warp, which is `turn` of
/// `warps`: body(index, place).
void DecodeStepBuilder::overTurns(Value count, int warps, Body<Value> body) {
  t.leaf("follow", {place, cursor});
  Value first =
      t.compute<arith::AndIOp>(t.sub(turn, t.field(cursor, "stage")), t.number(warps - 1), "first");
  t.leaf("advance_by", {place, first});
  t.loop("index", first, count, t.number(warps), [&](Value index) {
    body(index);
    t.leaf("advance_by", {place, t.number(warps)});
  });
  t.leaf("advance_by", {cursor, count});
}

BuiltKernel DecodeStepBuilder::build() {
  constants();
  declare();
  fillTable();
  shareOut();
  auto meetAt = [&](int barrier, int warps) {
    std::prev(t.builder.getInsertionPoint())
        ->setAttr("tile.team", t.builder.getDenseI32ArrayAttr({barrier, warps * kWarpThreads}));
  };
  // 65,536 registers for the block.
  t.when(
      t.less(warp, t.number(kStepSelectors)),
      [&] {
        t.leaf("release_registers", {}, {kSelectRegisters});
        select();
      },
      [&] {
        t.when(
            t.less(thread, t.number(kFirstComputer)),
            [&] {
              t.leaf("release_registers", {}, {kNormalizeRegisters});
              normalize();
            },
            [&] {
              t.when(
                  t.less(warp, t.number(kStepWarps - kStepLoaders)),
                  [&] {
                    t.leaf("claim_registers", {}, {kComputeRegisters});
                    compute();
                  },
                  [&] {
                    t.leaf("release_registers", {}, {kLoadRegisters});
                    load();
                  });
            });
        meetAt(kNormalizeBarrier, kStepNormalizers);
      });
  meetAt(kSelectBarrier, kStepSelectors);

  BuiltKernel built{t.finish(), {}};
  Kernel &recipe = built.recipe;
  recipe.step = "attend";
  recipe.facts.warps = kStepComputers;
  recipe.facts.producers = kStepLoaders;
  recipe.facts.mmaWarps = 1;
  recipe.facts.stages = kStages;
  recipe.facts.tokens = 1;
  recipe.facts.rowTiles = 1;
  recipe.facts.headDim = plan.headDim;
  recipe.facts.valueDim = attend.valueDim;
  recipe.facts.group = plan.group;
  recipe.facts.topk = plan.topk;
  recipe.facts.init = plan.init;
  recipe.facts.local = plan.local;
  recipe.facts.keys = recipe.facts.tileKeys = kRows;
  recipe.facts.tilesPerBlock = plan.block / kRows;
  recipe.facts.tileSummaries = kRows;
  recipe.facts.rowWarps = kStepSelectors;
  recipe.facts.rowBlocks = kStepBlocks;
  recipe.cooperative = true;
  recipe.when = "step > 0";
  recipe.gridX = "sm_count";
  recipe.gridY = "1";
  return built;
}

BuiltKernel buildDecodeStep(ModuleOp module, const SelectionPlan &plan, const AttendPlan &attend,
                            const ScorePlan &scores, int valuesBuffer, int statesBuffer) {
  return DecodeStepBuilder(module, plan, attend, scores, valuesBuffer, statesBuffer).build();
}

} // namespace winnow
