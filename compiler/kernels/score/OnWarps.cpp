// The score kernel: everything from log-sum-exp to pooling in one kernel, so that no [heads,
// tokens, summaries] tensor exists. Written as one thread of control; the pipelining pass moves the
// loads, the barrier pass adds the order. Method of the row orders: see
// templates/select/scoring.cuh.
#include "compiler/kernels/KernelBuilder.h"
#include "compiler/kernels/Kernels.h"
#include "runtime/program/Budgets.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

/// Sizes of one score kernel: `tokenGroups` x `parts` warps; a warp owns `sets` sets of 8 tokens
/// against 32 summaries of a tile, and the warps of a token group share a tile.
struct Sizes {
  int tokenGroups, parts, sets, pairs;
  int threads() const { return 32 * tokenGroups * parts; }
  int warpTiles() const { return sets * pairs; } ///< mma tiles of one warp
  int queryRows() const { return 16 * tokenGroups * warpTiles(); }
  int tokens() const { return 8 * tokenGroups * sets; }
  int tileRows() const { return 32 * parts; } ///< summaries of one shared tile
};

constexpr int kMostWarpTiles = 8; ///< what a lane's registers hold normalisers for

/// Exact: every object but the table is a multiple of 1024 bytes, and all live at once.
int sharedBytes(const SelectionPlan &plan, const Sizes &s) {
  const int table = plan.normalizer >= 0 ? s.queryRows() * 4 : 0;
  return (s.queryRows() + s.tileRows()) * plan.headDim * 2 + table;
}

/// As many warps as fit the target, then as many query rows: 256 rows of queries and 128 summaries
/// where the shared memory holds them.
Result<Sizes> chooseSizes(const SelectionPlan &plan, const Target &target, const Config &config) {
  const int pairs = (plan.group + 1) / 2, sets = kMostWarpTiles / pairs;
  const Sizes full{2, 4, sets, pairs};
  Sizes best{0, 0, 0, pairs};
  for (int groups : {2, 1})
    for (int parts : {4, 2, 1})
      for (int s = sets; s > 0; --s) {
        Sizes candidate{groups, parts, s, pairs};
        if (sharedBytes(plan, candidate) <= target.sharedPerBlock &&
            std::pair(candidate.threads(), candidate.queryRows()) >
                std::pair(best.threads(), best.queryRows()))
          best = candidate;
      }
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
          sizes.threads(), 1) {}
  BuiltKernel build();

private:
  bool softmax() const { return plan.normalizer >= 0; }
  KernelFacts facts() const;
  void constants();
  void locate();
  void normalize();
  void score();
  void scoreSet(Value set, Value firstRow, Value hook);
  /// Rows of summary `index` that exist for the sequence, and a view of them.
  Value rows(int index, StringRef hint);
  Value view(int index, StringRef hint);
  Value visible(int index, Value position, Value indexInSegment, Value rows, StringRef hint);
  /// The loop over tiles of summary rows; `body` gets the tile's first row of the warp.
  void overTiles(Value source, Value end, Value limit, bool atLeastOnce,
                 function_ref<void(Value)> body);
  /// The warp's token sets; unrolled where the body indexes registers by them.
  void overSets(bool unroll, function_ref<void(Value)> body);
  Value product(Value set, Value pair, Value &mmaTile, Value &row, Value below = {});
  void addHeads(Value rowScores, Value set, Value position, Value firstRow, Value hook,
                bool weights);
  TemplateArgument window(int index) { return index == plan.fine ? "@kWindow" : "@kCoarseWindow"; }
  TemplateArgument stride(int index) { return index == plan.fine ? "@kStride" : "@kCoarseStride"; }

  const SelectionPlan &plan;
  const ScorePlan &scores;
  const Sizes sizes;
  const int sets;
  TileBuilder t;
  Value tile, queries, summaries, operand, table, selectHead, firstHead, kvHead, tokenGroup, part,
      own, fineRows, fineEnd, fineAll, large;
};

void ScoreBuilder::constants() {
  t.constant("kHeads", plan.heads, "query heads");
  t.constant("kKvHeads", plan.kvHeads, "key/value heads");
  t.constant("kGroup", plan.group, "query heads that share one selection");
  t.constant("kDim", plan.headDim, "elements of one query or summary row");
  t.constant("kBlock", plan.block, "keys of one selectable block");
  t.constant("kTopK", plan.topk, "selected blocks per token, at most");
  t.constant("kLocal", plan.local, "blocks up to the query's own that are always selected");
  t.constant("kDenseLength", plan.denseLength, "shorter sequences are not selected from");
  t.constant("kWindow", plan.summaries[plan.fine].window, "keys of one summary");
  t.constant("kStride", plan.summaries[plan.fine].stride, "keys from one summary to the next");
  if (softmax() && plan.normalizer != plan.fine) {
    t.constant("kCoarseWindow", plan.summaries[plan.normalizer].window,
               "the same for the normaliser's summaries");
    t.constant("kCoarseStride", plan.summaries[plan.normalizer].stride);
  }
  t.constant("kRowsPerBlock", plan.rowsPerBlock(), "summaries per block");
  t.constant("kPad", plan.pad(), "summaries that reach into a block from the one before");
  t.constant("kSets", sets, "sets of 8 tokens of one warp");
  t.constant("kPairs", sizes.pairs, "pairs of heads of one token");
  t.constant("kThreads", sizes.threads());
  t.constant("kTokens", sizes.tokens(), "tokens of one block of threads");
  t.constant("kQueryRows", sizes.queryRows(), "rows of queries: tokens x heads");
  t.constant("kRows", sizes.tileRows(), "summaries of one tile");
  // After a hook the scale is part of what it sees; after a softmax everything is base 2.
  double scale = softmax() ? plan.scale * 1.4426950408889634 : plan.scale;
  t.constant("kScale", scores.folded ? 1.0 : scale,
             scores.folded ? "summaries hold the softmax scale times log2 e"
             : softmax()   ? "softmax scale times log2 e"
                           : "scale of a score");
}

Value ScoreBuilder::rows(int index, StringRef hint) {
  return t.value(hint, "summary_rows", {t.field(tile, "k_length")}, {window(index), stride(index)});
}

Value ScoreBuilder::view(int index, StringRef hint) {
  return t.value(hint, "summary_of",
                 {t.pointer(t.bufferMember(index)), kvHead, t.field(t.params(), "total_k"),
                  t.field(tile, "k_row")},
                 {plan.element, "@kDim", stride(index)}, t.type("auto"));
}

Value ScoreBuilder::visible(int index, Value position, Value indexInSegment, Value rows,
                            StringRef hint) {
  if (plan.visibleBySegment)
    return t.value(hint, "visible_by_segment", {indexInSegment, t.field(tile, "q_length"), rows},
                   {stride(index)});
  return t.value(hint, "visible_absolute", {position, rows}, {window(index), stride(index)});
}

void ScoreBuilder::locate() {
  const int rowBytes = plan.headDim * 2;
  queries = t.shared("queries", t.type("SharedTile", {"@kQueryRows", "@kDim", plan.element}),
                     sizes.queryRows() * rowBytes);
  summaries = t.shared("summaries", t.type("SharedTile", {"@kRows", "@kDim", plan.element}),
                       sizes.tileRows() * rowBytes);
  // Late tokens see the most summaries: heaviest tiles first.
  Value slot = t.sub(t.sub(t.gridDimension('x'), t.number(1)), t.blockIndex('x'), "slot");
  tile = t.value("tile", "find_token_tile",
                 {t.pointer("cu_q"), t.pointer("cu_k"), t.field(t.params(), "batch"),
                  t.field(t.params(), "token_begin"), t.field(t.params(), "token_end"), slot},
                 {"@kTokens"}, t.type("TokenTile"));
  t.returnIf(t.equal(t.field(tile, "tokens"), t.number(0)));
  own = t.div(t.value("", "last_position", {tile}), t.named("kBlock"), "own");
  // Where every block is selected anyway, scores are not needed.
  t.returnIf(t.either(t.less(own, t.named("kTopK")),
                      t.less(t.field(tile, "k_length"), t.named("kDenseLength"))));
  selectHead = t.blockIndex('y', "select_head");
  firstHead = t.mul(selectHead, t.named("kGroup"), "first_head");
  kvHead = t.div(firstHead, t.div(t.named("kHeads"), t.named("kKvHeads")), "kv_head");
  Value warp = t.value("warp", "warp_index", {});
  tokenGroup = t.rem(warp, t.number(sizes.tokenGroups), "token_group");
  part = t.div(warp, t.number(sizes.tokenGroups), "part");
  fineRows = rows(plan.fine, "fine_rows");
  operand = t.fragment("operand", t.type("RightOperand", {32, "@kDim", plan.element}));
  t.leaf("load_queries", {queries, t.pointer("q"), tile, firstHead},
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

/// Logits of one mma tile: 8 tokens x 2 heads against the warp's 32 summaries; less the references
/// of `below`, if given.
Value ScoreBuilder::product(Value set, Value pair, Value &mmaTile, Value &row, Value below) {
  mmaTile = sets == 1 ? pair : t.add(t.mul(set, t.named("kPairs")), pair, "mma_tile");
  Value logits = t.fragment("logits", t.type("Accumulator", {16, 32}));
  if (below)
    t.leaf("start_below", {logits, below, mmaTile});
  else
    t.leaf("clear", {logits});
  row = t.add(t.mul(tokenGroup, t.number(16 * sizes.warpTiles())), t.mul(mmaTile, t.number(16)),
              "query_row");
  t.leaf("mma_abt", {logits, queries, row, operand});
  return logits;
}

/// log-sum-exp of every query row over the normaliser's summaries.
void ScoreBuilder::normalize() {
  Value coarseRows = plan.normalizer == plan.fine ? fineRows : rows(plan.normalizer, "coarse_rows");
  Value last = t.value("", "last_position", {tile});
  Value lastIndex = t.sub(t.add(t.field(tile, "first"), t.field(tile, "tokens")), t.number(1));
  Value end =
      t.max(t.number(1), visible(plan.normalizer, last, lastIndex, coarseRows, ""), "coarse_end");
  Value source = view(plan.normalizer, "coarse");
  // Summaries that every token of the block sees need no mask.
  Value all = visible(plan.normalizer, t.field(tile, "position"), t.field(tile, "first"),
                      coarseRows, "coarse_all");
  table = t.shared("table", t.type("NormalizerTable", {"@kQueryRows"}), 4 * sizes.queryRows());
  Value sums = t.fragment("sums", t.type("LogSumExp", {sizes.warpTiles()}));
  if (scores.folded)
    t.leaf("start_sums", {sums, t.real(0)});
  else
    t.leaf("clear", {sums});
  overTiles(source, end, coarseRows, /*atLeastOnce=*/true, [&](Value firstRow) {
    overSets(/*unroll=*/true, [&](Value set) {
      Value token = t.value("token", "set_token", {tokenGroup, set}, {"@kSets"});
      Value seen = visible(plan.normalizer, t.add(t.field(tile, "position"), token),
                           t.add(t.field(tile, "first"), token), coarseRows, "visible");
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
      t.leaf("merge_normalizers", {table, sums, tokenGroup, t.equal(turn, t.number(0))});
    });
  });
  if (!scores.folded)
    return;
  Value leaves =
      t.value("leaves", "table_leaves_weights", {table}, {"@kThreads"}, t.builder.getI1Type());
  large = t.value("large", "sync_threads_any", {leaves}, {}, t.builder.getI1Type());
  t.when(t.equal(large, t.flag(false)),
         [&] { t.leaf("weigh_normalizers", {table}, {"@kThreads"}); });
}

/// Adds all heads of one token set, with the table's weights or its normalisers.
void ScoreBuilder::addHeads(Value rowScores, Value set, Value position, Value firstRow, Value hook,
                            bool weights) {
  const char *combine = t.reduction(plan.combine == Reduction::Max);
  t.unrolled("pair", t.named("kPairs"), [&](Value pair) {
    Value mmaTile, row, logits = product(set, pair, mmaTile, row);
    if (weights)
      t.leaf("add_weighted_heads", {rowScores, logits, table, row}, {"@kGroup"});
    else if (softmax())
      t.leaf("add_softmax_scores", {rowScores, logits, table, row, t.namedReal("kScale")},
             {combine, "@kGroup"});
    else
      t.leaf("add_raw_scores", {rowScores, logits, position, firstRow, t.namedReal("kScale"), hook},
             {combine, "@kGroup"});
  });
}

/// Block scores of one token set from the warp's 32 summaries.
void ScoreBuilder::scoreSet(Value set, Value firstRow, Value hook) {
  const char *combine = t.reduction(plan.combine == Reduction::Max), *pool = deviceType(plan.pool);
  Value token = t.value("token", "set_token", {tokenGroup, set}, {"@kSets"});
  Value position = t.add(t.field(tile, "position"), token, "position");
  Value seen =
      visible(plan.fine, position, t.add(t.field(tile, "first"), token), fineRows, "visible");
  Value rowScores = t.fragment("scores", t.type("RowScores"));
  t.leaf("clear_scores", {rowScores}, {combine});
  auto add = [&](bool weights) { addHeads(rowScores, set, position, firstRow, hook, weights); };
  if (scores.folded)
    t.when(large, [&] { add(false); }, [&] { add(true); });
  else
    add(false);
  // Rarely needed: where local blocks are few.
  t.when(t.greater(t.min(t.add(firstRow, t.number(32)), fineEnd), fineAll), [&] {
    Value hidden = t.real(softmax() ? 0.0 : -std::numeric_limits<double>::infinity());
    t.leaf("mask_scores", {rowScores, firstRow, seen, fineRows, hidden}, {pool});
  });
  Value begin = t.field(t.params(), "token_begin"), end = t.field(t.params(), "token_end");
  Value stride = t.field(t.params(), "score_stride");
  Value chunkToken = t.sub(t.add(t.field(tile, "row"), token), begin);
  Value row = t.value("block_scores", "score_row",
                      {t.pointer(t.bufferMember(plan.scoreBuffer())), selectHead, chunkToken,
                       t.sub(end, begin), stride},
                      {scores.element()}, t.type("pointer"));
  Value padded =
      t.value("", "padded_blocks", {t.field(t.params(), "max_k")}, {"@kBlock", "@kRowsPerBlock"});
  t.leaf("store_block_scores",
         {row, rowScores, firstRow, fineRows, padded, t.less(token, t.field(tile, "tokens"))},
         {pool, "@kRowsPerBlock", "@kPad"});
}

void ScoreBuilder::score() {
  Value hook;
  if (!softmax()) {
    hook = plan.scoreHook ? t.hook("rewrite", *plan.scoreHook) : t.identityHook("rewrite");
  }
  // Blocks from own - kLocal + 1 on are forced for the tile's last token; no token needs scores
  // behind them.
  fineEnd = t.mul(t.add(t.sub(own, t.named("kLocal")), t.number(1)), t.named("kRowsPerBlock"),
                  "fine_end");
  fineAll =
      visible(plan.fine, t.field(tile, "position"), t.field(tile, "first"), fineRows, "fine_all");
  Value source = view(plan.fine, "fine");
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
  facts.laneRegisters = scoreLaneRegisters(sizes.warpTiles(), sizes.pairs, plan.headDim);
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
  Result<Sizes> sizes = chooseSizes(plan, target, config);
  if (!sizes)
    return tl::unexpected<Error>(sizes.error());
  return ScoreBuilder(module, plan, scores, *sizes).build();
}

} // namespace winnow
