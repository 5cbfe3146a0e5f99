// Shared-memory accesses from the declared memory effects of leaf ops; see SharedAccess.h.
#include "compiler/passes/SharedAccess.h"

using namespace mlir;

namespace winnow {

tile::SharedOp sharedObject(Value value) {
  if (auto stage = value.getDefiningOp<tile::StageOp>())
    value = stage.getRing();
  return value.getDefiningOp<tile::SharedOp>();
}

bool isRing(tile::SharedOp shared) {
  return isa<tile::RingType, tile::BarriersType>(shared.getType());
}

SmallVector<SharedAccess> sharedAccesses(Operation *op) {
  SmallVector<SharedAccess> accesses;
  auto effects = dyn_cast<MemoryEffectOpInterface>(op);
  if (!effects)
    return accesses;
  for (Value operand : op->getOperands()) {
    tile::SharedOp object = sharedObject(operand);
    if (!object)
      continue;
    SharedAccess access{object};
    access.reads = effects.getEffectOnValue<MemoryEffects::Read>(operand).has_value();
    access.writes = effects.getEffectOnValue<MemoryEffects::Write>(operand).has_value();
    // A ring's consumers have waited for its copies before anybody else may touch the bytes.
    access.async = access.writes && op->hasTrait<tile::AsyncLoad>() && !isRing(object);
    if (access.reads || access.writes)
      accesses.push_back(access);
  }
  return accesses;
}

SmallVector<SharedAccess> sharedAccessesWithin(Operation *op) {
  SmallVector<SharedAccess> accesses;
  op->walk<WalkOrder::PreOrder>([&](Operation *inner) { accesses.append(sharedAccesses(inner)); });
  return accesses;
}

} // namespace winnow
