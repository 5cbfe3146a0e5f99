// The consumers of the score kernel on warpgroups: per item the normalisers of all query rows, then
// the scores of the tiles that were dealt to the warpgroup. See OnWarpgroups.cpp for the
// protocol. One accumulator per warpgroup: the others' products run under this one's exponentials.
#include "compiler/kernels/score/OnWarpgroups.h"

using namespace mlir;

namespace winnow {

static constexpr int kConsumerBarrier = 1; ///< of bar.sync; 0 is that of all threads

void ScoreWarpgroupsBuilder::consume() {
  cursor = t.fragment("cursor", t.type("Cursor", {"@kStages"}));
  queryCursor = t.fragment("query_cursor", t.type("Cursor", {"@kMmaTiles"}));
  if (selects)
    scoreCursor = t.fragment("score_cursor", t.type("Cursor", {"@kScratchItems"}));
  deal = t.fragment("deal", t.type("Deal", {"@kConsumers"}));
  overItems([&] {
    countTiles();
    fineRows = summaries.rows(plan.fine, tile, "fine_rows");
    overQueries([&](Value) { t.leaf("wait_full", {queryBarriers, queryCursor}); });
    if (softmax())
      normalize();
    if (selects)
      t.leaf("wait_empty", {scoreBarriers, scoreCursor});
    score();
    if (selects) {
      t.leaf("publish", {scoreBarriers, scoreCursor});
      t.leaf("advance", {scoreCursor});
    }
    t.leaf("deal_out", {deal, fineTiles});
    t.leaf("next_turn", {queryCursor});
  });
}

/// Over the ring of queries, one turn.
void ScoreWarpgroupsBuilder::overQueries(function_ref<void(Value)> body) {
  t.loop("mma_tile", t.number(0), t.named("kMmaTiles"), t.number(1), [&](Value mmaTile) {
    t.leaf("move_to", {queryCursor, mmaTile});
    body(mmaTile);
  });
}

Value ScoreWarpgroupsBuilder::product(Value mmaTile) {
  t.leaf("move_to", {queryCursor, mmaTile});
  Value logits = t.fragment("logits", t.type("Accumulator", {16, "@kRows"}));
  Value left = t.value("", "stage", {queries, queryCursor});
  Value right = t.value("", "stage", {ring, cursor});
  t.leaf("start_abt", {logits, left, right});
  t.leaf("wait_products", {logits}, {0});
  return logits;
}

/// log-sum-exp of every query row over the normaliser's summaries: each warpgroup makes those of
/// its own mma tiles, so that nothing has to be merged.
void ScoreWarpgroupsBuilder::normalize() {
  Value sums = t.fragment("sums", t.type("LogSumExp", {"@kOwnTiles"}));
  Value firstOwn = t.mul(warpgroup, t.named("kOwnTiles"), "first_own");
  // Summaries that every token of the item sees need no mask.
  Value all = summaries.visible(plan.normalizer, tile, coarseRows, "coarse_all");
  t.leaf("clear", {sums});
  t.loop("coarse_tile", t.number(0), coarseTiles, t.number(1), [&](Value coarseTile) {
    Value firstRow = t.mul(coarseTile, t.named("kRows"), "first_row");
    t.leaf("wait_full", {barriers, cursor});
    t.unrolled("own_tile", t.named("kOwnTiles"), [&](Value own) {
      Value mmaTile = t.add(firstOwn, own, "mma_tile");
      auto isLast = [&](Value index, StringRef count) {
        return t.equal(index, t.sub(t.named(count), t.number(1)));
      };
      t.when(t.less(mmaTile, t.named("kMmaTiles")), [&] {
        Value logits = product(mmaTile);
        t.when(t.either(isLast(own, "kOwnTiles"), isLast(mmaTile, "kMmaTiles")),
               [&] { t.leaf("release", {barriers, cursor}); });
        t.when(t.greater(t.add(firstRow, t.named("kRows")), all), [&] {
          for (int half = 0; half < (isPair() ? 1 : 2); ++half) {
            Value token = tokenOf(mmaTile, half);
            Value seen = summaries.visible(plan.normalizer, tile, coarseRows, "visible", token);
            t.leaf("mask_tile", {logits, firstRow, seen}, {half, isPair() ? 2 : 1});
          }
        });
        Value scale = t.namedReal("kScale");
        t.when(t.equal(coarseTile, t.number(0)),
               [&] { t.leaf("raise_maxima", {sums, own, logits, scale}); });
        t.leaf("add_tile_exponentials", {sums, own, logits, scale},
               {scores.folded ? TemplateArgument("2 * kCubicEvery") : TemplateArgument(0)});
      });
    });
    t.leaf("advance", {cursor});
  });
  t.leaf("finish_normalizers", {sums});
  // The barrier: everybody is done with the item before, and with its table.
  Value id = t.number(kConsumerBarrier), threads = t.named("kConsumerThreads");
  large = t.flag(true);
  if (scores.folded) {
    Value leaves = t.value("", "leaves_weights", {sums, firstOwn, t.field(tile, "tokens")},
                           {"@kGroup", "@kMmaTiles"});
    large = t.value("large", "sync_any", {id, threads, leaves});
  } else {
    t.leaf("sync_some", {id, threads});
  }
  t.leaf("store_normalizers", {table, sums, firstOwn, large});
  t.leaf("sync_some", {id, threads});
}

void ScoreWarpgroupsBuilder::score() {
  Value first = t.value("first", "first_dealt", {deal, warpgroup});
  t.when(t.atLeast(first, fineTiles),
         [&] { overQueries([&](Value) { t.leaf("release", {queryBarriers, queryCursor}); }); });
  t.leaf("skip", {cursor, t.min(first, fineTiles)});
  t.loop("fine_tile", first, fineTiles, t.named("kConsumers"), [&](Value fineTile) {
    Value firstRow = t.mul(fineTile, t.named("kRows"), "first_row");
    t.leaf("wait_full", {barriers, cursor});
    if (scores.sets == 1)
      scoreSet(fineTile, firstRow, t.number(0));
    else
      t.loop("set", t.number(0), t.named("kSets"), t.number(1), [&](Value set) {
         scoreSet(fineTile, firstRow, set);
       })->setAttr("tile.unroll", t.builder.getI32IntegerAttr(1));
    t.leaf("skip", {cursor, t.min(t.named("kConsumers"), t.sub(fineTiles, fineTile))});
  });
}

Value ScoreWarpgroupsBuilder::scoreProduct(Value fineTile, Value mmaTile) {
  Value logits = product(mmaTile);
  t.when(t.atLeast(t.add(fineTile, t.named("kConsumers")), fineTiles),
         [&] { t.leaf("release", {queryBarriers, queryCursor}); });
  t.when(t.equal(mmaTile, t.sub(t.named("kMmaTiles"), t.number(1))),
         [&] { t.leaf("release_times", {barriers, cursor, t.named("kConsumers")}); });
  return logits;
}

/// Block scores of one token set from the tile's 128 summaries.
void ScoreWarpgroupsBuilder::scoreSet(Value fineTile, Value firstRow, Value set) {
  if (!isPair()) { // the halves of an mma tile are tokens of their own
    Value logits = scoreProduct(fineTile, set);
    for (int half = 0; half < 2; ++half) {
      Value tokenScores = blockScores.cleared("TokenScores"), token = tokenOf(set, half);
      addHeads(tokenScores, logits, set, token, firstRow, half, 1);
      storeScores(tokenScores, token, firstRow);
    }
    return;
  }
  Value tokenScores = blockScores.cleared("TokenScores");
  Value token = tokenOf(scores.sets == 1 ? set : t.mul(set, t.named("kPairs")), 0);
  t.loop("pair", t.number(0), t.named("kPairs"), t.number(1), [&](Value pair) {
     Value mmaTile =
         scores.sets == 1 ? pair : t.add(t.mul(set, t.named("kPairs")), pair, "mma_tile");
     Value logits = scoreProduct(fineTile, mmaTile);
     blockScores.overHeads(pair, [&](int heads) {
       addHeads(tokenScores, logits, mmaTile, token, firstRow, 0, heads);
     });
   })->setAttr("tile.unroll", t.builder.getI32IntegerAttr(1)); // registers are short
  storeScores(tokenScores, token, firstRow);
}

void ScoreWarpgroupsBuilder::addHeads(Value tokenScores, Value logits, Value mmaTile, Value token,
                                      Value firstRow, int firstHalf, int halves) {
  const char *combine = blockScores.combine();
  Value scale = t.namedReal("kScale");
  if (!softmax()) {
    Value position = t.add(t.field(tile, "position"), token);
    t.leaf("add_hooked_scores", {tokenScores, logits, position, firstRow, scale, hook},
           {combine, firstHalf, halves});
    return;
  }
  auto offsets = [&] {
    t.leaf("add_offset_scores", {tokenScores, logits, table, mmaTile, scale},
           {combine, firstHalf, halves});
  };
  auto weights = [&] {
    t.leaf("add_weighted_scores", {tokenScores, logits, table, mmaTile},
           {combine, "@kCubicEvery", firstHalf, halves});
  };
  if (scores.folded)
    t.when(large, offsets, weights);
  else
    offsets();
}

void ScoreWarpgroupsBuilder::storeScores(Value tokenScores, Value token, Value firstRow) {
  Value all = summaries.visible(plan.fine, tile, fineRows, "");
  blockScores.hide(tokenScores, firstRow, t.add(firstRow, t.named("kRows")), fineEnd, all, fineRows,
                   [&] { return summaries.visible(plan.fine, tile, fineRows, "visible", token); });
  blockScores.store(scoreRow(token, "block_scores"), tokenScores, firstRow, fineRows,
                    t.less(token, t.field(tile, "tokens")));
}

} // namespace winnow
