// Part: the selection of one token by the logarithms of its scores, where these leave the range of
// fp32, by all threads of a block. Serves rescore and top_k at decode; device functions:
// templates/select/rescore.cuh.
#pragma once
#include "compiler/kernels/parts/BlockScores.h"
#include "compiler/kernels/parts/RowSearch.h"
#include "compiler/kernels/parts/Summaries.h"

namespace winnow {

class OctaveSelection : public SelectionPart {
public:
  OctaveSelection(KernelBuilder &t, const SelectionPlan &plan, const ScorePlan &scores, int warps)
      : SelectionPart(t, plan, scores), summaries(t, plan, scores), blockScores(t, plan, scores),
        search(t, warps) {}

  /// Constants that it reads: kHeads, kKvHeads, kGroup, kDim, kTopK, kInit, kLocal, kSearched,
  /// kThreads, kWarps, kScale and those of Summaries.
  void declare();
  /// Selects for the token in row `row` of q; `octaves`: room for its blocks' in device memory.
  void select(Value tile, Value selectHead, Value row, Value ids, Value octaves, Value warp);
  /// Row `index` of the room, for rows of the longest sequence's blocks. kBlock is a constant.
  Value room(Value index);

private:
  void measure(Value tile, Value selectHead, Value row);
  void store(Value ids, Value found);
  Value count(Value threshold, StringRef hint) {
    return t.value(hint, "count_octaves", {octaves, t.named("kInit"), forcedFrom, threshold},
                   {"@kThreads"});
  }

  Summaries summaries;
  BlockScores blockScores;
  RowSearch search;
  Value queries, normalizers, octaves, forcedFrom;
};

} // namespace winnow
