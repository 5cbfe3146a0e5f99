// The builders: each appends the tile.kernel of one step of a method. On warps they write one
// thread of control; barriers, stages and offsets come from the tile passes. On warpgroups they
// write roles, rings and waits themselves.
#pragma once
#include "compiler/kernels/score/Plan.h"
#include "compiler/select/plans/BackwardPlan.h"
#include "dialect/tile/Tile.h"
#include "runtime/device/Target.h"
#include "runtime/program/ProgramImage.h"
#include <optional>

namespace winnow {

/// Most query tokens of a batch whose attention is made in parts: partial results of each lie in
/// the workspace, 17 KB for 32 heads of 128 values.
constexpr int kDecodeBatch = 8192;
/// Formula: 1 where attention is that of decode, else 0.
inline std::string attendsByDecode() {
  return "(max_q <= " + std::to_string(kDecodeTokens) +
         ") * (total_q <= " + std::to_string(kDecodeBatch) + ")";
}
/// Formula: 1 where the decode kernels of a selection run, in the place of those that make
/// summaries anew; else 0.
inline std::string decodes() { return "(max_q <= " + std::to_string(kDecodeTokens) + ") * rows"; }

/// A built kernel with its part of the launch recipe: grid and condition as formulas.
struct BuiltKernel {
  tile::KernelOp op;
  Kernel recipe;
  std::optional<Config> config = {}; ///< with what the builder chose, where it was left open
};

/// The kernel, launched where a formula is 1 alone.
inline void launchWhen(BuiltKernel &kernel, const std::string &condition) {
  std::string &when = kernel.recipe.when;
  when = when.empty() ? condition : "(" + when + ") * (" + condition + ")";
}

/// The kernel, not launched where decode kernels are.
inline void leaveDecode(const SelectionPlan &plan, BuiltKernel &kernel) {
  if (plan.keepsRows())
    launchWhen(kernel, "1 - " + decodes());
}

/// The kernel of a selection, not launched where the host knows every sequence to be dense.
inline void leaveDense(const KernelPlan &plan, BuiltKernel &kernel) {
  if (plan.crossing && !attends(kernel.recipe) && !isBackward(kernel.recipe) &&
      kernel.recipe.step != "append")
    launchWhen(kernel, "max_k >= dense_length");
}

/// The builders append tile.kernel ops to `module`.
std::vector<BuiltKernel> buildSummarize(mlir::ModuleOp module, const SelectionPlan &plan,
                                        const ScorePlan &scores);
/// The rows of new keys, of summaries that the host keeps; of paged programs.
BuiltKernel buildAppend(mlir::ModuleOp module, const SelectionPlan &plan);
/// Chooses the tokens of a block of threads that fit the target. Error: Unsupported, where `config`
/// asks for more.
Result<BuiltKernel> buildScore(mlir::ModuleOp module, const SelectionPlan &plan,
                               const ScorePlan &scores, const Target &target, const Config &config);
/// The same on warpgroups: persistent, with a producer and three consumers. Appends the tensor map
/// of the queries to `maps`. `selects`: the fused kernel, which selects from the scores too.
BuiltKernel buildScoreWarpgroups(mlir::ModuleOp module, const SelectionPlan &plan,
                                 const ScorePlan &scores, std::vector<TensorMapRecipe> &maps,
                                 bool selects);
/// The scores of a few tokens per sequence against summaries that the host keeps, of paged
/// programs: weigh for methods with softmax scores, else score_decode.
BuiltKernel buildScoreDecode(mlir::ModuleOp module, const SelectionPlan &plan,
                             const ScorePlan &scores, const Target &target);
BuiltKernel buildWeigh(mlir::ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores,
                       const Target &target);
/// Room for what weigh writes of a token's normalisers, a formula.
std::string partSumsBytes(const SelectionPlan &plan);
/// Top-k over fp32 scores, and over 16-bit ranks.
std::vector<BuiltKernel> buildTopK(mlir::ModuleOp module, const SelectionPlan &plan,
                                   const ScorePlan &scores);
std::vector<BuiltKernel> buildTopKRanks(mlir::ModuleOp module, const SelectionPlan &plan,
                                        const ScorePlan &scores);
/// The whole selection of a decode step by clusters, of plans and targets that have them
/// (ScorePlan::clusters), in the place of weigh and top_k. Launched where the variable "cluster",
/// whose formula clusterBlocks is, is not 0.
BuiltKernel buildSelectDecode(mlir::ModuleOp module, const SelectionPlan &plan,
                              const ScorePlan &scores);
std::string clusterBlocks(const SelectionPlan &plan, const Config &config);
/// What the kernel does where `config` leaves it open.
void chooseDecode(Config &config);
/// Whether that kernel serves the plan.
bool selectsInOneKernel(const SelectionPlan &plan, const ScorePlan &scores);
/// Selection by the logarithms of scores, for the rows that the top-k kernels mark; of methods with
/// softmax scores. Of kept summaries (ScorePlan::kept) it is called rescore_decode.
BuiltKernel buildRescore(mlir::ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores);
/// Its blocks of threads, a formula; each has room for the octaves of one row.
std::string rescoreBlocks(const SelectionPlan &plan);
/// The selection where forced blocks fill the budget, of rows of any length.
BuiltKernel buildForced(mlir::ModuleOp module, const SelectionPlan &plan);
/// Attention on warpgroups; chosen where the target has their products and bulk copies. Appends the
/// tensor maps that the kernel reads to `maps`.
Result<BuiltKernel> buildAttendWarpgroups(mlir::ModuleOp module, const AttendPlan &plan,
                                          const Target &target, Config config,
                                          std::vector<TensorMapRecipe> &maps);
/// Chooses warps, ring stages, key tiles and list sizes that fit the target. Error: Unsupported,
/// where what `config` asks for does not fit.
Result<BuiltKernel> buildAttend(mlir::ModuleOp module, const AttendPlan &plan, const Target &target,
                                Config config, llvm::StringRef name = "attend");

/// Attention for batches of at most kDecodeTokens query tokens per sequence, of paged programs: one
/// token of a block of threads, and where a batch is small several blocks for each token, which a
/// second kernel joins. Appends their buffers and the number of parts to `image`. Error:
/// Unsupported, where what `config` asks for does not fit.
Result<std::vector<BuiltKernel>> buildAttendDecode(mlir::ModuleOp module, const AttendPlan &plan,
                                                   const Target &target, Config config,
                                                   ProgramImage &image,
                                                   const std::string &stepRows = "");
/// The kernels of gradients (kernels/backward/Backward.h), as image.config has them. Appends their
/// buffers to `image`. Error: Unsupported, where rows, or what the config asks for, do not fit.
Result<std::vector<BuiltKernel>> buildBackward(mlir::ModuleOp module, const BackwardPlan &plan,
                                               const Target &target, ProgramImage &image);
/// Most parts of a token's selected blocks, at decode.
int selectedParts(const KernelPlan &plan);

} // namespace winnow
