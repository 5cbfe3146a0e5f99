// Pass winnow-fuse-kernels: which steps share a kernel, and so what is launched: a select.kernel is
// built by one row of the kernel registry (compiler/driver/KernelRegistry.h). The rule is data
// flow. A step whose result is kept in memory ends a kernel; every other step belongs to the kernel
// of the step that takes its result. Scores per head and row are never kept: [heads, tokens, rows]
// would not fit.
#include "compiler/select/SelectPasses.h"
#include "compiler/select/plans/MethodPlans.h"

using namespace mlir;

namespace winnow {
#define GEN_PASS_DEF_FUSEKERNELS
#include "compiler/select/SelectPasses.h.inc"

/// The kernel that ends with a step; empty where its result is not kept in memory. `scored`: some
/// block is chosen by its score. Where none is, no score is looked at, nor a summary.
static StringRef kernelOf(Operation *step, bool scored) {
  return llvm::TypeSwitch<Operation *, StringRef>(step)
      .Case<select::SummarizeOp>([&](auto) { return scored ? "summarize" : ""; })
      .Case<select::PoolOp>([&](auto) { return scored ? "score" : ""; })
      .Case<select::TopKOp>([](auto) { return "top_k"; })
      .Case<select::AttendOp>([](auto) { return "attend"; })
      .Case<select::AttendBackwardOp>([](auto) { return "backward"; })
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
  bool scored = true;
  auto topk = method.getSpecAttr().getAs<IntegerAttr>("topk");
  method.walk([&](select::ForceOp force) {
    scored &= int64_t(number(force.getInit())) + number(force.getLocal()) != topk.getInt();
  });
  llvm::MapVector<Operation *, SmallVector<Operation *>> kernels; // by the step that ends each
  Operation *summaries = nullptr;                                 // one kernel for all of them
  for (Operation &step : method.getBody().front().without_terminator()) {
    if (isa<select::KernelOp>(step))
      continue; // fused before
    Operation *end = &step;
    while (kernelOf(end, scored).empty())
      end = *end->user_begin();
    if (isa<select::SummarizeOp>(end))
      end = summaries = summaries ? summaries : end;
    kernels[end].push_back(&step);
  }
  for (auto &[end, steps] : kernels)
    wrap(kernelOf(end, scored), steps);
}

namespace {
struct FuseKernelsPass : impl::FuseKernelsBase<FuseKernelsPass> {
  void runOnOperation() override {
    for (auto method : getOperation().getOps<select::MethodOp>()) {
      if (!method.getSpecAttr()) {
        method.emitError("has no numbers yet: run winnow-specialize before winnow-fuse-kernels");
        return signalPassFailure();
      }
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
