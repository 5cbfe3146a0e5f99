// Golden files: the compiler's output as it was reviewed. `compiler_tests --update-goldens`, which
// is what `make goldens` runs, rewrites them.
#pragma once
#include <string>

namespace winnow {

/// Whether this run rewrites the files before it compares.
bool updatesGoldens();
/// The content of goldens/`file`; empty where there is none.
std::string goldenText(const std::string &file);
void writeGolden(const std::string &file, const std::string &text);
/// Expects `text` to be the content of goldens/`file`, or writes it. `what`: its name in a failure.
void expectGolden(const std::string &file, const std::string &text, const char *what);

} // namespace winnow
