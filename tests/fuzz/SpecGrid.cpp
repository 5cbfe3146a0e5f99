// Grids of specs as `winnow tune` takes them from a JSON file.
#include "tools/winnow/commands/bench/SpecGrid.h"
#include "tests/fuzz/Fuzz.h"

using namespace winnow;
using namespace winnow::fuzz;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Result<std::vector<GridEntry>> grid =
      SpecGrid::parse(std::string(textOf(data, size)), "grid.json");
  if (!grid)
    return 0;
  countAccepted();
  for (const GridEntry &entry : *grid) {
    Result<Spec> spec = Spec::parse(entry.spec.text());
    require(spec && spec->text() == entry.spec.text(), "the text of a spec means it");
    require(entry.spec.group() > 0, "heads divide into groups");
    require(!entry.tokens.empty() && !entry.overlaps.empty(), "every entry has workloads");
  }
  return 0;
}
