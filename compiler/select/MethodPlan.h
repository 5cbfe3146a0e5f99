// A fused, specialised method as plain numbers and regions: what the tile builders and the CPU
// target need to know. Made from the select dialect once, so that nobody looks at select ops twice;
// no method's name has a meaning here.
#pragma once
#include "dialect/select/Select.h"
#include "runtime/program/Spec.h"
#include <string>
#include <vector>

namespace winnow {

enum class Reduction { Sum, Max };
/// Overlap: a sum that counts each row as often as its window shares a stride with the block.
enum class Pooling { Sum, Max, Overlap };

struct MethodPlan {
  std::string method; ///< for the title of the printed kernels only
  int heads = 0, kvHeads = 0, headDim = 0, valueDim = 0, block = 0, topk = 0;
  mlir::Type element; ///< bf16 or f16
  double scale = 0;   ///< softmax scale
  int group =
      0; ///< query heads that share one selection: heads / kvHeads, or 1 for one selection per head
  int denseLength = -1; ///< shorter sequences attend to every key; -1: none

  struct Summary {
    int window = 0, stride = 0; ///< keys
  };
  /// In the order of the workspace buffers that hold them; none where forced blocks fill the
  /// budget.
  std::vector<Summary> summaries;
  bool selective = false;        ///< attention to some blocks, not to all keys
  int fine = -1;                 ///< index of the scored summary; -1: no block is chosen by score
  int normalizer = -1;           ///< index of the summary of the log-sum-exp; -1: raw scores
  bool visibleBySegment = false; ///< the published kernel's rule instead of the absolute one
  Reduction combine = Reduction::Sum;
  Pooling pool = Pooling::Max;
  int init = 0, local = 0; ///< forced blocks; local counts the query's own
  mlir::Region *scoreHook = nullptr, *logitHook = nullptr;

  bool selects() const { return selective; }
  bool scores() const { return fine >= 0; }
  int selectHeads() const { return heads / group; }
  int rowsPerBlock() const { return block / summaries[fine].stride; }
  int pad() const { return summaries[fine].window / summaries[fine].stride - 1; }
  int scoreBuffer() const { return static_cast<int>(summaries.size()); }
};

/// Reads the plan off a specialised method, fused or not. Errors (Usage, Unsupported) carry the
/// location in the method's text: a method that is no chain of known steps, or numbers outside what
/// the kernels serve.
Result<MethodPlan> planMethod(select::MethodOp method);

} // namespace winnow
