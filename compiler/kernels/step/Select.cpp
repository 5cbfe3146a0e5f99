// The roles of decode_step that normalise and that select; see DecodeStep.h.
#include "compiler/kernels/parts/DenseLength.h"
#include "compiler/kernels/step/DecodeStep.h"

using namespace mlir;

namespace winnow {

/// Tells what a chunk has of the normalisers; `stage`: where its weights lie.
void DecodeStepBuilder::tellShare(const Work &work, Value stage) {
  t.leaf("tell_share",
         {exchange, warpShares, openSums, work.selection, t.field(work.item, "begin"),
          t.mul(stage, t.named("kComputers")), t.mul(stage, t.named("kChunkTiles")),
          t.sub(work.end, work.begin), t.mul(work.begin, t.named("kRows")),
          work.seen.normalizerVisible, scale},
         {"@kThreads", "@kComputers", "@kMeans", "@kMeanStep", "@kMeanStride"});
}

/// Scores a chunk whose normalisers are known, and tells the ranks.
void DecodeStepBuilder::score(const Work &work, Value stage) {
  Value vote = t.fragment("vote", t.type("RangeVote"));
  Value place = t.value("scored", "scored_tile", {chunkTiles});
  Value rowTile = t.add(work.begin, place, "row_tile");
  Value firstRow = t.mul(rowTile, t.named("kRows"), "first_row");
  auto both = [&](Value a, Value b) { return t.compute<arith::AndIOp>(a, b); };
  Value exists = both(t.less(rowTile, work.end), t.greater(work.seen.scoredEnd, firstRow));
  Value rowScores = blockScores.cleared("RowScores");
  t.leaf("add_step_heads",
         {rowScores, vote, tileWeights, normalizers, t.mul(stage, t.named("kTableRows")),
          t.add(t.mul(stage, t.named("kChunkTiles")), place), chunkTiles,
          both(exists, t.less(firstRow, work.seen.rows))},
         {blockScores.combine()});
  weights.hideTile(rowScores, firstRow, work.seen.scoredEnd, work.seen.visible, work.seen.rows);
  t.leaf(
      "tell_ranks",
      {exchange, rowScores, vote, work.selection, firstRow, work.seen.rows,
       both(exists, t.value("", "speaks_for_tile", {chunkTiles}))},
      {blockScores.pool(), "@kRowsPerBlock", "@kPad", scores.blocksPerEdge * plan.rowsPerBlock()});
}

/// The ids of a selection, for the warps that load and multiply, and by one block of threads for
/// the host.
void DecodeStepBuilder::chooseBlocks(const Work &work) {
  t.leaf("wait_empty", {listBarriers, listCursor});
  Value ids = t.value("ids", "id_list", {lists, t.field(listCursor, "stage")});
  Value hears = t.value(
      "hears", "hear_ranks",
      {rankRow, exchange, work.selection, compressed.scoredEnd(work.own), blockScores.padded()},
      {"@kThreads", "@kRowsPerBlock", "@kPad", scores.blocksPerEdge * plan.rowsPerBlock()});
  Value leaves =
      t.value("leaves", "sync_any", {t.number(kSelectBarrier), t.named("kThreads"), hears});
  t.when(t.equal(warp, t.number(0)), [&] {
    if (plan.init > 0)
      t.leaf("store_range", {ids, t.number(0), t.number(0), t.named("kInit")});
    if (plan.local > 0)
      t.leaf("store_range",
             {ids, t.sub(t.named("kTopK"), t.named("kLocal")), work.forcedFrom, t.named("kLocal")});
  });
  constexpr int chunkCount = kStepBlocks / kStepSelectors / RowSelection::kChunkBlocks;
  Value ranks = t.value("rank_row", "ranks_of", {rankRow});
  Value held = t.fragment("ranks", t.type("RankPairs", {chunkCount}));
  Value firstBlock = t.mul(warp, t.number(chunkCount * RowSelection::kChunkBlocks), "first_block");
  t.leaf("load_rank_pairs", {held, ranks, blockScores.edges(ranks), firstBlock, work.forcedFrom},
         {"@kInit", "@kBlocksPerEdge"});
  t.keep(rankRow);
  t.leaf("select_by_warps", {ids, held, counts, work.own, firstBlock, t.number(kSelectBarrier)},
         {"@kSearched", "@kInit", "@kWarps"});
  t.leaf("sync_threads", {}); // a mark among the ids
  t.when(t.either(leaves, t.value("", "is_unordered", {ids})), [&] {
    keepRows(warp, t.named("kWarps"), &work); // the same ones, read below
    t.leaf("sync_threads", {});
    octaves.select(work.tile, work.selectHead, t.field(work.tile, "row"), ids, octaves.room(block),
                   warp);
  });
  std::prev(t.builder.getInsertionPoint())->setAttr("tile.uniform", t.builder.getUnitAttr());
  t.leaf("sync_threads", {}); // ids lie where no pass watches over them
  // By the block that has the first chosen tile.
  t.when(t.equal(work.firstChosen, t.number(0)), [&] {
    Value hostIds = t.value("host_ids", "id_row",
                            {t.pointer("ids"), work.selectHead, t.field(t.params(), "total_q"),
                             t.field(work.tile, "row")},
                            {"@kTopK"});
    t.leaf("copy_ids", {hostIds, ids}, {"@kThreads", "@kTopK"});
  });
  t.leaf("report_full", {listBarriers, listCursor});
  t.leaf("advance", {listCursor});
}

/// The ids of a token that takes every block; none of a dense one.
void DecodeStepBuilder::storeAllIds(const Work &work) {
  auto both = [&](Value a, Value b) { return t.compute<arith::AndIOp>(a, b); };
  Value isFirst =
      both(both(hasItems(work), t.equal(work.begin, t.number(0))), t.equal(warp, t.number(0)));
  t.when(both(isFirst, t.compute<arith::XOrIOp>(work.chooses, t.flag(true))), [&] {
    Value ids = t.value("host_ids", "id_row",
                        {t.pointer("ids"), work.selectHead, t.field(t.params(), "total_q"),
                         t.field(work.tile, "row")},
                        {"@kTopK"});
    Value count = t.add(work.own, t.number(1), "count");
    if (mayBeDense(plan))
      count = t.select(isDense(t, plan, work.tile), t.number(0), count);
    t.leaf("store_range", {ids, t.number(0), t.number(0), count});
    t.leaf("pad_ids", {ids, count}, {"@kTopK"});
  });
}

/// What blocks of threads tell each other has not been told yet: each clears some of it, and waits
/// until all have.
void DecodeStepBuilder::clearWords() {
  const int threads = kStepNormalizers * kWarpThreads;
  Value own = t.sub(thread, t.number(kFirstNormalizer));
  Value inGrid = t.add(t.mul(block, t.number(threads)), own, "in_grid");
  Value all = t.mul(blocks, t.number(threads), "threads");
  Value shares = t.mul(mostChunks, t.named("kTileHeads"));
  Value ranks = t.mul(mostTiles, t.number(2));
  // A state of 8 bytes, and a row of values, of each slot and head; as many slots as there are
  // blocks of threads and selections.
  Value words = t.mul(t.add(blocks, selections), t.named("kTileHeads"));
  auto clear = [&](int buffer, Value fours) {
    t.leaf("clear_exchange", {t.pointer(t.bufferMember(buffer)), fours, inGrid, all});
  };
  clear(plan.scoreBuffer() + 3, t.mul(selections, t.add(shares, ranks)));
  clear(states, t.div(t.add(words, t.number(1)), t.number(2)));
  clear(values, t.mul(words, t.number(attend.valueDim / 4)));
  t.leaf("sync_threads", {}); // before one of them speaks for all
  t.when(t.equal(own, t.number(0)), [&] {
    t.leaf("meet_grid", {block, blocks});
    t.leaf("report_full", {clearedBarriers, t.fragment("once", t.type("Cursor", {1}))});
  });
  await(clearedBarriers);
}

/// Tells each chunk's share, for which all others wait, or adds up the shares of a selection for
/// those that score, whatever is possible first: so nobody's share waits for a score.
void DecodeStepBuilder::normalize() {
  scoreCursor = t.fragment("score_cursor", t.type("Cursor", {"@kScores"}));
  Value heardCursor = t.fragment("heard_cursor", t.type("Cursor", {"@kScores"}));
  clearWords();
  Value chunks = t.value("chunks", "count_chunks", {chunkList});
  Value told = t.fragment("told", t.type("Cursor", {kStepChunks + 1}));
  t.loop("turn", t.number(0), t.mul(t.number(2), chunks), t.number(1), [&](Value turn) {
    Value count = t.field(told, "stage"), heard = t.sub(turn, count, "heard");
    Value last = t.sub(chunks, t.number(1));
    Work next = chunk(t.min(heard, last, "next"));
    Value firstRow = t.mul(t.field(heardCursor, "stage"), t.named("kTableRows"), "first_row");
    Value tells = t.value(
        "tells", "tells_next",
        {normalizers, firstRow, scoreBarriers, scoreCursor, exchange, t.less(count, chunks),
         t.less(heard, count), next.selection, next.chunks, chunkTiles, next.seen.normalizerVisible,
         scale, t.number(kNormalizeBarrier)},
        {"@kThreads", "@kMeans", "@kMeanStep", "@kMeanStride", means.open(), "@kTileHeads"});
    t.when(
        tells,
        [&] {
          t.leaf("wait_full", {scoreBarriers, scoreCursor});
          tellShare(chunk(count), t.field(scoreCursor, "stage"));
          t.leaf("advance", {scoreCursor});
          t.leaf("advance", {told});
        },
        [&] {
          t.leaf("report_full", {tableBarriers, heardCursor});
          t.leaf("advance", {heardCursor});
        });
    std::prev(t.builder.getInsertionPoint())->setAttr("tile.uniform", t.builder.getUnitAttr());
  });
  // Nobody waits for rows of this launch: who needs one makes it himself. Here it is in nobody's
  // way.
  Value place = t.sub(warp, t.number(kFirstNormalizer / kWarpThreads), "place");
  keepRows(t.add(t.mul(place, blocks), block), t.mul(blocks, t.number(kStepNormalizers)), nullptr);
}

void DecodeStepBuilder::select() {
  Value released = t.fragment("released", t.type("Cursor", {"@kScores"}));
  listCursor = t.fragment("list_cursor", t.type("Cursor", {2}));
  t.leaf("cut_step_keys", {table, blocks, t.div(chunkTiles, t.number(2))},
         {"@kThreads", "@kSelectHeads"});
  t.leaf("report_full", {pieceBarriers, t.fragment("once", t.type("Cursor", {1}))});
  shareKeys();
  await(clearedBarriers);
  overChunks([&](Work work) {
    t.leaf("wait_full", {tableBarriers, released});
    score(work, t.field(released, "stage"));
    t.leaf("arrive_empty", {scoreBarriers, released});
    t.leaf("advance", {released});
  });
  overParts([&](Work work) {
    t.when(work.needsIds, [&] { chooseBlocks(work); }, [&] { storeAllIds(work); });
    std::prev(t.builder.getInsertionPoint())->setAttr("tile.uniform", t.builder.getUnitAttr());
  });
}

} // namespace winnow
