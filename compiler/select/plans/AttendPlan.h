// The plan of an attend kernel, whose only step is select.attend.
#pragma once
#include "compiler/select/plans/SelectionPlan.h"

namespace winnow {

struct AttendPlan : KernelPlan {
  using KernelPlan::KernelPlan;
  int valueDim = 0;
  bool selective = false;  ///< attention to some blocks, not to all keys
  int headTiles = 1;       ///< tiles of `group` heads that share one selection
  int init = 0, local = 0; ///< forced blocks of its selection, as of SelectionPlan
  mlir::Region *logitHook = nullptr;

  bool selects() const { return selective; }
  /// Tokens of 16 rows: a power of two, since they are bits of a mask (row_tokens in
  /// templates/attend/attention.cuh).
  int rowTokens() const {
    int tokens = 1;
    while (2 * tokens * group <= 16)
      tokens *= 2;
    return tokens;
  }
};

/// `selection`: where its ids come from; null for attention to all keys. Error: Unsupported, for a
/// region that has not one meaning on every target.
Result<AttendPlan> planAttend(select::AttendOp attend, const SelectionPlan *selection);

} // namespace winnow
