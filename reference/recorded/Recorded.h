// The answers that others gave (a published CUDA implementation, a reading of a paper), as test
// data: inputs are made from their seed, answers are read from .npy files. See README.md in this
// folder.
#pragma once
#include "reference/conformance/Conformance.h"
#include <string>
#include <vector>

namespace winnow {

struct RecordedCase {
  ConformanceCase test; ///< name, spec and lengths, as the runner of conformance cases takes them
  CaseInputs inputs;
  reference::Selection expected; ///< recorded ids and block scores of the recorded positions
  std::vector<float> out;        ///< [positions, heads, head_dim]
  std::vector<float> lse;        ///< [heads, positions]
};

/// The cases in `directory`. `method` runs them. Errors: Usage, naming the file that is missing or
/// not as expected.
Result<std::vector<RecordedCase>> loadRecorded(const std::string &directory,
                                               const std::string &method);

/// Runs one recorded case and compares: selections equal except ties within the bf16 storage of the
/// recorded scores; output within bf16 rounding of both sides and LSE within 1e-4 where the
/// selections are equal.
Result<CaseResult> runRecorded(const RecordedCase &recorded, const AxesReader &axes,
                               const CaseRunner &run);

} // namespace winnow
