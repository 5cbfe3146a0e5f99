// Cases of summaries that the host keeps: the keys of a batch come in chunks of any size, some of
// them drafts that are replaced, and after each launch every element of the rows must be what a
// computation from the whole sequences gives, or as it was.
#pragma once
#include "reference/conformance/Conformance.h"
#include "reference/conformance/Layout.h"

namespace winnow {

/// The table; each has a layout, and `append` set.
std::vector<ConformanceCase> appendCases();

/// The summaries that a program of the method has, where it chooses blocks by scores.
std::vector<SummaryShape> summariesOf(const reference::Method &method);

/// Appends the rows of new keys, as many for each sequence as it has queries in `problem`, and
/// returns the rows. Lengths are those of `stored`, places of packed keys those of `problem`.
using AppendRunner = std::function<Result<CaseAnswer>(const reference::Problem &problem,
                                                      const StoredTensors &stored)>;
Result<CaseResult> runAppendCase(const ConformanceCase &test, const AxesReader &axes,
                                 const AppendRunner &run);

} // namespace winnow
