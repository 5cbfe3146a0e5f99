// Pass winnow-fuse-kernels: which steps share a kernel. The rule is data flow, not names:
// everything between summaries and block scores is one kernel, because its intermediate [heads,
// tokens, rows] must never exist in memory.
#include "compiler/select/SelectPasses.h"
#include "compiler/select/plans/MethodPlans.h"

using namespace mlir;

namespace winnow {
#define GEN_PASS_DEF_FUSEKERNELS
#include "compiler/select/SelectPasses.h.inc"

/// The kernel that a step belongs to.
static StringRef kernelOf(Operation *op) {
  return llvm::TypeSwitch<Operation *, StringRef>(op)
      .Case<select::SummarizeOp>([](auto) { return "summarize"; })
      .Case<select::LogSumExpOp, select::ScoreOp, select::CombineHeadsOp, select::PoolOp>(
          [](auto) { return "score"; })
      .Case<select::ForceOp, select::TopKOp>([](auto) { return "top_k"; })
      .Case<select::AttendOp>([](auto) { return "attend"; })
      .Default([](auto) { return ""; });
}

/// Moves `steps` into a kernel op at the last step's place: what they need is defined by then, and
/// users come later.
static void wrap(StringRef name, ArrayRef<Operation *> steps) {
  DenseSet<Operation *> inside(steps.begin(), steps.end());
  SmallVector<Value> leaving;
  for (Operation *op : steps)
    for (Value result : op->getResults())
      if (llvm::any_of(result.getUsers(), [&](Operation *user) { return !inside.contains(user); }))
        leaving.push_back(result);
  OpBuilder b(steps.back());
  auto kernel = select::KernelOp::create(b, steps.front()->getLoc(), ValueRange(leaving).getTypes(),
                                         b.getStringAttr(name));
  Block &body = kernel.getBody().emplaceBlock();
  for (auto [value, result] : llvm::zip(leaving, kernel.getResults()))
    value.replaceUsesWithIf(result,
                            [&](OpOperand &use) { return !inside.contains(use.getOwner()); });
  for (Operation *op : steps)
    op->moveBefore(&body, body.end());
  b.setInsertionPointToEnd(&body);
  select::YieldOp::create(b, kernel.getLoc(), leaving);
}

void fuseKernels(select::MethodOp method) {
  llvm::MapVector<StringRef, SmallVector<Operation *>> kernels;
  for (Operation &op : method.getBody().front().without_terminator())
    if (StringRef kernel = kernelOf(&op); !kernel.empty())
      kernels[kernel].push_back(&op);
  for (auto &[name, steps] : kernels)
    wrap(name, steps);
}

namespace {
struct FuseKernelsPass : impl::FuseKernelsBase<FuseKernelsPass> {
  void runOnOperation() override {
    for (auto method : getOperation().getOps<select::MethodOp>()) {
      fuseKernels(method);
      // Nobody builds from these plans; what they refuse is said here, too.
      if (Result<MethodPlans> plans = planMethod(method); !plans) {
        method.emitError(plans.error().message);
        return signalPassFailure();
      }
    }
  }
};
} // namespace
} // namespace winnow
