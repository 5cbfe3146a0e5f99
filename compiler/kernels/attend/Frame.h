// What the skeletons of attention have in common: the kernel in the making, its sizes, its parts,
// its launch. A skeleton adds order, roles and waiting.
#pragma once
#include "compiler/kernels/attend/Sizes.h"
#include "compiler/kernels/parts/Epilogue.h"
#include "compiler/kernels/parts/KeySource.h"
#include "compiler/kernels/parts/Logits.h"
#include "compiler/kernels/parts/Mask.h"
#include "compiler/kernels/parts/Softmax.h"
#include "compiler/kernels/parts/TileList.h"
#include "llvm/Support/FormatVariadic.h"

namespace winnow {

class AttendFrame {
protected:
  using Value = mlir::Value;
  /// `owner`: who owns the tokens of a tile, for the title. `threads` before any pass adds some.
  AttendFrame(mlir::ModuleOp module, llvm::StringRef name, const AttendPlan &plan,
              const AttendSizes &sizes, Softmax::Options options, const char *owner, int threads)
      : plan(plan), sizes(sizes),
        t(module, name,
          llvm::formatv("{5} of {0}: softmax attention of each token over the keys of its "
                        "selected blocks; {1} {2} tokens of {3} query heads{4}.",
                        plan.method, owner, sizes.tokens, plan.group,
                        sizes.onWarpgroups() ? " after the other" : "", name)
              .str(),
          threads, 1),
        tokens(t, plan),
        tileList(t, plan, sizes.onWarpgroups() ? TileList::By::Warp : TileList::By::Block,
                 sizes.onWarpgroups() ? "@kPartKeys" : "@kKeys"),
        source(t, plan, sizes.tiles()), logits(t, plan),
        mask(t, plan, sizes.onWarpgroups() ? "kPartKeys" : "kKeys"), softmax(t, plan, options),
        epilogue(t, plan) {}

  BuiltKernel finish(const std::string &gridX, const std::string &gridY) {
    BuiltKernel built{t.finish(), {}};
    built.recipe.step = "attend";
    built.recipe.facts = attendFacts(plan, sizes);
    built.recipe.gridX = gridX;
    built.recipe.gridY = gridY;
    return built;
  }

  const AttendPlan &plan;
  const AttendSizes &sizes;
  KernelBuilder t;
  Tokens tokens;
  TileList tileList;
  KeySource source;
  Logits logits;
  Mask mask;
  Softmax softmax;
  Epilogue epilogue;
};

} // namespace winnow
