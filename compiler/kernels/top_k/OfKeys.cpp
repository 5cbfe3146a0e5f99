// The top_k kernels over 16-bit keys: forced blocks and the best of the rest, per token, exact and
// deterministic (SelectRow.h). One warp per row where its blocks fit the registers of a warp; else
// 16 warps per row, or 32 for small blocks at the far end. The recipe picks by the longest
// sequence.
#include "compiler/kernels/top_k/SelectRow.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

constexpr int kTokensOfBlock = 8;         ///< with one warp per row
constexpr int kWideWarps[] = {16, 32};    ///< of longer rows
constexpr int kLongestSequence = 1 << 20; ///< keys

class TopKKeysBuilder {
public:
  TopKKeysBuilder(ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores, int warps,
                  int shorter)
      : plan(plan), scores(scores), wide(warps > 1), warps(warps), shorter(shorter),
        t(module, plan.scores() ? llvm::formatv("top_k_{0}", blocks()).str() : "top_k", title(),
          32 * (wide ? warps : kTokensOfBlock), wide ? 1 : 4),
        selection(t, plan, scores, warps) {}
  BuiltKernel build();

private:
  int blocks() const { return warps * RowSelection::kWarpBlocks; }
  std::string title() const;
  void constants();
  void select();

  const SelectionPlan &plan;
  const ScorePlan &scores;
  const bool wide;
  const int warps, shorter; ///< shorter rows go to another kernel
  TileBuilder t;
  RowSelection selection;
};

std::string TopKKeysBuilder::title() const {
  if (!plan.scores())
    return llvm::formatv("top_k of {0}: the {1} forced blocks of each token; ascending ids, -1 "
                         "behind the last.",
                         plan.method, plan.topk)
        .str();
  return llvm::formatv("top_k of {0}: the {1} best blocks of each token, forced ones included, for "
                       "rows of up to {2} blocks; ascending ids, -1 behind the last.",
                       plan.method, plan.topk, blocks())
      .str();
}

void TopKKeysBuilder::constants() {
  t.constant("kBlock", plan.block, "keys of one selectable block");
  t.constant("kTopK", plan.topk, "selected blocks per token, at most");
  t.constant("kLocal", plan.local, "blocks up to the query's own that are always selected");
  if (plan.denseLength > 0)
    t.constant("kDenseLength", plan.denseLength, "shorter sequences are not selected from");
  if (plan.scores()) {
    t.constant("kRowsPerBlock", plan.rowsPerBlock(), "summaries per block");
    t.constant("kPad", plan.pad(), "summaries that reach into a block from the one before");
  }
  t.constant("kTokens", wide ? 1 : kTokensOfBlock, "rows of one block of threads");
  selection.constants();
}

void TopKKeysBuilder::select() {
  selection.declare();
  Value tile = t.value("tile", "find_token_tile",
                       {t.pointer("cu_q"), t.pointer("cu_k"), t.field(t.params(), "batch"),
                        t.field(t.params(), "token_begin"), t.field(t.params(), "token_end"),
                        t.blockIndex('x')},
                       {"@kTokens"}, t.type("TokenTile"));
  Value warp = t.value("warp", "warp_index", {});
  Value token = wide ? t.number(0) : warp;
  t.returnIf(t.atLeast(token, t.field(tile, "tokens")));
  Value selectHead = t.blockIndex('y', "select_head");
  Value own = t.div(wide ? t.field(tile, "position") : t.add(t.field(tile, "position"), token),
                    t.named("kBlock"), "own");
  Value row = wide ? t.field(tile, "row") : t.add(t.field(tile, "row"), token, "row");
  Value ids =
      t.value("ids", "id_row", {t.pointer("ids"), selectHead, t.field(t.params(), "total_q"), row},
              {"@kTopK"}, t.type("pointer"));
  selection.select(tile, own, ids, warp, [&] {
    Value begin = t.field(t.params(), "token_begin"), end = t.field(t.params(), "token_end");
    return t.value("key_row", "score_row",
                   {t.pointer(t.bufferMember(plan.scoreBuffer())), selectHead, t.sub(row, begin),
                    t.sub(end, begin), t.field(t.params(), "score_stride")},
                   {scores.element()}, t.type("pointer"));
  });
}

BuiltKernel TopKKeysBuilder::build() {
  constants();
  select();
  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "top_k";
  selection.describe(built.recipe.facts);
  built.recipe.facts.tokens = wide ? 1 : kTokensOfBlock;
  built.recipe.perChunk = true;
  std::string blocksOfLongest = llvm::formatv("ceil_div(max_k, {0})", plan.block).str();
  if (plan.scores())
    built.recipe.when =
        llvm::formatv("({0} > {1}) * ({0} <= {2})", blocksOfLongest, shorter, blocks()).str();
  built.recipe.gridX = llvm::formatv("token_count / {0} + batch", wide ? 1 : kTokensOfBlock).str();
  built.recipe.gridY = std::to_string(plan.selectHeads());
  return built;
}

} // namespace

BuiltKernel buildForced(ModuleOp module, const SelectionPlan &plan) {
  return TopKKeysBuilder(module, plan, ScorePlan(), 1, 0).build();
}

std::vector<BuiltKernel> buildTopKKeys(ModuleOp module, const SelectionPlan &plan,
                                       const ScorePlan &scores) {
  std::vector<BuiltKernel> kernels;
  if (!scores.fused) // which holds the same rows
    kernels.push_back(TopKKeysBuilder(module, plan, scores, 1, 0).build());
  int shorter = RowSelection::kWarpBlocks;
  for (int warps : kWideWarps) {
    if (shorter >= kLongestSequence / plan.block)
      break;
    kernels.push_back(TopKKeysBuilder(module, plan, scores, warps, shorter).build());
    shorter = warps * RowSelection::kWarpBlocks;
  }
  return kernels;
}

} // namespace winnow
