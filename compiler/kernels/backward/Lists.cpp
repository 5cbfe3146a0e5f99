// The kernels backward_marks and backward_lists: a selection says which blocks a token wants, the
// gradients of keys need the tokens that want a block. See templates/attend/token_lists.cuh, of
// pairs key_items.cuh.
#include "compiler/kernels/backward/Backward.h"
#include "compiler/kernels/parts/DenseLength.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

/// Tokens of a block of threads of backward_marks (kMarkTokens), and key blocks that it marks at a
/// time: 16 KB of bits.
constexpr int kMarkTokens = 256, kBlocksAtOnce = 512;
/// Warps of a block of threads of backward_lists: one for each key block, or all for one pair.
constexpr int kListWarps = 8;

BuiltKernel finish(KernelBuilder &t, const BackwardPlan &plan, const std::string &gridX) {
  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "backward";
  built.recipe.gridX = gridX;
  built.recipe.gridY = std::to_string(selections(plan));
  return built;
}

} // namespace

BuiltKernel buildBackwardMarks(ModuleOp module, const BackwardPlan &plan) {
  KernelBuilder t(module, "backward_marks",
                  llvm::formatv("backward_marks of {0}: a bit for each key block and token that "
                                "selected it; a block of threads has {1} tokens.",
                                plan.method, kMarkTokens)
                      .str(),
                  kMarkTokens, 1);
  t.constant("kTopK", plan.topk, "selected blocks per token, at most");
  t.constant("kBlock", plan.block, "keys of one selectable block");
  t.constant("kTokens", kMarkTokens, "tokens of one block of threads");
  t.constant("kBlocks", kBlocksAtOnce, "key blocks that are marked at a time");
  Value marks =
      t.shared("marks", t.type("TokenMarks", {"@kBlocks"}), kBlocksAtOnce * kMarkTokens / 8);
  Value selectHead = t.blockIndex('y', "select_head"), slot = t.blockIndex('x', "slot");
  Value isFirst = t.equal(t.add(t.add(slot, selectHead), t.value("", "thread_index")), t.number(0));
  t.when(isFirst, [&] { t.leaf("open_lists", {backwardBuffer(t, BackwardBuffer::Ranges)}); });
  Value totalQ = t.field(t.params(), "total_q");
  Value tile = t.value("tile", "find_token_tile",
                       {t.pointer("cu_q"), t.pointer("cu_k"), t.field(t.params(), "batch"),
                        t.number(0), totalQ, slot},
                       {"@kTokens"});
  t.returnIf(t.equal(t.field(tile, "tokens"), t.number(0)));
  Value end =
      t.add(t.div(t.value("", "last_position", {tile}), t.named("kBlock")), t.number(1), "end");
  t.loop("from_block", t.number(0), end, t.named("kBlocks"), [&](Value fromBlock) {
    t.leaf("clear_marks", {marks});
    t.leaf("mark_tokens", {marks, t.pointer("ids"), selectHead, totalQ, tile, fromBlock},
           {"@kTopK", "@kBlock"});
    t.leaf("store_marks",
           {backwardBuffer(t, BackwardBuffer::Bits), marks, t.params(), selectHead, tile, fromBlock,
            end},
           {"@kBlock"});
  });
  return finish(t, plan, llvm::formatv("total_q / {0} + batch", kMarkTokens).str());
}

/// A list for each key block, a warp each.
static BuiltKernel buildBlockLists(ModuleOp module, const BackwardPlan &plan) {
  KernelBuilder t(module, "backward_lists",
                  llvm::formatv("backward_lists of {0}: the tokens that selected a key block, "
                                "ascending, a warp per block.",
                                plan.method)
                      .str(),
                  32 * kListWarps, 1);
  t.constant("kBlock", plan.block, "keys of one selectable block");
  t.constant("kLists", kListWarps, "key blocks of one block of threads");
  Value batch = t.field(t.params(), "batch"), totalK = t.field(t.params(), "total_k");
  Value slot =
      t.add(t.mul(t.blockIndex('x'), t.named("kLists")), t.value("warp", "warp_index"), "slot");
  Value slots = t.add(t.div(totalK, t.named("kBlock")), batch);
  t.returnIf(t.atLeast(slot, slots)); // whole warps
  Value block = t.value("block", "find_key_block",
                        {t.pointer("cu_q"), t.pointer("cu_k"), batch, totalK, slot}, {"@kBlock"});
  t.when(t.differ(t.field(block, "keys"), t.number(0)), [&] {
    t.leaf("list_tokens",
           {backwardBuffer(t, BackwardBuffer::Lists), backwardBuffer(t, BackwardBuffer::Ranges),
            backwardBuffer(t, BackwardBuffer::Bits), t.params(), t.blockIndex('y'), block},
           {"@kBlock"});
  });
  return finish(
      t, plan, llvm::formatv("ceil_div(total_k / {0} + batch, {1})", plan.block, kListWarps).str());
}

/// Three lists for each pair of key tiles, a block of threads each.
static BuiltKernel buildPairLists(ModuleOp module, const BackwardPlan &plan) {
  KernelBuilder t(module, "backward_lists",
                  llvm::formatv("backward_lists of {0}: the tokens that selected both, only the "
                                "first and only the second of two neighbouring tiles of {1} keys, "
                                "ascending, a block of threads per pair.",
                                plan.method, kItemTileKeys)
                      .str(),
                  32 * kListWarps, 1);
  t.constant("kBlock", plan.block, "keys of one selectable block");
  t.constant("kPairKeys", kPairKeys, "keys of the two tiles of a pair");
  t.constant("kWarps", kListWarps, "warps of one block of threads");
  Value counts =
      t.shared("counts", t.type("KindCounts", {"@kWarps"}), 4 * (kListsOfPair * kListWarps + 1));
  Value pair = t.value("pair", "find_key_block",
                       {t.pointer("cu_q"), t.pointer("cu_k"), t.field(t.params(), "batch"),
                        t.field(t.params(), "total_k"), t.blockIndex('x')},
                       {"@kPairKeys"});
  t.when(t.differ(t.field(pair, "keys"), t.number(0)), [&] { // whole blocks of threads
    t.leaf("list_pair_tokens",
           {counts, backwardBuffer(t, BackwardBuffer::Lists),
            backwardBuffer(t, BackwardBuffer::Ranges), backwardBuffer(t, BackwardBuffer::Bits),
            t.params(), t.blockIndex('y'), pair},
           {"@kBlock"});
  });
  return finish(t, plan, llvm::formatv("total_k / {0} + batch", kPairKeys).str());
}

BuiltKernel buildBackwardPlaces(ModuleOp module, const BackwardPlan &plan) {
  constexpr int kWarps = 4;
  KernelBuilder t(
      module, "backward_places",
      llvm::formatv("backward_places of {0}: where the changes of a chunk of tokens are "
                    "stored, a block of threads per pair of tiles of {1} keys.",
                    plan.method, kItemTileKeys)
          .str(),
      32 * kWarps, 1);
  t.constant("kSelections", selections(plan), "selections per token");
  t.constant("kBlock", plan.block, "keys of one selectable block");
  t.constant("kPairKeys", kPairKeys, "keys of the two tiles of a pair");
  t.constant("kRangeTokens", kStoredRangeTokens, "tokens of a range, of which chunks have some");
  t.constant("kWarps", kWarps, "warps of one block of threads");
  denseConstant(t, plan, "shorter sequences attend to every key");
  Value pair = t.value("pair", "find_key_block",
                       {t.pointer("cu_q"), t.pointer("cu_k"), t.field(t.params(), "batch"),
                        t.field(t.params(), "total_k"), t.blockIndex('x')},
                       {"@kPairKeys"});
  t.when(t.differ(t.field(pair, "keys"), t.number(0)), [&] {
    Value places =
        t.value("places", "change_places", {backwardBuffer(t, BackwardBuffer::Changes), t.params()},
                {"@kSelections"});
    t.leaf("place_changes",
           {places, backwardBuffer(t, BackwardBuffer::Bits), t.params(), t.blockIndex('y'), pair,
            mayBeDense(plan) ? isDense(t, plan, pair) : t.flag(false)},
           {"@kBlock", "@kRangeTokens", "@kWarps"});
  });
  BuiltKernel built = finish(t, plan, llvm::formatv("total_k / {0} + batch", kPairKeys).str());
  built.recipe.perChunk = true;
  return built;
}

BuiltKernel buildBackwardLists(ModuleOp module, const BackwardPlan &plan, bool byPairs) {
  return byPairs ? buildPairLists(module, plan) : buildBlockLists(module, plan);
}

} // namespace winnow
