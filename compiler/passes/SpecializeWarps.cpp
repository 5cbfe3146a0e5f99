// Pass winnow-specialize-warps: producer and consumer warps around a ring of shared tiles. The
// protocol: a consumer waits for a stage to be full, reads it, and releases it whether it used it
// or not; a producer waits for a stage to be empty, fills it, and reports it full when its copies
// have landed. mbarriers: PTX ISA 9.7.13.15.
#include "compiler/passes/TilePasses.h"
#include "mlir/Analysis/SliceAnalysis.h"
#include "mlir/IR/IRMapping.h"
#include "runtime/program/Budgets.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;

namespace winnow {
#define GEN_PASS_DEF_SPECIALIZEWARPS
#include "compiler/passes/TilePasses.h.inc"

namespace {

Value constantI32(OpBuilder &b, int value) {
  return arith::ConstantIntOp::create(b, b.getUnknownLoc(), b.getI32Type(), value);
}

Value namedI32(OpBuilder &b, StringRef name) {
  return tile::ConstantOp::create(b, b.getUnknownLoc(), b.getI32Type(), name);
}

NameLoc nameLoc(OpBuilder &b, StringRef name) { return NameLoc::get(b.getStringAttr(name)); }

/// The loops stand in one block, one behind the other, and fill the same shared tiles.
class Specializer {
public:
  Specializer(tile::KernelOp kernel, ArrayRef<scf::ForOp> loops)
      : kernel(kernel), loops(loops), loop(loops.front()), consumerThreads(kernel.getThreads()),
        producerWarps(loop->getAttrOfType<IntegerAttr>("tile.producer_warps").getInt()),
        stages(loop->getAttrOfType<IntegerAttr>("tile.stages").getInt()),
        takeTurns(loop->hasAttr("tile.producers_take_turns")),
        consumersTakeTurns(loop->hasAttr("tile.consumers_take_turns")) {}

  void run() {
    findLoads();
    addConstants();
    guardConsumerStatements();
    declareRing();
    for (scf::ForOp each : loops) {
      loop = each;
      findLoads();
      if (loop != loops.front()) {
        OpBuilder b(loop);
        tile::SyncThreadsOp::create(b, b.getUnknownLoc());
      }
      splitLoop();
    }
    for (auto [tile, ring] : rings)
      tile.getDefiningOp()->erase();
  }

private:
  void findLoads();
  void addConstants();
  void declareRing();
  void guardConsumerStatements();
  void splitLoop();
  void sinkInto(scf::IfOp branch);
  scf::ForOp cloneHeader(OpBuilder &b, IRMapping &mapping);
  scf::ForOp cloneTurns(OpBuilder &b, IRMapping &mapping, Value turn, StringRef count);
  Value followCursor(OpBuilder &b, StringRef name);
  void consumer(OpBuilder b);
  void producer(OpBuilder b);
  Value isConsumer(OpBuilder &b);
  tile::ObjectType objectType(StringRef name, ArrayRef<Attribute> arguments) {
    return tile::ObjectType::get(kernel.getContext(), name,
                                 ArrayAttr::get(kernel.getContext(), arguments));
  }

  tile::KernelOp kernel;
  ArrayRef<scf::ForOp> loops;
  scf::ForOp loop; ///< the one that is worked on
  int consumerThreads, producerWarps, stages;
  bool takeTurns;          ///< each producer warp loads whole tiles
  bool consumersTakeTurns; ///< each consumer warp computes with whole tiles
  SmallVector<Operation *> loads;
  SetVector<Operation *> addresses;    ///< what the loads' operands need inside the loop, and what
                                       ///< else is the producers'
  llvm::MapVector<Value, Value> rings; ///< shared tile -> its ring
  Value barriers, cursor;
};

void Specializer::findLoads() {
  loads.clear();
  addresses.clear();
  for (Operation &op : *loop.getBody())
    if (op.hasTrait<tile::AsyncLoad>())
      loads.push_back(&op);
  BackwardSliceOptions options;
  options.filter = [&](Operation *op) { return op->getParentOp() == loop; };
  options.omitBlockArguments = true;
  auto need = [&](Value operand) {
    if (Operation *definition = operand.getDefiningOp();
        definition && definition->getParentOp() == loop) {
      (void)getBackwardSlice(operand, &addresses, options);
      addresses.insert(definition);
    }
  };
  for (Operation *load : loads)
    for (Value operand : load->getOperands().drop_front())
      need(operand);
  for (Operation &op : *loop.getBody())
    if (op.hasAttr("tile.of_producers")) {
      op.walk([&](Operation *inner) { llvm::for_each(inner->getOperands(), need); });
      addresses.insert(&op);
    }
}

void Specializer::addConstants() {
  SmallVector<Attribute> constants(kernel.getConstants().begin(), kernel.getConstants().end());
  Builder b(kernel.getContext());
  auto add = [&](StringRef name, int value, StringRef comment) {
    constants.push_back(
        tile::ConstantAttr::get(b.getContext(), name, b.getI32IntegerAttr(value), comment));
  };
  add("kStages", stages, "stages of the ring");
  add("kConsumerWarps", consumerThreads / 32, "warps that compute");
  if (takeTurns)
    add("kProducerWarps", producerWarps, "warps that load, a tile each in turn");
  add("kProducerThreads", takeTurns ? 32 : 32 * producerWarps,
      takeTurns ? "threads that load a tile" : "threads that load");
  kernel.setConstantsAttr(b.getArrayAttr(constants));
  kernel.setThreads(consumerThreads + 32 * producerWarps);
}

Value Specializer::isConsumer(OpBuilder &b) {
  Value warp;
  for (Operation &op : kernel.getBody().front())
    if (isa<tile::WarpIndexOp>(op)) {
      warp = op.getResult(0);
      break;
    }
  if (!warp) {
    OpBuilder top = OpBuilder::atBlockBegin(&kernel.getBody().front());
    warp = tile::WarpIndexOp::create(top, nameLoc(top, "warp"), top.getI32Type());
  }
  return arith::CmpIOp::create(b, b.getUnknownLoc(), arith::CmpIPredicate::slt, warp,
                               namedI32(b, "kConsumerWarps"));
}

/// The ring objects take the place of the shared tiles' declarations; barriers and cursor stand
/// behind the last one.
void Specializer::declareRing() {
  MLIRContext *context = kernel.getContext();
  auto stagesRef = FlatSymbolRefAttr::get(context, "kStages");
  Operation *last = nullptr;
  for (Operation *load : loads) {
    auto tile = load->getOperand(0).getDefiningOp<tile::SharedOp>();
    OpBuilder b(tile);
    std::string name = "ring";
    if (auto named = dyn_cast<NameLoc>(tile.getLoc()))
      name = (named.getName().strref().split("_tile").first + "_ring").str();
    auto ring = tile::SharedOp::create(
        b, nameLoc(b, name), objectType("Ring", {stagesRef, TypeAttr::get(tile.getType())}),
        tile.getBytes() * stages, IntegerAttr(), false);
    rings[tile] = ring;
    last = last && tile->isBeforeInBlock(last) ? last : ring.getOperation();
  }
  OpBuilder b(context);
  b.setInsertionPointAfter(last);
  barriers =
      tile::SharedOp::create(b, nameLoc(b, "barriers"), objectType("RingBarriers", {stagesRef}),
                             kBarrierBytes * stages, IntegerAttr(), /*pinned=*/true);
  // One thread sets the barriers up, once it is known that the block has work.
  Operation *top = loop;
  while (top->getParentOp() != kernel)
    top = top->getParentOp();
  b.setInsertionPoint(top);
  cursor = tile::RegisterOp::create(b, nameLoc(b, "cursor"), objectType("Cursor", {stagesRef}));
  Location loc = b.getUnknownLoc();
  Value thread = tile::ThreadIndexOp::create(b, loc, b.getI32Type());
  Value first = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, thread, constantI32(b, 0));
  auto once = scf::IfOp::create(b, loc, first);
  OpBuilder inner = once.getThenBodyBuilder();
  tile::InitRingOp::create(inner, loc, barriers, namedI32(inner, "kProducerThreads"),
                           consumersTakeTurns ? constantI32(inner, 1)
                                              : namedI32(inner, "kConsumerWarps"));
}

/// Statements outside the loop that touch registers which the consumers' part of the loop uses:
/// only consumers have something there. Runs of such statements share one `if`.
void Specializer::guardConsumerStatements() {
  DenseSet<Value> registers;
  for (scf::ForOp each : loops)
    each.walk([&](Operation *op) {
      for (Value operand : op->getOperands())
        if (auto reg = operand.getDefiningOp<tile::RegisterOp>(); reg && !each->isAncestor(reg))
          registers.insert(operand);
    });
  Operation *top = loop;
  while (top->getParentOp() != kernel)
    top = top->getParentOp();
  auto touches = [&](Operation *op) {
    return isa<tile::Leaf>(op) && llvm::any_of(op->getOperands(), [&](Value operand) {
             return registers.contains(operand);
           });
  };
  SmallVector<SmallVector<Operation *>> runs;
  bool open = false;
  for (Operation &op : *top->getBlock()) {
    if (touches(&op)) {
      if (!open)
        runs.emplace_back();
      runs.back().push_back(&op);
      open = true;
    } else if (!isPure(&op) || !open) {
      open = false;
    }
  }
  for (ArrayRef<Operation *> run : runs) {
    // Pure scalars between the statements move before the `if`: operands stay defined before their
    // uses.
    OpBuilder b(run.front());
    for (Operation *op = run.front(); op != run.back();) {
      Operation *next = op->getNextNode();
      if (!touches(op))
        op->moveBefore(run.front());
      op = next;
    }
    b.setInsertionPoint(run.front());
    auto guard = scf::IfOp::create(b, b.getUnknownLoc(), isConsumer(b));
    for (Operation *op : run)
      op->moveBefore(guard.thenBlock()->getTerminator());
    sinkInto(guard);
  }
}

/// The loop's header for the `turn`-th of `count` warps that take turns.
scf::ForOp Specializer::cloneTurns(OpBuilder &b, IRMapping &mapping, Value turn, StringRef count) {
  Location loc = b.getUnknownLoc();
  Value step = arith::MulIOp::create(b, loc, namedI32(b, count), loop.getStep());
  Value first = arith::AddIOp::create(b, loc, loop.getLowerBound(),
                                      arith::MulIOp::create(b, loc, turn, loop.getStep()));
  auto copy = scf::ForOp::create(b, loop.getLoc(), first, loop.getUpperBound(), step);
  mapping.map(loop.getInductionVar(), copy.getInductionVar());
  return copy;
}

scf::ForOp Specializer::cloneHeader(OpBuilder &b, IRMapping &mapping) {
  auto copy = scf::ForOp::create(b, loop.getLoc(), loop.getLowerBound(), loop.getUpperBound(),
                                 loop.getStep());
  mapping.map(loop.getInductionVar(), copy.getInductionVar());
  return copy;
}

/// A cursor where the loops' own is.
Value Specializer::followCursor(OpBuilder &b, StringRef name) {
  Location loc = b.getUnknownLoc();
  Value place = tile::RegisterOp::create(b, nameLoc(b, name), cursor.getType());
  tile::FollowOp::create(b, loc, place, cursor);
  return place;
}

void Specializer::consumer(OpBuilder b) {
  IRMapping mapping;
  Location loc = b.getUnknownLoc();
  scf::ForOp copy;
  Value place = cursor;
  if (consumersTakeTurns) {
    // A stage is always the same warp's, since there are as many for each: none meets a phase that
    // another one has yet to wait for.
    Value warp = tile::WarpIndexOp::create(b, nameLoc(b, "warp"), b.getI32Type());
    place = followCursor(b, "next");
    tile::AdvanceByOp::create(b, loc, place, warp);
    copy = cloneTurns(b, mapping, warp, "kConsumerWarps");
  } else {
    copy = cloneHeader(b, mapping);
  }
  b.setInsertionPointToStart(copy.getBody());
  auto readsRing = [&](Operation *op) {
    return op
        ->walk([&](Operation *inner) {
          for (Value operand : inner->getOperands())
            if (rings.contains(operand))
              return WalkResult::interrupt();
          return WalkResult::advance();
        })
        .wasInterrupted();
  };
  bool waited = false;
  for (Operation &op : loop.getBody()->without_terminator()) {
    if (op.hasTrait<tile::AsyncLoad>() || op.hasAttr("tile.of_producers"))
      continue;
    if (!waited && readsRing(&op)) {
      tile::WaitFullOp::create(b, loc, barriers, place);
      for (auto [tile, ring] : rings) {
        Location name = tile.getLoc();
        mapping.map(tile, tile::StageOp::create(b, name, tile.getType(), ring, place));
      }
      waited = true;
    }
    b.clone(op, mapping);
  }
  tile::ArriveEmptyOp::create(b, loc, barriers, place);
  if (consumersTakeTurns)
    tile::AdvanceByOp::create(b, loc, place, namedI32(b, "kConsumerWarps"));
  else
    tile::AdvanceOp::create(b, loc, cursor);
  // What only the loads needed has no use here.
  for (Operation *op = copy.getBody()->getTerminator()->getPrevNode(); op;) {
    Operation *previous = op->getPrevNode();
    if (isOpTriviallyDead(op))
      op->erase();
    op = previous;
  }
}

void Specializer::producer(OpBuilder b) {
  IRMapping mapping;
  Location loc = b.getUnknownLoc();
  Value thread = tile::ThreadIndexOp::create(b, loc, b.getI32Type());
  Value mine =
      arith::SubIOp::create(b, nameLoc(b, "producer"), thread, constantI32(b, consumerThreads));
  scf::ForOp copy;
  Value place = cursor; // of the producer
  if (takeTurns) {
    place = followCursor(b, "place");
    // No warp is a turn of the ring ahead of another, whose phases it would mistake for its own:
    // within a loop it has waited for the release of a tile no more than producerWarps, so stages,
    // behind, and a later loop begins at a barrier of all threads, behind the consumers' last tile.
    Value turn = arith::DivSIOp::create(b, nameLoc(b, "turn"), mine, constantI32(b, 32));
    mine = arith::RemSIOp::create(b, nameLoc(b, "lane"), mine, constantI32(b, 32));
    tile::AdvanceByOp::create(b, loc, place, turn);
    copy = cloneTurns(b, mapping, turn, "kProducerWarps");
    if (loop != loops.back()) { // the next loop goes on where this one ends
      Value length = arith::SubIOp::create(b, loc, loop.getUpperBound(), loop.getLowerBound());
      tile::AdvanceByOp::create(b, loc, cursor,
                                arith::MaxSIOp::create(b, loc, length, constantI32(b, 0)));
    }
  } else {
    copy = cloneHeader(b, mapping);
  }
  b.setInsertionPointToStart(copy.getBody());
  for (Operation &op : loop.getBody()->without_terminator())
    if (addresses.contains(&op) && !isa<tile::ThreadIndexOp>(op))
      b.clone(op, mapping)->removeAttr("tile.of_producers");
  SmallVector<Value> pages;
  for (Operation *load : loads)
    if (auto rows = cast<tile::LoadRowsOp>(load); loop->hasAttr("tile.look_ahead"))
      pages.push_back(tile::FindPageOp::create(b, nameLoc(b, "page"), b.getI32Type(),
                                               rows.getSource(),
                                               mapping.lookupOrDefault(rows.getFirstRow()),
                                               mapping.lookupOrDefault(rows.getRowLimit()), mine));
  tile::WaitEmptyOp::create(b, loc, barriers, place);
  for (auto [index, load] : llvm::enumerate(loads)) {
    auto rows = cast<tile::LoadRowsOp>(load);
    Value stage = tile::StageOp::create(b, rows.getTile().getLoc(), rows.getTile().getType(),
                                        rings[rows.getTile()], place);
    if (!pages.empty()) {
      tile::LoadFoundRowsOp::create(b, loc, stage, rows.getSource(), pages[index],
                                    mapping.lookupOrDefault(rows.getFirstRow()),
                                    mapping.lookupOrDefault(rows.getRowLimit()), mine);
      continue;
    }
    tile::LoadRowsOp::create(b, loc, FlatSymbolRefAttr::get(b.getContext(), "kProducerThreads"),
                             stage, rows.getSource(), mapping.lookupOrDefault(rows.getFirstRow()),
                             mapping.lookupOrDefault(rows.getRowLimit()), mine);
  }
  tile::ArriveFullOp::create(b, loc, barriers, place);
  if (takeTurns)
    tile::AdvanceByOp::create(b, loc, place, namedI32(b, "kProducerWarps"));
  else
    tile::AdvanceOp::create(b, loc, cursor);
}

void Specializer::splitLoop() {
  OpBuilder b(loop);
  auto roles = scf::IfOp::create(b, b.getUnknownLoc(), isConsumer(b), /*withElseRegion=*/true);
  consumer(roles.getThenBodyBuilder());
  producer(roles.getElseBodyBuilder());
  loop.erase();
  sinkInto(roles);
}

/// Whether an op may as well run at a later place of its block: it has no effect but reads of
/// objects that nobody writes on the way.
bool canSink(Operation *op, Operation *to) {
  if (op->getNumRegions() > 0)
    return false;
  if (isPure(op))
    return true;
  auto effects = dyn_cast<MemoryEffectOpInterface>(op);
  if (!effects || !effects.onlyHasEffect<MemoryEffects::Read>())
    return false;
  for (Operation *between = op->getNextNode(); between && between != to;
       between = between->getNextNode()) {
    const WalkResult result = between->walk([&](MemoryEffectOpInterface other) {
      return llvm::any_of(op->getOperands(),
                          [&](Value object) {
                            return effects.getEffectOnValue<MemoryEffects::Read>(object) &&
                                   other.getEffectOnValue<MemoryEffects::Write>(object);
                          })
                 ? WalkResult::interrupt()
                 : WalkResult::advance();
    });
    if (result.wasInterrupted())
      return false;
  }
  return true;
}

/// What only one role uses is computed there: registers are not spent on it in the other.
void Specializer::sinkInto(scf::IfOp branch) {
  for (Operation *op = branch->getPrevNode(); op;) {
    Operation *previous = op->getPrevNode();
    if (canSink(op, branch) && !op->use_empty())
      for (Block *role : {branch.thenBlock(), branch.elseBlock()})
        if (role && llvm::all_of(op->getUsers(), [&](Operation *user) {
              return role->findAncestorOpInBlock(*user) != nullptr;
            })) {
          op->moveBefore(role, role->begin());
          break;
        }
    op = previous;
  }
}

struct SpecializeWarpsPass : impl::SpecializeWarpsBase<SpecializeWarpsPass> {
  void runOnOperation() override {
    SmallVector<scf::ForOp> loops;
    getOperation().walk([&](scf::ForOp loop) {
      if (auto kind = loop->getAttrOfType<StringAttr>("tile.pipeline");
          kind && kind.getValue() == "specialize_warps")
        loops.push_back(loop);
    });
    for (scf::ForOp loop : loops) {
      if (!isLike(loops.front(), loop)) {
        loop.emitError("warps are specialised for loops that load rows into the same shared tiles, "
                       "one behind the other, in steps of 1, with the same stages and producers");
        return signalPassFailure();
      }
      auto count = [&](StringRef name) { return loop->getAttrOfType<IntegerAttr>(name).getInt(); };
      if (loop->hasAttr("tile.producers_take_turns") &&
          count("tile.producer_warps") > count("tile.stages")) {
        loop.emitError("producers that take turns need a stage each");
        return signalPassFailure();
      }
      if (loop->hasAttr("tile.look_ahead") && !loop->hasAttr("tile.producers_take_turns")) {
        loop.emitError(
            "pages are looked up ahead by producers that take turns, a lane for each row");
        return signalPassFailure();
      }
      if (loop->hasAttr("tile.consumers_take_turns") &&
          (loops.size() > 1 || count("tile.stages") % (getOperation().getThreads() / 32) != 0)) {
        loop.emitError("consumers that take turns need as many stages each, and one loop");
        return signalPassFailure();
      }
    }
    if (!loops.empty())
      Specializer(getOperation(), loops).run();
  }

  /// Whether both loops fill the same rings.
  static bool isLike(scf::ForOp first, scf::ForOp loop) {
    auto tiles = [](scf::ForOp of) {
      SmallVector<Value> filled;
      for (auto load : of.getBody()->getOps<tile::LoadRowsOp>())
        filled.push_back(load.getTile());
      return filled;
    };
    for (scf::ForOp one : {first, loop}) // a cursor is moved by the length of a loop
      if (first != loop && getConstantIntValue(one.getStep()) != 1)
        return false;
    for (StringRef name : {"tile.stages", "tile.producer_warps", "tile.producers_take_turns",
                           "tile.look_ahead", "tile.consumers_take_turns"})
      if (first->getAttr(name) != loop->getAttr(name))
        return false;
    return first->getBlock() == loop->getBlock() && !tiles(loop).empty() &&
           tiles(first) == tiles(loop);
  }
};

} // namespace
} // namespace winnow
