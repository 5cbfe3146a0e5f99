// The report of a tuned file: its figures, and the page that shows them. Whatever the texts hold,
// they add nothing that a browser takes for HTML.
#include "autotune/report/Report.h"
#include "autotune/report/ReportPage.h"
#include "tests/fuzz/Fuzz.h"
#include <algorithm>

using namespace winnow;
using namespace winnow::fuzz;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  auto tagsOf = [](const std::string &page) { return std::count(page.begin(), page.end(), '<'); };
  static const auto kTags = tagsOf(reportPage(reportFigures({}), ""));
  std::string_view text = textOf(data, size);
  const TuningLines lines = parseTuningLines(text);
  if (!lines.records.empty())
    countAccepted();
  const std::string page = reportPage(reportFigures(lines), std::string(text.substr(0, 80)));
  require(tagsOf(page) == kTags, "texts do not become HTML");
  return 0;
}
