// A step of decode by one kernel, where a program has one: which plans, and the formulas of its
// launch.
#pragma once
#include "compiler/kernels/Kernels.h"
#include "compiler/select/plans/AttendPlan.h"

namespace winnow {

constexpr int kStepTokens = 128;    ///< query tokens of a launch, at most
constexpr int kStepBlocks = 2048;   ///< of the longest sequence: a row of ranks in shared memory
constexpr int kStepChunks = 512;    ///< of a block of threads, which has as many threads
constexpr int kStepChunkTiles = 16; ///< tiles of 32 summaries of a chunk, at most
constexpr int kStepGrid = 256;      ///< blocks of threads, at most: places of a table
/// Chunks whose weights wait: while one is scored and the next one's share told, a third is made.
constexpr int kStepScores = 3;
/// Warps of a block of threads that select, normalise, multiply and load, each a warpgroup.
constexpr int kStepSelectors = 4, kStepNormalizers = 4, kStepComputers = 4, kStepLoaders = 4;
constexpr int kStepWarps = kStepSelectors + kStepNormalizers + kStepComputers + kStepLoaders;

/// Whether one kernel can make the whole step.
bool makesStep(const SelectionPlan &plan, const AttendPlan &attend, const ScorePlan &scores,
               const Target &target);
/// Formula of the variable "step": tiles of a chunk, or 0 where the chain serves a launch.
std::string stepTiles(const SelectionPlan &plan);
/// Formulas: bytes of what blocks of threads tell each other, and rows of parts, of one head each.
std::string stepExchangeBytes(const SelectionPlan &plan);
std::string stepParts(const SelectionPlan &plan);
/// Launched where "step" is not 0; parts lie in two buffers.
BuiltKernel buildDecodeStep(mlir::ModuleOp module, const SelectionPlan &plan,
                            const AttendPlan &attend, const ScorePlan &scores, int valuesBuffer,
                            int statesBuffer);

} // namespace winnow
