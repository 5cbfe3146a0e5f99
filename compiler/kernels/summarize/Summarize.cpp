// The summarize kernels: means over windows of keys, one kernel per summary. First step of a
// selecting method.
#include "compiler/kernels/Kernels.h"
#include "compiler/kernels/parts/Summaries.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {

/// Most threads of a block of threads of these kernels.
static constexpr int kMostThreads = 256;

static BuiltKernel buildOne(ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores,
                            int index) {
  const int window = plan.summaries[index].window, stride = plan.summaries[index].stride;
  // Rows are a power of two: whole warps for every row length.
  const int chunks = plan.headDim / 8,
            rows = static_cast<int>(llvm::bit_floor<unsigned>(kMostThreads / chunks));
  std::string name = llvm::formatv("summarize_{0}", index).str();
  KernelBuilder t(
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
  if (scores.warpgroups)
    t.constant("kRows", rows, "summaries of one block of threads");
  t.constant("kFactor", scores.folded ? plan.scale * llvm::numbers::log2e : 1.0,
             scores.folded ? "softmax scale times log2 e: logits become exponents of 2" : "");
  t.constant("kTokens", rows * stride, "keys at which a block of threads begins summaries");

  Value batch = t.field(t.params(), "batch");
  Value tile = plan.paged ? t.value("tile", "find_key_tile",
                                    {t.keyLengths(true), batch, t.blockIndex('x')}, {"@kTokens"})
                          : t.value("tile", "find_token_tile",
                                    {t.pointer("cu_k"), t.pointer("cu_k"), batch, t.number(0),
                                     t.field(t.params(), "total_k"), t.blockIndex('x')},
                                    {"@kTokens"});
  t.returnIf(t.equal(t.field(tile, "tokens"), t.number(0)));
  Value kvHead = t.blockIndex('y', "kv_head");
  Value thread = t.value("thread", "thread_index");
  Value row = t.add(t.div(t.field(tile, "first"), t.named("kStride")),
                    t.div(thread, t.named("kChunks")), "row");
  Value chunk = t.rem(thread, t.named("kChunks"), "chunk");
  Value keys =
      plan.paged ? t.value("keys", "paged_rows",
                           {t.params(), t.pointer("k"), t.pointer("k_stride"), tile, kvHead},
                           {plan.keyElement})
                 : t.value("keys", "global_rows",
                           {t.pointer("k"), t.field(tile, "k_row"), t.mul(kvHead, t.named("kDim"))},
                           {plan.element, "kKvHeads * kDim"});
  Summaries summaries(t, plan, scores, index);
  Value summary = summaries.source(index, tile, kvHead, scores.warpgroups ? "images" : "summary");
  Value total = summaries.rows(index, tile, "");
  Value sums = t.fragment("sums", t.type("ChannelSums"));
  Value factor = meanFactor(t, plan, kvHead);
  auto store = [&](Value row) {
    t.leaf(scores.warpgroups ? "store_image_row" : "store_mean",
           {summary, row, chunk, sums, t.real(window), factor});
  };
  auto sum = [&] {
    t.unrolled("i", t.named("kWindow"), [&](Value i) {
       t.leaf("add_row", {sums, keys, t.add(t.mul(row, t.named("kStride")), i), chunk});
     })->setAttr("tile.unroll", t.builder.getI32IntegerAttr(8));
  };
  if (scores.warpgroups) {
    t.when(t.less(row, total), sum);
    store(row);
    // The rest of the sequence's last image: nothing that is read may be left as it was found.
    Value end = t.add(t.field(tile, "first"), t.field(tile, "tokens"));
    t.when(t.equal(end, t.field(tile, "k_length")), [&] {
      Value imageEnd =
          t.mul(t.add(t.div(row, t.number(128)), t.number(1)), t.number(128), "image_end");
      Value none = t.fragment("none", t.type("ChannelSums"));
      t.loop("spare", t.add(row, t.named("kRows")), imageEnd, t.named("kRows"), [&](Value spare) {
        t.leaf("store_image_row", {summary, spare, chunk, none, t.real(1), t.real(0)});
      });
    });
  } else {
    t.when(t.less(row, total), [&] {
      sum();
      store(row);
    });
  }

  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "summarize";
  built.recipe.facts.headDim = plan.headDim;
  built.recipe.facts.summaryKeys = window;
  built.recipe.facts.summaryStride = stride;
  built.recipe.facts.folded = scores.folded;
  built.recipe.gridX = llvm::formatv("total_k / {0} + batch", rows * stride).str();
  built.recipe.gridY = std::to_string(plan.kvHeads);
  return built;
}

std::vector<BuiltKernel> buildSummarize(ModuleOp module, const SelectionPlan &plan,
                                        const ScorePlan &scores) {
  std::vector<BuiltKernel> kernels;
  for (size_t i = 0; i < plan.summaries.size(); ++i)
    kernels.push_back(buildOne(module, plan, scores, static_cast<int>(i)));
  return kernels;
}

} // namespace winnow
