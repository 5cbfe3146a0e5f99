// What the tunables of gradients change: the kernel that they belong to and nothing else, the
// number of ranges, and what is refused because it does not fit.
#include "compiler/driver/Compile.h"
#include "runtime/tuned/TunedLadder.h"
#include "tests/compiler/LaunchShape.h"
#include <gtest/gtest.h>

using namespace winnow;

namespace {

Result<ProgramImage> lowered(const std::string &config, const char *arch = "sm_80",
                             bool backward = true) {
  CompileRequest request;
  request.method = "infllm_v2";
  request.arch = arch;
  request.spec.backward = backward;
  request.config = *Config::parse(config);
  auto result = lowerProgram(request);
  if (!result)
    return tl::unexpected(result.error());
  return std::move(result->first);
}

const Kernel &kernelOf(const ProgramImage &image, const std::string &name) {
  for (const Kernel &kernel : image.kernels)
    if (kernel.name == name)
      return kernel;
  ADD_FAILURE() << "no kernel " << name;
  return image.kernels.front();
}

int64_t rangesOf(const std::string &config, int tokens) {
  Result<ProgramImage> image = lowered(config);
  EXPECT_TRUE(image) << image.error().message;
  return shapeOf(*image, 1, tokens, tokens)[Variable::Parts];
}

TEST(BackwardTunables, AnImageSaysWhatWasChosen) {
  const Result<ProgramImage> image = lowered("");
  ASSERT_TRUE(image) << image.error().message;
  const Config &config = image->config;
  EXPECT_EQ(config.backwardQueryWarps, 4);
  EXPECT_EQ(config.backwardQueryKeys, 32);
  EXPECT_EQ(config.backwardKeyRows, 32);
  EXPECT_EQ(config.backwardTileKeys, 64);
  EXPECT_EQ(config.backwardKeyStages, 4);
  EXPECT_EQ(config.backwardRangeTokens, 16384);
  // Facts and the choice are of one mind.
  const KernelFacts &queries = kernelOf(*image, "backward_queries").facts,
                    &keys = kernelOf(*image, "backward_keys").facts;
  EXPECT_EQ(queries.stages, config.backwardQueryStages);
  EXPECT_EQ(queries.laneRegisters, 32 + 32 + 64 + 32); // q, dO, dQ; weights and changes
  EXPECT_EQ(keys.stages, config.backwardKeyStages);
  EXPECT_EQ(keys.queryRows, 32);
  EXPECT_EQ(keys.tokens, 2); // of 16 heads
  // Whoever asks for what is the default gets the same program.
  const Result<ProgramImage> again = lowered(shortText(config));
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->config.text(), config.text());
  for (size_t i = 0; i < image->kernels.size(); ++i)
    EXPECT_EQ(again->kernels[i].source, image->kernels[i].source);
  // Programs without gradients have none of them.
  EXPECT_TRUE(isOpen(lowered("", "sm_80", /*backward=*/false)->config, kBackwardPhase));
}

TEST(BackwardTunables, EachChangesItsOwnKernelAlone) {
  const Result<ProgramImage> plain = lowered("");
  ASSERT_TRUE(plain);
  const std::pair<const char *, const char *> changes[] = {
      {"backward_query_warps=2", "backward_queries"},
      {"backward_query_stages=2", "backward_queries"},
      {"backward_query_keys=64", "backward_queries"},
      {"backward_key_stages=2", "backward_keys"},
      {"backward_key_rows=16", "backward_keys"},
      {"backward_tile_keys=32", "backward_keys"},
      {"backward_range_tokens=4096", ""}}; // the launch's alone
  for (const auto &[config, name] : changes) {
    const Result<ProgramImage> changed = lowered(config);
    ASSERT_TRUE(changed) << config << ": " << changed.error().message;
    for (size_t i = 0; i < plain->kernels.size(); ++i)
      EXPECT_EQ(changed->kernels[i].source != plain->kernels[i].source,
                plain->kernels[i].name == name)
          << config << ": " << plain->kernels[i].name;
    EXPECT_EQ(changed->parts != plain->parts, std::string(name).empty()) << config;
  }
}

TEST(BackwardTunables, RangesAreAsLongAsAskedFor) {
  EXPECT_EQ(rangesOf("", 16384), 1);
  EXPECT_EQ(rangesOf("", 16385), 2);
  EXPECT_EQ(rangesOf("", 131072), 8);
  EXPECT_EQ(rangesOf("backward_range_tokens=4096", 4096), 1);
  EXPECT_EQ(rangesOf("backward_range_tokens=4096", 20000), 5);
  EXPECT_EQ(rangesOf("backward_range_tokens=65536", 131072), 2);
  // The sums of them take 4 GiB at most: 2048 bytes of a token and range.
  EXPECT_EQ(rangesOf("backward_range_tokens=4096", 131072), 16);
  EXPECT_EQ(rangesOf("", 1 << 20), 2);
}

TEST(BackwardTunables, WhatDoesNotFitIsRefusedInWords) {
  for (const auto &[config, words] :
       {std::pair("backward_key_stages=6 backward_key_rows=64",
                  "16 keys beside 6 stages of 64 query rows"),
        std::pair("backward_query_stages=8 backward_query_keys=64",
                  "backward_query_stages=8 and backward_query_keys=64 do not fit")}) {
    const Result<ProgramImage> image = lowered(config, "sm_89");
    ASSERT_FALSE(image) << config;
    EXPECT_EQ(image.error().kind, ErrorKind::Unsupported);
    EXPECT_NE(image.error().message.find(words), std::string::npos) << image.error().message;
  }
}

} // namespace
