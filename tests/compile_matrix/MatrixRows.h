// The specs of the compile matrix: every served number of every dimension, in few rows. One table
// for all tests that go over programs: those that compile them, those that look at what is printed
// and at how it is launched.
#pragma once
#include "runtime/program/Spec.h"
#include <map>
#include <string>
#include <vector>

namespace winnow {

struct MatrixRow {
  const char *method;
  int heads, kvHeads, headDim, block, topk;
  Dtype dtype;
  std::map<std::string, std::string> params;
  int valueDim = 0; ///< 0: headDim
};

const std::vector<MatrixRow> &matrixRows();
Spec specOf(const MatrixRow &row);

} // namespace winnow
