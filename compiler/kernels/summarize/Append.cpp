// The append kernel: the means over windows of keys that the host keeps, of all summaries. Where a
// launch gives rows it runs before everything else. On entry the new keys lie where the launch
// says; on exit every row whose last key is new is there, equal bit for bit to one made from the
// whole sequence, and no other slot was written. A block of threads looks at some new tokens of one
// sequence: at decode the grid is a block per sequence, head and summary, most of which end at
// once. All of its threads fetch the keys of a row together, since a few threads would wait for one
// key after the other, where a decode step waits for them; then some add them up in their order.
#include "compiler/kernels/KernelBuilder.h"
#include "compiler/kernels/Kernels.h"
#include "compiler/kernels/parts/SelectionPart.h"
#include "runtime/program/Budgets.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {

/// Most threads of a block of threads; with 128, whole warps for every row length.
static constexpr int kAppendThreads = 128;
/// Most keys that are fetched together.
static constexpr int kTogether = 128;

/// New tokens that a block of threads looks at.
static constexpr int kTokens = 128;

BuiltKernel buildAppend(ModuleOp module, const SelectionPlan &plan) {
  static_assert(kMostRows == 2, "a branch for each summary");
  const int chunks = plan.headDim / 8, count = static_cast<int>(plan.summaries.size());
  const int threads = chunks * static_cast<int>(llvm::bit_floor<unsigned>(kAppendThreads / chunks));
  std::string windows;
  for (const SelectionPlan::Summary &summary : plan.summaries)
    windows += llvm::formatv("{0}{1} keys at stride {2}", windows.empty() ? "" : ", and of ",
                             summary.window, summary.stride)
                   .str();
  KernelBuilder t(module, "append",
                  llvm::formatv("append of {0}: means over windows of {1}, those that new keys "
                                "finish; {2} threads add one row up.",
                                plan.method, windows, chunks)
                      .str(),
                  threads, 4);
  auto name = [&](const char *what, int index) {
    return std::string("k") + what + (count > 1 ? std::to_string(index) : "");
  };
  SmallVector<int> keysTogether;
  for (int index = 0; index < count; ++index) {
    const int window = plan.summaries[index].window;
    int together = std::min(window, kTogether);
    while (window % together != 0)
      --together;
    keysTogether.push_back(together);
    t.constant(name("Window", index), window, "keys of one summary");
    t.constant(name("Stride", index), plan.summaries[index].stride,
               "keys from one summary to the next");
    t.constant(name("Keys", index), together, "keys that are fetched together");
  }
  t.constant("kChunks", chunks, "threads of one row, 8 channels each");
  t.constant("kFactor", 1.0, "the host's rows are plain means");
  t.constant("kDim", plan.headDim, "elements of one key");
  t.constant("kKvHeads", plan.kvHeads, "key/value heads");
  t.constant("kThreads", threads);
  t.constant("kTokens", kTokens, "new tokens of a block of threads");

  t.leaf("start_later_kernels", {});
  SmallVector<Value> tiles; // of keys
  for (int index = 0; index < count; ++index)
    tiles.push_back(t.shared(
        "key_tile" + (count > 1 ? std::to_string(index) : ""),
        t.type("SharedTile", {("@" + name("Keys", index)).c_str(), "@kDim", plan.keyElement}),
        sharedTileBytes(keysTogether[index], plan.headDim, plan.keyElementBytes())));
  Value tile = t.value("tile", "find_token_tile",
                       {t.pointer("cu_q"), t.keyLengths(true), t.field(t.params(), "batch"),
                        t.number(0), t.field(t.params(), "total_q"), t.blockIndex('x')},
                       {"@kTokens"});
  Value tokens = t.field(tile, "tokens"), position = t.field(tile, "position");
  t.leaf("wait_earlier_kernels", {});
  t.returnIf(t.equal(tokens, t.number(0)));
  Value kvHead = t.rem(t.blockIndex('y'), t.named("kKvHeads"), "kv_head");
  Value thread = t.value("thread", "thread_index");
  Value keys =
      t.value("keys", "paged_rows",
              {t.params(), t.pointer("k"), t.pointer("k_stride"), tile, kvHead}, {plan.keyElement});
  Value factor = meanFactor(t, plan, kvHead);
  auto appendRows = [&](int index) {
    const std::string window = "@" + name("Window", index), stride = "@" + name("Stride", index);
    // Whole windows before the tile's first token, and with its last one.
    auto wholeWindows = [&](const char *hint, Value keyCount) {
      return t.value(hint, "summary_rows", {keyCount}, {window.c_str(), stride.c_str()});
    };
    Value first = wholeWindows("first_row", position);
    Value end = wholeWindows("row_end", t.add(position, tokens));
    Value kept = t.value("kept", "kept_rows", {t.params(), t.number(index), tile, kvHead},
                         {plan.element, window.c_str(), stride.c_str()});
    Value keyTile = tiles[index];
    t.loop("row", first, end, t.number(1), [&](Value row) {
      Value sums = t.fragment("sums", t.type("ChannelSums"));
      Value adds = t.less(thread, t.named("kChunks"));
      t.loop("key", t.number(0), t.named(name("Window", index)), t.named(name("Keys", index)),
             [&](Value key) {
               t.leaf("load_rows",
                      {keyTile, keys, t.add(t.mul(row, t.named(name("Stride", index))), key),
                       t.field(tile, "k_length"), thread},
                      {"@kThreads"});
               t.when(adds, [&] { t.leaf("add_tile_rows", {sums, keyTile, thread}); });
             });
      t.when(adds, [&] {
        t.leaf("store_mean",
               {kept, row, thread, sums, t.real(plan.summaries[index].window), factor});
      });
    });
  };
  if (count == 1) {
    appendRows(0);
  } else {
    t.when(
        t.less(t.blockIndex('y'), t.named("kKvHeads")), [&] { appendRows(0); },
        [&] { appendRows(1); });
    std::prev(t.builder.getInsertionPoint())->setAttr("tile.uniform", t.builder.getUnitAttr());
  }

  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "append";
  built.recipe.when = "rows";
  built.recipe.facts.headDim = plan.headDim;
  built.recipe.facts.summaryKeys = plan.summaries[0].window;
  built.recipe.facts.summaryStride = plan.summaries[0].stride;
  built.recipe.gridX = llvm::formatv("total_q / {0} + batch", kTokens).str();
  built.recipe.gridY = std::to_string(plan.kvHeads * count);
  return built;
}

} // namespace winnow
