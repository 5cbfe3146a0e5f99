// Pass winnow-insert-barriers: sync_threads between conflicting accesses to shared memory. A
// forward walk keeps the accesses since the last barrier; an op that conflicts with one of them
// gets a barrier before it. Loop bodies are walked twice, the second time with what the first left
// pending, which finds the conflicts between iterations. On entry offsets are planned, because
// objects that share bytes conflict too (program order in one thread is no protection: other
// threads may be behind). A role that is a team (tile.team on its scf.if: the number of a barrier
// and of threads) meets at that barrier in the place of all threads'.
#include "compiler/passes/SharedAccess.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

namespace winnow {
#define GEN_PASS_DEF_INSERTBARRIERS
#include "compiler/passes/TilePasses.h.inc"

namespace {

using Pending = SmallVector<SharedAccess>;

bool sameBytes(tile::SharedOp a, tile::SharedOp b) {
  int64_t aBegin = a.getOffset().value_or(0), bBegin = b.getOffset().value_or(0);
  return aBegin < bBegin + b.getBytes() && bBegin < aBegin + a.getBytes();
}

/// Must a barrier lie between two accesses? Within a ring only its set-up needs one.
bool conflict(SharedAccess before, SharedAccess after) {
  if (!before.writes && !after.writes)
    return false;
  if (before.object == after.object)
    return !isRing(before.object) || (before.writes && !before.reads && before.object.getPinned());
  return sameBytes(before.object, after.object);
}

/// The threads of a role that meet at a barrier of their own; none: all threads of the block.
using Team = std::optional<std::pair<int, int>>; // the barrier's number, threads

Team teamOf(scf::IfOp branch) {
  auto team = branch->getAttrOfType<DenseI32ArrayAttr>("tile.team");
  return team ? Team({team[0], team[1]}) : Team();
}

class Inserter {
public:
  explicit Inserter(Team team = {}) : team(team) {}
  void block(Block &body, Pending &pending) {
    for (Operation &op : llvm::make_early_inc_range(body))
      visit(&op, pending);
  }

private:
  void visit(Operation *op, Pending &pending) {
    if (team && isa<tile::SyncThreadsOp>(op)) {
      OpBuilder b(op);
      Operation *meeting = barrier(b);
      op->erase();
      return visit(meeting, pending);
    }
    if (isa<tile::SyncThreadsOp, tile::SyncClusterOp, tile::SyncSomeOp, tile::SyncAnyOp>(op) &&
        (team || !isa<tile::SyncSomeOp, tile::SyncAnyOp>(op))) {
      llvm::erase_if(pending, [](const SharedAccess &access) { return !access.async; });
      return;
    }
    if (isa<tile::WaitCopiesOp>(op)) {
      for (SharedAccess &access : pending)
        access.async = false;
      return;
    }
    if (auto loop = dyn_cast<scf::ForOp>(op)) {
      Pending before = pending;
      block(*loop.getBody(), pending);
      block(*loop.getBody(), pending);
      pending.append(before); // the loop may not run at all
      return;
    }
    if (auto branch = dyn_cast<scf::IfOp>(op))
      teams(branch);
    if (auto branch = dyn_cast<scf::IfOp>(op); branch && branch->hasAttr("tile.uniform")) {
      Pending otherwise = pending;
      block(*branch.thenBlock(), pending);
      if (branch.elseBlock())
        block(*branch.elseBlock(), otherwise);
      pending.append(otherwise);
      return;
    }
    Pending accesses = sharedAccessesWithin(op);
    bool needed = false, copies = false;
    for (const SharedAccess &before : pending)
      for (const SharedAccess &after : accesses)
        if (conflict(before, after)) {
          needed = true;
          copies |= before.async;
        }
    if (needed) {
      OpBuilder b(op);
      if (copies) {
        visit(tile::WaitCopiesOp::create(b, b.getUnknownLoc()), pending);
      }
      visit(barrier(b), pending);
    }
    pending.append(accesses);
  }

  /// Inserts the barriers of a branch that is a team, and of the teams in its else branch.
  static void teams(scf::IfOp branch) {
    const Team own = teamOf(branch);
    if (!own)
      return;
    Pending none; // what it shares with other roles these guard by themselves
    Inserter(own).block(*branch.thenBlock(), none);
    if (branch.elseBlock())
      for (auto beside : branch.elseBlock()->getOps<scf::IfOp>())
        teams(beside);
  }

  Operation *barrier(OpBuilder &b) const {
    Location loc = b.getUnknownLoc();
    if (!team)
      return tile::SyncThreadsOp::create(b, loc);
    auto number = [&](int value) {
      return arith::ConstantIntOp::create(b, loc, b.getI32Type(), value);
    };
    return tile::SyncSomeOp::create(b, loc, number(team->first), number(team->second));
  }

  const Team team;
};

struct InsertBarriersPass : impl::InsertBarriersBase<InsertBarriersPass> {
  void runOnOperation() override {
    Pending pending;
    Inserter().block(getOperation().getBody().front(), pending);
  }
};

} // namespace

void addTilePasses(OpPassManager &manager) {
  OpPassManager &kernels = manager.nest<tile::KernelOp>();
  kernels.addPass(createSpecializeWarps());
  kernels.addPass(createRotateLoads());
  kernels.addPass(createPlanSharedMemory());
  kernels.addPass(createInsertBarriers());
  kernels.addPass(createCSEPass());
  kernels.addPass(createCanonicalizerPass());
}

} // namespace winnow
