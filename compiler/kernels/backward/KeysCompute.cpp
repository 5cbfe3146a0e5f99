// The consumer warpgroups of dK and dV on warpgroups: 64 keys each, with their sums in registers.
// See KeysOnWarpgroups.h. A step makes S^T = K Q^T and dP^T = V dO^T of a stage of rows, then P and
// dS; dV += P^T dO and dK += dS^T Q start with the next step's S behind them, so that a warpgroup
// has products to wait for only while the other one has some to make: they take turns by a hint.
#include "compiler/kernels/backward/KeysOnWarpgroups.h"

using namespace mlir;

namespace winnow {

void BackwardKeysOnWarpgroups::consume() {
  cursor = t.fragment("cursor", t.type("Cursor", {"@kStages"}));
  pending = t.fragment("pending", t.type("Cursor", {"@kStages"}));
  keyCursor = t.fragment("key_cursor", t.type("Cursor", {"@kWarpgroups"}));
  t.leaf("move_to", {keyCursor, warpgroup});
  warpRow = t.mul(t.rem(warp, t.number(4)), t.number(16), "warp_row");
  auto sums = [&](const char *name, const char *columns) {
    return t.fragment(name, t.type("Accumulator", {16, columns}));
  };
  auto factor = [&](const char *name) {
    return t.fragment(name, t.type("LeftOperand", {16, "@kRows", plan.element}));
  };
  weights = sums("weights", "@kRows"), change = sums("changes", "@kRows");
  weightFactor = factor("weight_factor"), changeFactor = factor("change_factor");
  keySums = sums("key_gradient", "@kDim"), valueSums = sums("value_gradient", "@kValueDim");
  columns = t.fragment("columns", t.type("StageColumns", {"@kTokenRows"}));
  overItems([&] {
    keyTile = stage("key_tile", keyRing, keyCursor);
    valueTile = stage("value_tile", valueRing, keyCursor);
    Value own = t.value("own", "tile_of_item", {items, turn, warpgroup});
    firstKey = t.add(t.field(own, "block.first"), warpRow, "first_key");
    t.leaf("wait_full", {keyBarriers, keyCursor});
    t.leaf("clear", {keySums});
    t.leaf("clear", {valueSums});
    overRows();
    t.leaf("arrive_empty", {keyBarriers, keyCursor});
    t.leaf("next_turn", {keyCursor});
    storeResults();
  });
}

/// The rows of one item. Outer loop: a step that follows nothing; inner loop: steps whose
/// predecessor's gradients are still to be made.
void BackwardKeysOnWarpgroups::overRows() {
  auto startWeights = [&] {
    t.leaf("start_abt", {weights, keyTile, stage("query_tile", queryRing, cursor)});
  };
  auto waitForGradients = [&](int unfinished) {
    t.leaf("wait_products", {valueSums}, {unfinished});
    t.leaf("wait_products", {keySums}, {unfinished});
    t.leaf("arrive_empty", {rowBarriers, pending});
  };
  t.whileLoop(
      {}, {}, [&](ValueRange, SmallVector<Value> &) { return nextWanted(); },
      [&](ValueRange) {
        t.leaf("claim_products", {hints, warpgroup});
        startWeights();
        startChanges();
        t.whileLoop(
            {}, {},
            [&](ValueRange, SmallVector<Value> &) {
              weigh();
              t.leaf("follow", {pending, cursor});
              t.leaf("advance", {cursor});
              Value found = nextWantedNearby();
              t.leaf("claim_products", {hints, warpgroup});
              t.leaf("start_ab",
                     {valueSums, weightFactor, stage("pending_rows", gradientRing, pending)});
              t.leaf("start_ab",
                     {keySums, changeFactor, stage("pending_rows", queryRing, pending)});
              return found;
            },
            [&](ValueRange) {
              startWeights();
              waitForGradients(1);
              startChanges();
              return SmallVector<Value>();
            });
        waitForGradients(0);
        t.leaf("yield_products", {hints, warpgroup});
        return SmallVector<Value>();
      });
  pass(); // the stage that says that there are no more
}

/// dP of the cursor's rows, behind S, which has been started; waits for both. The other warpgroup's
/// turn comes while dP is still being made: by the time it has claimed it, this is done.
void BackwardKeysOnWarpgroups::startChanges() {
  t.leaf("start_abt", {change, valueTile, stage("gradient_tile", gradientRing, cursor)});
  t.leaf("wait_products", {weights}, {1});
  t.leaf("yield_products", {hints, warpgroup});
  t.leaf("wait_products", {change}, {0});
}

/// Whether the cursor's stage, which has been waited for, has rows that the warpgroup wants (1),
/// that it does not (0), or none (2).
BackwardKeysOnWarpgroups::Value BackwardKeysOnWarpgroups::isWanted(int answer) {
  return t.equal(t.value("", "rows_wanted", {headers, cursor, warpgroup}), t.number(answer));
}

/// Passes the stage, which the warpgroup does not want.
void BackwardKeysOnWarpgroups::pass() {
  t.leaf("arrive_empty", {rowBarriers, cursor});
  t.leaf("advance", {cursor});
}

/// Goes to the next stage that the warpgroup wants. Returns whether there is one.
BackwardKeysOnWarpgroups::Value BackwardKeysOnWarpgroups::nextWanted() {
  t.whileLoop(
      {}, {},
      [&](ValueRange, SmallVector<Value> &) {
        t.leaf("wait_full", {rowBarriers, cursor});
        return isWanted(0);
      },
      [&](ValueRange) {
        pass();
        return SmallVector<Value>();
      });
  return isWanted(1);
}

/// The same within the ring, of which `pending` is a stage.
BackwardKeysOnWarpgroups::Value BackwardKeysOnWarpgroups::nextWantedNearby() {
  auto isIn = [&](Value ahead) { return t.less(ahead, named("kStages")); };
  auto no = [&] { return t.flag(false); };
  Value ahead = t.whileLoop(
      {"ahead"}, {t.number(1)},
      [&](ValueRange at, SmallVector<Value> &passed) {
        passed = {at[0]};
        return t.choose(
            "skips", isIn(at[0]),
            [&] {
              t.leaf("wait_full", {rowBarriers, cursor});
              return isWanted(0);
            },
            no);
      },
      [&](ValueRange at) {
        pass();
        return SmallVector<Value>{t.add(at[0], t.number(1))};
      })[0];
  return t.choose("found", isIn(ahead), [&] { return isWanted(1); }, no);
}

/// P and dS of the cursor's rows, as left factors.
void BackwardKeysOnWarpgroups::weigh() {
  t.leaf("find_columns", {columns, headers, cursor, warpgroup}, {"@kTokenRows"});
  changes.prepareColumns(weights, change, columns, firstKey);
  logits.rewriteColumns(weights, columns, firstKey);
  changes.weighColumns(weights, change, columns, firstKey);
  if (plan.slopeHook)
    t.leaf("clear_unweighted", {change, weights});
  t.leaf("round_to_operand", {weightFactor, weights});
  t.leaf("round_to_operand", {changeFactor, change});
  if (stores)
    t.leaf("store_changes", {places, changeFactor, headers, cursor, warpgroup});
}

/// To the gradients, or while there are more ranges to the sums that the next one reads.
void BackwardKeysOnWarpgroups::storeResults() {
  // Read again: what only the results need was not worth registers in the loop.
  Value own = t.value("done", "tile_of_item", {items, turn, warpgroup});
  auto about = [&](StringRef member) { return t.field(own, member); };
  Value work = buffer(BackwardBuffer::KeyItems), place = about("place"), range = about("range");
  Value keyBuffer = buffer(BackwardBuffer::KeyParts),
        valueBuffer = buffer(BackwardBuffer::ValueParts);
  auto store = [&](const char *gradient, Value sums, Value factor) {
    t.leaf("store_key_gradient",
           {t.pointer(gradient), sums, about("block"), warpRow, about("kv_head"), factor,
            t.flag(true)},
           {"@kKvHeads", plan.element});
  };
  t.when(about("works"), [&] {
    t.when(about("continues"), [&] {
      t.leaf("wait_turn", {work, place, range});
      t.leaf("add_key_sums", {keySums, keyBuffer, place});
      t.leaf("add_key_sums", {valueSums, valueBuffer, place});
    });
    t.when(
        about("closes"),
        [&] {
          store("dk", keySums, t.namedReal("kSoftmaxScale"));
          store("dv", valueSums, t.real(1));
        },
        [&] {
          t.leaf("store_key_sums", {keyBuffer, keySums, place});
          t.leaf("store_key_sums", {valueBuffer, valueSums, place});
          t.leaf("pass_turn", {work, place, t.add(range, t.number(1)), warpgroup});
        });
  });
}

} // namespace winnow
