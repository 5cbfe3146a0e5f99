// The programs of the compile matrix, lowered and not compiled: every spec of its rows with every
// built-in method, and tuned forms, for each architecture. Lowered once per process, for the tests
// that look at texts and at recipes.
#pragma once
#include "compiler/driver/Compile.h"
#include <string>
#include <vector>

namespace winnow {

struct MatrixProgram {
  CompileRequest request;
  std::string refusal; ///< why there is no program; empty where there is one
  ProgramImage image;  ///< with the kernels' texts, without cubins

  /// One line that says which program this is: architecture, method, spec and set tunables.
  std::string title() const;
};

const std::vector<MatrixProgram> &matrixPrograms();
/// A few programs of paged tensors with fp8 keys, for the same architectures: for their texts
/// alone, since their recipes depend on more than the rules of packed ones.
std::vector<MatrixProgram> fp8Programs();

} // namespace winnow
