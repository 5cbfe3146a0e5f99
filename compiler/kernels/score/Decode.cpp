// The score kernel of decode for methods without softmax, where a sequence has few query tokens and
// the host keeps its summaries: one token and one selection for each block of threads, and a part
// of the summaries, so that a single sequence keeps a whole GPU busy. Every row is read once. (With
// softmax: Weigh.cpp.) Device functions: templates/select/decode_scores.cuh.
#include "compiler/kernels/Kernels.h"
#include "compiler/kernels/parts/BlockScores.h"
#include "compiler/kernels/parts/DenseLength.h"
#include "compiler/kernels/parts/Summaries.h"
#include "runtime/program/Budgets.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps;
constexpr int kTileRows = ScorePlan::kTileRows; ///< summaries of one shared tile, 32 of each warp
constexpr int kBlocksPerMultiprocessor = 4;     ///< what registers are kept to
constexpr int kMostParts = 64;                  ///< of one token's summaries
static_assert(kTileRows == 32 * kWarps);

/// Keys from one tile of summaries to the next.
int tileKeys(const SelectionPlan &plan) { return kTileRows * plan.summaries[plan.fine].stride; }
/// Tiles of 16 heads that share a selection.
int headTiles(const SelectionPlan &plan) { return (plan.group + 15) / 16; }

/// Formula: parts of a token's summaries. No more than there are tiles, nor than run at a time.
std::string fineParts(const SelectionPlan &plan) {
  return llvm::formatv("min({0}, max(1, ceil_div(max_k, {1})), max(1, {2} * sm_count / "
                       "max(1, {3} * token_count)))",
                       kMostParts, tileKeys(plan), kBlocksPerMultiprocessor, plan.selectHeads())
      .str();
}

class DecodeScores {
public:
  DecodeScores(ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores)
      : plan(plan), scores(scores),
        t(module, "score_decode",
          llvm::formatv("score_decode of {0}: block scores of one token from a part of the "
                        "summaries that the host keeps.",
                        plan.method)
              .str(),
          kThreads, kBlocksPerMultiprocessor),
        compressed(t, plan, this->scores), blockScores(t, plan, this->scores) {}
  BuiltKernel build();

private:
  /// Edges lie as far apart as tiles: one warp pools for all.
  bool poolsTogether() const { return scores.blocksPerEdge * plan.rowsPerBlock() == kTileRows; }
  void constants();
  void locate();
  void share(Value limit);
  void load(Value firstRow);
  void overTiles(function_ref<void(Value tileRow)> body);
  void loadNext(Value tileRow);
  Value product(Value headRow);
  void addHeads(Value rowScores, Value tileRow);
  void store(Value rowScores, Value tileRow);
  BuiltKernel finish();

  const SelectionPlan &plan;
  const ScorePlan scores;
  KernelBuilder t;
  Summaries compressed;
  BlockScores blockScores;
  Value tokens, token, part, parts; ///< of the chunk; `token` is the block's
  Value row, tile, own, warp, warpRow, selectHead, firstHead, kvHead;
  Value queries, summaries, tileScores;
  Value source, rows, visible, begin, end; ///< the summaries, and the part of them
  Value fineEnd, hook;
};

void DecodeScores::constants() {
  planConstants(
      t, plan,
      {"kHeads", "kKvHeads", "kGroup", "kDim", "kBlock", "kTopK", "kLocal", "kDenseLength"});
  compressed.constants();
  t.constant("kThreads", kThreads);
  t.constant("kWarps", kWarps);
  t.constant("kRows", kTileRows, "summaries of one tile");
  t.constant("kQueryRows", 16 * headTiles(plan), "rows of queries: heads, to whole mma tiles");
  compressed.scaleConstant();
}

/// The token and the part of the block of threads. Neighbours have tokens of one part, which may
/// share its summaries.
void DecodeScores::locate() {
  t.leaf("start_later_kernels", {});
  Value first = t.field(t.params(), "token_begin");
  tokens = t.sub(t.field(t.params(), "token_end"), first, "tokens");
  parts = t.div(t.gridDimension('x'), tokens, "parts");
  part = t.div(t.blockIndex('x'), tokens, "part");
  token = t.rem(t.blockIndex('x'), tokens, "token");
  row = t.add(first, token, "row");
  tile = compressed.findToken(row);
  t.leaf("wait_earlier_kernels", {}); // lengths are the host's, rows theirs
  t.returnIf(t.equal(t.field(tile, "tokens"), t.number(0)));
  own = t.div(t.field(tile, "position"), t.named("kBlock"), "own");
  // Where every block is selected anyway, scores are not needed.
  t.returnIf(t.either(t.less(own, t.named("kTopK")), isDense(t, plan, tile)));
  warp = t.value("warp", "warp_index");
  warpRow = t.mul(warp, t.number(32), "warp_row");
}

/// The part's share of the first `limit` rows: whole tiles.
void DecodeScores::share(Value limit) {
  source = t.value("source", "read_once", {compressed.source(plan.fine, tile, kvHead, "")});
  Value rowsOfTile = t.named("kRows");
  Value tiles = t.div(t.add(limit, t.sub(rowsOfTile, t.number(1))), rowsOfTile, "tiles");
  begin = t.mul(t.div(t.mul(tiles, part), parts), rowsOfTile, "begin");
  end = t.mul(t.div(t.mul(tiles, t.add(part, t.number(1))), parts), rowsOfTile, "end");
}

void DecodeScores::load(Value firstRow) {
  t.leaf("load_summaries", {summaries, source, firstRow, visible}, {"@kThreads"});
}

/// Over the part's tiles, the first of which is on its way. The body calls loadNext behind its last
/// product: the copy runs under what follows.
void DecodeScores::overTiles(function_ref<void(Value)> body) {
  t.loop("tile_row", begin, end, t.named("kRows"), body);
}

void DecodeScores::loadNext(Value tileRow) {
  Value next = t.add(tileRow, t.named("kRows"), "next");
  t.when(t.less(next, end), [&] { load(next); });
}

/// Logits of the head tile that begins at row `headRow` of the queries, against the warp's 32
/// summaries.
Value DecodeScores::product(Value headRow) {
  Value logits = t.fragment("logits", t.type("Accumulator", {16, 32}));
  t.leaf("clear", {logits});
  t.leaf("mma_abt_rows", {logits, queries, headRow, summaries, warpRow});
  return logits;
}

/// Adds the token's heads: logits of each head tile, through the method's region. Behind the last
/// product the next tile is fetched.
void DecodeScores::addHeads(Value rowScores, Value tileRow) {
  Value scale = t.namedReal("kScale"), firstRow = t.add(tileRow, warpRow);
  auto addTile = [&](Value headRow, function_ref<void()> behind) {
    Value logits = product(headRow);
    behind();
    t.leaf("add_raw_head_scores",
           {rowScores, logits, headRow, t.field(tile, "position"), firstRow, scale, hook},
           {blockScores.combine(), "@kGroup"});
  };
  if (headTiles(plan) == 1)
    return addTile(t.number(0), [&] { loadNext(tileRow); });
  t.loop("head_row", t.number(0), t.named("kQueryRows"), t.number(16), [&](Value headRow) {
     addTile(headRow, [] {});
   })->setAttr("tile.unroll", t.builder.getI32IntegerAttr(1));
  loadNext(tileRow);
}

/// Pools the tile's scores to blocks and stores them, as the program's other score kernel does.
void DecodeScores::store(Value rowScores, Value tileRow) {
  auto pool = [&](Value scored, Value firstRow, int count) {
    blockScores.hide(scored, firstRow, t.add(firstRow, t.number(count)), fineEnd, visible, rows,
                     [&] { return visible; });
    // The lane groups hold the same, or the first one holds the only head.
    blockScores.store(blockScores.row(selectHead, row, "block_scores"), scored, firstRow, rows,
                      t.less(t.value("", "lane_index"), t.number(4)));
  };
  if (!poolsTogether())
    return pool(rowScores, t.add(tileRow, warpRow, "first_row"), 32);
  t.leaf("put_tile_scores", {tileScores, rowScores, warpRow});
  t.when(t.equal(warp, t.number(0)), [&] {
    Value tokenScores = t.fragment("token_scores", t.type("TokenScores"));
    t.leaf("take_tile_scores", {tokenScores, tileScores});
    pool(tokenScores, tileRow, kTileRows);
  });
}

BuiltKernel DecodeScores::build() {
  constants();
  hook = blockScores.rewrite();
  locate();
  selectHead = t.blockIndex('y', "select_head");
  firstHead = t.mul(selectHead, t.named("kGroup"), "first_head");
  kvHead = compressed.kvHead(firstHead);
  rows = compressed.rows(plan.fine, tile, "rows");
  visible = compressed.visible(plan.fine, tile, rows, "visible");
  fineEnd = compressed.scoredEnd(own);
  share(fineEnd);
  t.returnIf(t.atLeast(begin, end));
  queries = t.shared("queries", t.type("SharedTile", {"@kQueryRows", "@kDim", plan.element}),
                     sharedTileBytes(16 * headTiles(plan), plan.headDim));
  summaries = t.shared("summaries", t.type("SharedTile", {"@kRows", "@kDim", plan.element}),
                       sharedTileBytes(kTileRows, plan.headDim));
  t.leaf("load_head_rows", {queries, t.heads("q", plan.paged), row, firstHead},
         {"@kThreads", "@kHeads", "@kGroup"});
  load(begin);
  if (poolsTogether())
    tileScores = t.shared("tile_scores", t.type("TileScores", {"@kRows"}), 4 * kTileRows);
  overTiles([&](Value tileRow) {
    Value rowScores = blockScores.cleared("RowScores");
    addHeads(rowScores, tileRow);
    if (plan.group > 1)
      t.leaf("combine_lane_groups", {rowScores}, {blockScores.combine()});
    store(rowScores, tileRow);
  });
  return finish();
}

BuiltKernel DecodeScores::finish() {
  BuiltKernel built{t.finish(), {}};
  Kernel &recipe = built.recipe;
  recipe.step = "score";
  recipe.facts = scoreFacts(plan, scores);
  recipe.facts.warps = kWarps;
  recipe.facts.mmaWarps = 1;
  recipe.facts.tokens = 1;
  recipe.facts.queryRows = 16 * headTiles(plan);
  recipe.facts.scoreBytes = scores.elementBytes();
  recipe.facts.tileSummaries = kTileRows;
  recipe.perChunk = true;
  recipe.when =
      llvm::formatv("(ceil_div(max_k, {0}) > {1}) * {2}", plan.block, plan.topk, decodes()).str();
  recipe.gridX = "token_count * " + fineParts(plan);
  recipe.gridY = std::to_string(plan.selectHeads());
  return built;
}

} // namespace

BuiltKernel buildScoreDecode(ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores,
                             const Target &target) {
  const ScorePlan kept = scores.ofKeptRows();
  return plan.weighsHeads() ? buildWeigh(module, plan, kept, target)
                            : DecodeScores(module, plan, kept).build();
}

} // namespace winnow
