// The top_k kernels: forced blocks and the best of the rest, per token, exact and deterministic.
// One warp per row where its blocks fit the registers of a warp, else 16 warps per row; the recipe
// picks by the longest sequence.
#include "compiler/kernels/KernelBuilder.h"
#include "compiler/kernels/Kernels.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

/// A size of the kernel: blocks of rows longer than `above` and up to `blocks` go to it.
struct Variant {
  int warpsPerRow, keysPerLane, above;
  int blocks() const { return warpsPerRow * keysPerLane * 32; }
};
constexpr Variant kVariants[] = {{1, 16, 0}, {1, 64, 512}, {16, 64, 2048}};
/// For small blocks at the far end: its keys take every register there is, so most of them live in
/// local memory.
constexpr Variant kLongest = {32, 64, 32768};
constexpr int kLongestSequence = 1 << 20; ///< keys
constexpr int kRowsPerBlockOfThreads = 8; // with one warp per row

class TopKBuilder {
public:
  TopKBuilder(ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores,
              const Variant &variant)
      : plan(plan), scores(scores), variant(variant), wide(variant.warpsPerRow > 1),
        tokens(wide ? 1 : kRowsPerBlockOfThreads),
        t(module, llvm::formatv("top_k_{0}", variant.blocks()).str(), title(),
          wide ? 32 * variant.warpsPerRow : 32 * tokens, wide ? 1 : 2) {}
  BuiltKernel build();

private:
  std::string title();
  void constants();
  void locate();
  void select();
  void search();
  void store();
  /// Over the row's warps: the sum of `count`; itself where one warp holds the row.
  Value total(Value count, StringRef hint);

  const SelectionPlan &plan;
  const ScorePlan &scores;
  const Variant variant;
  const bool wide;
  const int tokens;
  TileBuilder t;
  Value tile, warp, row, selectHead, own, ids, keys, state, counts, firstBlock;
};

std::string TopKBuilder::title() {
  return llvm::formatv("top_k of {0}: the {1} best blocks of each token, forced ones included, for "
                       "rows of up to {2} "
                       "blocks; ascending ids, -1 behind the last.",
                       plan.method, plan.topk, variant.blocks())
      .str();
}

void TopKBuilder::constants() {
  t.constant("kBlock", plan.block, "keys of one selectable block");
  t.constant("kTopK", plan.topk, "selected blocks per token, at most");
  t.constant("kInit", plan.init, "first blocks, always selected");
  t.constant("kLocal", plan.local, "blocks up to the query's own that are always selected");
  t.constant("kDenseLength", plan.denseLength, "shorter sequences are not selected from");
  t.constant("kRowsPerBlock", plan.rowsPerBlock(), "summaries per block");
  t.constant("kPad", plan.pad(), "summaries that reach into a block from the one before");
  t.constant("kBlocksPerEdge", scores.blocksPerEdge, "blocks from one edge to the next");
  t.constant("kTokens", tokens, "rows of one block of threads");
  if (wide)
    t.constant("kWarps", variant.warpsPerRow, "warps of one row");
  t.constant("kKeysPerLane", variant.keysPerLane, "block scores that a lane keeps in registers");
}

void TopKBuilder::locate() {
  if (wide)
    counts = t.shared("counts", t.type("WarpCounts", {"@kWarps"}), 4 * variant.warpsPerRow);
  tile = t.value("tile", "find_token_tile",
                 {t.pointer("cu_q"), t.pointer("cu_k"), t.field(t.params(), "batch"),
                  t.field(t.params(), "token_begin"), t.field(t.params(), "token_end"),
                  t.blockIndex('x')},
                 {"@kTokens"}, t.type("TokenTile"));
  warp = t.value("warp", "warp_index", {});
  Value token = wide ? t.number(0) : warp;
  t.returnIf(t.atLeast(token, t.field(tile, "tokens")));
  selectHead = t.blockIndex('y', "select_head");
  own = t.div(wide ? t.field(tile, "position") : t.add(t.field(tile, "position"), token),
              t.named("kBlock"), "own");
  row = wide ? t.field(tile, "row") : t.add(t.field(tile, "row"), token, "row");
  ids =
      t.value("ids", "id_row", {t.pointer("ids"), selectHead, t.field(t.params(), "total_q"), row},
              {"@kTopK"}, t.type("pointer"));
}

Value TopKBuilder::total(Value count, StringRef hint) {
  if (!wide)
    return count;
  t.leaf("store_count", {counts, warp, count});
  return t.value(hint, "total_count", {counts});
}

void TopKBuilder::search() {
  state = t.fragment("search", t.type("ThresholdSearch"));
  t.leaf("start_search", {state, own}, {"@kTopK"});
  t.loop("step", t.number(0), t.number(32), t.number(1), [&](Value step) {
    Value open = t.value("", "is_open", {state}, {}, t.builder.getI1Type());
    t.when(open, [&] {
      Value threshold = t.value("threshold", "next_threshold", {state, step});
      Value count = t.value("count", "count_at_least", {keys, threshold});
      t.leaf("narrow", {state, threshold, total(count, "total")});
      // Every warp of a wide row sees the same search, so the whole block of threads takes the
      // branch or does not.
      if (wide)
        t.builder.getInsertionBlock()->getParentOp()->setAttr("tile.uniform",
                                                              t.builder.getUnitAttr());
    });
  });
}

void TopKBuilder::store() {
  if (plan.normalizer >= 0) { // raw scores may be any fp32 value
    Value leaves =
        t.value("leaves", "leaves_order", {state, own}, {"@kTopK"}, t.builder.getI1Type());
    Value first = t.equal(warp, t.number(0)); // of the row's warps
    t.when(wide ? t.compute<arith::AndIOp>(leaves, first) : leaves,
           [&] { t.leaf("mark_unordered", {ids}); });
    t.returnIf(leaves);
  }
  Value threshold = t.field(state, "threshold");
  Value above = t.value("above", "count_above", {keys, threshold});
  Value aboveAll = above, aboveBefore = t.number(0), equalBefore = t.number(0);
  if (wide) {
    aboveAll = total(above, "total_above");
    aboveBefore = t.value("above_before", "count_before", {counts, warp});
    Value reached = t.value("reached", "count_at_least", {keys, t.field(state, "threshold")});
    t.leaf("store_count", {counts, warp, t.sub(reached, above)});
    equalBefore = t.value("equal_before", "count_before", {counts, warp});
  }
  t.leaf("store_ids", {ids, keys, t.field(state, "threshold"), firstBlock, aboveBefore, equalBefore,
                       t.sub(t.field(state, "wanted"), aboveAll)});
  auto pad = [&] { t.leaf("pad_ids", {ids, t.field(state, "wanted")}, {"@kTopK"}); };
  if (wide)
    t.when(t.equal(warp, t.number(0)), pad);
  else
    pad();
}

void TopKBuilder::select() {
  firstBlock = wide ? t.mul(warp, t.number(variant.keysPerLane * 32), "first_block") : t.number(0);
  Value forcedFrom = t.value("forced_from", "first_forced", {own}, {"@kTopK", "@kLocal"});
  Value begin = t.field(t.params(), "token_begin"), end = t.field(t.params(), "token_end");
  Value stride = t.field(t.params(), "score_stride");
  Value rowScores = t.value("scores", "score_row",
                            {t.pointer(t.bufferMember(plan.scoreBuffer())), selectHead,
                             t.sub(row, begin), t.sub(end, begin), stride},
                            {scores.element()}, t.type("pointer"));
  Value padded =
      t.value("", "padded_blocks", {t.field(t.params(), "max_k")}, {"@kBlock", "@kRowsPerBlock"});
  Value edges = t.value("edges", "edge_row", {rowScores, padded}, {"@kPad"}, t.type("pointer"));
  keys = t.fragment("keys", t.type("BlockKeys", {"@kKeysPerLane"}));
  t.leaf("load_keys", {keys, rowScores, edges, firstBlock, forcedFrom, own},
         {deviceType(plan.pool), "@kInit", "@kBlocksPerEdge"});
  search();
  store();
}

BuiltKernel TopKBuilder::build() {
  constants();
  locate();
  Value dense = t.less(t.field(tile, "k_length"), t.named("kDenseLength"));
  auto none = [&] { t.leaf("pad_ids", {ids, t.number(0)}, {"@kTopK"}); };
  t.when(
      dense,
      [&] {
        if (wide)
          t.when(t.equal(warp, t.number(0)), none);
        else
          none();
      },
      [&] { select(); });
  if (wide) // warps share a row, so a block of threads has one sequence
    t.kernel.getBody().front().back().setAttr("tile.uniform", t.builder.getUnitAttr());

  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "top_k";
  KernelFacts &facts = built.recipe.facts;
  facts.tokens = tokens;
  facts.group = plan.group;
  facts.topk = plan.topk;
  facts.init = plan.init;
  facts.local = plan.local;
  facts.scoreBytes = scores.elementBytes();
  facts.rowWarps = variant.warpsPerRow;
  facts.rowBlocks = variant.blocks();
  built.recipe.perChunk = true;
  std::string blocks = llvm::formatv("ceil_div(max_k, {0})", plan.block).str();
  built.recipe.when =
      llvm::formatv("({0} > {1}) * ({0} <= {2})", blocks, variant.above, variant.blocks()).str();
  built.recipe.gridX = llvm::formatv("token_count / {0} + batch", tokens).str();
  built.recipe.gridY = std::to_string(plan.selectHeads());
  return built;
}

} // namespace

std::vector<BuiltKernel> buildTopK(ModuleOp module, const SelectionPlan &plan,
                                   const ScorePlan &scores) {
  std::vector<BuiltKernel> kernels;
  for (const Variant &variant : kVariants)
    kernels.push_back(TopKBuilder(module, plan, scores, variant).build());
  if (std::end(kVariants)[-1].blocks() < kLongestSequence / plan.block)
    kernels.push_back(TopKBuilder(module, plan, scores, kLongest).build());
  return kernels;
}

} // namespace winnow
