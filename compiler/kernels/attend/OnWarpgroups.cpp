// The attend kernel for targets with warpgroup products and bulk copies. The idea is that of
// OnWarps.cpp: load the union of neighbouring tokens' blocks once, each owner skips what it did not
// select (WarpgroupWalk.h). A consumer's product of weights and values stays in flight while the
// next logits are made, which bounds how far it may look ahead in the ring.
#include "compiler/kernels/attend/OnWarpgroups.h"

using namespace mlir;

namespace winnow {

AttendOnWarpgroups::AttendOnWarpgroups(ModuleOp module, const AttendPlan &plan,
                                       const AttendSizes &sizes, const Config &config,
                                       std::vector<TensorMapRecipe> &maps)
    : AttendFrame(module, "attend", plan, sizes,
                  {/*someWant=*/true, /*lazy=*/config.attendSoftmax == AttendSoftmax::Lazy,
                   config.attendFma == AttendFma::None ? 0 : static_cast<int>(config.attendFma)},
                  "blocks of threads stay and take one tile of", WarpgroupWalk::threads(sizes)),
      walk(t, plan, sizes, tokens, tileList, source, mask,
           /*split=*/config.attendSplit == YesNo::Yes && sizes.parts == 1),
      ring(walk.rings[0]) {
  walk.describe(maps);
}

BuiltKernel AttendOnWarpgroups::build() {
  logits.declareRegion(/*takesFactors=*/true);
  walk.constants();
  logits.constants();
  walk.declare();
  walk.perform([&] { consume(); });
  return finishPersistent("attend");
}

Result<BuiltKernel> buildAttendWarpgroups(ModuleOp module, const AttendPlan &plan,
                                          const Target &target, Config config,
                                          std::vector<TensorMapRecipe> &maps) {
  WINNOW_TRY(AttendSizes sizes, chooseAttendOnWarpgroups(plan, target, config));
  config.attendForm = AttendForm::Warpgroups;
  if (config.attendSplit == YesNo::Default)
    config.attendSplit =
        sizes.parts == 1 && plan.selects() && maskBits(sizes.tokens) <= 64 ? YesNo::Yes : YesNo::No;
  if (config.attendSoftmax == AttendSoftmax::Default)
    config.attendSoftmax = AttendSoftmax::Lazy;
  // Even where a region keeps the special-function units busy (tanh), the cubic's instructions cost
  // more than they save.
  if (config.attendFma == AttendFma::Default)
    config.attendFma = AttendFma::None;
  BuiltKernel built = AttendOnWarpgroups(module, plan, sizes, config, maps).build();
  built.config = config;
  return built;
}

} // namespace winnow
