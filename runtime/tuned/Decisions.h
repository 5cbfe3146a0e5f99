// The configurations that a process decided on, as text: made by one rank of a multi-GPU host and
// replayed by all of them, so that no two ranks run different kernels (fault F14).
#pragma once
#include "runtime/tuned/TunedLadder.h"

namespace winnow {

/// Raised whenever the meaning of a line changes.
inline constexpr int kDecisionSchema = 1;

/// What was decided for one request on one kind of GPU. The request's text names method, arch,
/// spec, the caller's tunables and the bucketed workload.
struct Decision {
  std::string request, device;
  Config config; ///< with the caller's tunables
  Rung select = Rung::Default, attend = Rung::Default;
  /// The request's parameters that are `auto`, with the points in its place, and where these come
  /// from; a line of a request without them does not name them.
  std::map<std::string, std::string> resolved = {};
  Rung crossing = Rung::Default;
  std::optional<Rung> decode = {};   ///< of a paged program
  std::optional<Rung> backward = {}; ///< of a program with gradients
};

/// One JSON object without line breaks, fields in a fixed order.
std::string decisionLine(const Decision &decision);
/// Reads lines of decisionLine. Unlike a tuned file, this must be whole: a process that skipped a
/// line would decide for itself. Error: Usage with the number of the first bad line.
Result<std::vector<Decision>> parseDecisions(std::string_view text);

} // namespace winnow
