// The candidates of one phase of one program: which configurations a sweep tries. Legal by
// construction: a candidate is lowered first, by the same planner that builds the kernels, so what
// exceeds shared memory or registers never reaches the compiler or the GPU (fault F18); and two
// configurations that give the same code count once.
#pragma once
#include "runtime/program/ProgramImage.h"
#include "runtime/program/Tunables.h"
#include <functional>
#include <string>
#include <vector>

namespace winnow {

/// How much is tried. Quick: the default and whatever differs from it in one tunable. Full: in up
/// to two. Exhaustive: every combination.
enum class Effort { Quick, Full, Exhaustive };
const char *name(Effort effort);
Result<Effort> parseEffort(const std::string &text);

/// A tunable and the values to try, besides 0 for the default.
struct TunableRange {
  const Tunable *tunable;
  std::vector<int> values; ///< ascending
};
/// Every tunable with the values that are worth trying.
std::vector<TunableRange> tunableRanges();
/// Those of a phase.
std::vector<TunableRange> phaseRanges(const std::vector<TunableRange> &ranges,
                                      const std::string &phase);

/// Lowers a configuration to kernels without compiling them (milliseconds): the image has sources
/// and resources, no cubins. Errors: Usage or Unsupported where no kernel can be built with it.
using LowerCandidate = std::function<Result<ProgramImage>(const Config &config)>;

struct Candidate {
  Config config;               ///< as tried: 0 where the default is meant
  Config effective;            ///< with the defaults that the compiler filled in
  std::vector<Kernel> kernels; ///< the phase's, as lowered
  std::string scoreStride, chunkTokens, parts, cluster; ///< formulas of the image
};

struct SearchSpace {
  std::vector<Candidate> candidates; ///< the default first, always (fault F41)
  struct Pruned {
    Config config;
    std::string reason;
  };
  std::vector<Pruned> pruned; ///< refused by the planner
  int duplicates = 0;         ///< gave the code of another candidate
};

/// The kernels of a phase, by tunedPhase(); of decode all.
std::vector<Kernel> phaseKernels(const ProgramImage &image, const std::string &phase);

/// A phase of a lowered image.
Candidate candidateOf(const Config &config, const ProgramImage &image, const std::string &phase);

/// Error: lower's, where even the default has no kernel.
Result<SearchSpace> makeSearchSpace(const std::string &phase, Effort effort,
                                    const std::vector<TunableRange> &ranges,
                                    const LowerCandidate &lower);

/// The tunables whose value in `best` is the first or last of those that were tried with success,
/// where more than two were: the optimum may lie outside (fault F28).
std::vector<std::string> edgesOf(const Config &best, const std::vector<TunableRange> &ranges,
                                 const std::vector<Candidate> &candidates);

} // namespace winnow
