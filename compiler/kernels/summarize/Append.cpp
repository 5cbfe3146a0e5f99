// The append kernels: the means over windows of keys that the host keeps, one kernel per summary.
// Where a launch gives rows they run before everything else. On entry the new keys lie where the
// launch says; on exit every row whose last key is new is there, equal bit for bit to one made from
// the whole sequence, and no other slot was written. A block of threads looks at some new tokens of
// one sequence: at decode the grid is a block per sequence and head, most of which end at once. All
// of its threads fetch the keys of a row together, since a few threads would wait for one key after
// the other, where a decode step waits for them; then some add them up in their order.
#include "compiler/kernels/KernelBuilder.h"
#include "compiler/kernels/Kernels.h"
#include "runtime/program/Budgets.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {

/// Most threads of a block of threads; with 128, whole warps for every row length.
static constexpr int kAppendThreads = 128;
/// Most keys that are fetched together.
static constexpr int kTogether = 128;

static BuiltKernel buildOne(ModuleOp module, const SelectionPlan &plan, int index) {
  const int window = plan.summaries[index].window, stride = plan.summaries[index].stride;
  const int chunks = plan.headDim / 8,
            rows = static_cast<int>(llvm::bit_floor<unsigned>(kAppendThreads / chunks));
  int keysTogether = std::min(window, kTogether);
  while (window % keysTogether != 0)
    --keysTogether;
  std::string name = llvm::formatv("append_{0}", index).str();
  KernelBuilder t(module, name,
                  llvm::formatv("{0} of {1}: means over windows of {2} keys at stride {3}, those "
                                "that new keys finish; {4} threads add one row up.",
                                name, plan.method, window, stride, chunks)
                      .str(),
                  rows * chunks, 8);
  t.constant("kWindow", window, "keys of one summary");
  t.constant("kStride", stride, "keys from one summary to the next");
  t.constant("kChunks", chunks, "threads of one row, 8 channels each");
  t.constant("kDim", plan.headDim, "elements of one key");
  t.constant("kKeys", keysTogether, "keys that are fetched together");
  t.constant("kThreads", rows * chunks);
  t.constant("kTokens", rows * stride, "new tokens of a block of threads");
  t.constant("kFactor", 1.0, "the host's rows are plain means");

  Value tile = t.value("tile", "find_token_tile",
                       {t.pointer("cu_q"), t.keyLengths(true), t.field(t.params(), "batch"),
                        t.number(0), t.field(t.params(), "total_q"), t.blockIndex('x')},
                       {"@kTokens"});
  Value tokens = t.field(tile, "tokens"), position = t.field(tile, "position");
  t.leaf("wait_earlier_kernels", {});
  t.returnIf(t.equal(tokens, t.number(0)));
  // Whole windows before the tile's first token, and with its last one.
  auto wholeWindows = [&](const char *hint, Value keys) {
    return t.value(hint, "summary_rows", {keys}, {"@kWindow", "@kStride"});
  };
  Value first = wholeWindows("first_row", position);
  Value end = wholeWindows("row_end", t.add(position, tokens));
  Value kvHead = t.blockIndex('y', "kv_head"), thread = t.value("thread", "thread_index");
  Value keys =
      t.value("keys", "paged_rows",
              {t.params(), t.pointer("k"), t.pointer("k_stride"), tile, kvHead}, {plan.element});
  Value kept = t.value("kept", "kept_rows", {t.params(), t.number(index), tile, kvHead},
                       {plan.element, "@kWindow", "@kStride"});
  Value keyTile = t.shared("key_tile", t.type("SharedTile", {"@kKeys", "@kDim", plan.element}),
                           sharedTileBytes(keysTogether, plan.headDim));
  t.loop("row", first, end, t.number(1), [&](Value row) {
    Value sums = t.fragment("sums", t.type("ChannelSums"));
    Value adds = t.less(thread, t.named("kChunks"));
    t.loop("key", t.number(0), t.named("kWindow"), t.named("kKeys"), [&](Value key) {
      t.leaf("load_rows",
             {keyTile, keys, t.add(t.mul(row, t.named("kStride")), key), t.field(tile, "k_length"),
              thread},
             {"@kThreads"});
      t.when(adds, [&] { t.leaf("add_tile_rows", {sums, keyTile, thread}); });
    });
    t.when(adds, [&] {
      t.leaf("store_mean", {kept, row, thread, sums, t.real(window), t.namedReal("kFactor")});
    });
  });

  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "append";
  built.recipe.when = "rows";
  built.recipe.facts.headDim = plan.headDim;
  built.recipe.facts.summaryKeys = window;
  built.recipe.facts.summaryStride = stride;
  built.recipe.gridX = llvm::formatv("total_q / {0} + batch", rows * stride).str();
  built.recipe.gridY = std::to_string(plan.kvHeads);
  return built;
}

std::vector<BuiltKernel> buildAppend(ModuleOp module, const SelectionPlan &plan) {
  std::vector<BuiltKernel> kernels;
  for (size_t i = 0; i < plan.summaries.size(); ++i)
    kernels.push_back(buildOne(module, plan, static_cast<int>(i)));
  return kernels;
}

} // namespace winnow
