// What the parts of selecting kernels share, and the constants that say what a plan says. A kernel
// names those that it needs, in the order in which they are to be printed; what a name holds and
// means is written once.
#pragma once
#include "compiler/kernels/KernelBuilder.h"
#include "compiler/kernels/score/Plan.h"

namespace winnow {

struct PlanConstant {
  const char *name;
  int (*value)(const SelectionPlan &);
  const char *meaning;
};

inline constexpr PlanConstant kPlanConstants[] = {
    {"kHeads", [](const SelectionPlan &plan) { return plan.heads; }, "query heads"},
    {"kKvHeads", [](const SelectionPlan &plan) { return plan.kvHeads; }, "key/value heads"},
    {"kGroup", [](const SelectionPlan &plan) { return plan.group; },
     "query heads that share one selection"},
    {"kSelectHeads", [](const SelectionPlan &plan) { return plan.selectHeads(); },
     "selections per token"},
    {"kDim", [](const SelectionPlan &plan) { return plan.headDim; },
     "elements of one query or summary row"},
    {"kBlock", [](const SelectionPlan &plan) { return plan.block; },
     "keys of one selectable block"},
    {"kTopK", [](const SelectionPlan &plan) { return plan.topk; },
     "selected blocks per token, at most"},
    {"kInit", [](const SelectionPlan &plan) { return plan.init; }, "first blocks, always selected"},
    {"kLocal", [](const SelectionPlan &plan) { return plan.local; },
     "blocks up to the query's own that are always selected"},
    {"kSearched", [](const SelectionPlan &plan) { return plan.topk - plan.init - plan.local; },
     "blocks that are selected by their scores"},
    {"kDenseLength", [](const SelectionPlan &plan) { return plan.denseLength; },
     "shorter sequences are not selected from"},
    {"kRowsPerBlock", [](const SelectionPlan &plan) { return plan.rowsPerBlock(); },
     "summaries per block"},
    {"kPad", [](const SelectionPlan &plan) { return plan.pad(); },
     "summaries that reach into a block from the one before"},
};

/// Defines the constants of these names, but for kDenseLength where the launch says it. One that
/// the table has not, or that means nothing for the plan (kPad where nothing is scored), is a fault
/// of the caller.
inline void planConstants(KernelBuilder &t, const SelectionPlan &plan,
                          llvm::ArrayRef<llvm::StringRef> names) {
  for (llvm::StringRef name : names) {
    if (name == "kDenseLength" && plan.crossing)
      continue;
    const PlanConstant *found =
        llvm::find_if(kPlanConstants, [&](const PlanConstant &one) { return name == one.name; });
    assert(found != std::end(kPlanConstants) && "the table has no such constant");
    t.constant(name, found->value(plan), found->meaning);
  }
}

/// What a mean of stored keys of one head is multiplied by: kFactor, of fp8 keys times what makes
/// them true ones.
inline mlir::Value meanFactor(KernelBuilder &t, const SelectionPlan &plan, mlir::Value kvHead) {
  mlir::Value factor = t.namedReal("kFactor");
  return plan.hasFp8Keys()
             ? t.value("factor", "head_factor", {t.pointer("k_scale"), kvHead, factor})
             : factor;
}

class SelectionPart {
public:
  SelectionPart(KernelBuilder &t, const SelectionPlan &plan, const ScorePlan &scores)
      : t(t), plan(plan), scores(scores) {}

  /// The tile of at most kTokens tokens in a slot of the chunk; without tokens it is no work.
  mlir::Value findTile(mlir::Value slot) {
    return t.value("tile", "find_token_tile",
                   {t.pointer("cu_q"), t.keyLengths(plan.paged), t.field(t.params(), "batch"),
                    t.field(t.params(), "token_begin"), t.field(t.params(), "token_end"), slot},
                   {"@kTokens"});
  }

  /// The query token in row `row` of q; without a token, where there is none.
  mlir::Value findToken(mlir::Value row) {
    return t.value("tile", "find_token",
                   {t.pointer("cu_q"), t.keyLengths(plan.paged), t.field(t.params(), "batch"), row},
                   {});
  }

protected:
  using Value = mlir::Value;
  using StringRef = llvm::StringRef;
  KernelBuilder &t;
  const SelectionPlan &plan;
  const ScorePlan &scores;
};

} // namespace winnow
