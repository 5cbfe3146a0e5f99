// Pass winnow-derive-backward: a specialised method gets the step that makes the gradients of its
// attention. They are derived from the method: whatever select.attend computes, region included, is
// what is differentiated. The selection carries no gradient.
#include "compiler/select/RegionDerivative.h"
#include "compiler/select/SelectPasses.h"
#include "compiler/select/plans/KernelPlan.h"

using namespace mlir;

namespace winnow {
#define GEN_PASS_DEF_DERIVEBACKWARD
#include "compiler/select/SelectPasses.h.inc"

Status deriveBackward(select::MethodOp method) {
  auto output = cast<select::ReturnOp>(method.getBody().front().getTerminator());
  auto attend = output.getOutput().getDefiningOp<select::AttendOp>();
  WINNOW_CHECK(checkHook(attend.getRewrite().empty() ? nullptr : &attend.getRewrite()));
  OpBuilder b(output);
  auto backward = select::AttendBackwardOp::create(
      b, attend.getLoc(), b.getType<select::GradientsType>(), attend.getQuery(), attend.getKeys(),
      attend.getValues(), attend.getIds(), attend.getOutput(), attend.getDenseLenAttr());
  if (!attend.getRewrite().empty()) {
    IRMapping mapping;
    attend.getRewrite().cloneInto(&backward.getRewrite(), mapping);
    if (auto fault = deriveRegion(attend.getRewrite(), backward.getDerivative()))
      return refuse(fault->op, ErrorKind::Unsupported, fault->why);
  }
  output.getGradientsMutable().assign(backward.getGradients());
  return {};
}

namespace {
struct DeriveBackwardPass : impl::DeriveBackwardBase<DeriveBackwardPass> {
  void runOnOperation() override {
    for (auto method : getOperation().getOps<select::MethodOp>()) {
      Status status = method.getSpecAttr()
                          ? deriveBackward(method)
                          : fail(ErrorKind::Usage, "has no numbers yet: run winnow-specialize "
                                                   "before winnow-derive-backward");
      if (!status) {
        method.emitError(status.error().message);
        return signalPassFailure();
      }
    }
  }
};
} // namespace
} // namespace winnow
