// The score kernel: everything from log-sum-exp to pooling in one kernel, so that no [heads,
// tokens, summaries] tensor exists. Written as one thread of control; the pipelining pass moves the
// loads, the barrier pass adds the order. Method of the row orders: see
// templates/select/scoring.cuh.
#include "compiler/kernels/Kernels.h"
#include "compiler/kernels/parts/BlockScores.h"
#include "compiler/kernels/parts/DenseLength.h"
#include "compiler/kernels/parts/Summaries.h"
#include "runtime/program/Budgets.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

/// Sizes of one score kernel: `tokenGroups` x `parts` warps; a warp owns `sets` sets of 8 tokens
/// against 32 summaries of a tile, and the warps of a token group share a tile. Of groups of more
/// than 16 heads a warp has one set, of several head tiles, whose normalisers it makes in turn.
struct Sizes {
  int tokenGroups, parts, sets, pairs, headTiles;
  int threads() const { return 32 * tokenGroups * parts; }
  int sums() const { return sets * pairs; }            ///< mma tiles whose normalisers a lane holds
  int warpTiles() const { return headTiles * sums(); } ///< mma tiles of one warp
  int queryRows() const { return 16 * tokenGroups * warpTiles(); }
  int tokens() const { return 8 * tokenGroups * sets; }
  int tileRows() const { return 32 * parts; } ///< summaries of one shared tile
};

constexpr int kMostSums = 8; ///< what a lane's registers hold normalisers for

int sharedBytes(const SelectionPlan &plan, const Sizes &s) {
  return scoreSharedBytes(s.queryRows(), s.tileRows(), plan.headDim, plan.normalizer >= 0);
}

/// As many warps as fit the target, then as many query rows: 256 rows of queries and 128 summaries
/// where the shared memory holds them.
Result<Sizes> chooseSizes(const SelectionPlan &plan, const Target &target, const Config &config) {
  const int allPairs = (plan.group + 1) / 2, pairs = std::min(allPairs, kMostSums),
            sets = kMostSums / pairs, headTiles = allPairs / pairs;
  const Sizes full{2, 4, sets, pairs, headTiles};
  Sizes best{0, 0, 0, pairs, headTiles};
  for (int groups : {2, 1})
    for (int parts : {4, 2, 1})
      for (int s = sets; s > 0; --s) {
        Sizes candidate{groups, parts, s, pairs, headTiles};
        if (sharedBytes(plan, candidate) <= target.sharedPerBlock &&
            std::pair(candidate.threads(), candidate.queryRows()) >
                std::pair(best.threads(), best.queryRows()))
          best = candidate;
      }
  if (const Sizes least{1, 1, 1, pairs, headTiles}; best.threads() == 0)
    return fail(ErrorKind::Unsupported,
                llvm::formatv("scores of {0} query heads per key/value head at head dimension {1} "
                              "need {2} bytes of shared memory, {3} has {4}",
                              plan.group, plan.headDim, sharedBytes(plan, least), target.arch,
                              target.sharedPerBlock)
                    .str());
  if (config.scoreTokens != 0 && best.tokens() < full.tokens())
    return fail(ErrorKind::Unsupported,
                llvm::formatv("score_tokens={0} needs {1} bytes of shared memory at head dimension "
                              "{2}, {3} has {4}: leave it out",
                              config.scoreTokens, sharedBytes(plan, full), plan.headDim,
                              target.arch, target.sharedPerBlock)
                    .str());
  return best;
}

class ScoreBuilder {
public:
  ScoreBuilder(ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores,
               const Sizes &sizes)
      : plan(plan), scores(scores), sizes(sizes), sets(sizes.sets),
        t(module, "score",
          llvm::formatv("score of {0}: block scores of every token, heads combined and summaries "
                        "pooled in registers.",
                        plan.method)
              .str(),
          sizes.threads(), 1),
        compressed(t, plan, scores), blockScores(t, plan, scores) {}
  BuiltKernel build();

private:
  bool softmax() const { return plan.normalizer >= 0; }
  KernelFacts facts() const;
  void constants();
  void locate();
  void normalize();
  void sumExponentials(Value source, Value end, Value rows, Value all);
  void score();
  void scoreSet(Value set, Value firstRow, Value hook);
  /// The loop over tiles of summary rows; `body` gets the tile's first row of the warp.
  void overTiles(Value source, Value end, Value limit, bool atLeastOnce,
                 function_ref<void(Value)> body);
  /// The tiles of 16 heads of a token, one after the other.
  void overHeadTiles(function_ref<void()> body);
  /// The warp's token sets; unrolled where the body indexes registers by them.
  void overSets(bool unroll, function_ref<void(Value)> body);
  Value product(Value set, Value pair, Value &mmaTile, Value &row, Value below = {});
  void addHeads(Value rowScores, Value set, Value position, Value firstRow, Value hook,
                bool weights);

  const SelectionPlan &plan;
  const ScorePlan &scores;
  const Sizes sizes;
  const int sets;
  KernelBuilder t;
  Summaries compressed;
  BlockScores blockScores;
  Value tile, queries, summaries, operand, table, selectHead, firstHead, kvHead, tokenGroup, part,
      own, fineRows, fineEnd, fineAll, large, headTile;
};

void ScoreBuilder::constants() {
  planConstants(
      t, plan,
      {"kHeads", "kKvHeads", "kGroup", "kDim", "kBlock", "kTopK", "kLocal", "kDenseLength"});
  compressed.constants();
  t.constant("kSets", sets, "sets of 8 tokens of one warp");
  t.constant("kPairs", sizes.pairs, "pairs of heads of one token");
  if (sizes.headTiles > 1)
    t.constant("kHeadTiles", sizes.headTiles, "times that many: tiles of heads, summed in turn");
  t.constant("kThreads", sizes.threads());
  t.constant("kTokens", sizes.tokens(), "tokens of one block of threads");
  t.constant("kQueryRows", sizes.queryRows(), "rows of queries: tokens x heads");
  t.constant("kRows", sizes.tileRows(), "summaries of one tile");
  compressed.scaleConstant();
}

void ScoreBuilder::locate() {
  queries = t.shared("queries", t.type("SharedTile", {"@kQueryRows", "@kDim", plan.element}),
                     sharedTileBytes(sizes.queryRows(), plan.headDim));
  summaries = t.shared("summaries", t.type("SharedTile", {"@kRows", "@kDim", plan.element}),
                       sharedTileBytes(sizes.tileRows(), plan.headDim));
  // Late tokens see the most summaries: heaviest tiles first.
  Value slot = t.sub(t.sub(t.gridDimension('x'), t.number(1)), t.blockIndex('x'), "slot");
  tile = compressed.findTile(slot);
  t.returnIf(t.equal(t.field(tile, "tokens"), t.number(0)));
  own = t.div(t.value("", "last_position", {tile}), t.named("kBlock"), "own");
  // Where every block is selected anyway, scores are not needed.
  t.returnIf(t.either(t.less(own, t.named("kTopK")), isDense(t, plan, tile)));
  selectHead = t.blockIndex('y', "select_head");
  firstHead = t.mul(selectHead, t.named("kGroup"), "first_head");
  kvHead = compressed.kvHead(firstHead);
  Value warp = t.value("warp", "warp_index");
  tokenGroup = t.rem(warp, t.number(sizes.tokenGroups), "token_group");
  part = t.div(warp, t.number(sizes.tokenGroups), "part");
  fineRows = compressed.rows(plan.fine, tile, "fine_rows");
  operand = t.fragment("operand", t.type("RightOperand", {32, "@kDim", plan.element}));
  t.leaf("load_queries", {queries, t.heads("q", plan.paged), tile, firstHead},
         {"@kThreads", "@kHeads", "@kGroup", "@kSets"});
}

void ScoreBuilder::overTiles(Value source, Value end, Value limit, bool atLeastOnce,
                             function_ref<void(Value)> body) {
  scf::ForOp loop = t.loop("row", t.number(0), end, t.named("kRows"), [&](Value row) {
    t.leaf("load_summaries", {summaries, source, row, limit}, {"@kThreads"});
    Value firstOfWarp = t.mul(part, t.number(32));
    t.leaf("load_operand", {operand, summaries, firstOfWarp});
    body(t.add(row, t.mul(part, t.number(32)), "first_row"));
  });
  loop->setAttr("tile.pipeline", t.builder.getStringAttr("rotate"));
  if (atLeastOnce)
    loop->setAttr("tile.at_least_once", t.builder.getUnitAttr());
}

void ScoreBuilder::overSets(bool unroll, function_ref<void(Value)> body) {
  if (sets == 1)
    body(t.number(0));
  else if (unroll)
    t.unrolled("set", t.named("kSets"), body);
  else
    t.loop("set", t.number(0), t.named("kSets"), t.number(1), body)
        ->setAttr("tile.unroll", t.builder.getI32IntegerAttr(1)); // rolled: registers are short
}

void ScoreBuilder::overHeadTiles(function_ref<void()> body) {
  if (sizes.headTiles == 1)
    return body();
  t.loop("head_tile", t.number(0), t.named("kHeadTiles"), t.number(1), [&](Value index) {
     headTile = index;
     body();
   })->setAttr("tile.unroll", t.builder.getI32IntegerAttr(1)); // rolled: 16 heads are long enough
  headTile = {};
}

/// Logits of one mma tile: 8 tokens x 2 heads against the warp's 32 summaries; less the references
/// of `below`, if given.
Value ScoreBuilder::product(Value set, Value pair, Value &mmaTile, Value &row, Value below) {
  mmaTile = sets == 1 ? pair : t.add(t.mul(set, t.named("kPairs")), pair, "mma_tile");
  Value logits = t.fragment("logits", t.type("Accumulator", {16, 32}));
  if (below)
    t.leaf("start_below", {logits, below, mmaTile});
  else
    t.leaf("clear", {logits});
  row = t.mul(tokenGroup, t.number(16 * sizes.warpTiles()));
  if (headTile)
    row = t.add(row, t.mul(headTile, t.number(16 * sizes.sums())));
  row = t.add(row, t.mul(mmaTile, t.number(16)), "query_row");
  t.leaf("mma_abt", {logits, queries, row, operand});
  return logits;
}

/// The normalisers of the mma tiles that a lane has sums for, from the tiles of summaries in front
/// of `end`; every token sees those up to `all`.
void ScoreBuilder::sumExponentials(Value source, Value end, Value rows, Value all) {
  Value sums = t.fragment("sums", t.type("LogSumExp", {sizes.sums()}));
  if (scores.folded)
    t.leaf("start_sums", {sums, t.real(0)});
  else
    t.leaf("clear", {sums});
  overTiles(source, end, rows, /*atLeastOnce=*/true, [&](Value firstRow) {
    overSets(/*unroll=*/true, [&](Value set) {
      Value token = t.value("token", "set_token", {tokenGroup, set}, {"@kSets"});
      Value seen = compressed.visible(plan.normalizer, tile, rows, "visible", token);
      Value reaches = t.greater(t.add(firstRow, t.number(32)), all);
      auto addPairs = [&](bool masked) {
        t.unrolled("pair", t.named("kPairs"), [&](Value pair) {
          Value below = scores.folded ? sums : Value();
          Value mmaTile, row, logits = product(set, pair, mmaTile, row, below);
          auto mask = [&] { t.leaf("mask_summaries", {logits, firstRow, seen}); };
          if (!scores.folded) {
            t.when(reaches, mask);
            t.leaf("add_exponentials", {sums, mmaTile, logits, t.namedReal("kScale")});
            return;
          }
          if (masked)
            mask();
          t.leaf("add_powers", {sums, mmaTile, logits});
        });
      };
      // Two loops: a condition within would become a choice per logit. The form without references
      // has no registers for them.
      if (scores.folded)
        t.when(reaches, [&] { addPairs(true); }, [&] { addPairs(false); });
      else
        addPairs(false);
    });
  });
  t.loop("turn", t.number(0), t.number(sizes.parts), t.number(1), [&](Value turn) {
    t.when(t.equal(part, turn), [&] {
      Value place =
          headTile ? t.add(t.mul(tokenGroup, t.named("kHeadTiles")), headTile) : tokenGroup;
      t.leaf("merge_normalizers", {table, sums, place, t.equal(turn, t.number(0))});
    });
  });
}

/// log-sum-exp of every query row over the normaliser's summaries.
void ScoreBuilder::normalize() {
  const int normalizer = plan.normalizer;
  Value coarseRows =
      normalizer == plan.fine ? fineRows : compressed.rows(normalizer, tile, "coarse_rows");
  Value end =
      t.max(t.number(1), compressed.visibleToLast(normalizer, tile, coarseRows), "coarse_end");
  Value source = compressed.source(normalizer, tile, kvHead, "coarse");
  // Summaries that every token of the block sees need no mask.
  Value all = compressed.visible(normalizer, tile, coarseRows, "coarse_all");
  table = t.shared("table", t.type("NormalizerTable", {"@kQueryRows"}), 4 * sizes.queryRows());
  overHeadTiles([&] { sumExponentials(source, end, coarseRows, all); });
  if (!scores.folded)
    return;
  Value leaves = t.value("leaves", "table_leaves_weights", {table}, {"@kThreads"});
  large = t.value("large", "sync_threads_any", {leaves});
  t.when(t.equal(large, t.flag(false)),
         [&] { t.leaf("weigh_normalizers", {table}, {"@kThreads"}); });
}

/// Adds all heads of one token set, with the table's weights or its normalisers.
void ScoreBuilder::addHeads(Value rowScores, Value set, Value position, Value firstRow, Value hook,
                            bool weights) {
  const char *combine = blockScores.combine();
  overHeadTiles([&] {
    t.unrolled("pair", t.named("kPairs"), [&](Value pair) {
      Value mmaTile, row, logits = product(set, pair, mmaTile, row);
      blockScores.overHeads(pair, [&](int heads) {
        TemplateArgument ofTile =
            heads < plan.group && heads == 1 ? TemplateArgument(1) : "@kGroup";
        if (weights)
          t.leaf("add_weighted_heads", {rowScores, logits, table, row}, {ofTile});
        else if (softmax())
          t.leaf("add_softmax_scores", {rowScores, logits, table, row, t.namedReal("kScale")},
                 {combine, ofTile});
        else
          t.leaf("add_raw_scores",
                 {rowScores, logits, position, firstRow, t.namedReal("kScale"), hook},
                 {combine, ofTile});
      });
    });
  });
}

/// Block scores of one token set from the warp's 32 summaries.
void ScoreBuilder::scoreSet(Value set, Value firstRow, Value hook) {
  Value token = t.value("token", "set_token", {tokenGroup, set}, {"@kSets"});
  Value position = t.add(t.field(tile, "position"), token, "position");
  Value seen = compressed.visible(plan.fine, tile, fineRows, "visible", token, position);
  Value rowScores = blockScores.cleared("RowScores");
  auto add = [&](bool weights) { addHeads(rowScores, set, position, firstRow, hook, weights); };
  if (scores.folded)
    t.when(large, [&] { add(false); }, [&] { add(true); });
  else
    add(false);
  blockScores.hide(rowScores, firstRow, t.add(firstRow, t.number(32)), fineEnd, fineAll, fineRows,
                   [&] { return seen; });
  Value row = blockScores.row(selectHead, t.add(t.field(tile, "row"), token), "block_scores");
  blockScores.store(row, rowScores, firstRow, fineRows, t.less(token, t.field(tile, "tokens")));
}

void ScoreBuilder::score() {
  Value hook;
  if (!softmax())
    hook = blockScores.rewrite();
  fineEnd = compressed.scoredEnd(own);
  fineAll = compressed.visible(plan.fine, tile, fineRows, "fine_all");
  Value source = compressed.source(plan.fine, tile, kvHead, "fine");
  overTiles(source, fineEnd, fineRows, /*atLeastOnce=*/false, [&](Value firstRow) {
    overSets(/*unroll=*/false, [&](Value set) { scoreSet(set, firstRow, hook); });
  });
}

KernelFacts ScoreBuilder::facts() const {
  KernelFacts facts = scoreFacts(plan, scores);
  facts.warps = sizes.tokenGroups * sizes.parts;
  facts.producers = 0; // they load for themselves
  facts.mmaWarps = 1;
  facts.stages = 1;
  facts.tokens = sizes.tokens();
  facts.rowTiles = sizes.warpTiles();
  facts.queryRows = sizes.queryRows();
  facts.headPairs = sizes.pairs;
  facts.scoreBytes = scores.elementBytes();
  facts.laneRegisters = scoreLaneRegisters(sizes.sums(), sizes.pairs, plan.headDim);
  facts.tileSummaries = sizes.tileRows();
  return facts;
}

BuiltKernel ScoreBuilder::build() {
  constants();
  locate();
  if (softmax())
    normalize();
  score();
  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "score";
  built.recipe.facts = facts();
  built.recipe.perChunk = true;
  // Where every block of the longest sequence is selected, no score is needed at all.
  built.recipe.when = llvm::formatv("ceil_div(max_k, {0}) > {1}", plan.block, plan.topk).str();
  built.recipe.gridX = llvm::formatv("token_count / {0} + batch", sizes.tokens()).str();
  built.recipe.gridY = std::to_string(plan.selectHeads());
  return built;
}

} // namespace

Result<BuiltKernel> buildScore(ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores,
                               const Target &target, const Config &config) {
  WINNOW_TRY(Sizes sizes, chooseSizes(plan, target, config));
  return ScoreBuilder(module, plan, scores, sizes).build();
}

} // namespace winnow
