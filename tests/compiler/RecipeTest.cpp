// When the kernels of every program run and with which grids, against a second, plain computation:
// exactly one kernel of a step at every limit, none that is not needed, every token of a ragged
// batch exactly once. What a formula should say comes from RecipeFacts.h, not from the builders.
#include "tests/compiler/RecipeFacts.h"
#include <algorithm>
#include <regex>
#include <set>

using namespace winnow;

namespace {

using std::max;
using std::min;
#include "templates/core/sequence.cuh"

constexpr const char *kSteps[] = {"append",  "summarize", "score",   "top_k",
                                  "rescore", "attend",    "backward"};

/// Numbers of blocks at which a choice could turn: those of the tests' own, and whatever the
/// formulas compare with. Without keys there are no queries, and nothing is launched.
std::set<int64_t> blockLimits(const ProgramImage &image, const RecipeFacts &facts) {
  const int64_t longest = kLongestSequence / facts.block;
  std::set<int64_t> limits = {1,     2,     facts.topk, 512,    2048,  16384,
                              32768, 65536, longest,    131072, 262144};
  static const std::regex number(R"(\d+)");
  for (const Kernel &kernel : image.kernels)
    for (std::sregex_iterator match(kernel.when.begin(), kernel.when.end(), number), none;
         match != none; ++match)
      limits.insert(std::stoll((*match)[0]));
  std::set<int64_t> around;
  for (int64_t limit : limits)
    for (int64_t blocks : {limit - 1, limit, limit + 1})
      if (blocks > 0 && blocks <= INT32_MAX / facts.block)
        around.insert(blocks);
  return around;
}

/// Which kernels run for one sequence of `keys` keys.
std::vector<const Kernel *> running(const ProgramImage &image, const std::string &step, int keys) {
  Launch launch(image, Batch({{std::min(keys, 3), keys}}), 108);
  std::vector<const Kernel *> kernels;
  for (const Kernel &kernel : image.kernels)
    if (kernel.step == step && launch.value(kernel.when) != 0)
      kernels.push_back(&kernel);
  return kernels;
}

/// The one top_k kernel that has a row: the smallest that holds it.
void checkTopK(const ProgramImage &image, const std::vector<const Kernel *> &chosen,
               int64_t blocks) {
  ASSERT_EQ(chosen.size(), 1u);
  const int64_t capacity = capacityOf(*chosen[0]);
  EXPECT_GE(capacity, blocks) << chosen[0]->name << " does not hold the row";
  for (const Kernel &other : image.kernels)
    if (other.step == "top_k" && capacityOf(other) >= blocks)
      EXPECT_GE(capacityOf(other), capacity) << other.name << " would do";
}

void checkConditions(const ProgramImage &image, const RecipeFacts &facts, int keys) {
  SCOPED_TRACE(std::to_string(keys) + " keys");
  const int64_t blocks = facts.blocksOf(keys);
  EXPECT_EQ(running(image, "attend", keys).size(), 1u);
  EXPECT_EQ(running(image, "summarize", keys).size(), facts.summaries.size());

  const std::vector<const Kernel *> topK = running(image, "top_k", keys);
  if (!facts.selects)
    EXPECT_TRUE(topK.empty());
  else if (!facts.scores) // forced blocks alone: of rows of any length
    EXPECT_EQ(topK.size(), 1u);
  else if (keys <= kLongestSequence)
    checkTopK(image, topK, blocks);
  else // none may hold them, and the launcher refuses
    EXPECT_LE(topK.size(), 1u);

  // Where every block is selected, no score is needed, nor are scores looked at again.
  const bool chooses = facts.scores && blocks > facts.topk;
  const size_t scoring = running(image, "score", keys).size();
  const bool fused = topK.size() == 1 && topK[0]->name == "score_top_k";
  EXPECT_EQ(scoring + fused, chooses || fused ? 1u : 0u);
  EXPECT_EQ(running(image, "rescore", keys).size(), chooses && facts.softmax ? 1u : 0u);
}

TEST(Recipe, OneKernelPerStepWhereItIsNeeded) {
  forEveryProgram([](const ProgramImage &image, const RecipeFacts &facts) {
    for (int64_t blocks : blockLimits(image, facts)) {
      const int keys = static_cast<int>(blocks) * facts.block;
      checkConditions(image, facts, keys);
      // The same number of blocks, the last one with one key.
      checkConditions(image, facts, keys - facts.block + 1);
    }
  });
}

// The launcher goes through the kernels in their order, and through a run of per-chunk kernels
// chunk by chunk.
TEST(Recipe, StepsInOrder) {
  forEveryProgram([](const ProgramImage &image, const RecipeFacts &facts) {
    auto place = [](const Kernel &kernel) {
      return std::find(std::begin(kSteps), std::end(kSteps), kernel.step) - std::begin(kSteps);
    };
    std::map<std::string, size_t> kernels;
    ptrdiff_t last = 0;
    for (const Kernel &kernel : image.kernels) {
      EXPECT_GE(place(kernel), last) << kernel.name;
      EXPECT_LT(place(kernel), std::end(kSteps) - std::begin(kSteps)) << kernel.step;
      last = place(kernel);
      ++kernels[kernel.step];
      EXPECT_EQ(kernel.perChunk, kernel.step == "score" || kernel.step == "top_k") << kernel.name;
      EXPECT_EQ(kernel.perChunk, holds(kernel, "params.token_begin")) << kernel.name;
    }
    EXPECT_EQ(kernels["summarize"], facts.summaries.size());
    EXPECT_EQ(kernels["append"], image.spec.paged ? facts.summaries.size() : 0u);
    EXPECT_EQ(kernels["append"], image.summaries.size());
    EXPECT_EQ(kernels["score"], facts.scores ? 1u : 0u);
    EXPECT_EQ(kernels["rescore"], facts.scores && facts.softmax ? 1u : 0u);
    EXPECT_EQ(kernels["attend"], 1u);
    EXPECT_EQ(image.selectHeads, facts.selectHeads);
  });
}

// A block of threads is what the printed kernel was made for.
TEST(Recipe, BlocksOfThreads) {
  forEveryProgram([](const ProgramImage &image, const RecipeFacts &facts) {
    for (const Kernel &kernel : image.kernels) {
      SCOPED_TRACE(kernel.name);
      const int threads = kernel.blockThreads;
      EXPECT_TRUE(holds(kernel, "__launch_bounds__(" + std::to_string(threads) + ", "));
      EXPECT_TRUE(holds(kernel, "// Dynamic shared memory: " + std::to_string(kernel.sharedBytes) +
                                    " bytes."));
      EXPECT_LE(kernel.sharedBytes, (*findTarget(image.arch))->sharedPerBlock);
      const int tile = constantOf(kernel, "kTokens");
      if (kernel.step == "summarize" ||
          kernel.step == "append") // a thread makes 8 channels of one summary
        EXPECT_EQ(tile, threads / (facts.headDim / 8) * constantOf(kernel, "kStride"));
      if (kernel.step == "top_k" && kernel.name != "score_top_k") // a warp per row, or all of them
        EXPECT_EQ(tile * std::max(1, constantOf(kernel, "kWarps")), threads / 32);
      if (kernel.step == "rescore")
        EXPECT_EQ(constantOf(kernel, "kThreads"), threads);
      if (kernel.step == "attend") { // a warp has 16 or 32 rows, the heads of its tokens
        const Config &config = image.config;
        EXPECT_EQ(threads / 32, config.attendWarps + config.attendProducers);
        int rowTokens = 16; // the largest power of two whose heads fit 16 rows
        while (rowTokens * constantOf(kernel, "kTileHeads") > 16)
          rowTokens /= 2;
        EXPECT_EQ(tile, config.attendWarps * (config.attendRows / 16) * rowTokens);
      }
    }
  });
}

// The plain decoding of slots, which the tests below count with, is the device's.
template <int kTile> void compareSlots(const Batch &batch, int begin, int end) {
  const int slots = (end - begin) / kTile + batch.sequences();
  for (int slot = 0; slot < slots; ++slot) {
    const TokenTile tile = find_token_tile<kTile>(batch.cuQ.data(), batch.cuK.data(),
                                                  batch.sequences(), begin, end, slot);
    const TokenRun run = runOf(batch.cuQ, begin, end, kTile, slot);
    ASSERT_EQ(run.tokens, tile.tokens) << "slot " << slot << " of tiles of " << kTile;
    if (run.tokens > 0)
      ASSERT_EQ(run.row, tile.row) << "slot " << slot << " of tiles of " << kTile;
  }
}

/// Ragged batches; most tiles in question hold `tile` tokens.
std::vector<Batch> raggedBatches(int tile) {
  std::vector<std::pair<int, int>> shortOnes(70, {1, 1}), edges;
  for (int length : {tile - 1, 0, tile, 1, tile + 1, 2 * tile, 3 * tile - 1})
    edges.emplace_back(length, length);
  return {Batch({{1, 1}}),
          Batch({{0, 300}, {5, 5}, {0, 0}}),
          Batch({{0, 0}, {0, 0}, {1, 9}, {1, 1}, {0, 7}}),
          Batch({{333, 2051}, {9, 3003}}),
          Batch(shortOnes),
          Batch(edges)};
}

TEST(Recipe, SlotsAreThoseOfTheDevice) {
  for (const Batch &batch : raggedBatches(48)) {
    SCOPED_TRACE(batch.text());
    for (auto [begin, end] : {std::pair(0, batch.totalQ()), {1, batch.totalQ()}, {5, 6}, {3, 70}}) {
      if (end > batch.totalQ() || begin >= end)
        continue;
      compareSlots<1>(batch, begin, end);
      compareSlots<8>(batch, begin, end);
      compareSlots<48>(batch, begin, end);
      compareSlots<256>(batch, begin, end);
    }
  }
}

/// The grid of a kernel over rows [begin, end) of `cu`: as many slots as the rows have, for each
/// group of heads, and the slots have every row once.
void checkGrid(const Kernel &kernel, const Launch &launch, const std::vector<int> &cu, int begin,
               int end, int headGroups) {
  SCOPED_TRACE(kernel.name + " over rows " + std::to_string(begin) + " to " + std::to_string(end));
  const int tile = constantOf(kernel, "kTokens");
  ASSERT_GT(tile, 0);
  const int64_t slots = (end - begin) / tile + launch[Variable::Batch];
  const int64_t gridX = launch.value(kernel.gridX), gridY = launch.value(kernel.gridY);
  if (isPersistent(kernel)) { // takes item after item; more blocks than items would idle
    EXPECT_EQ(gridX, std::min(slots * headGroups, launch[Variable::SmCount]));
    EXPECT_EQ(gridY, 1);
    EXPECT_TRUE(holds(kernel, "items = slots * " + std::to_string(headGroups) + ";") ||
                constantOf(kernel, "kSelectHeads") == headGroups ||
                (headGroups == 1 && holds(kernel, "item < slots;")));
  } else {
    EXPECT_EQ(gridX, slots);
    EXPECT_EQ(gridY, headGroups);
  }
  // Equal questions are asked by many programs.
  static auto &known = *new std::set<std::tuple<std::vector<int>, int, int, int, int64_t>>;
  const int64_t covering = isPersistent(kernel) ? slots : gridX;
  if (known.insert({cu, begin, end, tile, covering}).second)
    EXPECT_TRUE(coverOnce(cu, begin, end, tile, covering));
}

/// Of launches of gradients: rows, tokens, key blocks or elements, each once.
void checkBackwardGrid(const Kernel &kernel, const Launch &launch, const RecipeFacts &facts,
                       const ProgramImage &image, const Batch &batch) {
  SCOPED_TRACE(kernel.name);
  const int64_t gridX = launch.value(kernel.gridX), gridY = launch.value(kernel.gridY),
                totalK = batch.totalK(), sequences = batch.sequences();
  const Spec &spec = image.spec;
  if (kernel.name == "backward_marks") {
    checkGrid(kernel, launch, batch.cuQ, 0, batch.totalQ(), facts.selectHeads);
  } else if (kernel.name == "backward_queries") {
    checkGrid(kernel, launch, batch.cuQ, 0, batch.totalQ(), facts.headTiles());
  } else if (kernel.name == "backward_rows") {
    const int64_t rows = int64_t(batch.totalQ()) * spec.heads;
    EXPECT_EQ(gridX, ceilDiv(rows, constantOf(kernel, "kRows")));
    EXPECT_EQ(gridY, 1);
  } else if (kernel.name == "backward_lists") {
    EXPECT_EQ(gridX, ceilDiv(totalK / spec.block + sequences, constantOf(kernel, "kLists")));
    EXPECT_EQ(gridY, facts.selectHeads);
  } else if (kernel.name == "backward_keys") {
    const int keys = constantOf(kernel, "kKeys");
    EXPECT_EQ(gridX, totalK / keys + sequences);
    EXPECT_EQ(gridY, spec.kvHeads * (facts.selects ? launch[Variable::Parts] : 1));
    EXPECT_TRUE(coverOnce(batch.cuK, 0, batch.totalK(), keys, gridX));
  } else {
    EXPECT_EQ(kernel.name, "backward_join");
    const int64_t fours = int64_t(spec.kvHeads) * std::max(spec.headDim, spec.valueWidth()) / 4;
    EXPECT_EQ(gridX, ceilDiv(totalK * fours, constantOf(kernel, "kThreads")));
    EXPECT_EQ(gridY, 1);
  }
}

void checkGrids(const ProgramImage &image, const RecipeFacts &facts, const Batch &batch, int sms) {
  SCOPED_TRACE(batch.text() + " on " + std::to_string(sms) + " multiprocessors");
  Launch launch(image, batch, sms);
  const int total = batch.totalQ();
  for (const Kernel &kernel : image.kernels) {
    if (kernel.step == "rescore") { // looks at kThreads rows of ids at a time
      const int64_t rows = int64_t(facts.selectHeads) * total;
      EXPECT_EQ(launch.value(kernel.gridX),
                std::min<int64_t>(sms, ceilDiv(rows, constantOf(kernel, "kThreads"))));
      EXPECT_EQ(launch.value(kernel.gridY), 1);
    } else if (isBackward(kernel)) {
      checkBackwardGrid(kernel, launch, facts, image, batch);
    } else if (kernel.step == "append") {
      checkGrid(kernel, launch, batch.cuQ, 0, total, facts.kvHeads);
    } else if (kernel.step == "summarize") {
      checkGrid(kernel, launch, batch.cuK, 0, batch.totalK(), facts.kvHeads);
    } else if (!kernel.perChunk) {
      checkGrid(kernel, launch, batch.cuQ, 0, total, facts.headTiles());
    } else {
      // The program's own chunk, and smaller ones: grids must be right for any.
      for (int64_t chunk : {launch[Variable::ChunkTokens], int64_t(100), int64_t(total + 1) / 2})
        for (int64_t begin = 0; begin < total; begin += std::max<int64_t>(1, chunk)) {
          const int end = static_cast<int>(std::min<int64_t>(begin + chunk, total));
          launch.setTokenCount(end - static_cast<int>(begin));
          checkGrid(kernel, launch, batch.cuQ, static_cast<int>(begin), end, facts.headGroups());
        }
    }
  }
}

TEST(Recipe, GridsHaveEveryTokenOnce) {
  forEveryProgram([](const ProgramImage &image, const RecipeFacts &facts) {
    for (int tile : {8, constantOf(image.kernels.back(), "kTokens")})
      for (const Batch &batch : raggedBatches(tile))
        for (int sms : {1, 132})
          checkGrids(image, facts, batch, sms);
  });
}

} // namespace
