// From how many keys on a launch selects from a sequence, of programs whose dense_len is `auto`:
// the one place where that formula is read and evaluated, for programs of both targets.
#pragma once
#include "runtime/program/Formula.h"

namespace winnow {

class DenseLength {
public:
  DenseLength() = default; ///< 0 for every launch
  /// `formula`: ProgramImage::denseLength; empty where dense_len is a number. Error: Usage, as of
  /// Formula::parse.
  static Result<DenseLength> parse(const std::string &formula);

  /// Sequences with fewer keys attend to every key in a launch of `batch` sequences with at most
  /// `maxQ` query tokens each. Error: Usage for a formula that has no value there.
  Result<int> of(int batch, int maxQ) const;

private:
  Formula formula;
};

} // namespace winnow
