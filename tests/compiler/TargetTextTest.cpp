// Rows of the table of architectures whose kernels are the texts of another row: what is tested of
// that one, emulated or on a GPU, holds for them too.
#include "compiler/driver/Compile.h"
#include "tests/compile_matrix/MatrixRows.h"
#include <gtest/gtest.h>

using namespace winnow;

namespace {

/// The texts of all kernels of a row, or why there are none.
std::string textsOf(const MatrixRow &row, const std::string &arch) {
  CompileRequest request;
  request.method = row.method;
  request.spec = specOf(row);
  request.arch = arch;
  auto lowered = lowerProgram(request);
  if (!lowered)
    return lowered.error().message;
  std::string texts;
  for (const Kernel &kernel : lowered->first.kernels)
    texts += kernel.source;
  return texts;
}

TEST(TargetText, RowsOfOneLevelAndSizePrintTheSame) {
  const std::pair<const char *, const char *> alike[] = {{"sm_86", "sm_89"},
                                                         {"sm_87", "sm_80"},
                                                         {"sm_103", "sm_100"},
                                                         {"sm_120", "sm_89"},
                                                         {"sm_121", "sm_89"}};
  for (const MatrixRow &row : matrixRows())
    for (auto [arch, as] : alike)
      EXPECT_EQ(textsOf(row, arch), textsOf(row, as)) << row.method << " on " << arch;
}

} // namespace
