// A step of decode by one kernel: scores, selection and attention of all tokens of a launch, by
// blocks of threads that all run at the same time, one on each multiprocessor, and share the work
// evenly whatever the lengths. Each has four roles, a warpgroup each, so that memory is never
// waited for: some warps load, some multiply, summaries first and then key tiles, some add up
// normalisers, some score and select. Device functions: templates/step.
//
// Protocol. A ring of stages, each a key tile and its values or one or two tiles of summaries: four
// warps fill it, a stage each in turn, four use it in turn. Work comes in the same order for all
// roles: the block's chunks of summaries, then its piece of the key tiles. Weights of chunks wait
// in shared memory, three chunks at a time, until the shares of all chunks of the selection have
// been told. The normalising warps tell a chunk's share or hear the shares of one, whatever is
// possible first, and leave its normalisers in the chunk's table for those that score it. So a
// share is told as soon as it is known, whatever others score; and a selection has no more chunks
// than there are blocks of threads: nobody waits for who waits for him. Then the selecting warps
// search in the ranks of each selection of whose chosen tiles the block has some, and leave the ids
// in one of two lists. Where the weights lay the sums of the warps are joined.
//
// What blocks of threads tell each other is cleared first, by the normalising warps; nobody tells
// anything before all of them have.
#pragma once
#include "compiler/kernels/Kernels.h"
#include "compiler/kernels/parts/Epilogue.h"
#include "compiler/kernels/parts/HeadWeights.h"
#include "compiler/kernels/parts/KeySource.h"
#include "compiler/kernels/parts/Logits.h"
#include "compiler/kernels/parts/Mask.h"
#include "compiler/kernels/parts/Softmax.h"
#include "compiler/kernels/step/Step.h"
#include "compiler/kernels/top_k/Octaves.h"
#include "compiler/kernels/top_k/SelectRow.h"

namespace winnow {

/// Registers of a thread of each role, as 128 are launched.
constexpr int kSelectRegisters = 128, kNormalizeRegisters = 104, kComputeRegisters = 208,
              kLoadRegisters = 72;
static_assert(kSelectRegisters + kNormalizeRegisters + kComputeRegisters + kLoadRegisters <=
              4 * 128);
/// Numbers of the barriers at which the selecting warps meet, those that multiply, and those that
/// normalise.
constexpr int kSelectBarrier = 1, kJoinBarrier = 2, kNormalizeBarrier = 3;
/// The first thread that normalises, and the first that multiplies.
constexpr int kFirstNormalizer = kStepSelectors * kWarpThreads,
              kFirstComputer = kFirstNormalizer + kStepNormalizers * kWarpThreads;

class DecodeStepBuilder {
public:
  using Value = mlir::Value;
  DecodeStepBuilder(mlir::ModuleOp module, const SelectionPlan &plan, const AttendPlan &attend,
                    const ScorePlan &rows, int values, int states);
  BuiltKernel build();

private:
  template <typename... Arguments> using Body = llvm::function_ref<void(Arguments...)>;
  /// Some work of one selection, and what its token sees.
  struct Work {
    Value item, tile, selection, selectHead, firstHead, begin, end, count;
    Value own, chooses, forcedFrom;
    /// Of parts of key tiles: whether some are chosen; how many are forced, and the first of these
    /// and of the chosen ones.
    Value needsIds, early, firstForced, firstChosen;
    HeadWeights::Seen seen; ///< of chunks
    Value tiles, chunks;    ///< of summaries; chunks of them
  };
  void constants();
  void declare();
  void clearWords();
  void await(Value barriersOfIt);
  void fillTable();
  void shareOut();
  void shareKeys();
  Work workOf(Value item);
  void seeSummaries(Work &work);
  Work chunk(Value index);
  Value stagesOf(const Work &work);
  void overChunks(Body<Work> body);
  void overParts(Body<Work> body);
  void findChosen(Work &work);
  Value hasItems(const Work &work);
  void overTurns(Value count, int warps, Body<Value> body);

  void load();
  void loadSummaries(const Work &work);
  void loadKeys(const Work &work);
  Value keyOf(const Work &work, Value index);
  void releaseIds(const Work &work);
  void compute();
  void weigh(const Work &work);
  void makeNewRow(const Work &work);
  void multiply(const Work &work, Value sums, Value entry, Value summaries);
  void attendTiles(const Work &work);
  void leavePart(const Work &work);
  void normalize();
  void select();
  void keepRows(Value first, Value step, const Work *only);
  void tellShare(const Work &work, Value stage);
  void score(const Work &work, Value stage);
  void chooseBlocks(const Work &work);
  void storeAllIds(const Work &work);

  const SelectionPlan &plan;
  const AttendPlan &attend;
  const ScorePlan scores;
  const NormalizerMeans means;
  const int values, states; ///< buffers
  KernelBuilder t;
  Summaries compressed;
  BlockScores blockScores;
  HeadWeights weights;
  RowSelection selection;
  OctaveSelection octaves;
  Tokens tokens;
  KeySource source;
  Logits logits;
  Mask mask;
  Softmax softmax;
  Epilogue epilogue;
  RowTile row;
  Value table, keyRing, valueRing, barriers, tileWeights, openSums, warpShares, scoreBarriers,
      normalizers, tableBarriers, clearedBarriers, pieceBarriers, rankRow, lists, listBarriers,
      joined, counts, chunkList;
  Value exchange, selections, mostTiles, mostChunks, scale, thread, warp, block, blocks, chunkTiles,
      itemTiles;
  Value parts;
  Value cursor, place, scoreCursor, listCursor, turn;
  Value oldRows, newTile, hasNewRow, newRow; ///< of a chunk
};

} // namespace winnow
