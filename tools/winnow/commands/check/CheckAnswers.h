// Answers of `winnow check` kept as NumPy files, and compared with those of another device: of an
// emulated one and a GPU, or of two GPUs.
#pragma once
#include "reference/conformance/Conformance.h"
#include <string>

namespace winnow {

/// Files CASE.out.npy (like q), CASE.lse.npy ([heads, total_q]) and CASE.ids.npy ([select_heads,
/// total_q, topk]; absent for a method that selects nothing) of a folder.
class AnswerFolder {
public:
  explicit AnswerFolder(std::string path) : path(std::move(path)) {}

  /// Makes the folder if it does not exist. Usage where it cannot be made.
  Status make() const;
  Status save(const ConformanceCase &test, const CaseAnswer &answer) const;
  /// Usage where the case is not there or has another shape.
  Result<CaseAnswer> load(const ConformanceCase &test) const;

private:
  std::string fileOf(const ConformanceCase &test, const char *tensor) const;
  std::string path;
};

/// How far two answers to one case are apart.
struct AnswerDistance {
  long rows = 0;           ///< of all select heads; of all heads where nothing is selected
  long otherSelection = 0; ///< rows whose ids differ
  double output = 0;       ///< largest distance of two outputs where the ids are alike
  double lse = 0;          ///< the same of the LSE, where both are finite
  bool lseAlike = true;    ///< the LSE is infinite in the same places
  std::string text() const;
};
AnswerDistance distanceOf(const ConformanceCase &test, const CaseAnswer &a, const CaseAnswer &b);

} // namespace winnow
