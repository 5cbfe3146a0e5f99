// Pass winnow-plan-shared-memory: offsets by lifetimes. An object lives from its first to its last
// access, in program order; if it may carry data from one iteration of a loop to the next, for the
// whole loop. Largest objects first, each at the lowest offset that is free for its whole life. The
// bytes are exact: the emitter asserts them against the device types.
#include "compiler/passes/SharedAccess.h"
#include "runtime/program/Budgets.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace winnow {
#define GEN_PASS_DEF_PLANSHAREDMEMORY
#include "compiler/passes/TilePasses.h.inc"

namespace {

struct Life {
  tile::SharedOp object;
  int64_t first = -1, last = -1; ///< positions in program order, inclusive
  int64_t offset = -1;

  bool overlaps(const Life &other) const { return first <= other.last && other.first <= last; }
};

class Planner {
public:
  explicit Planner(tile::KernelOp kernel) : kernel(kernel) {}

  int64_t run() {
    number();
    kernel.walk([&](tile::SharedOp object) { lives.push_back(lifeOf(object)); });
    llvm::stable_sort(lives,
                      [](Life a, Life b) { return a.object.getBytes() > b.object.getBytes(); });
    int64_t total = 0;
    for (size_t i = 0; i < lives.size(); ++i) {
      lives[i].offset = place(i);
      lives[i].object.setOffset(lives[i].offset);
      total = std::max<int64_t>(total, lives[i].offset + lives[i].object.getBytes());
    }
    return llvm::alignTo(total, 16);
  }

private:
  void number() {
    int64_t next = 0;
    // An op with regions spans from its own position to `end`, behind everything inside it.
    std::function<void(Operation *)> visit = [&](Operation *op) {
      begin[op] = next++;
      for (Region &region : op->getRegions())
        for (Block &block : region)
          for (Operation &inner : block)
            visit(&inner);
      end[op] = next++;
    };
    visit(kernel);
  }

  Life lifeOf(tile::SharedOp object) {
    Life life{object};
    if (object.getPinned())
      return {object, 0, end[kernel]};
    SmallVector<std::pair<Operation *, SharedAccess>> accesses;
    kernel.walk<WalkOrder::PreOrder>([&](Operation *op) {
      for (const SharedAccess &access : sharedAccesses(op))
        if (access.object == object)
          accesses.push_back({op, access});
    });
    if (accesses.empty())
      return {object, begin[object], begin[object]};
    // The loops around a first access that overwrites the object start a fresh life in each
    // iteration.
    Operation *first = accesses.front().first;
    // So does a ring, whose consumers stand before its producers in the text but after them in
    // time.
    bool fresh =
        isRing(object) || (accesses.front().second.writes && !accesses.front().second.reads);
    life.first = begin[first];
    for (auto [op, access] : accesses) {
      life.last = std::max(life.last, end[op]);
      for (Operation *loop = op->getParentOp(); loop != kernel; loop = loop->getParentOp())
        if (isa<LoopLikeOpInterface>(loop) && !(fresh && loop->isProperAncestor(first))) {
          life.first = std::min(life.first, begin[loop]);
          life.last = std::max(life.last, end[loop]);
        }
    }
    return life;
  }

  int64_t place(size_t index) {
    const int64_t bytes = lives[index].object.getBytes(), alignment = sharedAlignment(bytes);
    int64_t offset = 0;
    for (bool moved = true; moved;) {
      moved = false;
      for (size_t i = 0; i < index; ++i) {
        Life &placed = lives[i];
        int64_t behind = placed.offset + placed.object.getBytes();
        if (placed.overlaps(lives[index]) && placed.offset < offset + bytes && offset < behind) {
          offset = llvm::alignTo(behind, alignment);
          moved = true;
        }
      }
    }
    return offset;
  }

  tile::KernelOp kernel;
  DenseMap<Operation *, int64_t> begin, end;
  std::vector<Life> lives;
};

struct PlanSharedMemoryPass : impl::PlanSharedMemoryBase<PlanSharedMemoryPass> {
  void runOnOperation() override { getOperation().setSharedBytes(Planner(getOperation()).run()); }
};

} // namespace
} // namespace winnow
