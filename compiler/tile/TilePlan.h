// What the tile builders need to know of a fused, specialised method: plain numbers and the method's regions, no names.
// Made from the select dialect by planTiles; one struct, so that no builder looks at select ops twice.
#pragma once
#include "dialect/Tile.h"
#include "runtime/ProgramImage.h"
#include "runtime/Target.h"
#include <string>
#include <vector>

namespace winnow {

enum class Reduction { Sum, Max };

struct TilePlan {
  std::string method;    ///< for the title of the printed kernels only
  int heads = 0, kvHeads = 0, headDim = 0, block = 0, topk = 0;
  mlir::Type element;    ///< bf16 or f16
  double scale = 0;      ///< softmax scale
  int group = 0;         ///< query heads that share one selection: heads / kvHeads, or 1 for one selection per head
  int denseLength = -1;  ///< shorter sequences attend to every key; -1: none

  struct Summary {
    int window = 0, stride = 0; ///< keys
  };
  std::vector<Summary> summaries; ///< in the order of the workspace buffers that hold them
  int fine = -1;                  ///< index of the scored summary; -1: the method selects nothing
  int normalizer = -1;            ///< index of the summary of the log-sum-exp; -1: raw scores
  bool visibleBySegment = false;  ///< the published kernel's rule instead of the absolute one
  Reduction combine = Reduction::Sum, pool = Reduction::Max;
  int init = 0, local = 0;        ///< forced blocks; local counts the query's own
  mlir::Region *scoreHook = nullptr, *logitHook = nullptr;

  bool selects() const { return fine >= 0; }
  int selectHeads() const { return heads / group; }
  int rowsPerBlock() const { return block / summaries[fine].stride; }
  int pad() const { return summaries[fine].window / summaries[fine].stride - 1; }
  int scoreBuffer() const { return static_cast<int>(summaries.size()); }
};

/// A built kernel with its part of the launch recipe: grid and condition as formulas.
struct BuiltKernel {
  tile::KernelOp op;
  Kernel recipe;
};

/// The builders append tile.kernel ops to `module`: one thread of control, no barriers, no stages, no offsets.
std::vector<BuiltKernel> buildSummarize(mlir::ModuleOp module, const TilePlan &plan);
BuiltKernel buildScore(mlir::ModuleOp module, const TilePlan &plan);
std::vector<BuiltKernel> buildTopK(mlir::ModuleOp module, const TilePlan &plan);
/// Chooses ring stages and list sizes that fit the target; `config` holds the choices on exit.
BuiltKernel buildAttend(mlir::ModuleOp module, const TilePlan &plan, const Target &target, Config &config);

} // namespace winnow
