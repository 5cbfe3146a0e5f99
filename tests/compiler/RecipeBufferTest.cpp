// The workspace, chunks and tensor maps of every program, against what the printed kernels index
// and what the documentation says of their layout (templates/select/summarize.cuh,
// summary_images.cuh, score_row.cuh, rescore.cuh, Params.h), computed a second time in plain C++.
#include "tests/compiler/RecipeFacts.h"
#include <regex>
#include <set>

using namespace winnow;

namespace {

constexpr int kImageRows = 128; // summaries of a tile image

/// Batches whose rows end before, at and behind the ends of tiles and strides, and long ones.
std::vector<Batch> batches() {
  return {Batch({{1, 1}}),
          Batch({{0, 0}, {1, 31}, {3, 2047}, {0, 0}, {5, 2049}, {9, 2048}}),
          Batch({{15, 15}, {15, 15}, {15, 15}, {1, 8191}, {0, 17}, {700, 16385}}),
          Batch(std::vector<std::pair<int, int>>(90, {1, 63})),
          Batch({{3000, 131072}}),
          Batch({{200000, 200000}, {7, 131073}}),
          Batch({{1000000, kLongestSequence}})};
}

template <class Check> void forEveryLaunch(Check check) {
  forEveryProgram([&](const ProgramImage &image, const RecipeFacts &facts) {
    for (const Batch &batch : batches())
      for (int sms : {1, 108, 132}) {
        SCOPED_TRACE(batch.text() + " on " + std::to_string(sms) + " multiprocessors");
        check(image, facts, batch, Launch(image, batch, sms));
      }
  });
}

/// Summaries lie as the rows of tile images, or one behind the other.
bool hasImages(const ProgramImage &image) {
  return holds(*findKernel(image, "summarize_0"), "images_of<");
}

const Kernel &scoreKernel(const ProgramImage &image) { return *findKernel(image, "score"); }

/// Bytes of an element of a row of block scores.
int elementBytes(const ProgramImage &image) {
  return holds(scoreKernel(image), "score_row<ScoreRank>") ? 2 : 4;
}

int64_t bytesOf(const ProgramImage &image, const Launch &launch, const std::string &name) {
  for (const Buffer &buffer : image.buffers)
    if (buffer.name == name)
      return launch.value(buffer.bytes);
  ADD_FAILURE() << "no buffer " << name;
  return 0;
}

/// Whole windows of a sequence.
int64_t rowsOf(const RecipeFacts::Summary &summary, int keys) {
  return keys < summary.window ? 0 : (keys - summary.window) / summary.stride + 1;
}

// Sequence s begins at row cu_k[s] / stride of [kv_heads, total_k / stride, head_dim], or at image
// cu_k[s] / (128 stride) + s of [kv_heads, total_k / (128 stride) + batch]: none reaches into the
// next one's, the last one not over the end.
TEST(RecipeBuffers, SummariesHaveRoomAndDoNotMeet) {
  forEveryLaunch([](const ProgramImage &image, const RecipeFacts &facts, const Batch &batch,
                    const Launch &launch) {
    for (size_t i = 0; i < facts.summaries.size(); ++i) {
      const RecipeFacts::Summary &summary = facts.summaries[i];
      const bool images = hasImages(image);
      const int unit = images ? kImageRows * summary.stride : summary.stride; // keys
      auto begins = [&](int s) { return batch.cuK[s] / unit + (images ? s : 0); };
      const int64_t perHead =
          batch.totalK() / unit + (images ? batch.sequences() : 0); // rows or images
      for (int s = 0; s < batch.sequences(); ++s) {
        const int keys = batch.cuK[s + 1] - batch.cuK[s];
        // What is left of a sequence's last image is cleared, so it counts.
        const int64_t taken = images ? ceilDiv(keys, unit) : rowsOf(summary, keys);
        const int64_t next = s + 1 < batch.sequences() ? begins(s + 1) : perHead;
        if (taken > 0)
          EXPECT_LE(begins(s) + taken, next) << "sequence " << s << " of summary " << i;
      }
      const int64_t rowBytes = images ? int64_t(kImageRows) * ceilDiv(facts.headDim, 64) * 128
                                      : int64_t(facts.headDim) * 2;
      EXPECT_EQ(bytesOf(image, launch, "summary_" + std::to_string(i)),
                facts.kvHeads * std::max<int64_t>(images ? 0 : 1, perHead) * rowBytes);
    }
  });
}

// A row of block scores: the blocks of whole tiles of 128 summaries, then an edge for every tile
// that a score kernel holds; it begins at a multiple of 16 bytes.
TEST(RecipeBuffers, ScoreRowsHoldBlocksAndEdges) {
  forEveryLaunch([](const ProgramImage &image, const RecipeFacts &facts, const Batch &batch,
                    const Launch &launch) {
    if (!facts.scores) {
      EXPECT_EQ(image.scoreStride, "");
      return;
    }
    const int perBlock = facts.rowsPerBlock(), tileBlocks = kImageRows / perBlock;
    const int64_t blocks =
        std::max<int64_t>(1, ceilDiv(batch.maxK(), int64_t(tileBlocks) * facts.block)) * tileBlocks;
    const int edgeRows = hasImages(image) ? kImageRows : 32; // summaries from edge to edge
    const int64_t edges = facts.hasEdges() ? blocks * perBlock / edgeRows : 0;
    const int64_t stride = launch[Variable::ScoreStride];
    EXPECT_EQ(stride, blocks + ceilDiv(edges, 8) * 8);
    EXPECT_EQ(stride * elementBytes(image) % 16, 0);

    // The last block that the score kernel writes: candidates of the last token, to the end of a
    // tile. The last that a top_k kernel reads: candidates, eight keys at a time.
    const int64_t candidates = std::max(0, facts.blocksOf(batch.maxK()) - facts.local);
    const int tileRows = constantOf(scoreKernel(image), "kRows");
    const int64_t written = ceilDiv(candidates * perBlock, tileRows) * tileRows;
    EXPECT_LE(written / perBlock, blocks);
    EXPECT_LE(ceilDiv(candidates, 8) * 8, blocks);
    if (facts.hasEdges())
      EXPECT_LE(blocks + ceilDiv(written, edgeRows), stride);
    for (const Kernel &kernel : image.kernels)
      if (kernel.step == "top_k") {
        EXPECT_EQ(constantOf(kernel, "kBlocksPerEdge"), edgeRows / perBlock) << kernel.name;
        EXPECT_EQ(constantOf(kernel, "kRowsPerBlock"), perBlock) << kernel.name;
        EXPECT_EQ(constantOf(kernel, "kPad") > 0, facts.hasEdges()) << kernel.name;
      }
  });
}

/// Whether the launch scores and selects in one kernel.
bool isFused(const ProgramImage &image, const RecipeFacts &facts, const Batch &batch) {
  const Kernel *fused = findKernel(image, "score_top_k");
  return fused && facts.blocksOf(batch.maxK()) <= capacityOf(*fused);
}

/// Tokens of a chunk: those whose scores fit the given size, 256 at least. On warpgroups, whose
/// blocks of threads take items of work in turn, a number that gives each multiprocessor as many
/// items, empty slots included: the largest one that fits, if a whole round does.
int64_t plainChunk(const ProgramImage &image, const RecipeFacts &facts, const Batch &batch,
                   const Launch &launch) {
  const int64_t total = std::max(1, batch.totalQ());
  if (isFused(image, facts, batch))
    return total;
  const int64_t tokenBytes =
      facts.selectHeads * launch[Variable::ScoreStride] * elementBytes(image);
  const int64_t fitting =
      std::max<int64_t>(256, (int64_t(image.config.scoreChunkMiB) << 20) / tokenBytes);
  if (!isPersistent(scoreKernel(image)))
    return std::min(total, fitting);
  const int64_t tile = constantOf(scoreKernel(image), "kTokens");
  const int64_t round = tile * launch[Variable::SmCount];
  const int64_t even = fitting - (fitting + tile * batch.sequences()) % round;
  return std::min(total, std::max(even, std::min(fitting, round)));
}

TEST(RecipeBuffers, ChunksFitTheirBuffer) {
  forEveryLaunch([](const ProgramImage &image, const RecipeFacts &facts, const Batch &batch,
                    const Launch &launch) {
    if (!facts.scores) {
      EXPECT_EQ(image.chunkTokens, "");
      return;
    }
    const int64_t chunk = launch[Variable::ChunkTokens], stride = launch[Variable::ScoreStride];
    EXPECT_EQ(chunk, plainChunk(image, facts, batch, launch));
    int64_t rows = facts.selectHeads * chunk; // [select_heads, tokens of the chunk]
    if (isFused(image, facts, batch)) {       // a ring of items' rows per block of threads
      const Kernel &fused = *findKernel(image, "score_top_k");
      const int64_t itemRows = constantOf(fused, "kTokens"),
                    items = constantOf(fused, "kScratchItems");
      EXPECT_GE(items, 1);
      EXPECT_LE(launch.value(fused.gridX), launch[Variable::SmCount]);
      rows = launch[Variable::SmCount] * items * itemRows;
    }
    EXPECT_EQ(bytesOf(image, launch, "block_scores"), rows * stride * elementBytes(image));
    // As large as was asked for, unless 256 tokens or the scratch of a fused kernel need more.
    if (!isFused(image, facts, batch) && chunk > 256)
      EXPECT_LE(bytesOf(image, launch, "block_scores"), int64_t(image.config.scoreChunkMiB) << 20);
  });
}

// One row of fp32 octaves, an octave per block, for each block of threads of rescore.
TEST(RecipeBuffers, OctavesOfEveryBlockOfThreads) {
  forEveryLaunch([](const ProgramImage &image, const RecipeFacts &facts, const Batch &batch,
                    const Launch &launch) {
    if (const Kernel *rescore = findKernel(image, "rescore"))
      EXPECT_EQ(bytesOf(image, launch, "octaves"),
                launch.value(rescore->gridX) * facts.blocksOf(batch.maxK()) * 4);
  });
}

// Kernels name buffers by their place, so the order counts.
TEST(RecipeBuffers, KernelsUseTheBuffersOfTheirStep) {
  forEveryProgram([](const ProgramImage &image, const RecipeFacts &facts) {
    const int scores = static_cast<int>(facts.summaries.size());
    std::vector<std::string> names;
    for (int i = 0; i < scores; ++i)
      names.push_back("summary_" + std::to_string(i));
    if (facts.scores)
      names.push_back("block_scores");
    if (facts.softmax)
      names.push_back("octaves");
    std::vector<std::string> present;
    for (const Buffer &buffer : image.buffers)
      present.push_back(buffer.name);
    EXPECT_EQ(present, names);

    std::set<int> summaries, gradients, backward;
    for (int i = 0; i < scores; ++i)
      summaries.insert(i);
    for (size_t i = 0; i < image.backwardBuffers.size(); ++i)
      gradients.insert(static_cast<int>(i));
    for (const Kernel &kernel : image.kernels) {
      SCOPED_TRACE(kernel.name);
      std::set<int> used, expected;
      static const std::regex buffer(R"(params\.buffer\[(\d+)\])");
      for (std::sregex_iterator match(kernel.source.begin(), kernel.source.end(), buffer), none;
           match != none; ++match)
        used.insert(std::stoi((*match)[1]));
      if (isBackward(kernel)) { // of launches with buffers of their own
        backward.insert(used.begin(), used.end());
        continue;
      }
      if (kernel.step == "summarize")
        expected = {kernel.name.back() - '0'};
      if (kernel.step == "score" || kernel.step == "rescore" || kernel.name == "score_top_k")
        expected = summaries;
      if ((kernel.step == "score" || kernel.step == "top_k") && facts.scores)
        expected.insert(scores);
      if (kernel.step == "rescore")
        expected.insert(scores + 1);
      EXPECT_EQ(used, expected);
    }
    EXPECT_EQ(backward, gradients);
  });
}

/// Dimensions of a map and of its box, by what they count.
struct MapUse {
  std::string tensor;
  int dim, heads; ///< of the tensor
  bool tokensBeforeHeads;
  int boxHeads, boxTokens;
};

/// How a kernel copies by map `index`: the leaf that it calls says what a box holds
/// (templates/core/warpgroup.cuh, scoring_warpgroup.cuh).
std::vector<MapUse> usesOf(const Kernel &kernel, const RecipeFacts &facts, int index) {
  const std::string map = "params.map[" + std::to_string(index) + "]";
  const int group = constantOf(kernel, "kGroup");
  std::vector<MapUse> uses;
  std::istringstream lines(kernel.source);
  for (std::string line; std::getline(lines, line);) {
    auto has = [&](const char *what) { return line.find(what) != std::string::npos; };
    if (!has(map.c_str()))
      continue;
    if (has("copy_query_tile<kGroup>"))
      uses.push_back({"q", facts.headDim, facts.heads, true, group == 1 ? 1 : 2, 8});
    else if (has("copy_queries<kTileHeads, kWarpTokens>"))
      uses.push_back({"q", facts.headDim, facts.heads, false, constantOf(kernel, "kTileHeads"),
                      constantOf(kernel, "kWarpTokens")});
    else if (has("copy_rows<kPartKeys>(key_tile"))
      uses.push_back(
          {"k", facts.headDim, facts.kvHeads, false, 1, constantOf(kernel, "kPartKeys")});
    else if (has("copy_rows<kPartKeys>(value_tile"))
      uses.push_back(
          {"v", facts.valueDim, facts.kvHeads, false, 1, constantOf(kernel, "kPartKeys")});
    else
      ADD_FAILURE() << "an unknown use of a map: " << line;
  }
  return uses;
}

/// Tensors are [tokens, heads, dim] of 16-bit elements.
void checkMap(const TensorMapRecipe &map, const MapUse &use, const Launch &launch) {
  EXPECT_EQ(map.tensor, use.tensor);
  const int64_t tokens = launch[use.tensor == "q" ? Variable::TotalQ : Variable::TotalK];
  const int64_t headBytes = int64_t(2) * use.dim, tokenBytes = headBytes * use.heads;
  std::vector<int64_t> extents = {use.dim, use.heads, tokens}, strides = {headBytes, tokenBytes};
  std::vector<int> box = {64, use.boxHeads, use.boxTokens}; // 64 columns: 128 bytes, the swizzle's
  if (use.tokensBeforeHeads)
    std::swap(extents[1], extents[2]), std::swap(strides[0], strides[1]), std::swap(box[1], box[2]);
  std::vector<int64_t> present;
  for (const std::string &extent : map.extents)
    present.push_back(launch.value(extent));
  EXPECT_EQ(present, extents);
  EXPECT_EQ(map.strides, strides);
  EXPECT_EQ(map.box, box);
  // What the driver asks for (CUDA Driver API, cuTensorMapEncodeTiled).
  for (int64_t stride : map.strides)
    EXPECT_EQ(stride % 16, 0);
  for (int size : map.box)
    EXPECT_TRUE(size >= 1 && size <= 256) << size;
}

TEST(RecipeMaps, ExtentsStridesAndBoxes) {
  forEveryProgram([](const ProgramImage &image, const RecipeFacts &facts) {
    const Launch launch(image, Batch({{1009, 2003}}), 132);
    std::set<int> named;
    static const std::regex map(R"(params\.map\[(\d+)\])");
    for (const Kernel &kernel : image.kernels)
      for (std::sregex_iterator match(kernel.source.begin(), kernel.source.end(), map), none;
           match != none; ++match)
        named.insert(std::stoi((*match)[1]));
    ASSERT_EQ(named.size(), image.tensorMaps.size());
    for (int index : named) {
      SCOPED_TRACE("map " + std::to_string(index));
      ASSERT_LT(static_cast<size_t>(index), image.tensorMaps.size());
      size_t uses = 0;
      for (const Kernel &kernel : image.kernels)
        for (const MapUse &use : usesOf(kernel, facts, index)) {
          SCOPED_TRACE(kernel.name);
          checkMap(image.tensorMaps[index], use, launch);
          ++uses;
        }
      EXPECT_GE(uses, 1u);
    }
  });
}

} // namespace
