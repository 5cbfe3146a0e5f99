// What the skeletons of attention and of its gradients by queries have in common: the kernel in the
// making, its sizes, its parts, its launch. A skeleton adds order, roles and waiting.
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

/// Of kernels whose blocks of threads own tokens and go through the keys that these want.
class TokensFrame {
protected:
  using Value = mlir::Value;
  /// `threads` before any pass adds some.
  TokensFrame(mlir::ModuleOp module, llvm::StringRef name, const std::string &title,
              const AttendPlan &plan, const AttendSizes &sizes, int threads)
      : plan(plan), sizes(sizes), t(module, name, title, threads, 1), tokens(t, plan),
        tileList(t, plan, sizes.onWarpgroups() ? TileList::By::Warp : TileList::By::Block,
                 sizes.onWarpgroups() ? "@kPartKeys" : "@kKeys"),
        source(t, plan, sizes.tiles()), logits(t, plan),
        mask(t, plan, sizes.onWarpgroups() ? "kPartKeys" : "kKeys") {}

  BuiltKernel finish(const char *step, const std::string &gridX, const std::string &gridY) {
    BuiltKernel built{t.finish(), {}};
    built.recipe.step = step;
    built.recipe.facts = attendFacts(plan, sizes);
    built.recipe.gridX = gridX;
    built.recipe.gridY = gridY;
    return built;
  }
  /// A block of threads for each tile of tokens and of heads.
  BuiltKernel finishByTiles(const char *step) {
    return finish(step, llvm::formatv("total_q / {0} + batch", sizes.tokens).str(),
                  std::to_string(plan.heads / plan.group));
  }
  /// Blocks of threads that stay, one of each multiprocessor, and take one tile after the other.
  BuiltKernel finishPersistent(const char *step) {
    return finish(step,
                  llvm::formatv("min(sm_count, (total_q / {0} + batch) * {1})", sizes.tokens,
                                plan.heads / plan.group)
                      .str(),
                  "1");
  }

  const AttendPlan &plan;
  const AttendSizes &sizes;
  KernelBuilder t;
  Tokens tokens;
  TileList tileList;
  KeySource source;
  Logits logits;
  Mask mask;
};

class AttendFrame : protected TokensFrame {
protected:
  /// `owner`: who owns the tokens of a tile, for the title.
  AttendFrame(mlir::ModuleOp module, llvm::StringRef name, const AttendPlan &plan,
              const AttendSizes &sizes, Softmax::Options options, const char *owner, int threads)
      : TokensFrame(
            module, name,
            llvm::formatv("{5} of {0}: softmax attention of each token over the keys of its "
                          "selected blocks; {1} {2} tokens of {3} query heads{4}.",
                          plan.method, owner, sizes.tokens, plan.group,
                          sizes.onWarpgroups() ? " after the other" : "", name)
                .str(),
            plan, sizes, threads),
        softmax(t, plan, options), epilogue(t, plan) {}

  Softmax softmax;
  Epilogue epilogue;
};

} // namespace winnow
