// The plan of a selection: of the kernels summarize, score and top_k together, since each reads
// what the one before wrote, and of the rescore kernel.
#pragma once
#include "compiler/select/plans/KernelPlan.h"
#include "runtime/program/TensorLayout.h"
#include <optional>
#include <vector>

namespace winnow {

/// The normaliser's summaries as means of `count` scored ones that lie `step` apart, one for every
/// `stride` of them.
struct NormalizerMeans {
  int count = 0, step = 0, stride = 0;
  int reach() const { return step * (count - 1); }
  /// Those that begin before the 8 scored ones in which they end.
  int open() const;
};

struct SelectionPlan : KernelPlan {
  using KernelPlan::KernelPlan;
  struct Summary {
    int window = 0, stride = 0; ///< keys
  };
  /// In the order of the workspace buffers that hold them; none where forced blocks fill the
  /// budget.
  std::vector<Summary> summaries;
  int fine = -1;                 ///< index of the scored summary; -1: no block is chosen by score
  int normalizer = -1;           ///< index of the summary of the log-sum-exp; -1: raw scores
  bool visibleBySegment = false; ///< the published kernel's rule instead of the absolute one
  Reduction combine = Reduction::Sum;
  Pooling pool = Pooling::Max;
  int init = 0, local = 0; ///< forced blocks; local counts the query's own
  mlir::Region *scoreHook = nullptr;

  bool scores() const { return fine >= 0; }
  /// Whether a host can keep the summaries as rows, which decode then works from: scored ones
  /// alone, so the normaliser's must be means of them.
  bool keepsRows() const {
    return paged && !summaries.empty() && summaries.size() <= kMostRows &&
           (normalizer < 0 || normalizerMeans());
  }
  /// Whether decode weighs heads before their normalisers are known.
  bool weighsHeads() const { return keepsRows() && normalizer >= 0; }
  /// The normaliser's summaries from the scored ones, where they reach no further than 8 back.
  std::optional<NormalizerMeans> normalizerMeans() const;
  int rowsPerBlock() const { return block / summaries[fine].stride; }
  int pad() const { return summaries[fine].window / summaries[fine].stride - 1; }
  int scoreBuffer() const { return static_cast<int>(summaries.size()); }
};

/// The plan of the selection that `attend` takes its ids from. Errors (Usage, Unsupported) carry
/// the place in the method's text: steps that are no known chain, or numbers that its kernels do
/// not serve together.
Result<SelectionPlan> planSelection(select::AttendOp attend);

} // namespace winnow
