// The roles of decode_step that load and that multiply; see DecodeStep.h.
#include "compiler/kernels/parts/DenseLength.h"
#include "compiler/kernels/step/DecodeStep.h"

using namespace mlir;

namespace winnow {

//===-- Loading ------------------------------------------------------------------------------===//

/// A chunk's summaries, one tile or two to a stage.
void DecodeStepBuilder::loadSummaries(const Work &work) {
  Value count = stagesOf(work);
  // The row that this step's keys finish is made by the warp that multiplies it.
  Value limit = t.min(weights.oldRows(work.tile), t.mul(work.end, t.named("kRows")), "row_limit");
  Value rowsOfIt = t.value(
      "source", "in_summary_order",
      {t.value("", "read_once",
               {compressed.source(plan.fine, work.tile, compressed.kvHead(work.firstHead), "")})});
  Value lane = t.value("lane", "lane_index");
  overTurns(count, kStepLoaders, [&](Value index) {
    Value firstRow =
        t.mul(t.add(work.begin, t.mul(index, itemTiles)), t.named("kRows"), "first_row");
    Value isPair = t.greater(itemTiles, t.number(1));
    Value secondRow = t.add(firstRow, t.named("kRows"), "second_row");
    auto pageOf = [&](const char *name, Value row) {
      return t.value(name, "find_page", {rowsOfIt, row, limit, lane});
    };
    Value page = pageOf("page", firstRow), secondPage = pageOf("second_page", secondRow);
    t.leaf("wait_empty", {barriers, place});
    auto loadTile = [&](Value ring, Value pageOfRow, Value row) {
      Value tile = t.value("", "stage", {ring, place});
      t.leaf("load_found_rows", {tile, rowsOfIt, pageOfRow, row, limit, lane});
    };
    loadTile(keyRing, page, firstRow);
    t.when(isPair, [&] { loadTile(valueRing, secondPage, secondRow); });
    t.leaf("arrive_full", {barriers, place});
  });
}

/// Key tiles of a selection and their values.
void DecodeStepBuilder::loadKeys(const Work &work) {
  source.locate(work.tile, compressed.kvHead(work.firstHead));
  Value lane = t.value("lane", "lane_index");
  overTurns(work.count, kStepLoaders, [&](Value index) {
    source.loadFound(keyOf(work, index), lane, [&] {
      t.leaf("wait_empty", {barriers, place});
      // One tile of a warp at a time: more of them under way only wait for each other, and some
      // multiprocessors for others.
      t.leaf("wait_copies", {});
      Value keys = t.value("", "stage", {keyRing, place});
      return std::pair{keys, t.value("", "stage", {valueRing, place})};
    });
    t.leaf("arrive_full", {barriers, place});
  });
}

/// The rows that new keys finish, for the host: a warp has a token, a head of keys and 64 elements,
/// and of each summary the row whose last key the token's is, if there is one. `only`: of this
/// selection's sequence and head.
void DecodeStepBuilder::keepRows(Value first, Value step, const Work *only) {
  auto both = [&](Value a, Value b) { return t.compute<arith::AndIOp>(a, b); };
  const int parts64 = (plan.headDim + 63) / 64; // of a row, a warp each
  Value heads = t.mul(t.field(t.params(), "total_q"), t.named("kKvHeads"));
  Value units = t.mul(heads, t.number(parts64), "units");
  t.loop("unit", first, units, step, [&](Value unit) {
    Value part = t.rem(unit, t.number(parts64), "part");
    Value head = t.div(unit, t.number(parts64));
    Value tile = t.value("row_tile", "step_token", {table, t.div(head, t.named("kKvHeads"))});
    Value kvHead = t.rem(head, t.named("kKvHeads"), "kv_head");
    Value keys = t.value("keys", "paged_rows",
                         {t.params(), t.pointer("k"), t.pointer("k_stride"), tile, kvHead},
                         {plan.keyElement});
    for (auto [index, summary] : llvm::enumerate(plan.summaries)) {
      Value behind = t.sub(t.field(tile, "position"), t.number(summary.window - 1));
      Value stride = t.number(summary.stride);
      Value isLast =
          both(t.differ(t.field(tile, "tokens"), t.number(0)),
               both(t.atLeast(behind, t.number(0)), t.equal(t.rem(behind, stride), t.number(0))));
      if (only)
        isLast =
            both(isLast, both(t.equal(t.field(tile, "sequence"), t.field(only->tile, "sequence")),
                              t.equal(kvHead, compressed.kvHead(only->firstHead))));
      const int number = static_cast<int>(index);
      t.when(isLast, [&] {
        Value place = t.div(behind, stride, "row");
        Value kept = t.value("kept", "kept_rows", {t.params(), t.number(number), tile, kvHead},
                             {plan.element, summary.window, summary.stride});
        t.leaf("keep_mean", {kept, keys, place, part, t.namedReal("kFactor")},
               {summary.window, summary.stride, "@kDim"});
      });
    }
  });
}

void DecodeStepBuilder::load() {
  cursor = t.fragment("cursor", t.type("Cursor", {"@kStages"}));
  place = t.fragment("place", t.type("Cursor", {"@kStages"}));
  listCursor = t.fragment("list_cursor", t.type("Cursor", {2}));
  turn = t.sub(warp, t.number(kStepWarps - kStepLoaders), "turn");
  overChunks([&](Work work) { loadSummaries(work); });
  shareKeys();
  overParts([&](Work work) {
    loadKeys(work);
    releaseIds(work);
  });
}

/// The first key of a part's tile `index`, once the ids are there; for tiles of forced blocks,
/// which come first, nothing is waited for.
Value DecodeStepBuilder::keyOf(const Work &work, Value index) {
  Value isEarly = t.less(index, work.early, "is_early");
  t.when(t.atLeast(index, work.early), [&] { t.leaf("wait_full", {listBarriers, listCursor}); });
  Value chosen = t.add(work.firstChosen, t.sub(index, work.early));
  Value entry = t.select(isEarly, t.add(work.firstForced, index),
                         t.add(t.named("kForcedTiles"), chosen), "entry");
  Value ids = t.value("ids", "id_list", {lists, t.field(listCursor, "stage")});
  return t.value("first_key", "step_key", {ids, entry, work.chooses, work.forcedFrom},
                 {"@kInit", "@kForced", "@kTilesPerBlock", "@kKeys"});
}
/// Every warp waits for the list, its own tiles or not, lest it be a turn ahead of the others.
void DecodeStepBuilder::releaseIds(const Work &work) {
  t.when(work.needsIds, [&] {
    t.leaf("wait_full", {listBarriers, listCursor});
    t.leaf("arrive_empty", {listBarriers, listCursor});
    t.leaf("advance", {listCursor});
  });
}

//===-- Multiplying --------------------------------------------------------------------------===//

/// The summary that the step's keys finish, by the warp that will multiply the chunk's tile of it:
/// others may be writing it where the host keeps it, so it is made anew, while tiles are under way.
void DecodeStepBuilder::makeNewRow(const Work &work) {
  auto both = [&](Value a, Value b) { return t.compute<arith::AndIOp>(a, b); };
  oldRows = weights.oldRows(work.tile);
  newTile = t.div(oldRows, t.named("kRows"), "new_tile");
  Value ahead = t.sub(newTile, work.begin), isPair = t.greater(itemTiles, t.number(1));
  Value stage = t.add(t.field(cursor, "stage"), t.select(isPair, t.div(ahead, t.number(2)), ahead));
  Value isTurn = t.equal(t.compute<arith::AndIOp>(t.sub(stage, turn), t.number(kStepComputers - 1)),
                         t.number(0));
  hasNewRow = both(both(t.greater(work.seen.rows, oldRows), isTurn),
                   both(t.atLeast(newTile, work.begin), t.less(newTile, work.end)));
  newRow = t.fragment("new_row", t.type("NewRow"));
  t.when(hasNewRow, [&] {
    Value kvHead = compressed.kvHead(work.firstHead);
    Value keys = t.value("keys", "paged_rows",
                         {t.params(), t.pointer("k"), t.pointer("k_stride"), work.tile, kvHead},
                         {plan.keyElement});
    t.leaf("make_new_row", {newRow, keys, oldRows, t.namedReal("kFactor")},
           {plan.element, "@kWindow", "@kStride", "@kDim"});
  });
}

/// A tile of summaries: its part of the normalisers, and the weights of its scores.
void DecodeStepBuilder::multiply(const Work &work, Value sums, Value entry, Value summaries) {
  Value firstRow = t.mul(entry, t.named("kRows"), "first_row");
  t.when(t.compute<arith::AndIOp>(hasNewRow, t.equal(entry, newTile)),
         [&] { t.leaf("put_new_row", {summaries, newRow, t.sub(oldRows, firstRow)}); });
  Value scores16 = t.fragment("logits", t.type("Accumulator", {16, "@kRows"}));
  t.leaf("clear", {scores16});
  t.leaf("mma_abt", {scores16, row.query, summaries});
  Value tilePlace = t.add(t.mul(t.field(scoreCursor, "stage"), t.named("kChunkTiles")),
                          t.sub(entry, work.begin), "tile_place");
  t.leaf("add_tile_normalizers",
         {sums, openSums, scores16, tilePlace, firstRow, work.seen.normalizerVisible, scale},
         {"@kMeans", "@kMeanStep", "@kMeanStride"});
  t.leaf("store_tile_weights",
         {tileWeights, scores16, tilePlace, firstRow, work.seen.visible, scale});
}

/// A chunk: its warps' part of the normalisers is left for those that normalise, its weights for
/// those that select.
void DecodeStepBuilder::weigh(const Work &work) {
  row.rows = tokens.rows("rows", work.tile, t.number(0));
  tokens.load(row, work.firstHead);
  Value sums = t.fragment("sums", t.type("NormalizerSums", {means.open()}));
  Value count = stagesOf(work);
  makeNewRow(work);
  t.leaf("wait_empty", {scoreBarriers, scoreCursor});
  overTurns(count, kStepComputers, [&](Value index) {
    Value entry = t.add(work.begin, t.mul(index, itemTiles), "entry");
    t.leaf("wait_full", {barriers, place});
    multiply(work, sums, entry, t.value("", "stage", {keyRing, place}));
    Value second = t.add(entry, t.number(1), "second");
    Value isPair =
        t.compute<arith::AndIOp>(t.greater(itemTiles, t.number(1)), t.less(second, work.end));
    t.when(isPair, [&] { multiply(work, sums, second, t.value("", "stage", {valueRing, place})); });
    t.leaf("arrive_empty", {barriers, place});
  });
  t.leaf(
      "store_step_share",
      {warpShares, sums, t.add(t.mul(t.field(scoreCursor, "stage"), t.named("kComputers")), turn)});
  t.leaf("report_full", {scoreBarriers, scoreCursor});
  t.leaf("advance", {scoreCursor});
}

/// The block's key tiles of one selection.
void DecodeStepBuilder::attendTiles(const Work &work) {
  overTurns(work.count, kStepComputers, [&](Value index) {
    KeysAtHand keys;
    keys.first = keyOf(work, index);
    logits.declare(row);
    t.leaf("clear", {row.logits});
    t.leaf("wait_full", {barriers, place});
    t.leaf("mma_abt", {row.logits, row.query, t.value("", "stage", {keyRing, place})});
    mask.hide(row, keys);
    softmax.step(row, keys);
    row.weights = t.fragment("weights", t.type("LeftOperand", {16, "@kKeys", plan.element}));
    t.leaf("round_to_operand", {row.weights, row.logits});
    t.leaf("mma_ab", {row.output, row.weights, t.value("", "stage", {valueRing, place})});
    t.leaf("arrive_empty", {barriers, place});
  });
}

/// What the block has of a selection, as one part; or that this part has no keys.
void DecodeStepBuilder::leavePart(const Work &work) {
  Value slot = t.value("slot", "part_slot", {work.item, block});
  Value statesBuffer = t.pointer(t.bufferMember(states));
  t.when(
      hasItems(work),
      [&] {
        t.leaf("wait_all_empty", {scoreBarriers, scoreCursor}); // weights lay where sums will
        t.leaf("reduce_sum", {row.state});
        t.leaf("join_sums",
               {t.pointer(t.bufferMember(values)), statesBuffer, joined, row.output, row.state,
                slot, t.number(kFirstComputer), t.number(kJoinBarrier), scale},
               {"@kTileHeads"});
      },
      [&] {
        t.leaf("store_no_part", {statesBuffer, slot, t.sub(thread, t.number(kFirstComputer))},
               {"@kTileHeads"});
      });
}

void DecodeStepBuilder::compute() {
  cursor = t.fragment("cursor", t.type("Cursor", {"@kStages"}));
  place = t.fragment("place", t.type("Cursor", {"@kStages"}));
  scoreCursor = t.fragment("score_cursor", t.type("Cursor", {"@kScores"}));
  listCursor = t.fragment("list_cursor", t.type("Cursor", {2}));
  turn = t.sub(warp, t.number(kFirstComputer / kWarpThreads), "turn");
  tokens.declare(row);
  overChunks([&](Work work) { weigh(work); });
  shareKeys();
  epilogue.declare(row);
  softmax.declare(row);
  await(clearedBarriers);
  overParts([&](Work work) {
    row.rows = tokens.rows("rows", work.tile, t.number(0));
    tokens.load(row, work.firstHead);
    t.leaf("restart_sums", {row.output, row.state});
    attendTiles(work);
    releaseIds(work);
    leavePart(work);
  });
  t.leaf("wait_all_empty", {scoreBarriers, scoreCursor});
  t.leaf("merge_parts",
         {t.heads("out", true), t.pointer("lse"), joined, table, t.pointer(t.bufferMember(values)),
          t.pointer(t.bufferMember(states)), t.field(t.params(), "total_q"), block, blocks,
          t.number(kFirstComputer), t.number(kJoinBarrier)},
         {"@kHeads", "@kTileHeads", "@kSelectHeads", attend.element});
}

} // namespace winnow
