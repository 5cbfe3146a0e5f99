// Texts of specs, as cache keys, tuned records and workers hold them.
#include "runtime/program/Spec.h"
#include "tests/fuzz/Fuzz.h"

using namespace winnow;
using namespace winnow::fuzz;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Result<Spec> spec = Spec::parse(std::string(textOf(data, size)));
  if (!spec)
    return 0;
  countAccepted();
  const std::string text = spec->text();
  Result<Spec> again = Spec::parse(text);
  require(again.has_value(), "the text of a spec can be read");
  require(again->text() == text, "what was read prints the same text");
  require(again->params == spec->params, "parameters survive the text");
  (void)spec->group();
  return 0;
}
