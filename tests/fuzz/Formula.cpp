// Formulas of launch recipes. The first byte is the last variable that is known, then comes the
// text up to a byte 0, then 8 bytes each for the values of the variables; those that are missing
// are 0, so that a new variable leaves the seeds as they are.
#include "runtime/program/Formula.h"
#include "runtime/cache/LittleEndian.h"
#include "tests/fuzz/Fuzz.h"

using namespace winnow;
using namespace winnow::fuzz;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  auto lastKnown = static_cast<Variable>(data[0] % kVariableCount);
  std::string_view values = textOf(data + 1, size - 1), text = takePart(values, '\0');
  Variables variables;
  for (size_t i = 0; i < kVariableCount && values.size() >= 8 * (i + 1); ++i)
    variables[static_cast<Variable>(i)] = static_cast<int64_t>(readNumber(values, 8 * i, 8));

  Result<Formula> formula = Formula::parse(text, lastKnown);
  if (!formula)
    return 0;
  countAccepted();
  require(formula->text() == text, "a formula keeps its text");
  Result<int64_t> value = formula->evaluate(variables);
  // More variables change nothing, and neither do brackets, where the nesting leaves room for them.
  Result<Formula> wider = Formula::parse(text, kLastVariable);
  require(wider.has_value(), "what is legal with few variables is legal with all");
  Result<int64_t> again = wider->evaluate(variables);
  require(value.has_value() == again.has_value() && (!value || *value == *again),
          "equal texts have equal values");
  if (Result<Formula> inner = Formula::parse("(" + std::string(text) + ")", lastKnown)) {
    Result<int64_t> same = inner->evaluate(variables);
    require(value.has_value() == same.has_value() && (!value || *value == *same),
            "brackets around everything change nothing");
  }
  if (Result<Formula> less = Formula::parse(
          "(" + std::string(text) + ") - 1 < (" + std::string(text) + ")", lastKnown)) {
    Result<int64_t> smaller = less->evaluate(variables);
    require(!smaller || *smaller == 1, "a number without 1 is smaller");
  }
  return 0;
}
