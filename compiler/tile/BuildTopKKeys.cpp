// The top_k kernels over 16-bit keys: forced blocks and the best of the rest, per token, exact and
// deterministic (templates/block_keys.cuh). One warp per row where its blocks fit the registers of
// a warp, in as many registers as the token's row needs; else 16 warps per row, or 32 for small
// blocks at the far end. The recipe picks by the longest sequence.
#include "compiler/tile/TileBuilder.h"
#include "compiler/tile/TileKernels.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

constexpr int kChunkBlocks = 256;           ///< blocks of a warp per chunk of registers
constexpr int kMostChunks = 8;              ///< of one warp
constexpr int kChunkSizes[] = {1, 2, 4, 6}; ///< and kMostChunks: for shorter rows
constexpr int kWarpBlocks = kMostChunks * kChunkBlocks;
constexpr int kTokensOfBlock = 8;         ///< with one warp per row
constexpr int kWideWarps[] = {16, 32};    ///< of longer rows
constexpr int kLongestSequence = 1 << 20; ///< keys

class TopKKeysBuilder {
public:
  TopKKeysBuilder(ModuleOp module, const MethodPlan &plan, const ScorePlan &scores, int warps,
                  int shorter)
      : plan(plan), scores(scores), wide(warps > 1), warps(warps), shorter(shorter),
        searched(plan.topk - plan.init - plan.local),
        t(module, llvm::formatv("top_k_{0}", blocks()).str(),
          llvm::formatv(
              "top_k of {0}: the {1} best blocks of each token, forced ones included, for "
              "rows of up to {2} blocks; ascending ids, -1 behind the last.",
              plan.method, plan.topk, blocks())
              .str(),
          32 * (wide ? warps : kTokensOfBlock), wide ? 1 : 4) {}
  BuiltKernel build();

private:
  int blocks() const { return warps * kWarpBlocks; }
  void constants();
  void locate();
  void select();
  void search(int chunks);
  /// An if that all warps of a row, and so of a block of threads with one row, take alike.
  void whenUniform(Value condition, TileBuilder::Body then, TileBuilder::Body otherwise = nullptr) {
    t.when(condition, then, otherwise);
    std::prev(t.builder.getInsertionPoint())->setAttr("uniform", t.builder.getUnitAttr());
  }
  /// By one warp of the row.
  void once(TileBuilder::Body body) {
    if (wide)
      t.when(t.equal(warp, t.number(0)), body);
    else
      body();
  }
  /// Over the row's warps: the sum of `count`; itself where one warp holds the row.
  Value total(Value count, StringRef hint) {
    if (!wide)
      return count;
    t.leaf("store_count", {counts, warp, count});
    return t.value(hint, "total_count", {counts});
  }

  const MethodPlan &plan;
  const ScorePlan &scores;
  const bool wide;
  const int warps, shorter, searched; ///< shorter rows go to another kernel
  TileBuilder t;
  Value tile, warp, row, selectHead, own, ids, counts, forcedFrom, keyRow, edges;
};

void TopKKeysBuilder::constants() {
  t.constant("kBlock", plan.block, "keys of one selectable block");
  t.constant("kTopK", plan.topk, "selected blocks per token, at most");
  t.constant("kInit", plan.init, "first blocks, always selected");
  t.constant("kLocal", plan.local, "blocks up to the query's own that are always selected");
  t.constant("kSearched", searched, "blocks that are selected by their scores");
  if (plan.denseLength > 0)
    t.constant("kDenseLength", plan.denseLength, "shorter sequences are not selected from");
  t.constant("kRowsPerBlock", plan.rowsPerBlock(), "summaries per block");
  t.constant("kPad", plan.pad(), "summaries that reach into a block from the one before");
  t.constant("kBlocksPerEdge", scores.blocksPerEdge, "blocks from one edge to the next");
  t.constant("kTokens", wide ? 1 : kTokensOfBlock, "rows of one block of threads");
  if (wide)
    t.constant("kWarps", warps, "warps of one row");
  t.constant("kChunkBlocks", kChunkBlocks, "blocks of a warp in 4 registers of each lane");
}

void TopKKeysBuilder::locate() {
  if (wide)
    counts = t.shared("counts", t.type("WarpCounts", {"@kWarps"}), 4 * warps);
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

/// The best kSearched candidates of rows that fit `chunks` chunks of each lane.
void TopKKeysBuilder::search(int chunks) {
  Value firstBlock = wide ? t.mul(warp, t.number(kWarpBlocks), "first_block") : t.number(0);
  Value keys = t.fragment("keys", t.type("KeyPairs", {chunks}));
  t.leaf("load_key_pairs", {keys, keyRow, edges, firstBlock, forcedFrom},
         {"@kInit", "@kBlocksPerEdge"});
  Value upper = total(t.value("upper", "count_upper", {keys}), "total_upper");
  t.leaf("fold_keys", {keys, t.atLeast(upper, t.named("kSearched"))});
  Value state = t.fragment("search", t.type("ThresholdSearch"));
  t.leaf("start_search", {state, own}, {"@kSearched"});
  // Bits 14 to 0.
  t.loop("step", t.number(17), t.number(32), t.number(1), [&](Value step) {
    Value open = t.value("", "is_open", {state}, {}, t.builder.getI1Type());
    whenUniform(open, [&] {
      Value threshold = t.value("threshold", "next_threshold", {state, step});
      Value count = t.value("count", "count_at_least", {keys, threshold});
      t.leaf("narrow", {state, threshold, total(count, "total")});
    });
  });
  Value marks = t.fragment("marks", t.type("BlockMarks", {chunks}));
  t.leaf("mark_blocks", {marks, keys, t.field(state, "threshold")});
  Value above = t.value("above", "marked_above", {marks});
  Value aboveAll = above, before = t.named("kInit"), equalBefore = t.number(0);
  if (wide) {
    aboveAll = total(above, "total_above");
    before = t.add(t.named("kInit"), t.value("above_before", "count_before", {counts, warp}));
    t.leaf("store_count", {counts, warp, t.value("", "marked_at", {marks})});
    equalBefore = t.value("equal_before", "count_before", {counts, warp});
  }
  t.leaf("store_marked",
         {ids, marks, firstBlock, before, equalBefore, t.sub(t.named("kSearched"), aboveAll)});
}

/// A token with more causal blocks than may be selected.
void TopKKeysBuilder::select() {
  forcedFrom = t.add(t.sub(own, t.named("kLocal")), t.number(1), "forced_from");
  once([&] {
    if (plan.init > 0)
      t.leaf("store_range", {ids, t.number(0), t.number(0), t.named("kInit")});
    if (plan.local > 0)
      t.leaf("store_range",
             {ids, t.sub(t.named("kTopK"), t.named("kLocal")), forcedFrom, t.named("kLocal")});
  });
  if (searched == 0)
    return;
  Value begin = t.field(t.params(), "token_begin"), end = t.field(t.params(), "token_end");
  keyRow = t.value("key_row", "score_row",
                   {t.pointer(t.bufferMember(plan.scoreBuffer())), selectHead, t.sub(row, begin),
                    t.sub(end, begin), t.field(t.params(), "score_stride")},
                   {scores.element()}, t.type("pointer"));
  Value padded =
      t.value("", "padded_blocks", {t.field(t.params(), "max_k")}, {"@kBlock", "@kRowsPerBlock"});
  edges = t.value("edges", "edge_row", {keyRow, padded}, {"@kPad"}, t.type("pointer"));
  std::function<void(ArrayRef<int>)> bySize = [&](ArrayRef<int> sizes) {
    if (sizes.empty())
      return search(kMostChunks);
    Value most = t.mul(t.number(sizes.front()), t.named("kChunkBlocks"));
    t.when(
        t.atLeast(most, forcedFrom), [&] { search(sizes.front()); },
        [&] { bySize(sizes.drop_front()); });
  };
  bySize(wide ? ArrayRef<int>() : ArrayRef(kChunkSizes));
}

BuiltKernel TopKKeysBuilder::build() {
  constants();
  locate();
  auto sparse = [&] {
    whenUniform(
        t.less(own, t.named("kTopK")),
        [&] {
          once([&] {
            Value count = t.add(own, t.number(1), "count");
            t.leaf("store_range", {ids, t.number(0), t.number(0), count});
            t.leaf("pad_ids", {ids, count}, {"@kTopK"});
          });
        },
        [&] { select(); });
  };
  if (plan.denseLength > 0)
    whenUniform(
        t.less(t.field(tile, "k_length"), t.named("kDenseLength")),
        [&] { once([&] { t.leaf("pad_ids", {ids, t.number(0)}, {"@kTopK"}); }); }, sparse);
  else
    sparse();

  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "top_k";
  built.recipe.perChunk = true;
  std::string blocksOfLongest = llvm::formatv("ceil_div(max_k, {0})", plan.block).str();
  built.recipe.when =
      llvm::formatv("({0} > {1}) * ({0} <= {2})", blocksOfLongest, shorter, blocks()).str();
  built.recipe.gridX = llvm::formatv("token_count / {0} + batch", wide ? 1 : kTokensOfBlock).str();
  built.recipe.gridY = std::to_string(plan.selectHeads());
  return built;
}

} // namespace

std::vector<BuiltKernel> buildTopKKeys(ModuleOp module, const MethodPlan &plan,
                                       const ScorePlan &scores) {
  std::vector<BuiltKernel> kernels;
  kernels.push_back(TopKKeysBuilder(module, plan, scores, 1, 0).build());
  int shorter = kWarpBlocks;
  for (int warps : kWideWarps) {
    if (shorter >= kLongestSequence / plan.block)
      break;
    kernels.push_back(TopKKeysBuilder(module, plan, scores, warps, shorter).build());
    shorter = warps * kWarpBlocks;
  }
  return kernels;
}

} // namespace winnow
