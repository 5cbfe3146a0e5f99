// The small cases: 27 specs with every method, and every value of every tunable, on batches of a
// few hundred tokens. Small enough for the emulator, where each lane is executed; a GPU runs the
// same ones, so that the answers of both can be compared. What is served comes in from outside.
#pragma once
#include "reference/conformance/RandomCases.h"

namespace winnow {

struct SmallCases {
  std::vector<ConformanceCase> cases;
  /// Values of tunables for which no spec of the table has kernels, "attend_rows=32: why".
  std::vector<std::string> withoutKernels;
};

/// The number of specs in the table.
int smallSpecCount();

/// Cases named "small_SPEC_METHOD", "small_SPEC_METHOD_ids" (attention over adversarial ids) and
/// "small_SPEC_METHOD_TUNABLE_VALUE". A method that cannot serve a spec is an error: every spec of
/// the table is meant for every method.
Result<SmallCases> smallCases(const DrawSpace &space);

} // namespace winnow
