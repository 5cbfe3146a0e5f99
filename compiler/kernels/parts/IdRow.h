// Part: the tokens of a top_k kernel, a row of ids for each: a warp per row, or all warps of a
// block of threads. Serves top_k over scores and over ranks.
#pragma once
#include "compiler/kernels/Kernels.h"
#include "compiler/kernels/parts/SelectionPart.h"
#include "llvm/Support/FormatVariadic.h"

namespace winnow {

class IdRow : public SelectionPart {
public:
  static constexpr int kRowsTogether = 8; ///< of a block of threads, with one warp per row

  /// For rows of so many warps each.
  IdRow(KernelBuilder &t, const SelectionPlan &plan, const ScorePlan &scores, int warps)
      : SelectionPart(t, plan, scores), warps(warps), tokens(warps > 1 ? 1 : kRowsTogether) {}
  /// Of a block of threads.
  static int threads(int warps) { return 32 * (warps > 1 ? warps : kRowsTogether); }
  /// Of a kernel for rows of up to so many blocks, of decode or of all else.
  static std::string name(int blocks, bool decode) {
    return llvm::formatv("top_k_{0}{1}", decode ? "decode_" : "", blocks).str();
  }
  /// Of a kernel for rows of up to so many blocks; 0: of forced blocks alone, and any length.
  static std::string title(const SelectionPlan &plan, int blocks) {
    if (blocks == 0)
      return llvm::formatv("top_k of {0}: the {1} forced blocks of each token; ascending ids, -1 "
                           "behind the last.",
                           plan.method, plan.topk)
          .str();
    return llvm::formatv(
               "top_k of {0}: the {1} best blocks of each token, forced ones included, for "
               "rows of up to {2} blocks; ascending ids, -1 behind the last.",
               plan.method, plan.topk, blocks)
        .str();
  }
  /// The facts of a kernel that selects so.
  static void describe(KernelFacts &facts, const SelectionPlan &plan, const ScorePlan &scores,
                       int warps, int blocks) {
    facts.group = plan.group;
    facts.topk = plan.topk;
    facts.init = plan.init;
    facts.local = plan.local;
    if (blocks == 0)
      return;
    facts.scoreBytes = scores.elementBytes();
    facts.rowWarps = warps;
    facts.rowBlocks = blocks;
  }

  void constants() { t.constant("kTokens", tokens, "rows of one block of threads"); }
  /// Finds the running warp's row; warps without one return.
  void locate() {
    if (plan.paged)
      t.leaf("start_later_kernels", {});
    tile = findTile(t.blockIndex('x'));
    if (plan.paged)
      t.leaf("wait_earlier_kernels", {});
    warp = t.value("warp", "warp_index");
    const bool wide = tokens == 1;
    t.returnIf(t.atLeast(wide ? t.number(0) : warp, t.field(tile, "tokens")));
    selectHead = t.blockIndex('y', "select_head");
    Value position = t.field(tile, "position");
    own = t.div(wide ? position : t.add(position, warp), t.named("kBlock"), "own");
    row = t.field(tile, "row");
    if (!wide)
      row = t.add(row, warp, "row");
    ids = t.value("ids", "id_row",
                  {t.pointer("ids"), selectHead, t.field(t.params(), "total_q"), row}, {"@kTopK"});
  }
  /// The kernel, which is launched where the longest sequence has more than `above` and up to
  /// `blocks` blocks; always, where `blocks` is 0.
  BuiltKernel finish(int above, int blocks) {
    BuiltKernel built{t.finish(), {}};
    Kernel &recipe = built.recipe;
    recipe.step = "top_k";
    describe(recipe.facts, plan, scores, warps, blocks);
    recipe.facts.tokens = tokens;
    recipe.perChunk = true;
    std::string longest = llvm::formatv("ceil_div(max_k, {0})", plan.block).str();
    if (blocks > 0)
      recipe.when = llvm::formatv("({0} > {1}) * ({0} <= {2})", longest, above, blocks).str();
    recipe.gridX = llvm::formatv("token_count / {0} + batch", tokens).str();
    recipe.gridY = std::to_string(plan.selectHeads());
    return built;
  }

  Value tile, warp, selectHead, own, row, ids; ///< `row`: of q

private:
  const int warps, tokens;
};

} // namespace winnow
