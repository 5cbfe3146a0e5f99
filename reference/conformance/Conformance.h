// Runs one conformance case on one implementation and judges the answers against the fp64
// reference. The implementation comes in as a function, so the CPU target, a GPU and a test double
// go through the same check.
#pragma once
#include "reference/Compare.h"
#include "reference/conformance/Case.h"
#include "runtime/program/TensorLayout.h"
#include <functional>

namespace winnow {

struct CaseAnswer {
  std::vector<uint16_t> out; ///< like q
  std::vector<float> lse;    ///< [heads, total_q]
  std::vector<int32_t>
      ids; ///< [select_heads, total_q, topk]; empty for a method that selects nothing
  std::vector<uint16_t> rows[kMostRows]; ///< StoredTensors::rows after the call
  std::vector<uint16_t> dq, dk, dv;      ///< of a case with gradients: like q, k and v
  /// Of a program whose dense_len is `auto`: what it says of this launch.
  int denseLength = -1;
};

/// Runs a case; where `test.givenIds`, attention alone over inputs.ids; where `test.backward`, then
/// the gradients of that attention for inputs.dout.
using CaseRunner =
    std::function<Result<CaseAnswer>(const ConformanceCase &test, const CaseInputs &inputs)>;
/// The axes of a method, specialised: how the reference learns what a method text means.
using AxesReader =
    std::function<Result<reference::Method>(const std::string &method, const Spec &spec)>;

struct CaseResult {
  reference::SelectionReport selection;
  reference::OutputReport output;
  reference::FreePicks free;           ///< where the case asks for a recall
  reference::GradientReport gradients; ///< where it asks for gradients
  bool passed = false;
  std::string text; ///< one line: figures, and the first fault where there is one
};

/// `tolerance`: relative distance within which block scores count as tied (see compareSelection).
/// `threads`: for the inputs and the reference, 0 = all cores.
Result<CaseResult> runCase(const ConformanceCase &test, const AxesReader &axes,
                           const CaseRunner &run, double tolerance = 1.0 / 256, int threads = 0);

} // namespace winnow
