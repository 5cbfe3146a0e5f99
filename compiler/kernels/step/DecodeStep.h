// A step of decode by one kernel: scores, selection and attention of all tokens of a launch, by
// blocks of threads that all run at the same time, one on each multiprocessor, and share the work
// evenly whatever the lengths. Each has three roles, beside which it loads: some warps multiply,
// summaries first and then key tiles, so that memory is never waited for; some select. Device
// functions: templates/step.
//
// Protocol. A ring of stages, each a key tile and its values or one or two tiles of summaries: four
// warps fill it, a stage each in turn, eight use it in turn. Work comes in the same order for all
// roles: the block's chunks of summaries, its early key tiles, its chosen ones. Weights of chunks
// wait in shared memory, two chunks at a time, until the shares of all chunks of the selection have
// been told: the selecting warps tell a chunk's share before they score the chunk before it, so
// that nobody waits for a block of threads that waits for him. Then they search in the ranks of
// each selection whose chosen tiles the block has, and leave the ids in one of two lists.
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

/// Registers of a thread of each role, as 128 are launched: a warpgroup selects, two multiply, one
/// loads.
constexpr int kSelectRegisters = 120, kComputeRegisters = 160, kLoadRegisters = 72;
static_assert(kSelectRegisters + 2 * kComputeRegisters + kLoadRegisters <= 4 * 128);
/// Numbers of the barriers at which the selecting warps meet, and those that multiply.
constexpr int kSelectBarrier = 1, kJoinBarrier = 2;

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
    Value index, isChosen;  ///< of parts of key tiles
    HeadWeights::Seen seen; ///< of chunks
    Value tiles, chunks;    ///< of summaries; chunks of them
  };
  void constants();
  void declare();
  void fillTable();
  void shareOut();
  void shareKeys();
  Work workOf(Value item);
  void seeSummaries(Work &work);
  Work chunk(Value chunk);
  void overChunks(Body<Work> body);
  void overParts(Body<Work> body);
  Value hasItems(const Work &work);
  void overTurns(Value count, int warps, Body<Value> body);

  void load();
  void loadSummaries(const Work &work);
  void loadKeys(const Work &work, llvm::function_ref<Value(Value)> keyOf);
  Value awaitIds(const Work &work);
  void releaseIds(const Work &work);
  Value keyOf(const Work &work, Value ids, Value entry);
  void compute();
  void weigh(const Work &work);
  void makeNewRow(const Work &work);
  void multiply(const Work &work, Value sums, Value entry, Value summaries);
  void attendTiles(const Work &work, llvm::function_ref<Value(Value)> firstKey);
  void leavePart(Value slot, Value hasPart);
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
      normalizers, rankRow, lists, listBarriers, joined, counts, chunkList;
  Value exchange, scale, thread, warp, block, blocks, chunkTiles, itemTiles, selections;
  Value chunks, parts;
  Value cursor, place, scoreCursor, listCursor, turn;
  Value oldRows, newTile, hasNewRow, newRow; ///< of a chunk
};

} // namespace winnow
