// Candidates by number of changes from the default. Tunables that change nothing for this program
// on this target are found out by trying each value alone, and left out of combinations.
#include "autotune/search/SearchSpace.h"
#include <algorithm>
#include <fmt/format.h>
#include <set>

namespace winnow {

namespace {

/// Collects candidates; lowers each configuration once.
class SpaceBuilder {
public:
  SpaceBuilder(const std::string &phase, const LowerCandidate &lower)
      : phase(phase), lower(lower) {}

  /// Whether `config` gives new code. Errors: lower's.
  Result<bool> add(const Config &config) {
    if (!seen.insert(config.text()).second)
      return false;
    WINNOW_TRY(ProgramImage image, lower(config));
    Candidate candidate = candidateOf(config, image, phase);
    if (!codes.insert(identity(candidate)).second) {
      space.duplicates++;
      return false;
    }
    space.candidates.push_back(std::move(candidate));
    return true;
  }

  void addOrPrune(const Config &config) {
    if (Result<bool> added = add(config); !added)
      space.pruned.push_back({config, added.error().message});
  }

  SearchSpace space;

private:
  /// Everything that decides how the phase runs.
  std::string identity(const Candidate &candidate) const {
    std::string text;
    for (const Kernel &k : candidate.kernels)
      text += fmt::format("{}\n{} {} {} {} {}\n", k.source, k.gridX, k.gridY, k.blockThreads,
                          k.sharedBytes, k.perChunk);
    if (phase == "select")
      text += candidate.scoreStride + "\n" + candidate.chunkTokens;
    if (phase == kDecodePhase || phase == kBackwardPhase)
      text += candidate.parts + "\n" + candidate.cluster;
    return text;
  }

  const std::string &phase;
  const LowerCandidate &lower;
  std::set<std::string> seen, codes;
};

} // namespace

const char *name(Effort effort) {
  return effort == Effort::Quick ? "quick" : effort == Effort::Full ? "full" : "exhaustive";
}

Result<Effort> parseEffort(const std::string &text) {
  for (Effort effort : {Effort::Quick, Effort::Full, Effort::Exhaustive})
    if (text == name(effort))
      return effort;
  return fail(ErrorKind::Usage,
              fmt::format("space '{}' is not known; use quick, full or exhaustive", text));
}

std::vector<TunableRange> tunableRanges() {
  std::vector<TunableRange> ranges;
  for (const Tunable &tunable : tunables())
    ranges.push_back({&tunable, tunable.searched});
  return ranges;
}

std::vector<TunableRange> phaseRanges(const std::vector<TunableRange> &ranges,
                                      const std::string &phase) {
  std::vector<TunableRange> own;
  for (const TunableRange &range : ranges)
    if (range.tunable->phase == phase)
      own.push_back(range);
  return own;
}

std::vector<Kernel> phaseKernels(const ProgramImage &image, const std::string &phase) {
  std::vector<Kernel> kernels;
  for (const Kernel &kernel : image.kernels)
    if (phase == kDecodePhase || tunedPhase(kernel) == phase)
      kernels.push_back(kernel);
  return kernels;
}

Candidate candidateOf(const Config &config, const ProgramImage &image, const std::string &phase) {
  Candidate candidate;
  candidate.config = config, candidate.effective = image.config;
  candidate.kernels = phaseKernels(image, phase);
  candidate.scoreStride = image.scoreStride;
  candidate.chunkTokens = image.chunkTokens;
  candidate.parts = image.parts;
  candidate.cluster = image.cluster;
  return candidate;
}

Result<SearchSpace> makeSearchSpace(const std::string &phase, Effort effort,
                                    const std::vector<TunableRange> &ranges,
                                    const LowerCandidate &lower) {
  SpaceBuilder builder(phase, lower);
  if (Result<bool> added = builder.add(Config()); !added)
    return tl::unexpected(added.error());

  // One change. A value that is refused alone may be legal beside another one (fewer warps, more
  // stages), so a tunable counts as inert only where every value gives the default's code.
  std::vector<TunableRange> active;
  for (const TunableRange &range : ranges) {
    TunableRange kept{range.tunable, {}};
    bool differs = false;
    for (int value : range.values) {
      Config config;
      range.tunable->set(config, value);
      Result<bool> added = builder.add(config);
      if (!added)
        builder.space.pruned.push_back({config, added.error().message});
      differs |= !added || *added;
      if (!added || *added)
        kept.values.push_back(value);
    }
    bool anyBuilt =
        std::any_of(builder.space.candidates.begin(), builder.space.candidates.end(),
                    [&](const Candidate &c) { return range.tunable->get(c.config) != 0; });
    if (differs && (anyBuilt || effort == Effort::Exhaustive))
      active.push_back(std::move(kept));
  }
  if (effort == Effort::Quick)
    return std::move(builder.space);

  // Combinations, those with fewer changes first.
  size_t changes = effort == Effort::Full ? 2 : active.size();
  std::vector<std::pair<Config, size_t>> grown{
      {Config(), 0}}; // with the next tunable that may change
  for (size_t count = 0; count < changes; ++count) {
    std::vector<std::pair<Config, size_t>> next;
    for (const auto &[base, first] : grown)
      for (size_t i = first; i < active.size(); ++i)
        for (int value : active[i].values) {
          Config config = base;
          active[i].tunable->set(config, value);
          builder.addOrPrune(config);
          next.emplace_back(config, i + 1);
        }
    grown = std::move(next);
  }
  return std::move(builder.space);
}

std::vector<std::string> edgesOf(const Config &best, const std::vector<TunableRange> &ranges,
                                 const std::vector<Candidate> &candidates) {
  std::vector<std::string> edges;
  auto chosen = std::find_if(candidates.begin(), candidates.end(),
                             [&](const Candidate &c) { return c.config.text() == best.text(); });
  if (chosen == candidates.end())
    return edges;
  for (const TunableRange &range : ranges) {
    int value = range.tunable->get(chosen->effective);
    std::set<int> built;
    for (const Candidate &candidate : candidates)
      if (int tried = range.tunable->get(candidate.effective))
        built.insert(tried);
    if (range.tunable->isOrdered() && built.size() > 2 &&
        (value == *built.begin() || value == *built.rbegin()))
      edges.emplace_back(range.tunable->name);
  }
  return edges;
}

} // namespace winnow
