// A step of decode by one kernel, where a program has one: which plans, and the formulas of its
// launch.
#pragma once
#include "compiler/kernels/Kernels.h"
#include "compiler/select/plans/AttendPlan.h"

namespace winnow {

/// From how many selections on one kernel is faster than the chain (docs/kernels/decode-step.md).
constexpr int kStepFromSelections = 8;
constexpr int kStepTokens = 128;    ///< query tokens of a launch, at most
constexpr int kStepBlocks = 2048;   ///< of the longest sequence: a row of ranks in shared memory
constexpr int kStepChunks = 512;    ///< of a block of threads, which has as many threads
constexpr int kStepChunkTiles = 16; ///< tiles of 32 summaries of a chunk, at most
constexpr int kStepGrid = 256;      ///< blocks of threads, at most: places of a table
/// Chunks whose weights wait: while one is scored and the next one's share told, a third is made.
constexpr int kStepScores = 3;
/// Warps of a block of threads that select, multiply and load, each a multiple of a warpgroup.
constexpr int kStepSelectors = 4, kStepComputers = 8, kStepLoaders = 4;

/// Whether one kernel can make the whole step.
bool makesStep(const SelectionPlan &plan, const AttendPlan &attend, const ScorePlan &scores,
               const Target &target);
/// Formula of the variable "step": tiles of a chunk, or 0 where the chain serves a launch: one with
/// fewer selections than `least`, for example.
std::string stepTiles(const SelectionPlan &plan, int least);
/// Formulas: bytes of what blocks of threads tell each other, and rows of parts, of one head each.
std::string stepExchangeBytes(const SelectionPlan &plan);
std::string stepParts(const SelectionPlan &plan);
/// clear_step and decode_step, launched where "step" is not 0; parts lie in two buffers.
std::vector<BuiltKernel> buildDecodeStep(mlir::ModuleOp module, const SelectionPlan &plan,
                                         const AttendPlan &attend, const ScorePlan &scores,
                                         int valuesBuffer, int statesBuffer);

} // namespace winnow
