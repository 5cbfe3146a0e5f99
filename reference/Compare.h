// Judges an implementation's answers against the fp64 reference: which picks are wrong beyond ties,
// how far the output and the LSE are off, and whether that is within the bars. Serves `winnow run
// --check`, `winnow check` and the tests.
#pragma once
#include "reference/Reference.h"
#include <string>

namespace winnow::reference {

struct SelectionReport {
  long rows = 0;  ///< rows and select heads compared
  long picks = 0; ///< selected blocks in the reference
  long ties = 0;  ///< picks that differ where scores are equal within rounding: accepted
  long wrong =
      0; ///< picks that differ beyond that, or break a rule (order, padding, forced, future)
  std::string first; ///< the first wrong pick in words; empty if none
};

/// A pick that differs is accepted where it is right within rounding for scores on the summaries as
/// the specification has them, rounded to the dtype, or on unrounded ones: an implementation may
/// round summaries that already hold the softmax scale, which errs as little but not alike.
/// Scores are equal within rounding when they differ by at most `tolerance` relative (default: one
/// step of bf16, for implementations that keep block scores in 16 bits) plus the row's slack. With
/// `strictTies`, blocks of exactly equal score must follow the tie rule (smaller id first).
SelectionReport compareSelection(const Method &method, const Problem &problem,
                                 const Selection &expected, const int32_t *ids,
                                 double tolerance = 1.0 / 256, bool strictTies = false);

/// Blocks that were selected by score, not forced, and how many of them are in `ids`.
struct FreePicks {
  long expected = 0, found = 0;
  double recall() const { return expected ? double(found) / double(expected) : 1; }
};
FreePicks countFreePicks(const Method &method, const Problem &problem, const Selection &expected,
                         const int32_t *ids);

struct OutputReport {
  double maxError = 0;   ///< largest |out - fp64|
  double plainError = 0; ///< the same of plain 16-bit arithmetic
  double excess =
      0; ///< largest |out - fp64| as a share of what 16-bit rounding explains, element by element
  double lseError = 0;  ///< largest |lse - fp64|
  double lseExcess = 0; ///< the same as a share of what fp32 logits explain (1e-4 and more where
                        ///< logits are large)
  long elements = 0;    ///< output elements compared
  long bad = 0; ///< elements that are NaN or infinite, LSEs that are finite where they must be -inf
                ///< or vice versa
  long undefined = 0; ///< rows of a head for which the method's region gives NaN or +inf: there is
                      ///< nothing to compare with, and the method is at fault
  std::string firstUndefined; ///< the first of them in words
  /// Output error at most twice that of plain arithmetic and explained by rounding at every
  /// element, LSE within its bound, nothing bad or undefined. The first is asked of 4096 elements
  /// and more.
  bool withinBars() const;
  std::string text() const; ///< one line of figures
};

/// `out` like q, `lse` [heads, total_q] (may be null).
OutputReport compareOutput(const Problem &problem, const Attention &expected, const uint16_t *out,
                           const float *lse);

/// The three gradients of one call.
struct GradientReport {
  struct Tensor {
    double maxError = 0;  ///< largest |gradient - fp64|
    double largest = 0;   ///< largest |fp64|
    double excess = 0;    ///< largest error as a share of its bound
    double rmsExcess = 0; ///< root of the errors' mean square as a share of the bounds'
    long bad = 0; ///< elements that are NaN or infinite, or not 0 where nothing was to be added
  };
  Tensor q, k, v;
  std::string first; ///< the first element outside of its bound in words; empty if none
  /// Every element within its bound and all together within half of it, nothing bad.
  bool withinBars() const;
  std::string text() const; ///< one line of figures
};

/// `dq`, `dk`, `dv` like q, k, v; of the tokens that `expected` is about alone.
GradientReport compareGradients(const Problem &problem, const Gradients &expected,
                                const uint16_t *dq, const uint16_t *dk, const uint16_t *dv);

} // namespace winnow::reference
