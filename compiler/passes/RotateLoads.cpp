// Pass winnow-rotate-loads: software pipelining through registers. A tile that is read into
// registers right after it arrived leaves its shared memory free for the next one, so one buffer
// suffices and the copy runs under the arithmetic.
#include "compiler/passes/TilePasses.h"
#include "mlir/Analysis/SliceAnalysis.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;

namespace winnow {
#define GEN_PASS_DEF_ROTATELOADS
#include "compiler/passes/TilePasses.h.inc"

namespace {

bool isRotated(Operation &op) {
  auto kind = op.getAttrOfType<StringAttr>("tile.pipeline");
  return isa<scf::ForOp>(op) && kind && kind.getValue() == "rotate";
}

/// The loop's load; the loop is malformed without exactly one.
Operation *loadOf(scf::ForOp loop) {
  Operation *found = nullptr;
  for (Operation &op : *loop.getBody())
    if (op.hasTrait<tile::AsyncLoad>()) {
      if (found)
        return nullptr;
      found = &op;
    }
  return found;
}

/// A copy of the load, with what computes its operands, for iteration `iteration` of its loop.
void cloneLoad(OpBuilder &b, scf::ForOp loop, Operation *load, Value iteration) {
  IRMapping mapping;
  mapping.map(loop.getInductionVar(), iteration);
  BackwardSliceOptions options;
  options.filter = [&](Operation *op) { return op->getParentOp() == loop; };
  options.omitBlockArguments = true;
  options.inclusive = true;
  SetVector<Operation *> slice;
  (void)getBackwardSlice(load, &slice, options);
  for (Operation &op : loop.getBody()->without_terminator())
    if (slice.contains(&op))
      b.clone(op, mapping);
}

/// A loop that has been rotated: the tile it fills and the `if` that fetches the next one.
struct Rotated {
  Value tile;
  scf::IfOp prefetch;
};
using RotatedLoops = DenseMap<Operation *, Rotated>;

/// The rotated loop before `loop` in its block that fills the same tile and surely runs, or null.
Operation *forerunner(scf::ForOp loop, Value tile, const RotatedLoops &rotated) {
  for (Operation *op = loop->getPrevNode(); op; op = op->getPrevNode()) {
    if (auto known = rotated.find(op); known != rotated.end() && known->second.tile == tile)
      return op->hasAttr("tile.at_least_once") ? op : nullptr;
    WalkResult uses = op->walk([&](Operation *inner) {
      return llvm::is_contained(inner->getOperands(), tile) ? WalkResult::interrupt()
                                                            : WalkResult::advance();
    });
    if (uses.wasInterrupted())
      return nullptr;
  }
  return nullptr;
}

/// Values that the load's operands need must be defined before the earlier loop: scalars and views
/// are pure, so they are hoisted.
void hoistBefore(Operation *load, Operation *loop, Operation *target) {
  BackwardSliceOptions options;
  options.omitBlockArguments = true;
  options.filter = [&](Operation *op) {
    return op->getBlock() == target->getBlock() && target->isBeforeInBlock(op) && op != loop;
  };
  SetVector<Operation *> slice;
  for (Value operand : load->getOperands())
    if (Operation *definition = operand.getDefiningOp(); definition && options.filter(definition)) {
      (void)getBackwardSlice(operand, &slice, options);
      slice.insert(definition);
    }
  for (Operation *op : slice)
    op->moveBefore(target);
}

void rotate(scf::ForOp loop, RotatedLoops &rotated) {
  Operation *load = loadOf(loop);
  Value tile = load->getOperand(0);
  Operation *lastReader = load;
  for (Operation &op : *loop.getBody())
    if (&op != load && llvm::is_contained(op.getOperands(), tile))
      lastReader = &op;

  // The first tile.
  Location loc = loop.getLoc();
  OpBuilder b(loop);
  if (Operation *before = forerunner(loop, tile, rotated)) {
    hoistBefore(load, loop, before);
    OpBuilder inner = rotated[before].prefetch.getElseBodyBuilder();
    Value zero = arith::ConstantIntOp::create(inner, inner.getUnknownLoc(), inner.getI32Type(), 0);
    cloneLoad(inner, loop, load, zero);
  } else {
    cloneLoad(b, loop, load, loop.getLowerBound());
  }

  // The next tile, behind the last reader.
  b.setInsertionPointAfter(lastReader);
  Location unnamed = b.getUnknownLoc();
  Value next = arith::AddIOp::create(b, NameLoc::get(b.getStringAttr("next")),
                                     loop.getInductionVar(), loop.getStep());
  Value more =
      arith::CmpIOp::create(b, unnamed, arith::CmpIPredicate::slt, next, loop.getUpperBound());
  auto guard = scf::IfOp::create(b, loc, more, /*withElseRegion=*/true);
  OpBuilder inner = guard.getThenBodyBuilder();
  cloneLoad(inner, loop, load, next);
  rotated[loop] = {tile, guard};
  load->erase();
  loop->removeAttr("tile.pipeline");
}

struct RotateLoadsPass : impl::RotateLoadsBase<RotateLoadsPass> {
  void runOnOperation() override {
    SmallVector<scf::ForOp> loops;
    getOperation().walk<WalkOrder::PreOrder>([&](scf::ForOp loop) {
      if (isRotated(*loop))
        loops.push_back(loop);
    });
    for (scf::ForOp loop : loops)
      if (!loadOf(loop)) {
        loop.emitError(
            "a loop whose load is rotated has exactly one asynchronous load in its body");
        return signalPassFailure();
      }
    RotatedLoops rotated;
    for (scf::ForOp loop : loops)
      rotate(loop, rotated);
  }
};

} // namespace
} // namespace winnow
