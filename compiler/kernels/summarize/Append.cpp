// The append kernels: the means over windows of keys that the host keeps, one kernel per summary.
// Where a launch gives rows they run before everything else. On entry the new keys lie where the
// launch says; on exit every row whose last key is new is there, equal bit for bit to one made from
// the whole sequence, and no other slot was written. A block of threads looks at the new tokens of
// one sequence that finish at most as many rows as it has: at decode the grid is a block per
// sequence and head, most of which end at once.
#include "compiler/kernels/KernelBuilder.h"
#include "compiler/kernels/Kernels.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {

/// Most threads of a block of threads; with 128, whole warps for every row length.
static constexpr int kAppendThreads = 128;

static BuiltKernel buildOne(ModuleOp module, const SelectionPlan &plan, int index) {
  const int window = plan.summaries[index].window, stride = plan.summaries[index].stride;
  const int chunks = plan.headDim / 8,
            rows = static_cast<int>(llvm::bit_floor<unsigned>(kAppendThreads / chunks));
  std::string name = llvm::formatv("append_{0}", index).str();
  KernelBuilder t(module, name,
                  llvm::formatv("{0} of {1}: means over windows of {2} keys at stride {3}, those "
                                "that new keys finish; {4} threads make one row.",
                                name, plan.method, window, stride, chunks)
                      .str(),
                  rows * chunks, 8);
  t.constant("kWindow", window, "keys of one summary");
  t.constant("kStride", stride, "keys from one summary to the next");
  t.constant("kChunks", chunks, "threads of one row, 8 channels each");
  t.constant("kTokens", rows * stride, "new tokens of a block of threads, one row per stride");
  t.constant("kFactor", 1.0, "the host's rows are plain means");

  t.leaf("wait_earlier_kernels", {});
  Value tile = t.value("tile", "find_token_tile",
                       {t.pointer("cu_q"), t.keyLengths(true), t.field(t.params(), "batch"),
                        t.number(0), t.field(t.params(), "total_q"), t.blockIndex('x')},
                       {"@kTokens"});
  Value tokens = t.field(tile, "tokens"), position = t.field(tile, "position");
  t.returnIf(t.equal(tokens, t.number(0)));
  // Whole windows before the tile's first token, and with its last one.
  auto wholeWindows = [&](const char *hint, Value keys) {
    return t.value(hint, "summary_rows", {keys}, {"@kWindow", "@kStride"});
  };
  Value first = wholeWindows("first_row", position);
  Value end = wholeWindows("row_end", t.add(position, tokens));
  Value thread = t.value("thread", "thread_index");
  Value row = t.add(first, t.div(thread, t.named("kChunks")), "row");
  Value chunk = t.rem(thread, t.named("kChunks"), "chunk");
  t.when(t.less(row, end), [&] {
    Value kvHead = t.blockIndex('y', "kv_head");
    Value keys =
        t.value("keys", "paged_rows",
                {t.params(), t.pointer("k"), t.pointer("k_stride"), tile, kvHead}, {plan.element});
    Value kept = t.value("kept", "kept_rows", {t.params(), t.number(index), tile, kvHead},
                         {plan.element, "@kWindow", "@kStride"});
    Value sums = t.fragment("sums", t.type("ChannelSums"));
    t.unrolled("i", t.named("kWindow"), [&](Value i) {
       t.leaf("add_row", {sums, keys, t.add(t.mul(row, t.named("kStride")), i), chunk});
     })->setAttr("tile.unroll", t.builder.getI32IntegerAttr(8));
    t.leaf("store_mean", {kept, row, chunk, sums, t.real(window), t.namedReal("kFactor")});
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
