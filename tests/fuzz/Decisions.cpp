// The decisions that one rank exports and the others replay.
#include "runtime/tuned/Decisions.h"
#include "tests/fuzz/Fuzz.h"

using namespace winnow;
using namespace winnow::fuzz;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Result<std::vector<Decision>> decisions = parseDecisions(textOf(data, size));
  if (!decisions)
    return 0;
  countAccepted();
  std::string text;
  for (const Decision &decision : *decisions)
    text += decisionLine(decision) + "\n";
  Result<std::vector<Decision>> again = parseDecisions(text);
  require(again && again->size() == decisions->size(), "every line that was written can be read");
  std::string same;
  for (const Decision &decision : *again)
    same += decisionLine(decision) + "\n";
  require(same == text, "what was read prints the same lines");
  return 0;
}
