// The summarize kernels: means over windows of keys, one kernel per summary. First step of a
// selecting method.
#include "compiler/tile/TileBuilder.h"
#include "compiler/tile/TileKernels.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {

/// Most threads of a block of threads of these kernels.
static constexpr int kMostThreads = 256;

static BuiltKernel buildOne(ModuleOp module, const MethodPlan &plan, int index) {
  auto [window, stride] = plan.summaries[index];
  // Rows are a power of two: whole warps for every row length.
  const int chunks = plan.headDim / 8,
            rows = static_cast<int>(llvm::bit_floor<unsigned>(kMostThreads / chunks));
  std::string name = llvm::formatv("summarize_{0}", index).str();
  TileBuilder t(
      module, name,
      llvm::formatv(
          "{0} of {1}: means over windows of {2} keys at stride {3}; {4} threads make one row.",
          name, plan.method, window, stride, chunks)
          .str(),
      rows * chunks, 4);
  t.constant("kKvHeads", plan.kvHeads, "key/value heads");
  t.constant("kDim", plan.headDim, "elements of one key");
  t.constant("kWindow", window, "keys of one summary");
  t.constant("kStride", stride, "keys from one summary to the next");
  t.constant("kChunks", chunks, "threads of one row, 8 channels each");
  t.constant("kTokens", rows * stride, "keys at which a block of threads begins summaries");

  Value tile = t.value("tile", "find_token_tile",
                       {t.pointer("cu_k"), t.pointer("cu_k"), t.field(t.params(), "batch"),
                        t.number(0), t.field(t.params(), "total_k"), t.blockIndex('x')},
                       {"@kTokens"}, t.type("TokenTile"));
  t.returnIf(t.equal(t.field(tile, "tokens"), t.number(0)));
  Value kvHead = t.blockIndex('y', "kv_head");
  Value thread = t.value("thread", "thread_index", {});
  Value row = t.add(t.div(t.field(tile, "first"), t.named("kStride")),
                    t.div(thread, t.named("kChunks")), "row");
  Value chunk = t.rem(thread, t.named("kChunks"), "chunk");
  Value keys = t.value("keys", "global_rows",
                       {t.pointer("k"), t.field(tile, "k_row"), t.mul(kvHead, t.named("kDim"))},
                       {plan.element, "kKvHeads * kDim"}, t.type("auto"));
  Value summary = t.value("summary", "summary_of",
                          {t.pointer(t.bufferMember(index)), kvHead, t.field(t.params(), "total_k"),
                           t.field(tile, "k_row")},
                          {plan.element, "@kDim", "@kStride"}, t.type("auto"));
  Value total = t.value("", "summary_rows", {t.field(tile, "k_length")}, {"@kWindow", "@kStride"});
  t.when(t.less(row, total), [&] {
    Value sums = t.fragment("sums", t.type("ChannelSums"));
    t.unrolled("i", t.named("kWindow"), [&](Value i) {
       t.leaf("add_row", {sums, keys, t.add(t.mul(row, t.named("kStride")), i), chunk});
     })->setAttr("unroll", t.builder.getI32IntegerAttr(8));
    t.leaf("store_mean", {summary, row, chunk, sums, t.real(window)});
  });

  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "summarize";
  built.recipe.gridX = llvm::formatv("total_k / {0} + batch", rows * stride).str();
  built.recipe.gridY = std::to_string(plan.kvHeads);
  return built;
}

std::vector<BuiltKernel> buildSummarize(ModuleOp module, const MethodPlan &plan) {
  std::vector<BuiltKernel> kernels;
  for (size_t i = 0; i < plan.summaries.size(); ++i)
    kernels.push_back(buildOne(module, plan, static_cast<int>(i)));
  return kernels;
}

} // namespace winnow
