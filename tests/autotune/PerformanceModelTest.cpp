// The performance model against what was measured on an H200 running kernels of the mma.sync level,
// and properties that any such model has. Kernels are given by their facts.
#include "tests/autotune/FactsNeeded.h"
#include <fmt/format.h>
#include <gtest/gtest.h>

namespace winnow {
namespace {

/// What of an attend kernel the model reads.
struct AttendSizes {
  int producers = 4, stages = 5, warps = 8, keys = 64, rowTiles = 1, topk = 96;

  Candidate candidate() const {
    Kernel kernel;
    kernel.name = kernel.step = "attend";
    kernel.when = "1";
    kernel.blockThreads = 32 * (warps + producers);
    kernel.sharedBytes = stages * keys * 512 + 2500;
    KernelFacts &facts = kernel.facts;
    facts.warps = warps;
    facts.producers = producers;
    facts.stages = stages;
    facts.tokens = warps * rowTiles;
    facts.rowTiles = rowTiles;
    facts.rowTokens = 1;
    facts.laneRegisters = attendLaneRegisters(rowTiles, 128, 128, keys);
    facts.headDim = facts.valueDim = 128;
    facts.group = 16;
    facts.topk = topk;
    facts.keys = keys;
    facts.tilesPerBlock = 64 / keys;
    facts.bitmapTiles = 16384;
    Candidate candidate;
    candidate.kernels = {kernel};
    return candidate;
  }
};

Candidate selection(bool folded, int chunkMiB = 1152) {
  Kernel score;
  score.name = score.step = "score";
  score.when = "1";
  score.blockThreads = 256;
  score.sharedBytes = 99328;
  KernelFacts &facts = score.facts;
  facts.warps = 8;
  facts.tokens = 16;
  facts.rowTiles = 8;
  facts.queryRows = 256;
  facts.laneRegisters = scoreLaneRegisters(8, 8, 128);
  facts.headDim = 128;
  facts.group = 16;
  facts.topk = 96;
  facts.local = 33;
  facts.normalizerStride = 64;
  facts.tileSummaries = 128;
  facts.blockSummaries = 4;
  facts.softmax = 1;
  facts.folded = folded;
  facts.scoreBytes = 2;
  Kernel search;
  search.name = "top_k_2048", search.step = "top_k";
  search.when = "1";
  Candidate candidate;
  candidate.kernels = {score, search};
  candidate.scoreStride = "ceil_div(max_k, 64)";
  candidate.chunkTokens = fmt::format("min(max(1, total_q), max(256, {} / (2 * score_stride)))",
                                      (int64_t(chunkMiB) << 20) / 2);
  return candidate;
}

/// MiniCPM4.1's shape on the arch of the mma.sync level with the most shared memory.
ModelWorkload workload(const char *phase, int tokens, int overlap, int topk = 96) {
  ModelWorkload w;
  w.key.phase = phase;
  w.key.spec.topk = topk;
  w.key.tokens = tokens;
  w.key.overlap = overlap;
  w.key.arch = "sm_80";
  w.init = 1, w.local = topk == 96 ? 33 : 5;
  return w;
}

const DeviceProfile &profile(const char *name) { return **findProfile(name); }

double attendMs(const AttendSizes &sizes, int overlap, int tokens = 131072,
                const DeviceProfile &gpu = profile("h200")) {
  return *predictMs(workload("attend", tokens, overlap, sizes.topk), sizes.candidate(), gpu);
}

TEST(PerformanceModel, AgreesWithMeasuredAttention) {
  struct Measured {
    AttendSizes sizes;
    int overlap, tokens;
    double ms;
  };
  AttendSizes three, five, oneProducer, pairs, few3, few5;
  three.stages = oneProducer.stages = few3.stages = 3;
  oneProducer.producers = 1;
  pairs.producers = 1, pairs.warps = 7, pairs.keys = 32, pairs.rowTiles = 2, pairs.stages = 9;
  few3.topk = few5.topk = 16;
  // 131,072 tokens: docs/performance.md's table, prototypes' ratios for one producer and 16 blocks.
  // 32,768 tokens: prototypes.
  const Measured points[] = {
      {five, 32, 131072, 39.8},       {five, 8, 131072, 43.5},
      {five, 1, 131072, 63.9},        {three, 32, 131072, 40.7},
      {three, 8, 131072, 45.9},       {three, 1, 131072, 73.6},
      {pairs, 32, 131072, 42.9},      {oneProducer, 32, 131072, 46.5},
      {oneProducer, 8, 131072, 52.8}, {oneProducer, 1, 131072, 95.3},
      {few3, 32, 131072, 8.33},       {few5, 32, 131072, 8.08},
      {three, 128, 32768, 8.96},      {five, 128, 32768, 9.02},
      {three, 32, 32768, 9.18},       {five, 32, 32768, 9.10},
      {three, 8, 32768, 9.98},        {five, 8, 32768, 9.65},
      {three, 1, 32768, 13.3},        {five, 1, 32768, 12.17},
  };
  for (const Measured &m : points)
    EXPECT_NEAR(attendMs(m.sizes, m.overlap, m.tokens) / m.ms, 1, 0.1)
        << m.tokens << " tokens, L = " << m.overlap << ", " << m.sizes.stages << " stages, "
        << m.sizes.producers << " producers";
}

TEST(PerformanceModel, AgreesWithMeasuredSelection) {
  const DeviceProfile &gpu = profile("h200");
  EXPECT_NEAR(*predictMs(workload("select", 131072, 0), selection(true), gpu), 18.85, 1.5);
  EXPECT_NEAR(*predictMs(workload("select", 32768, 0), selection(true), gpu), 1.3, 0.13);
  EXPECT_GT(*predictMs(workload("select", 131072, 0), selection(false), gpu),
            *predictMs(workload("select", 131072, 0), selection(true), gpu));
  // Small chunks cost about a tenth.
  EXPECT_NEAR(*predictMs(workload("select", 131072, 0), selection(true, 64), gpu), 20, 1.5);
}

TEST(PerformanceModel, OrdersTheAblations) {
  AttendSizes base, three, oneProducer, pairs;
  three.stages = 3;
  oneProducer.producers = 1;
  pairs.producers = 1, pairs.warps = 7, pairs.keys = 32, pairs.rowTiles = 2, pairs.stages = 9;
  EXPECT_LT(attendMs(base, 32), attendMs(pairs, 32));
  EXPECT_LT(attendMs(base, 32), attendMs(oneProducer, 32));
  EXPECT_LT(attendMs(base, 1), attendMs(three, 1));
  // Few stages matter where neighbours differ, hardly where they are alike.
  EXPECT_GT(attendMs(three, 1) / attendMs(base, 1), 1.05);
  EXPECT_LT(attendMs(three, 128) / attendMs(base, 128), 1.03);
  for (int overlap : {1, 8, 32})
    EXPECT_GT(attendMs(base, overlap), attendMs(base, overlap == 1 ? 8 : overlap * 4));
}

TEST(PerformanceModel, MoreIsNeverSlower) {
  double DeviceProfile::*const rates[] = {&DeviceProfile::clockGhz, &DeviceProfile::mmaOperations,
                                          &DeviceProfile::l2Bytes, &DeviceProfile::l2Bandwidth,
                                          &DeviceProfile::dramBandwidth};
  AttendSizes deep, shallow;
  shallow.stages = 2, shallow.producers = 1;
  for (const DeviceProfile &gpu : deviceProfiles())
    for (int overlap : {1, 32})
      for (const AttendSizes &sizes : {deep, shallow}) {
        const double before = attendMs(sizes, overlap, 131072, gpu);
        const double select = *predictMs(workload("select", 131072, 0), selection(true), gpu);
        for (double DeviceProfile::*rate : rates) {
          DeviceProfile better = gpu;
          better.*rate *= 1.3;
          EXPECT_LE(attendMs(sizes, overlap, 131072, better), before * 1.000001) << gpu.name;
          EXPECT_LE(*predictMs(workload("select", 131072, 0), selection(true), better),
                    select * 1.000001)
              << gpu.name;
        }
        DeviceProfile quicker = gpu;
        quicker.latency /= 2;
        EXPECT_LT(attendMs(sizes, overlap, 131072, quicker), before);
        DeviceProfile larger = gpu;
        larger.multiprocessors *= 2; // at the same bandwidth
        EXPECT_LT(attendMs(sizes, overlap, 131072, larger), before);
        EXPECT_LT(attendMs(sizes, overlap, 65536, gpu), before);
      }
}

TEST(PerformanceModel, TensorCoresBoundTheCardThatHasFewOfThem) {
  AttendSizes sizes;
  sizes.stages = 3;
  const DeviceProfile &gpu = profile("rtx4090");
  Result<Prediction> prediction = predict(workload("attend", 131072, 32), sizes.candidate(), gpu);
  ASSERT_TRUE(prediction);
  double most = 0, tensor = 0;
  for (const Pipe &pipe : prediction->kernels.at(0).pipes) {
    most = std::max(most, pipe.ms);
    if (std::string(pipe.name) == "tensor")
      tensor = pipe.ms;
  }
  EXPECT_EQ(tensor, most);
  // 1.289e13 useful operations at 165 TFLOP/s.
  EXPECT_GT(prediction->ms, 78);
  EXPECT_NEAR(tensor, 78, 3);
}

/// What of the kernels of gradients the model reads; numbers of a head and shape as above.
struct BackwardSizes {
  int queryStages = 4, keyStages = 4, rows = 32, tileKeys = 64, rangeTokens = 16384, topk = 96;

  Candidate candidate() const {
    AttendSizes walk;
    walk.warps = 4, walk.keys = 32, walk.stages = queryStages, walk.topk = topk;
    Candidate made = walk.candidate();
    Kernel &queries = made.kernels[0];
    queries.name = "backward_queries", queries.step = "backward";
    queries.facts.laneRegisters = queryGradientLaneRegisters(128, 128, 32);
    Kernel keys;
    keys.name = "backward_keys", keys.step = "backward", keys.when = "1";
    keys.blockThreads = 32 * 2 * (tileKeys / 16);
    keys.sharedBytes = (tileKeys + keyStages * rows) * 512;
    KernelFacts &facts = keys.facts;
    facts.warps = facts.producers = tileKeys / 16;
    facts.stages = keyStages;
    facts.tokens = rows / 16;
    facts.queryRows = rows;
    facts.headDim = facts.valueDim = 128;
    facts.group = 16;
    facts.topk = topk;
    facts.tileKeys = tileKeys;
    facts.laneRegisters = keyGradientLaneRegisters(128, 128, rows);
    made.kernels.push_back(keys);
    made.parts = fmt::format("max(1, ceil_div(max_q, {}))", rangeTokens);
    return made;
  }
};

double backwardMs(const BackwardSizes &sizes, int overlap = 32, int tokens = 131072,
                  const char *gpu = "a100") {
  return *predictMs(workload("backward", tokens, overlap, sizes.topk), sizes.candidate(),
                    profile(gpu));
}

/// Nothing was measured: properties that any model of gradients has.
TEST(PerformanceModel, OfGradientsKnowsWhatTheyWaitFor) {
  const BackwardSizes sizes;
  BackwardSizes few = sizes, ranges = sizes, small = sizes, fewStages = sizes;
  few.topk = ranges.topk = 16; // the first block's list is one block of threads' work, and most
  ranges.rangeTokens = 4096;
  small.rows = 16; // keys and values come out of shared memory twice as often
  fewStages.queryStages = fewStages.keyStages = 2;
  EXPECT_GT(backwardMs(few, 32, 16384), 1.5 * backwardMs(ranges, 32, 16384));
  EXPECT_GT(backwardMs(small), backwardMs(sizes));
  EXPECT_GE(backwardMs(fewStages), backwardMs(sizes));
  EXPECT_GT(backwardMs(sizes, 1), backwardMs(sizes, 32));
  EXPECT_GT(backwardMs(sizes, 32, 131072), 4 * backwardMs(sizes, 32, 16384));
  EXPECT_GT(backwardMs(sizes, 32, 131072, "rtx4090"), backwardMs(sizes));
  // Seven products where attention has two, of which no card's tensor cores make more.
  const double floor = 7.0 * 131072 * 96 * 64 * 32 * 128 * 2 * 0.9 / 312e9;
  // Between the default and what is a little faster the model does not choose.
  SearchSpace space;
  space.candidates = {fewStages.candidate(), sizes.candidate()};
  const double gain = 1 - backwardMs(sizes) / backwardMs(fewStages);
  const Result<ModelChoice> choice =
      choose(space, workload("backward", 131072, 32), profile("a100"));
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->index, gain > 0.1 ? 1u : 0u);
  EXPECT_TRUE(keepsDefault(kBackwardPhase, 0.91, 1));
  EXPECT_FALSE(keepsDefault(kBackwardPhase, 0.89, 1));
  EXPECT_FALSE(keepsDefault("attend", 0.91, 1));
  EXPECT_GT(backwardMs(sizes), floor);
  EXPECT_LT(backwardMs(sizes), 6 * floor);
}

TEST(PerformanceModel, RefusesWarpgroups) {
  ModelWorkload w = workload("attend", 131072, 32);
  w.key.arch = "sm_90a";
  Result<double> ms = predictMs(w, AttendSizes().candidate(), profile("h200"));
  ASSERT_FALSE(ms);
  EXPECT_EQ(ms.error().kind, ErrorKind::Unsupported);
}

TEST(PerformanceModel, TheDefaultStaysUnlessAnotherIsClearlyBetter) {
  AttendSizes base, oneProducer, three;
  oneProducer.producers = 1;
  three.stages = 3;
  const ModelWorkload alike = workload("attend", 131072, 128);
  SearchSpace space;
  space.candidates = {base.candidate(), base.candidate()};
  EXPECT_EQ(choose(space, alike, profile("h200"))->index, 0u);
  space.candidates = {three.candidate(), base.candidate()}; // faster, by less than 2 %
  ASSERT_LT(attendMs(base, 128), attendMs(three, 128));
  Result<ModelChoice> choice = choose(space, alike, profile("h200"));
  EXPECT_EQ(choice->index, 0u);
  EXPECT_EQ(choice->ms, choice->defaultMs);
  space.candidates = {oneProducer.candidate(), three.candidate(), base.candidate()};
  choice = choose(space, workload("attend", 131072, 1), profile("h200"));
  EXPECT_EQ(choice->index, 2u);
  EXPECT_LT(choice->ms, choice->defaultMs);
}

/// Data sheets count in 10^9 bytes: https://www.nvidia.com, A100 and RTX 4090; a share of that is
/// reached (DeviceProfile.cpp).
TEST(DeviceProfile, BandwidthsAreThoseOfTheDataSheets) {
  const std::tuple<const char *, double, double, double> sheets[] = {
      // name, memory GB/s that reads reach, L2 GB/s, L2 MB
      {"a100", 2039 * 0.9, 5120 * 1.41 * 0.8, 40},
      {"a100-40gb", 1555 * 0.9, 5120 * 1.41 * 0.8, 40},
      {"rtx4090", 1008 * 0.9, 5000, 72},
      {"h200", 4300, 8200, 50}};
  for (const auto &[name, memory, cache, megabytes] : sheets) {
    const DeviceProfile &gpu = profile(name);
    EXPECT_NEAR(gpu.dramBandwidth / (memory * 1e9), 1, 1e-9) << name;
    EXPECT_NEAR(gpu.l2Bandwidth / (cache * 1e9), 1, 1e-9) << name;
    EXPECT_NEAR(gpu.l2Bytes / (megabytes * 1e6), 1, 1e-9) << name;
    EXPECT_NEAR(gpu.perClock(gpu.dramBandwidth) * gpu.clockGhz * 1e9 * gpu.multiprocessors,
                gpu.dramBandwidth, gpu.dramBandwidth * 1e-9)
        << name;
    EXPECT_NEAR(gpu.milliseconds(gpu.clockGhz * 1e6), 1, 1e-9) << name;
    EXPECT_GE(gpu.launchMicros, 0.5) << name;
    EXPECT_LE(gpu.launchMicros, 10) << name;
  }
}

TEST(DeviceProfile, RatesAreThoseOfTheTargets) {
  for (const char *name : {"a100", "a100-40gb", "rtx4090"}) {
    const DeviceProfile &gpu = profile(name);
    Result<const Target *> target = gpu.target();
    ASSERT_TRUE(target);
    EXPECT_NEAR(gpu.mmaOperations * gpu.multiprocessors * gpu.clockGhz / 1e3,
                (*target)->tensorTflops, 1)
        << name;
    EXPECT_EQ(gpu.sharedPerSm - DeviceProfile::kSharedReserve, (*target)->sharedPerBlock) << name;
  }
  EXPECT_FALSE(findProfile("voodoo2"));
}

TEST(Budgets, RegistersAndOccupancy) {
  // As ptxas 13.0 limits them: nine warps are three in one quarter.
  EXPECT_EQ(threadRegisters(65536, 384), 168);
  EXPECT_EQ(threadRegisters(65536, 320), 168);
  EXPECT_EQ(threadRegisters(65536, 256), 255);
  EXPECT_EQ(threadRegisters(65536, 544), 96);
  Kernel kernel;
  kernel.blockThreads = 192;
  kernel.sharedBytes = 66768;
  EXPECT_EQ(residentBlocks(kernel, 96, *profile("a100").multiprocessor()), 2);
  EXPECT_EQ(residentBlocks(kernel, 96, *profile("rtx4090").multiprocessor()), 1);
  EXPECT_EQ(residentBlocks(kernel, 168, *profile("a100").multiprocessor()), 1);
}

TEST(PerformanceModel, NoFactHasADefault) {
  EXPECT_EQ(factsNeeded(workload("attend", 131072, 32), AttendSizes().candidate()), 14);
  EXPECT_EQ(factsNeeded(workload("select", 131072, 0), selection(true)), 15);
}

TEST(PerformanceModel, ForcedBlocksComeFromTheProgram) {
  ProgramImage program;
  program.kernels.resize(1);
  EXPECT_EQ(workloadOf(TuningKey(), program)->init, 0); // nothing is selected
  program.kernels[0].name = program.kernels[0].step = "top_k";
  Result<ModelWorkload> none = workloadOf(TuningKey(), program);
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().message.find("lacks the fact 'init'"), std::string::npos);
  program.kernels[0].facts.init = 2;
  program.kernels[0].facts.local = 3;
  EXPECT_EQ(workloadOf(TuningKey(), program)->init, 2);
  EXPECT_EQ(workloadOf(TuningKey(), program)->local, 3);
}

TEST(PerformanceModel, ForcedBlocksAloneAreWrittenNotSearchedFor) {
  Kernel forced;
  forced.name = forced.step = "top_k";
  forced.when = "1";
  forced.facts.group = 16;
  forced.facts.topk = 96;
  Candidate candidate;
  candidate.kernels = {forced};
  const ModelWorkload w = workload("select", 131072, 0);
  const double ms = *predictMs(w, candidate, profile("a100"));
  EXPECT_GT(ms, 2.0 * 131072 * 96 * 4 / profile("a100").dramBandwidth * 1000);
  EXPECT_LT(ms, *predictMs(w, selection(true), profile("a100")) / 10);
}

} // namespace
} // namespace winnow
