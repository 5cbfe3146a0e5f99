// backward_queries for targets with warpgroup products and bulk copies: dQ by warpgroups of 64
// query rows, which go through the keys as attention on warpgroups does (WarpgroupWalk.h). Queries
// and the gradients of their output stay in shared memory; keys and values come through a ring
// each, since values are needed for one product and keys for two. Per step: S = Q K^T and
// dP = dO V^T are started together; weights are made while the second is on its way; dS is the left
// factor, in registers, of dQ += dS K, whose right factor is the key tile that made S. Nothing is
// in flight from one step to the next: three warpgroups hide each other's exponentials. What all
// lanes of a warp have alike is said to be so, and nothing in the loop depends on a branch that is
// not: ptxas then keeps stages and descriptors in uniform registers.
#include "compiler/kernels/attend/WarpgroupWalk.h"
#include "compiler/kernels/backward/QueriesFrame.h"

using namespace mlir;

namespace winnow {
namespace {

class QueriesOnWarpgroups : QueriesFrame {
public:
  QueriesOnWarpgroups(ModuleOp module, const BackwardPlan &plan, const AttendSizes &sizes,
                      std::vector<TensorMapRecipe> &maps)
      : QueriesFrame(module, plan, sizes, "one tile after the other by blocks of threads that stay",
                     WarpgroupWalk::threads(sizes)),
        walk(t, plan, sizes, tokens, tileList, source, mask, /*split=*/false),
        keyRing(walk.rings[0]), valueRing(walk.rings[1]) {
    walk.describe(maps);
  }
  BuiltKernel build();

private:
  void consume();
  void open();
  void step(Value entry);
  void store();

  WarpgroupWalk walk;
  WarpgroupWalk::Ring &keyRing, &valueRing;
  Value outputGradients;
};

void QueriesOnWarpgroups::consume() {
  walk.enterRings();
  walk.enterQueries();
  declareGradient();
  walk.overWork([&] {
    row.rows = tokens.rows("rows", walk.about("tile"), walk.warp);
    row.query = walk.stage("queries", walk.queryRing, walk.queryCursor);
    outputGradients = walk.stage("output_gradients", walk.gradientRing, walk.queryCursor);
    t.when(walk.about("opens"), [&] { open(); });
    Value length = t.value("length", "warp_uniform", {walk.about("length")});
    t.loop("entry", t.number(0), length, t.named("kParts"), [&](Value entry) {
      Value wants = t.value("wants", "warpgroup_wants", {walk.list, entry, walk.warpgroup},
                            {"@kParts", "@kWarpTokens"});
      t.when(wants, [&] { step(entry); }, [&] { walk.skipStep(); });
    });
    t.when(walk.about("closes"), [&] { store(); });
  });
}

/// The first list of a tile of tokens.
void QueriesOnWarpgroups::open() {
  loadStatistics(tokens.firstHead(walk.about("select_head"), "first_head"));
  walk.waitForQueries();
  t.leaf("clear", {row.output});
}

/// dS = P (dO V^T - delta), dQ += dS K, of the key tiles of one step.
void QueriesOnWarpgroups::step(Value entry) {
  KeysAtHand keys;
  keys.step = t.fragment("step", t.type("StepKeys", {"@kParts"}));
  t.leaf("read_step", {keys.step, walk.list, entry, walk.warp}, {"@kPartKeys", "@kWarpTokens"});
  logits.declare(row);
  Value change = t.fragment("changes", t.type("Accumulator", {16, "@kKeys"}));
  walk.waitFor(keyRing);
  Value keyTile = walk.stage("key_tile", keyRing.keys, keyRing.cursor);
  t.leaf("start_abt", {row.logits, row.query, keyTile});
  walk.waitFor(valueRing);
  Value valueTile = walk.stage("value_tile", valueRing.values, valueRing.cursor);
  t.leaf("start_abt", {change, outputGradients, valueTile});
  t.leaf("wait_products", {row.logits}, {1});
  auto prepare = [&] {
    t.leaf("wait_products", {change}, {0});
    walk.release(valueRing);
    changes.prepare(row, keys, change, statistics);
  };
  if (changes.readsLogits())
    prepare();
  logits.rewrite(row, keys);
  mask.hide(row, keys);
  changes.weighStep(row, keys, statistics);
  if (!changes.readsLogits())
    prepare();
  changes.multiply(row, change);
  Value factor = t.fragment("factor", t.type("LeftOperand", {16, "@kKeys", plan.element}));
  t.leaf("round_to_operand", {factor, change});
  t.leaf("start_ab", {row.output, factor, keyTile});
  t.leaf("wait_products", {row.output}, {0});
  walk.release(keyRing);
  walk.advance(keyRing);
  walk.advance(valueRing);
}

void QueriesOnWarpgroups::store() {
  walk.releaseQueries();
  // Read again: what only the results need was not worth registers in the loop.
  Value done = t.value("done", "work_header", {walk.list});
  RowTile results = row;
  results.rows = tokens.rows("result_rows", t.field(done, "tile"), walk.warp);
  storeGradient(results, tokens.firstHead(t.field(done, "select_head"), "first_head"));
}

BuiltKernel QueriesOnWarpgroups::build() {
  declareRegions();
  walk.constants();
  constants();
  walk.declare();
  walk.perform([&] { consume(); });
  return finishPersistent("backward");
}

} // namespace

BuiltKernel buildQueriesOnWarpgroups(ModuleOp module, const BackwardPlan &plan,
                                     const AttendSizes &sizes, std::vector<TensorMapRecipe> &maps) {
  return QueriesOnWarpgroups(module, plan, sizes, maps).build();
}

} // namespace winnow
