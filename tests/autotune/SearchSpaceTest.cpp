// Search spaces on a planner made for the test: legal, without duplicates, default first, and
// larger with more effort.
#include "autotune/search/SearchSpace.h"
#include <fmt/format.h>
#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <set>

namespace winnow {
namespace {

std::vector<TunableRange> ranges() {
  return {{findTunable("attend_warps"), {4, 8, 16}},
          {findTunable("attend_stages"), {2, 3, 4, 5}},
          {findTunable("attend_fma"), {1, 2}}};
}

/// Default 8 warps and 3 stages; warps x stages is limited by shared memory; attend_fma means
/// nothing here.
Result<ProgramImage> lower(const Config &config) {
  ProgramImage image;
  image.config = config;
  int warps = image.config.attendWarps = config.attendWarps ? config.attendWarps : 8;
  int stages = image.config.attendStages = config.attendStages ? config.attendStages : 3;
  if (warps * stages > 32)
    return fail(ErrorKind::Unsupported,
                fmt::format("{} stages of {} warps need too much shared memory", stages, warps));
  Kernel kernel;
  kernel.step = "attend";
  kernel.source = fmt::format("warps {} stages {}", warps, stages);
  image.kernels = {kernel};
  kernel.step = "score";
  image.kernels.push_back(kernel);
  return image;
}

TEST(SearchSpace, F41TheDefaultIsTheFirstCandidate) {
  for (Effort effort : {Effort::Quick, Effort::Full, Effort::Exhaustive}) {
    auto space = makeSearchSpace("attend", effort, ranges(), lower);
    ASSERT_TRUE(space);
    EXPECT_EQ(space->candidates[0].config.text(), Config().text());
    EXPECT_EQ(space->candidates[0].effective.attendWarps, 8);
    EXPECT_EQ(space->candidates[0].kernels.size(), 1u);
  }
}

TEST(SearchSpace, F18WhatDoesNotFitIsPrunedWithItsReason) {
  auto space = makeSearchSpace("attend", Effort::Quick, ranges(), lower);
  ASSERT_TRUE(space);
  // 4 warps; 2, 4 stages; the default's own values and attend_fma give the default's code; 16 warps
  // and 5 stages do not fit.
  EXPECT_EQ(space->candidates.size(), 4u);
  ASSERT_EQ(space->pruned.size(), 2u);
  EXPECT_NE(space->pruned[0].reason.find("shared memory"), std::string::npos);
  EXPECT_EQ(space->duplicates, 4);
}

TEST(SearchSpace, F28CandidatesAreTheSameOnlyWhereEverythingThatRunsIs) {
  // Each value of a tunable changes one thing of the image, and nothing else.
  const std::vector<std::pair<const char *, std::function<void(ProgramImage &)>>> changes = {
      {"source", [](ProgramImage &image) { image.kernels[0].source += " "; }},
      {"grid x", [](ProgramImage &image) { image.kernels[0].gridX = "2"; }},
      {"grid y", [](ProgramImage &image) { image.kernels[0].gridY = "2"; }},
      {"threads", [](ProgramImage &image) { image.kernels[0].blockThreads = 64; }},
      {"shared memory", [](ProgramImage &image) { image.kernels[0].sharedBytes = 64; }},
      {"chunks", [](ProgramImage &image) { image.kernels[0].perChunk = true; }},
      {"score stride", [](ProgramImage &image) { image.scoreStride = "2"; }},
      {"chunk tokens", [](ProgramImage &image) { image.chunkTokens = "2"; }},
      {"parts", [](ProgramImage &image) { image.parts = "2"; }},
      {"clusters", [](ProgramImage &image) { image.cluster = "2"; }}};
  auto changeOf = [](const Config &config) {
    return config.scoreTokens + config.attendKeys + config.decodeStages + config.backwardKeyStages;
  };
  const std::map<std::string, std::pair<const char *, const char *>> phases = {
      {"select", {"score", "score_tokens"}},
      {"attend", {"attend", "attend_keys"}},
      {kDecodePhase, {"attend", "decode_stages"}},
      {kBackwardPhase, {"backward", "backward_key_stages"}}};
  for (const auto &[phase, own] : phases) {
    const auto &[step, tunable] = own;
    int field = 0;
    auto lowerOne = [&](const Config &config) -> Result<ProgramImage> {
      ProgramImage image;
      image.config = config;
      Kernel kernel;
      kernel.step = step;
      kernel.gridX = kernel.gridY = "1";
      image.kernels = {kernel};
      image.scoreStride = image.chunkTokens = "1";
      if (int change = changeOf(config); change > 0)
        changes[change - 1].second(image);
      return image;
    };
    std::vector<TunableRange> one = {{findTunable(tunable), {}}};
    for (size_t i = 1; i <= changes.size(); ++i)
      one[0].values.push_back(static_cast<int>(i));
    auto space = makeSearchSpace(phase, Effort::Quick, one, lowerOne);
    ASSERT_TRUE(space);
    std::set<int> found;
    for (const Candidate &candidate : space->candidates)
      found.insert(changeOf(candidate.config));
    for (const auto &[what, change] : changes) {
      ++field;
      // What a kernel is, then what is the selection's alone, and decode's and of gradients.
      const bool counts =
          field <= 6 ||
          (field <= 8 ? phase == "select" : phase == kDecodePhase || phase == kBackwardPhase);
      EXPECT_EQ(found.count(field) > 0, counts) << phase << ": " << what;
    }
  }
}

TEST(SearchSpace, FullCombinesPairsAndFindsWhatOnlyFitsTogether) {
  auto space = makeSearchSpace("attend", Effort::Full, ranges(), lower);
  ASSERT_TRUE(space);
  bool found = false;
  for (const Candidate &candidate : space->candidates)
    found |= candidate.effective.attendWarps == 16 && candidate.effective.attendStages == 2;
  EXPECT_TRUE(found);
  auto all = makeSearchSpace("attend", Effort::Exhaustive, ranges(), lower);
  ASSERT_TRUE(all);
  EXPECT_EQ(all->candidates.size(), 4u + 3u + 1u); // 4 warps x 4 stages, 8 x {2,3,4}, 16 x 2
}

TEST(SearchSpace, ADefaultWithoutAKernelIsTheError) {
  auto space = makeSearchSpace("attend", Effort::Quick, ranges(),
                               [](const Config &) -> Result<ProgramImage> {
                                 return fail(ErrorKind::Unsupported, "no kernel of 7 elements");
                               });
  ASSERT_FALSE(space);
  EXPECT_EQ(space.error().message, "no kernel of 7 elements");
}

TEST(SearchSpace, F28ABestValueAtTheEndOfItsRangeIsAnEdge) {
  auto space = makeSearchSpace("attend", Effort::Exhaustive, ranges(), lower);
  ASSERT_TRUE(space);
  Config best;
  best.attendStages = 5;
  best.attendWarps = 4;
  auto edges = edgesOf(best, ranges(), space->candidates);
  EXPECT_EQ(edges, (std::vector<std::string>{"attend_warps", "attend_stages"}));
  best.attendStages = 2; // the lower end
  EXPECT_EQ(edgesOf(best, ranges(), space->candidates), edges);
  best.attendStages = 4;
  best.attendWarps = 0;
  EXPECT_TRUE(edgesOf(best, ranges(), space->candidates).empty());
}

} // namespace
} // namespace winnow
