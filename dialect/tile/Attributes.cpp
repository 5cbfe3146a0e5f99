// The dialect's attributes of scf ops (Types.td), each verified where it stands. tile.uniform is
// the one that can hang a GPU: a barrier in a branch that not all threads of a block take. So can
// tile.return_if, where some threads leave and the others wait for them.
#include "dialect/tile/Tile.h"

using namespace mlir;
using namespace winnow::tile;

namespace {

/// Looks for what makes a value differ among the threads of a block.
class VaryingSource {
public:
  /// A value from which `value` gets its differences; null where there is none.
  Value of(Value value) {
    if (!seen.insert(value).second)
      return {};
    if (auto argument = dyn_cast<BlockArgument>(value))
      return ofArgument(argument);
    Operation *op = value.getDefiningOp();
    if (op->hasTrait<Varies>())
      return value;
    // A vote is the same for everybody, whatever each thread has said.
    if (isa<SyncThreadsAnyOp, SyncAnyOp, AnyLeavesOp>(op))
      return {};
    if (auto object = dyn_cast<RegisterOp>(op))
      return ofObject(object);
    const unsigned index = cast<OpResult>(value).getResultNumber();
    if (auto branch = dyn_cast<scf::IfOp>(op))
      return ofAny({branch.getCondition(), branch.thenYield().getOperand(index),
                    branch.elseYield().getOperand(index)});
    if (auto loop = dyn_cast<scf::WhileOp>(op))
      return ofAny({loop.getConditionOp().getCondition(), loop.getConditionOp().getArgs()[index]});
    if (auto loop = dyn_cast<scf::ForOp>(op)) {
      Value source = of(loop.getRegionIterArgs()[index]);
      return source ? source : ofControl(loop);
    }
    return ofAny(op->getOperands());
  }

  /// Of whether and how often the body of an op is run.
  Value ofControl(Operation *op) {
    if (auto branch = dyn_cast<scf::IfOp>(op))
      return of(branch.getCondition());
    if (auto loop = dyn_cast<scf::ForOp>(op))
      return ofAny({loop.getLowerBound(), loop.getUpperBound(), loop.getStep()});
    if (auto loop = dyn_cast<scf::WhileOp>(op))
      return of(loop.getConditionOp().getCondition());
    return {};
  }

private:
  Value ofAny(ValueRange values) {
    for (Value value : values)
      if (Value source = of(value))
        return source;
    return {};
  }

  Value ofArgument(BlockArgument argument) {
    Operation *op = argument.getOwner()->getParentOp();
    const unsigned index = argument.getArgNumber();
    if (auto loop = dyn_cast<scf::ForOp>(op))
      return index == 0 ? ofControl(loop)
                        : ofAny({loop.getInitArgs()[index - 1],
                                 loop.getBody()->getTerminator()->getOperand(index - 1)});
    if (auto loop = dyn_cast<scf::WhileOp>(op))
      return argument.getOwner() == loop.getBeforeBody()
                 ? ofAny({loop.getInits()[index], loop.getYieldOp().getOperand(index)})
                 : of(loop.getConditionOp().getArgs()[index]);
    return {};
  }

  /// Fragments and states hold a thread's own numbers; a cursor what it was moved by, and where.
  Value ofObject(RegisterOp object) {
    if (!isa<CursorType>(object.getType()))
      return object;
    for (Operation *user : object->getUsers()) {
      auto effects = dyn_cast<MemoryEffectOpInterface>(user);
      if (!effects || !effects.getEffectOnValue<MemoryEffects::Write>(object))
        continue;
      if (Value source = ofAny(user->getOperands()))
        return source;
      for (Operation *op = user->getParentOp(); op != object->getParentOp(); op = op->getParentOp())
        if (Value source = ofControl(op))
          return source;
    }
    return {};
  }

  DenseSet<Value> seen;
};

} // namespace

static LogicalResult verifyUniform(Operation *op, Attribute value) {
  if (!isa<scf::IfOp>(op) || !isa<UnitAttr>(value))
    return op->emitOpError("tile.uniform is a mark of scf.if, without a value");
  VaryingSource varying;
  for (Operation *around = op; around && !isa<KernelOp>(around) && !around->hasAttr("tile.team");
       around = around->getParentOp())
    if (Value source = varying.ofControl(around)) {
      InFlightDiagnostic error = op->emitOpError("is marked tile.uniform, but ");
      error << (around == op ? "its condition differs" : "whether it is reached differs")
            << " among the threads of a block";
      error.attachNote(source.getLoc()) << "it comes from this value";
      return error;
    }
  return success();
}

LogicalResult ReturnOp::verify() {
  const Value source = VaryingSource().of(getCondition());
  if (!source)
    return success();
  for (Operation *later = getOperation()->getNextNode(); later; later = later->getNextNode()) {
    const WalkResult barrier = later->walk([](Operation *op) {
      return isa<SyncThreadsOp, SyncThreadsAnyOp, AnyLeavesOp>(op) ? WalkResult::interrupt()
                                                                   : WalkResult::advance();
    });
    if (barrier.wasInterrupted()) {
      InFlightDiagnostic error = emitOpError(
          "lets some threads of a block leave, which the others wait for at a barrier behind it");
      error.attachNote(source.getLoc()) << "its condition comes from this value";
      return error;
    }
  }
  return success();
}

static LogicalResult verifyPipeline(Operation *op, Attribute value) {
  auto kind = dyn_cast<StringAttr>(value);
  if (!isa<scf::ForOp>(op) || !kind ||
      (kind.getValue() != "specialize_warps" && kind.getValue() != "rotate"))
    return op->emitOpError(
        "tile.pipeline is \"specialize_warps\" or \"rotate\", and stands on scf.for");
  for (StringRef name : {"tile.stages", "tile.producer_warps"})
    if (kind.getValue() == "specialize_warps" && !op->hasAttr(name))
      return op->emitOpError("tile.pipeline = \"specialize_warps\" needs ") << name;
  return success();
}

static LogicalResult verifyCount(Operation *op, StringRef name, Attribute value) {
  auto count = dyn_cast<IntegerAttr>(value);
  const bool isUnroll = name == "tile.unroll";
  if (isUnroll ? !isa<scf::ForOp>(op) : !op->hasAttr("tile.pipeline"))
    return op->emitOpError() << name << " stands on "
                             << (isUnroll ? "scf.for" : "a loop with tile.pipeline");
  if (isUnroll && isa<UnitAttr>(value))
    return success();
  if (!count || !count.getType().isInteger(32) || count.getInt() < 1)
    return op->emitOpError() << name << " is a number of 1 or more";
  return success();
}

/// A barrier's number, 0 being that of all threads, and how many threads meet there: whole warps.
static LogicalResult verifyTeam(Operation *op, Attribute value) {
  auto team = dyn_cast<DenseI32ArrayAttr>(value);
  if (!isa<scf::IfOp>(op) || !team || team.size() != 2 || team[0] < 1 || team[0] > 15 ||
      team[1] < 32 || team[1] % 32 != 0)
    return op->emitOpError("tile.team stands on scf.if: the number of a barrier, 1 to 15, and of "
                           "the threads of whole warps that meet there");
  return success();
}

LogicalResult TileDialect::verifyOperationAttribute(Operation *op, NamedAttribute attribute) {
  const StringRef name = attribute.getName();
  if (name == "tile.uniform")
    return verifyUniform(op, attribute.getValue());
  if (name == "tile.team")
    return verifyTeam(op, attribute.getValue());
  if (name == "tile.pipeline")
    return verifyPipeline(op, attribute.getValue());
  if (name == "tile.stages" || name == "tile.producer_warps" || name == "tile.unroll")
    return verifyCount(op, name, attribute.getValue());
  if (name == "tile.of_producers")
    return isa<UnitAttr>(attribute.getValue()) && isa<scf::ForOp>(op->getParentOp())
               ? success()
               : op->emitOpError() << name << " is a mark of an op in a loop, without a value";
  if (name == "tile.at_least_once" || name == "tile.producers_take_turns" ||
      name == "tile.consumers_take_turns" || name == "tile.look_ahead")
    return isa<scf::ForOp>(op) && isa<UnitAttr>(attribute.getValue())
               ? success()
               : op->emitOpError() << name << " is a mark of scf.for, without a value";
  return op->emitOpError() << "there is no attribute " << name;
}
