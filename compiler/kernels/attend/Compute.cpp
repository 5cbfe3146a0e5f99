// The consumer warpgroups of the attend kernel: 64 rows of queries each, the output in registers
// while a tile's list is walked. See BuildAttendWarpgroups.h. Protocol of the ring: every warp
// waits for every stage and releases it, wanted or not; a stage whose values are still to be
// multiplied is held while the next logits are made, so the next step must lie within the ring.
#include "compiler/kernels/attend/OnWarpgroups.h"

using namespace mlir;

namespace winnow {

void WarpgroupAttendBuilder::consume() {
  cursor = t.fragment("cursor", t.type("Cursor", {"@kStages"}));
  pending = t.fragment("pending", t.type("Cursor", {"@kStages"}));
  queryCursor = t.fragment("query_cursor", t.type("Cursor", {"@kGroups"}));
  t.leaf("move_to", {queryCursor, group});
  warpOfGroup = t.rem(warp, t.number(4), "warp_of_group");
  output = t.fragment("output", t.type("Accumulator", {16, "@kValueDim"}));
  weights = t.fragment("weights", t.type("LeftOperand", {16, "@kKeys", plan.element}));
  state = t.fragment("state", t.type("SoftmaxState"));
  scale = t.namedReal("kScale");
  overWork([&] {
    rows = t.value("rows", "query_rows", {about("tile", t.type("TokenTile")), warp}, {"@kGroup"},
                   t.type("QueryRows"));
    queries = stage("queries", queryRing, queryCursor);
    t.when(about("opens", t.builder.getI1Type()), [&] {
      t.leaf("wait_full", {queryBarriers, queryCursor});
      t.leaf("clear", {output});
      t.leaf("clear", {state});
    });
    attendShared();
    if (split)
      attendSingles();
    t.when(about("closes", t.builder.getI1Type()), [&] { storeResults(); });
  });
}

/// The entries that whole warpgroups take. Outer loop: a step that follows nothing; inner loop:
/// steps whose predecessor's values are still pending.
void WarpgroupAttendBuilder::attendShared() {
  Value end = about("shared");
  auto next = [&](Value from, Value limit) {
    return t.value("wanted_entry", "next_wanted", {list, from, limit, group},
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
            {"following"}, {t.add(at[0], named("kParts"))},
            [&](ValueRange at, SmallVector<Value> &passed) {
              Value reach = t.mul(t.sub(named("kStages"), t.number(2)), named("kParts"));
              Value limit = t.min(end, t.add(at[0], reach), "limit");
              Value found = next(at[0], limit);
              passed = {at[0], found};
              return t.less(found, limit);
            },
            [&](ValueRange at) {
              skip(at[0], at[1]);
              attendNext(at[1]);
              return SmallVector<Value>{t.add(at[1], named("kParts"))};
            });
        Value next = behind[0];
        finishPending();
        return SmallVector<Value>{next};
      });
}

/// Passes stages that the warpgroup does not want. Waiting first keeps every warp within one turn
/// of the ring: parities repeat after two.
void WarpgroupAttendBuilder::skip(Value from, Value to) {
  t.loop("skipped", from, to, named("kParts"), [&](Value) {
    t.leaf("wait_full", {barriers, cursor});
    t.leaf("arrive_empty", {barriers, cursor});
    t.leaf("advance", {cursor});
  });
}

/// Where the step's keys lie and who wants them; waits for its stage. Returns the key tile.
WarpgroupAttendBuilder::Value WarpgroupAttendBuilder::step(Value entry) {
  stepKeys = t.fragment("step", t.type("StepKeys", {"@kParts"}));
  t.leaf("read_step", {stepKeys, list, entry, warp}, {"@kPartKeys", "@kWarpTokens"});
  logits = t.fragment("logits", t.type("Accumulator", {16, "@kKeys"}));
  sums = t.fragment("sums", t.type("StepSums"));
  t.leaf("wait_full", {barriers, cursor});
  return stage("key_tile", keyRing, cursor);
}

/// What happens to logits before the softmax: the method's rewriting, then the mask.
void WarpgroupAttendBuilder::hideKeys() {
  if (hook)
    t.leaf("map_step", {logits, rows, stepKeys, t.namedReal("kLogitScale"), hook});
  t.leaf("mask_step", {logits, rows, stepKeys});
}

WarpgroupAttendBuilder::Value WarpgroupAttendBuilder::raiseMaximum() {
  return t.value("raised", "raise_step_maximum", {state, logits, rows, stepKeys, scale}, {},
                 t.builder.getI1Type());
}

void WarpgroupAttendBuilder::exponentiate() {
  t.leaf("exponentiate_step", {sums, logits, state, rows, stepKeys, scale}, {fmaColumns});
}

void WarpgroupAttendBuilder::attendFirst(Value entry) {
  Value keyTile = step(entry);
  t.leaf("start_abt", {logits, queries, keyTile});
  t.leaf("wait_products", {logits}, {0});
  hideKeys();
  t.when(raiseMaximum(), [&] { t.leaf("rescale_rows", {output, state}); });
  exponentiate();
  t.leaf("add_step", {state, sums});
  t.leaf("round_to_operand", {weights, logits});
  t.leaf("follow", {pending, cursor});
  t.leaf("advance", {cursor});
}

/// Turns logits into weights; true if the maximum was raised, so that the output must follow.
WarpgroupAttendBuilder::Value WarpgroupAttendBuilder::softmaxStep(Value keyTile) {
  hideKeys();
  Value raised;
  if (everyMaximum) {
    raised = raiseMaximum();
    exponentiate();
  } else {
    exponentiate();
    // wgmma cannot be repeated by one warp, mma.sync can.
    Value leaves = t.value("", "leaves_range", {sums}, {plan.element}, t.builder.getI1Type());
    raised = t.choose(
        "raised", leaves,
        [&] {
          Value row = t.mul(warpOfGroup, t.number(16));
          t.leaf("warp_abt", {logits, queries, row, keyTile}, {1});
          hideKeys();
          Value raised = raiseMaximum();
          exponentiate();
          return raised;
        },
        [&] { return t.flag(false); });
  }
  t.leaf("add_step", {state, sums});
  return raised;
}

void WarpgroupAttendBuilder::attendNext(Value entry) {
  Value keyTile = step(entry);
  Value valueTile = stage("pending_values", valueRing, pending);
  t.leaf("start_abt", {logits, queries, keyTile});
  t.leaf("start_ab", {output, weights, valueTile});
  t.leaf("wait_products", {logits}, {1});
  Value raised = softmaxStep(keyTile);
  t.leaf("wait_products", {output}, {0});
  t.leaf("arrive_empty", {barriers, pending});
  t.when(raised, [&] { t.leaf("rescale_rows", {output, state}); });
  t.leaf("round_to_operand", {weights, logits});
  t.leaf("follow", {pending, cursor});
  t.leaf("advance", {cursor});
}

void WarpgroupAttendBuilder::finishPending() {
  Value valueTile = stage("pending_values", valueRing, pending);
  t.leaf("start_ab", {output, weights, valueTile});
  t.leaf("wait_products", {output}, {0});
  t.leaf("arrive_empty", {barriers, pending});
}

/// The entries that only single warps want: each by its warp alone, on the same accumulators.
void WarpgroupAttendBuilder::attendSingles() {
  t.loop("single", about("shared"), about("length"), named("kParts"), [&](Value entry) {
    Value keyTile = step(entry);
    Value valueTile = stage("value_tile", valueRing, cursor);
    t.when(t.value("", "is_wanted", {stepKeys}, {}, t.builder.getI1Type()), [&] {
      Value row = t.mul(warpOfGroup, t.number(16));
      t.leaf("warp_abt", {logits, queries, row, keyTile}, {"kDim / 16"});
      hideKeys();
      t.when(raiseMaximum(), [&] { t.leaf("rescale_rows", {output, state}); });
      exponentiate();
      t.leaf("add_step", {state, sums});
      t.leaf("round_to_operand", {weights, logits});
      t.leaf("warp_ab", {output, weights, valueTile});
    });
    t.leaf("arrive_empty", {barriers, cursor});
    t.leaf("advance", {cursor});
  });
}

void WarpgroupAttendBuilder::storeResults() {
  t.leaf("arrive_empty", {queryBarriers, queryCursor});
  t.leaf("next_turn", {queryCursor});
  // Read again: what only the results need was not worth registers in the loop.
  Value done = t.value("done", "work_header", {list}, {}, t.type("auto"));
  Value doneRows =
      t.value("result_rows", "query_rows", {t.field(done, "tile", t.type("TokenTile")), warp},
              {"@kGroup"}, t.type("QueryRows"));
  Value firstHead = t.mul(t.field(done, "select_head"), named("kGroup"), "first_head");
  t.leaf("reduce_sum", {state});
  t.leaf("store_output", {t.pointer("out"), output, state, doneRows, firstHead},
         {"@kHeads", plan.element});
  t.leaf("store_lse",
         {t.pointer("lse"), state, doneRows, firstHead, t.field(t.params(), "total_q"), scale});
}

} // namespace winnow
