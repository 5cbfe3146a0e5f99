// The score kernels of decode, where a sequence has few query tokens and the host keeps its
// summaries: one token and one selection for each block of threads, and a part of the summaries, so
// that a single sequence keeps a whole GPU busy. `normalize` writes maximum and sum of each head
// over its part of the normaliser's summaries; `score_decode` adds the parts up and scores its part
// of the fine ones. Both read every row once, and are bound by that. Device functions:
// templates/select/decode_scores.cuh.
#include "compiler/kernels/Kernels.h"
#include "compiler/kernels/parts/BlockScores.h"
#include "compiler/kernels/parts/Summaries.h"
#include "runtime/program/Budgets.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps;
constexpr int kTileRows = ScorePlan::kTileRows; ///< summaries of one shared tile, 32 of each warp
constexpr int kBlocksPerMultiprocessor = 4;     ///< of these kernels: what registers are kept to
constexpr int kMostParts = 64;                  ///< what score_decode adds up in little time
static_assert(kTileRows == 32 * kWarps);

/// Keys from one tile of summary `index` to the next.
int tileKeys(const SelectionPlan &plan, int index) {
  return kTileRows * plan.summaries[index].stride;
}
/// Where normalize writes, behind block_scores and octaves.
int partBuffer(const SelectionPlan &plan) { return plan.scoreBuffer() + 2; }
/// Tiles of 16 heads that share a selection.
int headTiles(const SelectionPlan &plan) { return (plan.group + 15) / 16; }

/// Formula: parts of the fine summaries. No more than there are tiles, nor than run at a time.
std::string fineParts(const SelectionPlan &plan) {
  return llvm::formatv("min({0}, max(1, ceil_div(max_k, {1})), max(1, {2} * sm_count / "
                       "max(1, {3} * token_count)))",
                       kMostParts, tileKeys(plan, plan.fine), kBlocksPerMultiprocessor,
                       plan.selectHeads())
      .str();
}

/// Formula: parts of the normaliser's summaries; score_decode works it out again.
std::string normalizerParts(const SelectionPlan &plan) {
  return llvm::formatv("min({0}, max(1, ceil_div(max_k, {1})))", fineParts(plan),
                       tileKeys(plan, plan.normalizer))
      .str();
}

class DecodeScores {
public:
  DecodeScores(ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores, StringRef name,
               StringRef title)
      : plan(plan), scores(scores),
        t(module, name, llvm::formatv("{0} of {1}: {2}", name, plan.method, title).str(), kThreads,
          kBlocksPerMultiprocessor),
        compressed(t, plan, this->scores), blockScores(t, plan, this->scores) {}
  BuiltKernel normalize();
  BuiltKernel score();

private:
  bool softmax() const { return plan.normalizer >= 0; }
  /// Edges lie as far apart as tiles: one warp pools for all.
  bool poolsTogether() const { return scores.blocksPerEdge * plan.rowsPerBlock() == kTileRows; }
  void constants();
  void locate();
  void share(int index, Value limit);
  void load(Value firstRow);
  void overTiles(function_ref<void(Value tileRow)> body);
  void loadNext(Value tileRow);
  Value product(Value headRow);
  void addHeads(Value rowScores, Value tileRow);
  void store(Value rowScores, Value tileRow);
  BuiltKernel finish(const std::string &parts, int columns);

  const SelectionPlan &plan;
  const ScorePlan scores;
  KernelBuilder t;
  Summaries compressed;
  BlockScores blockScores;
  Value tokens, token, part, parts; ///< of the chunk; `token` is the block's
  Value row, tile, own, warp, warpRow, selectHead, firstHead, kvHead;
  Value queries, summaries, table, tileScores;
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
  t.constant("kTileHeads", std::min(plan.group, 16), "heads of one mma tile");
  t.constant("kQueryRows", 16 * headTiles(plan), "rows of queries: heads, to whole mma tiles");
  if (softmax())
    t.constant("kTileKeys", tileKeys(plan, plan.normalizer),
               "keys from one tile of the normaliser's summaries to the next");
  compressed.scaleConstant();
}

/// The token and the part of the block of threads. Neighbours have tokens of one part, which may
/// share its summaries.
void DecodeScores::locate() {
  Value first = t.field(t.params(), "token_begin");
  tokens = t.sub(t.field(t.params(), "token_end"), first, "tokens");
  parts = t.div(t.gridDimension('x'), tokens, "parts");
  part = t.div(t.blockIndex('x'), tokens, "part");
  token = t.rem(t.blockIndex('x'), tokens, "token");
  row = t.add(first, token, "row");
  tile =
      t.value("tile", "find_token",
              {t.pointer("cu_q"), t.keyLengths(plan.paged), t.field(t.params(), "batch"), row}, {});
  t.leaf("wait_earlier_kernels", {}); // lengths are the host's, rows and sums theirs
  t.returnIf(t.equal(t.field(tile, "tokens"), t.number(0)));
  own = t.div(t.field(tile, "position"), t.named("kBlock"), "own");
  // Where every block is selected anyway, scores are not needed.
  t.returnIf(t.either(t.less(own, t.named("kTopK")),
                      t.less(t.field(tile, "k_length"), t.named("kDenseLength"))));
  warp = t.value("warp", "warp_index");
  warpRow = t.mul(warp, t.number(32), "warp_row");
}

/// The part's share of the first `limit` rows of summary `index`: whole tiles.
void DecodeScores::share(int index, Value limit) {
  source = t.value("source", "read_once", {compressed.source(index, tile, kvHead, "")});
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

/// Attention without values: maximum and sum of each head over the part's summaries.
BuiltKernel DecodeScores::normalize() {
  constants();
  locate();
  firstHead = t.mul(t.blockIndex('y'), t.named("kTileHeads"), "first_head");
  kvHead = compressed.kvHead(firstHead);
  queries = t.shared("queries", t.type("SharedTile", {16, "@kDim", plan.element}),
                     sharedTileBytes(16, plan.headDim));
  summaries = t.shared("summaries", t.type("SharedTile", {"@kRows", "@kDim", plan.element}),
                       sharedTileBytes(kTileRows, plan.headDim));
  rows = compressed.rows(plan.normalizer, tile, "rows");
  visible = compressed.visible(plan.normalizer, tile, rows, "visible");
  share(plan.normalizer, visible);
  t.leaf("load_head_rows", {queries, t.heads("q", plan.paged), row, firstHead},
         {"@kThreads", "@kHeads", "@kTileHeads"});
  load(begin);
  Value scale = t.namedReal("kScale"), state = t.fragment("state", t.type("SoftmaxState"));
  overTiles([&](Value tileRow) {
    Value logits = product(t.number(0)), firstRow = t.add(tileRow, warpRow, "first_row");
    loadNext(tileRow);
    t.when(t.greater(t.add(firstRow, t.number(32)), visible),
           [&] { t.leaf("mask_summaries", {logits, firstRow, visible}); });
    t.value("", "raise_maximum", {state, logits, scale});
    t.leaf("exponentiate", {logits, state, scale});
  });
  t.leaf("reduce_sum", {state});
  Value sums = t.shared("sums", t.type("RowSums", {"@kWarps"}), kWarps * 16 * 8);
  t.leaf("put_row_sums", {sums, state, warp, scale});
  t.leaf("store_part_sums",
         {t.pointer(t.bufferMember(partBuffer(plan))), sums, part, token, tokens, firstHead},
         {"@kHeads", "@kTileHeads"});
  return finish(normalizerParts(plan), plan.selectHeads() * headTiles(plan));
}

/// Adds the token's heads: logits of each head tile, with normalisers or through the method's
/// region. Behind the last product the next tile is fetched.
void DecodeScores::addHeads(Value rowScores, Value tileRow) {
  Value scale = t.namedReal("kScale"), firstRow = t.add(tileRow, warpRow);
  auto addTile = [&](Value headRow, function_ref<void()> behind) {
    Value logits = product(headRow);
    behind();
    if (softmax())
      t.leaf("add_head_scores", {rowScores, logits, table, headRow, scale},
             {blockScores.combine(), "@kGroup"});
    else
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

BuiltKernel DecodeScores::score() {
  constants();
  if (!softmax())
    hook = blockScores.rewrite();
  locate();
  selectHead = t.blockIndex('y', "select_head");
  firstHead = t.mul(selectHead, t.named("kGroup"), "first_head");
  kvHead = compressed.kvHead(firstHead);
  rows = compressed.rows(plan.fine, tile, "rows");
  visible = compressed.visible(plan.fine, tile, rows, "visible");
  fineEnd = compressed.scoredEnd(own);
  share(plan.fine, fineEnd);
  t.returnIf(t.atLeast(begin, end));
  queries = t.shared("queries", t.type("SharedTile", {"@kQueryRows", "@kDim", plan.element}),
                     sharedTileBytes(16 * headTiles(plan), plan.headDim));
  summaries = t.shared("summaries", t.type("SharedTile", {"@kRows", "@kDim", plan.element}),
                       sharedTileBytes(kTileRows, plan.headDim));
  t.leaf("load_head_rows", {queries, t.heads("q", plan.paged), row, firstHead},
         {"@kThreads", "@kHeads", "@kGroup"});
  load(begin);
  if (softmax()) {
    table = t.shared("table", t.type("NormalizerTable", {"@kQueryRows"}), 64 * headTiles(plan));
    // As normalizerParts says.
    Value keys = t.named("kTileKeys"), longest = t.field(t.params(), "max_k");
    Value tiles = t.div(t.add(longest, t.sub(keys, t.number(1))), keys);
    t.leaf("merge_part_sums",
           {table, t.pointer(t.bufferMember(partBuffer(plan))),
            t.min(parts, t.max(t.number(1), tiles), "normalizer_parts"), token, tokens, firstHead},
           {"@kThreads", "@kHeads", "@kGroup"});
  }
  if (poolsTogether())
    tileScores = t.shared("tile_scores", t.type("TileScores", {"@kRows"}), 4 * kTileRows);
  overTiles([&](Value tileRow) {
    Value rowScores = blockScores.cleared("RowScores");
    addHeads(rowScores, tileRow);
    if (plan.group > 1)
      t.leaf("combine_lane_groups", {rowScores}, {blockScores.combine()});
    store(rowScores, tileRow);
  });
  return finish(fineParts(plan), plan.selectHeads());
}

BuiltKernel DecodeScores::finish(const std::string &parts, int columns) {
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
  recipe.gridX = "token_count * " + parts;
  recipe.gridY = std::to_string(columns);
  return built;
}

} // namespace

std::string partSumsBytes(const SelectionPlan &plan) {
  // As many parts as run at a time, and one more of each token.
  return llvm::formatv("(max_q <= {0}) * {1} * (chunk_tokens + ceil_div({2} * sm_count, {3}))",
                       kDecodeTokens, 8 * plan.heads, kBlocksPerMultiprocessor, plan.selectHeads())
      .str();
}

std::vector<BuiltKernel> buildScoreDecode(ModuleOp module, const SelectionPlan &plan,
                                          const ScorePlan &scores) {
  const ScorePlan kept = scores.ofKeptRows();
  std::vector<BuiltKernel> kernels;
  if (plan.normalizer >= 0)
    kernels.push_back(DecodeScores(module, plan, kept, "normalize",
                                   "maximum and sum of each head's exponentials, over a part of "
                                   "the summaries that the host keeps.")
                          .normalize());
  kernels.push_back(DecodeScores(module, plan, kept, "score_decode",
                                 "block scores of one token from a part of the summaries that the "
                                 "host keeps.")
                        .score());
  return kernels;
}

} // namespace winnow
