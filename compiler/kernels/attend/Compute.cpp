// The consumer warpgroups of the attend kernel: 64 rows of queries each, the output in registers
// while a tile's list is walked. See OnWarpgroups.h. Protocol of the ring: every warp
// waits for every stage and releases it, wanted or not; a stage whose values are still to be
// multiplied is held while the next logits are made, so the next step must lie within the ring.
#include "compiler/kernels/attend/OnWarpgroups.h"

using namespace mlir;

namespace winnow {

void AttendOnWarpgroups::consume() {
  walk.enterRings();
  pending = t.fragment("pending", t.type("Cursor", {"@kStages"}));
  walk.enterQueries();
  warpOfGroup = t.rem(walk.warp, t.number(4), "warp_of_warpgroup");
  epilogue.declare(rows);
  rows.weights = t.fragment("weights", t.type("LeftOperand", {16, "@kKeys", plan.element}));
  softmax.declare(rows);
  walk.overWork([&] {
    rows.rows = tokens.rows("rows", walk.about("tile"), walk.warp);
    rows.query = walk.stage("queries", walk.queryRing, walk.queryCursor);
    t.when(walk.about("opens"), [&] {
      walk.waitForQueries();
      t.leaf("clear", {rows.output});
      t.leaf("clear", {rows.state});
    });
    attendShared();
    if (walk.split)
      attendSingles();
    t.when(walk.about("closes"), [&] { storeResults(); });
  });
}

/// The entries that whole warpgroups take. Outer loop: a step that follows nothing; inner loop:
/// steps whose predecessor's values are still pending.
void AttendOnWarpgroups::attendShared() {
  Value end = walk.about("shared");
  auto next = [&](Value from, Value limit) {
    return t.value("wanted_entry", "next_wanted", {walk.list, from, limit, walk.warpgroup},
                   {"@kParts", "@kWarpTokens"});
  };
  t.whileLoop(
      {"entry"}, {t.number(0)},
      [&](ValueRange at, SmallVector<Value> &passed) {
        Value found = next(at[0], end);
        skip(at[0], found);
        passed.push_back(found);
        return t.less(found, end);
      },
      [&](ValueRange at) {
        attendFirst(at[0]);
        ValueRange behind = t.whileLoop(
            {"following"}, {t.add(at[0], t.named("kParts"))},
            [&](ValueRange at, SmallVector<Value> &passed) {
              Value reach = t.mul(t.sub(t.named("kStages"), t.number(2)), t.named("kParts"));
              Value limit = t.min(end, t.add(at[0], reach), "limit");
              Value found = next(at[0], limit);
              passed = {at[0], found};
              return t.less(found, limit);
            },
            [&](ValueRange at) {
              skip(at[0], at[1]);
              attendNext(at[1]);
              return SmallVector<Value>{t.add(at[1], t.named("kParts"))};
            });
        Value next = behind[0];
        finishPending();
        return SmallVector<Value>{next};
      });
}

/// Passes what the warpgroup does not want.
void AttendOnWarpgroups::skip(Value from, Value to) {
  t.loop("skipped", from, to, t.named("kParts"), [&](Value) { walk.skipStep(); });
}

/// Where the step's keys lie and who wants them; waits for its stage. Returns the key tile.
AttendOnWarpgroups::Value AttendOnWarpgroups::step(Value entry) {
  keys.step = t.fragment("step", t.type("StepKeys", {"@kParts"}));
  t.leaf("read_step", {keys.step, walk.list, entry, walk.warp}, {"@kPartKeys", "@kWarpTokens"});
  logits.declare(rows);
  keys.sums = t.fragment("sums", t.type("StepSums"));
  walk.waitFor(ring);
  return keyTileAt("key_tile", ring.cursor);
}

/// The logits of one warp, by itself; `unroll` steps of the depth at a time.
void AttendOnWarpgroups::makeLogits(Value keyTile, TemplateArgument unroll) {
  Value row = t.mul(warpOfGroup, t.number(16));
  t.leaf("warp_abt", {rows.logits, rows.query, row, keyTile}, {unroll});
  hideKeys();
}

/// What happens to logits before the softmax.
void AttendOnWarpgroups::hideKeys() {
  logits.rewrite(rows, keys);
  mask.hide(rows, keys);
}

void AttendOnWarpgroups::attendFirst(Value entry) {
  Value keyTile = step(entry);
  t.leaf("start_abt", {rows.logits, rows.query, keyTile});
  t.leaf("wait_products", {rows.logits}, {0});
  hideKeys();
  softmax.step(rows, keys);
  t.leaf("round_to_operand", {rows.weights, rows.logits});
  t.leaf("follow", {pending, ring.cursor});
  walk.advance(ring);
}

void AttendOnWarpgroups::attendNext(Value entry) {
  Value keyTile = step(entry);
  Value valueTile = valueTileAt("pending_values", pending);
  t.leaf("start_abt", {rows.logits, rows.query, keyTile});
  t.leaf("start_ab", {rows.output, rows.weights, valueTile});
  t.leaf("wait_products", {rows.logits}, {1});
  hideKeys();
  // wgmma cannot be repeated by one warp, mma.sync can.
  Value raised = softmax.stepBesideProduct(rows, keys, [&] { makeLogits(keyTile, 1); });
  t.leaf("wait_products", {rows.output}, {0});
  t.leaf("arrive_empty", {ring.barriers, pending});
  softmax.rescale(rows, raised);
  t.leaf("round_to_operand", {rows.weights, rows.logits});
  t.leaf("follow", {pending, ring.cursor});
  walk.advance(ring);
}

void AttendOnWarpgroups::finishPending() {
  Value valueTile = valueTileAt("pending_values", pending);
  t.leaf("start_ab", {rows.output, rows.weights, valueTile});
  t.leaf("wait_products", {rows.output}, {0});
  t.leaf("arrive_empty", {ring.barriers, pending});
}

/// The entries that only single warps want: each by its warp alone, on the same accumulators.
void AttendOnWarpgroups::attendSingles() {
  t.loop("single", walk.about("shared"), walk.about("length"), t.named("kParts"), [&](Value entry) {
    Value keyTile = step(entry);
    Value valueTile = valueTileAt("value_tile", ring.cursor);
    t.when(t.value("", "is_wanted", {keys.step}), [&] {
      makeLogits(keyTile, "kDim / 16");
      softmax.step(rows, keys);
      t.leaf("round_to_operand", {rows.weights, rows.logits});
      t.leaf("warp_ab", {rows.output, rows.weights, valueTile});
    });
    walk.release(ring);
    walk.advance(ring);
  });
}

void AttendOnWarpgroups::storeResults() {
  walk.releaseQueries();
  // Read again: what only the results need was not worth registers in the loop.
  Value done = t.value("done", "work_header", {walk.list});
  RowTile results = rows;
  results.rows = tokens.rows("result_rows", t.field(done, "tile"), walk.warp);
  epilogue.store(results, tokens.firstHead(t.field(done, "select_head"), "first_head"));
}

} // namespace winnow
