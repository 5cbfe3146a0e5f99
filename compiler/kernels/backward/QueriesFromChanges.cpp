// backward_queries from stored changes: dQ += dS K, one product in the place of three, by
// warpgroups that go through the keys as backward_queries on warpgroups does (WarpgroupWalk.h). In
// the place of values a ring brings the changes of an entry's tokens, which backward_keys has
// stored (stored_changes.cuh). It reads neither queries nor output nor statistics.
#include "compiler/kernels/attend/WarpgroupWalk.h"
#include "compiler/kernels/backward/QueriesFrame.h"

using namespace mlir;

namespace winnow {
namespace {

class QueriesFromChanges : QueriesFrame {
public:
  QueriesFromChanges(ModuleOp module, const BackwardPlan &plan, const AttendSizes &sizes,
                     std::vector<TensorMapRecipe> &maps)
      : QueriesFrame(module, plan, sizes,
                     "from stored changes, one tile after the other by blocks of threads that stay",
                     WarpgroupWalk::threads(sizes)),
        walk(t, plan, sizes, tokens, tileList, source, mask, /*split=*/false,
             {KernelBuilder::bufferMember(static_cast<int>(BackwardBuffer::Changes)),
              KernelBuilder::bufferMember(static_cast<int>(BackwardBuffer::Bits))}),
        keyRing(walk.rings[0]), changeRing(walk.rings[1]) {
    walk.describe(maps);
  }
  BuiltKernel build();

private:
  void consume();
  void overEntries();
  void load(Value into, Value entry);
  void start(Value factor);
  void store();

  WarpgroupWalk walk;
  WarpgroupWalk::Ring &keyRing, &changeRing;
  Value factors[2], held;
};

void QueriesFromChanges::consume() {
  walk.enterRings();
  held = t.fragment("held", t.type("Cursor", {"@kKeyStages"}));
  declareSums();
  for (Value &factor : factors)
    factor = t.fragment("factor", t.type("LeftOperand", {16, "@kKeys", plan.element}));
  walk.overWork([&] {
    t.when(walk.about("opens"), [&] { t.leaf("clear", {row.output}); });
    overEntries();
    t.when(walk.about("closes"), [&] { store(); });
  });
}

/// The entries of one list. Outer loop: one whose predecessor's product is done; inner loop: while
/// that of the one before is still being made. It holds its keys, so the next entry that the
/// warpgroup wants must follow it. It also reads its factor out of registers, for which the next
/// one's are others: a loop with one step would leave the compiler to see that.
void QueriesFromChanges::overEntries() {
  Value length = t.value("length", "warp_uniform", {walk.about("length")});
  auto wants = [&](Value entry) {
    return t.value("", "warpgroup_wants", {walk.list, entry, walk.warpgroup},
                   {"@kParts", "@kWarpTokens"});
  };
  auto follows = [&](Value entry) {
    return t.choose(
        "found", t.less(entry, length), [&] { return wants(entry); },
        [&] { return t.flag(false); });
  };
  auto next = [&](Value entry) { return t.add(entry, t.named("kParts")); };
  auto finish = [&] {
    t.leaf("wait_products", {row.output}, {0});
    t.leaf("arrive_empty", {keyRing.barriers, held});
  };
  auto follow = [&](Value factor, Value entry) {
    load(factor, entry);
    finish();
    start(factor);
    return next(entry);
  };
  auto run = [&](Value first) {
    load(factors[0], first);
    start(factors[0]);
    Value end = t.whileLoop(
        {"following"}, {next(first)},
        [&](ValueRange at, SmallVector<Value> &passed) {
          passed = {at[0]};
          return follows(at[0]);
        },
        [&](ValueRange at) {
          Value second = follow(factors[1], at[0]);
          return SmallVector<Value>{t.choose(
              "after_both", follows(second), [&] { return follow(factors[0], second); },
              [&] { return second; }, second.getType())};
        })[0];
    finish();
    return end;
  };
  t.whileLoop(
      {"entry"}, {t.number(0)},
      [&](ValueRange at, SmallVector<Value> &passed) {
        passed = {at[0]};
        return t.less(at[0], length);
      },
      [&](ValueRange at) {
        return SmallVector<Value>{t.choose(
            "after", wants(at[0]), [&] { return run(at[0]); },
            [&] {
              walk.skipStep();
              return next(at[0]);
            },
            at[0].getType())};
      });
}

/// The changes of an entry, into registers.
void QueriesFromChanges::load(Value into, Value entry) {
  walk.waitFor(changeRing);
  t.leaf("load_changes", {into, walk.stage("change_tile", changeRing.changes, changeRing.cursor),
                          walk.list, entry, walk.warp});
  walk.release(changeRing);
  walk.advance(changeRing);
}

/// dQ += dS K, of the cursor's keys.
void QueriesFromChanges::start(Value factor) {
  walk.waitFor(keyRing);
  t.leaf("start_ab", {row.output, factor, walk.stage("key_tile", keyRing.keys, keyRing.cursor)});
  t.leaf("follow", {held, keyRing.cursor});
  walk.advance(keyRing);
}

void QueriesFromChanges::store() {
  RowTile results = row;
  results.rows = tokens.rows("rows", walk.about("tile"), walk.warp);
  storeGradient(results, tokens.firstHead(walk.about("select_head"), "first_head"));
}

BuiltKernel QueriesFromChanges::build() {
  walk.constants();
  t.constant("kSoftmaxScale", plan.scale, "what a logit has been multiplied by");
  walk.declare();
  walk.perform([&] { consume(); });
  return finish("backward",
                llvm::formatv("min(sm_count, ceil_div(token_count, {0}) * batch * {1})",
                              sizes.tokens, plan.heads / plan.group)
                    .str(),
                "1");
}

} // namespace

Result<BuiltKernel> buildQueriesFromChanges(ModuleOp module, const BackwardPlan &plan,
                                            const Target &target,
                                            std::vector<TensorMapRecipe> &maps) {
  WINNOW_TRY(const AttendSizes sizes, chooseGradientsFromChanges(plan, target));
  BuiltKernel built = QueriesFromChanges(module, plan, sizes, maps).build();
  built.recipe.perChunk = true;
  return built;
}

} // namespace winnow
