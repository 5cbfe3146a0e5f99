// Formulas of launch recipes. The first byte is the last variable that is known, 8 bytes each are
// the values of the variables, the rest is the text.
#include "runtime/program/Formula.h"
#include "runtime/cache/LittleEndian.h"
#include "tests/fuzz/Fuzz.h"

using namespace winnow;
using namespace winnow::fuzz;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  constexpr size_t kNumbers = 1 + 8 * kVariableCount;
  if (size < kNumbers)
    return 0;
  std::string_view input = textOf(data, size), text = input.substr(kNumbers);
  auto lastKnown = static_cast<Variable>(data[0] % kVariableCount);
  Variables variables;
  for (int i = 0; i < kVariableCount; ++i)
    variables[static_cast<Variable>(i)] =
        static_cast<int64_t>(readNumber(input, 1 + 8 * static_cast<size_t>(i), 8));

  Result<Formula> formula = Formula::parse(text, lastKnown);
  if (!formula)
    return 0;
  require(formula->text() == text, "a formula keeps its text");
  Result<int64_t> value = formula->evaluate(variables);
  // More variables change nothing, and neither do brackets, where the nesting leaves room for them.
  Result<Formula> wider = Formula::parse(text, Variable::TokenCount);
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
