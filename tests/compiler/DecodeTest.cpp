// Which kernels of a selection run where the host keeps summaries: those of decode for few query
// tokens per sequence, the others for more, and of each step as many as without rows. What the
// decode kernels take of the grid and of the workspace.
#include "compiler/driver/Compile.h"
#include "compiler/kernels/Kernels.h"
#include "tests/compiler/LaunchShape.h"
#include <fmt/format.h>
#include <set>

using namespace winnow;

namespace {

CompileRequest requestOf(const std::string &method, const char *arch) {
  CompileRequest request;
  request.method = method;
  request.arch = arch;
  request.spec.paged = true;
  request.spec.topk = 8;
  if (method == "infllm_v2")
    request.spec.params = {{"local", "3"}};
  return request;
}

ProgramImage paged(const std::string &method, const char *arch, Config config = {}) {
  CompileRequest request = requestOf(method, arch);
  request.config = config;
  auto result = lowerProgram(request);
  EXPECT_TRUE(result) << result.error().message;
  return result ? std::move(result->first) : ProgramImage();
}

/// Attention of long query segments.
bool prefills(const Kernel &kernel) {
  return kernel.name == "attend" || kernel.name == "attend_any_pages";
}

std::multiset<std::string> running(const ProgramImage &image, const Variables &shape) {
  std::multiset<std::string> names;
  for (const Kernel &kernel : image.kernels)
    if (kernel.step != "append" && kernel.step != "attend" && kernel.step != "merge" &&
        valueOf(kernel.when, shape) != 0)
      names.insert(kernel.step == "top_k" ? "top_k" : kernel.name);
  return names;
}

const char *const kMethods[] = {"infllm_v2", "nsa_select", "moba", "relu_select"};
const char *const kArchs[] = {"sm_80", "sm_90a"};

TEST(Decode, FewTokensRunDecodeKernelsWhereRowsAreKept) {
  using Names = std::multiset<std::string>;
  for (const std::string method : kMethods)
    for (const char *arch : kArchs) {
      SCOPED_TRACE(method + " " + arch);
      const bool softmax = method == "infllm_v2" || method == "nsa_select";
      const ProgramImage image = paged(method, arch);
      Names decode{softmax ? "weigh" : "score_decode", "top_k"};
      Names prefill{"summarize_0", "score", "top_k"};
      if (softmax)
        prefill.insert("rescore");
      if (method == "nsa_select") // where ranks are kept, top_k rescores
        decode.insert("rescore_decode");
      if (method == "infllm_v2")
        prefill.insert("summarize_1");
      for (int tokens : {1, kDecodeTokens}) {
        EXPECT_EQ(running(image, shapeOf(image, 3, tokens, 100000, true)), decode);
        EXPECT_EQ(running(image, shapeOf(image, 3, tokens, 100000, false)), prefill);
        // Where every block is selected, nothing is scored, and nothing summarized.
        EXPECT_EQ(running(image, shapeOf(image, 3, tokens, 8 * 64, true)), Names{"top_k"});
      }
      EXPECT_EQ(running(image, shapeOf(image, 3, kDecodeTokens + 1, 100000, true)), prefill);
    }
}

TEST(Decode, AFusedProgramSelectsFromDecodeScores) {
  Config config;
  config.scoreForm = ScoreForm::Fused;
  const ProgramImage image = paged("infllm_v2", "sm_90a", config);
  using Names = std::multiset<std::string>;
  for (int keys : {100000, 200000}) {
    const Variables shape = shapeOf(image, 64, 1, keys, true);
    EXPECT_EQ(running(image, shape), (Names{"weigh", "top_k"}));
    for (const Buffer &buffer : image.buffers)
      if (buffer.name == "block_scores")
        EXPECT_GE(valueOf(buffer.bytes, shape), 2 * 2 * 64 * shape[Variable::ScoreStride]);
  }
  EXPECT_EQ(running(image, shapeOf(image, 64, 1, 100000, false)),
            (Names{"summarize_0", "summarize_1", "top_k", "rescore"}));
}

// A block of threads has a part of one token, and no two parts write the same.
TEST(Decode, PartsFitTheWorkspace) {
  for (const char *arch : kArchs) {
    const ProgramImage image = paged("infllm_v2", arch);
    for (int batch : {1, 2, 7, 16, 64, 133, 1000})
      for (int tokens : {1, 3, 16})
        for (int keys : {0, 600, 8192, 131072, 1 << 20}) {
          const Variables shape = shapeOf(image, batch, tokens, keys, true);
          const int64_t count = shape[Variable::TokenCount], tiles = (keys + 511) / 512;
          for (const Kernel &kernel : image.kernels) {
            if (kernel.name != "weigh")
              continue;
            const int64_t blocks = valueOf(kernel.gridX, shape);
            EXPECT_EQ(blocks % count, 0);
            EXPECT_GE(blocks, count);
            EXPECT_LE(blocks / count, std::max<int64_t>(1, tiles / 2));
            EXPECT_EQ(valueOf(kernel.gridY, shape), 2);
            for (const Buffer &buffer : image.buffers) {
              if (buffer.name == "part_sums")
                EXPECT_GE(valueOf(buffer.bytes, shape), blocks * 32 * 8);
              if (buffer.name == "head_weights")
                EXPECT_EQ(valueOf(buffer.bytes, shape),
                          count * 2 * 16 * (64 * tiles + (16 * tiles + 3) / 4));
              if (buffer.name == "octaves") // top_k rescores, each token for itself
                EXPECT_GE(valueOf(buffer.bytes, shape), 4 * 2 * count * ((keys + 63) / 64));
            }
          }
        }
  }
}

// However many tokens a batch has, weights take half a GiB, and chunks do the rest.
TEST(Decode, WeightsOfAChunkAreBounded) {
  const ProgramImage image = paged("infllm_v2", "sm_90a");
  const Variables shape = shapeOf(image, 256, 16, 1 << 20, true);
  EXPECT_LT(shape[Variable::ChunkTokens], 256 * 16);
  EXPECT_GE(shape[Variable::ChunkTokens], 100);
  for (const Buffer &buffer : image.buffers)
    if (buffer.name == "head_weights")
      EXPECT_LE(valueOf(buffer.bytes, shape), int64_t(1) << 29);
}

// Each row of ids is written by one kernel, whatever the batch and the length.
TEST(Decode, EveryBatchHasOneKernelThatSelects) {
  for (const std::string method : kMethods)
    for (const char *arch : kArchs) {
      const ProgramImage image = paged(method, arch);
      for (int batch : {1, 16, 17, 64, 500})
        for (int keys : {64, 513, 4096 * 64, 4096 * 64 + 1, 32768 * 64}) {
          const Variables shape = shapeOf(image, batch, 1, keys, true);
          EXPECT_EQ(running(image, shape).count("top_k"), 1u)
              << method << " " << arch << " " << batch << " x " << keys;
        }
    }
}

// A selection is made in a cluster or by kernels that follow each other, whatever clusters a GPU
// has room for; and no block of a cluster has more of a row than it has room for.
TEST(Decode, ASelectionIsMadeInAClusterOrByAChain) {
  const ProgramImage image = paged("infllm_v2", "sm_90a");
  constexpr int kMostTileKeys = 32 * 512; // of one block of threads
  std::set<int64_t> clusters;
  for (int limit : {0, 1, 2, 8, 16})
    for (int batch : {1, 2, 16, 17, 33, 34, 64, 500})
      for (int keys : {64, 513, 8192, 131072, 4096 * 64, 4096 * 64 + 1, 32768 * 64}) {
        SCOPED_TRACE(fmt::format("{} x {} keys, clusters of {}", batch, keys, limit));
        const Variables shape = shapeOf(image, batch, 1, keys, true, limit);
        std::multiset<std::string> names;
        int64_t inClusters = 0;
        for (const Kernel &kernel : image.kernels) {
          if (kernel.step == "append" || attends(kernel) || valueOf(kernel.when, shape) == 0)
            continue;
          names.insert(kernel.name);
          if (kernel.inClusters)
            inClusters = valueOf(kernel.gridX, shape) / batch;
        }
        const size_t inCluster = names.count("select_decode");
        EXPECT_EQ(inCluster + names.count("weigh"), keys > 8 * 64 || inCluster ? 1u : 0u);
        EXPECT_EQ(inClusters, inCluster ? shape[Variable::Cluster] : 0);
        if (inCluster) {
          EXPECT_LE(inClusters, limit);
          EXPECT_LE(keys, inClusters * kMostTileKeys);
          EXPECT_EQ(names.size(), 1u);
          clusters.insert(inClusters);
        }
      }
  EXPECT_GE(clusters.size(), 3u);
}

// One kernel makes the whole step where it can be launched, or the chain does; never both.
TEST(Decode, AStepIsMadeByOneKernelOrByAChain) {
  Config config;
  config.decodeForm = DecodeForm::Step;
  const ProgramImage image = paged("infllm_v2", "sm_90a", config);
  const ProgramImage chain = paged("infllm_v2", "sm_90a");
  EXPECT_TRUE(chain.step.empty());
  int made = 0;
  for (int limit : {0, 131, 132, 264})
    for (int batch : {1, 16, 128, 129, 500})
      for (int maxQ : {1, 4, 16, 17})
        for (int keys : {64, 513, 131072, 131073}) {
          SCOPED_TRACE(fmt::format("{} x {} keys, {} tokens, {}", batch, keys, maxQ, limit));
          Variables shape = shapeOf(image, batch, maxQ, keys, true);
          shape[Variable::StepLimit] = limit;
          const int64_t tiles =
              Formula::parse(image.step, Variable::Cluster)->evaluate(shape).value();
          shape[Variable::Step] = tiles;
          const bool one =
              limit >= 132 && batch * maxQ <= 128 && maxQ <= 16 && keys > 8 * 64 && keys <= 131072;
          EXPECT_EQ(tiles > 0, one);
          if (one) {
            EXPECT_GE(tiles, 2);
            EXPECT_LE(tiles, 16);
            EXPECT_EQ(tiles % 2, 0);
          }
          std::multiset<std::string> names;
          for (const Kernel &kernel : image.kernels)
            if (valueOf(kernel.when, shape) != 0)
              names.insert(kernel.name);
          made += one;
          if (one)
            EXPECT_EQ(names, (std::multiset<std::string>{"decode_step"}));
          else
            EXPECT_EQ(names.count("decode_step"), 0u);
        }
  EXPECT_GT(made, 10);
}

TEST(Decode, WhatOneKernelDoesNotServeIsRefused) {
  for (auto [method, arch] : {std::pair("infllm_v2", "sm_80"), {"moba", "sm_90a"}}) {
    CompileRequest request = requestOf(method, arch);
    request.config.decodeForm = DecodeForm::Step;
    auto result = lowerProgram(request);
    ASSERT_FALSE(result) << method;
    EXPECT_EQ(result.error().kind, ErrorKind::Unsupported);
    EXPECT_NE(result.error().message.find("decode_form=step needs"), std::string::npos)
        << result.error().message;
  }
}

// Each block of threads of attention writes a row of values and a state for each of its heads, and
// merge has a row, or as many as it has warps, for each block of its own.
// By bulk copies where pages let them, by warps of their own where not; never twice.
TEST(Decode, EveryBatchHasOneKernelThatAttends) {
  for (const char *method : {"infllm_v2", "dense"})
    for (const char *arch : kArchs) {
      const ProgramImage image = paged(method, arch);
      const bool hasBulk = std::string(arch) == "sm_90a";
      for (int boxRows : {0, 8, 64})
        for (auto [batch, maxQ] : {std::pair(3, 1), {3, 16}, {3, 17}, {3, 4096}, {8193, 1}}) {
          Variables shape = shapeOf(image, batch, maxQ, 70000, true);
          shape[Variable::BoxRows] = boxRows;
          std::vector<std::string> names;
          for (const Kernel &kernel : image.kernels)
            if (kernel.step == "attend" && valueOf(kernel.when, shape) != 0)
              names.push_back(kernel.name);
          const bool decodes = maxQ <= 16 && batch * maxQ <= kDecodeBatch;
          EXPECT_EQ(names, std::vector<std::string>{decodes                   ? "attend_decode"
                                                    : hasBulk && boxRows == 0 ? "attend_any_pages"
                                                                              : "attend"});
        }
    }
}

TEST(Decode, PartsOfAttentionFitTheWorkspace) {
  for (const char *method : {"infllm_v2", "dense"})
    for (const char *arch : kArchs) {
      const ProgramImage image = paged(method, arch);
      for (int batch : {1, 2, 7, 64, 133, 512, 513, 8192, 8193})
        for (int keys : {1, 600, 131072, 1 << 28}) {
          const Variables shape = shapeOf(image, batch, 1, keys, true);
          const int64_t parts = shape[Variable::Parts], total = shape[Variable::TotalQ];
          EXPECT_GE(parts, 1);
          EXPECT_LE(parts, 256);
          EXPECT_LE(parts * ((keys + 31) / 32), INT32_MAX);
          const bool decodes = total <= kDecodeBatch;
          for (const Kernel &kernel : image.kernels) {
            if (kernel.step != "attend" && kernel.step != "merge")
              continue;
            if (!prefills(kernel))
              EXPECT_EQ(valueOf(kernel.when, shape) != 0, decodes);
            const int64_t blocks = valueOf(kernel.gridX, shape) * valueOf(kernel.gridY, shape);
            if (kernel.name == "attend_decode")
              EXPECT_EQ(blocks * 16, total * parts * 32); // of 16 heads each
            if (kernel.name == "merge")
              EXPECT_EQ(blocks, parts > 8 ? total * 32 : (total * 32 + 7) / 8);
          }
          const int64_t rows = decodes ? total * parts * 32 : 0;
          for (const Buffer &buffer : image.buffers) {
            if (buffer.name == "part_values")
              EXPECT_EQ(valueOf(buffer.bytes, shape), rows * 128 * 4);
            if (buffer.name == "part_states")
              EXPECT_EQ(valueOf(buffer.bytes, shape), rows * 8);
          }
        }
    }
}

// What is asked for is built, said and refused where it does not fit.
TEST(Decode, TunablesChangeTheRingAndTheParts) {
  const ProgramImage plain = paged("infllm_v2", "sm_90a");
  EXPECT_GT(plain.config.decodeStages, 0);
  EXPECT_EQ(plain.config.decodeResident, 3);
  EXPECT_EQ(plain.config.decodePartTiles, 3);
  const ProgramImage asked = paged(
      "infllm_v2", "sm_90a",
      *Config::parse("decode_stages=3 decode_resident=2 decode_part_tiles=6 attend_stages=2"));
  EXPECT_EQ(asked.config.decodeStages, 3);
  EXPECT_EQ(asked.config.attendStages, 2);
  for (const Kernel &kernel : asked.kernels)
    if (kernel.name == "attend_decode")
      EXPECT_EQ(kernel.facts.stages, 3);
  const Variables one = shapeOf(plain, 1, 1, 100000, true);
  EXPECT_EQ(one[Variable::Parts], 16 / 3); // 8 blocks of two tiles
  EXPECT_EQ(shapeOf(asked, 1, 1, 100000, true)[Variable::Parts], 16 / 6);

  CompileRequest request = requestOf("infllm_v2", "sm_90a");
  request.config = *Config::parse("decode_stages=8 decode_resident=6");
  auto refused = lowerProgram(request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::Unsupported);
  EXPECT_NE(refused.error().message.find("lower decode_resident or decode_stages"),
            std::string::npos)
      << refused.error().message;
}

const Kernel *kernelOf(const ProgramImage &image, const std::string &name) {
  for (const Kernel &kernel : image.kernels)
    if (kernel.name == name)
      return &kernel;
  return nullptr;
}

// The tunables of a selection by clusters change what they say, and nothing where there is none.
TEST(Decode, TunablesChangeTheSelectionByClusters) {
  auto with = [](const char *config, const char *arch = "sm_90a") {
    return paged("infllm_v2", arch, *Config::parse(config));
  };
  const ProgramImage plain = paged("infllm_v2", "sm_90a");
  auto has = [](const ProgramImage &image, const char *kernel, const char *text) {
    return kernelOf(image, kernel)->source.find(text) != std::string::npos;
  };
  const ProgramImage barriers = with("decode_exchange=barriers");
  EXPECT_TRUE(has(barriers, "select_decode", "  sync_cluster();"));
  EXPECT_FALSE(has(plain, "select_decode", "sync_cluster();"));
  EXPECT_TRUE(has(plain, "select_decode", "  wait_ranks(messages);"));
  EXPECT_FALSE(has(with("decode_new_rows=wait"), "select_decode", "make_new_row<"));
  EXPECT_TRUE(has(plain, "select_decode", "make_new_row<"));
  EXPECT_FALSE(has(with("decode_ids=listed"), "attend_decode", "chosen_key<"));
  EXPECT_TRUE(has(plain, "attend_decode", "chosen_key<"));
  EXPECT_EQ(kernelOf(plain, "select_decode")->blockThreads, 256);
  EXPECT_EQ(kernelOf(with("decode_select_warps=8"), "select_decode")->blockThreads, 512);
  EXPECT_EQ(kernelOf(with("decode_clusters=none"), "select_decode"), nullptr);
  const ProgramImage chain = paged("infllm_v2", "sm_80");
  for (const Kernel &kernel :
       with("decode_exchange=barriers decode_new_rows=wait", "sm_80").kernels)
    EXPECT_EQ(kernel.source, kernelOf(chain, kernel.name)->source);
}

TEST(Decode, TunablesChangeTheSizeOfClusters) {
  auto clusters = [](const char *config, int batch, int keys) {
    const ProgramImage image = paged("infllm_v2", "sm_90a", *Config::parse(config));
    return shapeOf(image, batch, 1, keys, true, 16)[Variable::Cluster];
  };
  EXPECT_EQ(clusters("", 1, 131072), 16);
  EXPECT_EQ(clusters("", 2, 131072), 16); // four selections
  EXPECT_EQ(clusters("", 4, 131072), 8);
  EXPECT_EQ(clusters("", 8, 131072), 8);
  EXPECT_EQ(clusters("decode_cluster_blocks=4", 1, 131072), 8); // as many as weights need
  EXPECT_EQ(clusters("", 1, 65536), 16);
  EXPECT_EQ(clusters("decode_cluster_blocks=8", 1, 65536), 8);
  // 32 selections: the chain, but where clusters are asked for.
  EXPECT_EQ(clusters("", 16, 131072), 0);
  EXPECT_EQ(clusters("decode_clusters=all", 16, 131072), 8);
  EXPECT_EQ(clusters("decode_clusters=none", 1, 131072), 0);
}

// Whoever starts early waits by itself, and all of a decode step do where the target can.
TEST(Decode, KernelsOfAStepStartEarly) {
  for (const char *arch : kArchs) {
    const ProgramImage image = paged("infllm_v2", arch);
    for (const Kernel &kernel : image.kernels) {
      const bool waits = kernel.source.find("wait_earlier_kernels();") != std::string::npos;
      EXPECT_EQ(kernel.early, waits && std::string(arch) == "sm_90a") << kernel.name;
      EXPECT_EQ(waits, !prefills(kernel) && kernel.name != "score" && kernel.step != "summarize")
          << kernel.name;
    }
  }
}

// Keys of fp8 take half the room, so that twice as many are on their way in a ring of its size; and
// whoever has no instruction or no tile for them says so.
TEST(Decode, Fp8KeysTakeHalfTheRoomOrAreRefused) {
  CompileRequest request = requestOf("infllm_v2", "sm_90a");
  request.spec.kvDtype = KvDtype::Fp8E4m3;
  auto lowered = lowerProgram(request);
  ASSERT_TRUE(lowered) << lowered.error().message;
  const ProgramImage &image = lowered->first, plain = paged("infllm_v2", "sm_90a");
  auto decode = [](const ProgramImage &of) {
    return *std::find_if(of.kernels.begin(), of.kernels.end(),
                         [](const Kernel &kernel) { return kernel.name == "attend_decode"; });
  };
  EXPECT_EQ(decode(image).facts.stages, 2 * *decode(plain).facts.stages);
  EXPECT_EQ(image.summaries.size(), plain.summaries.size());

  request.spec.headDim = 96;
  auto refused = lowerProgram(request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message,
            "kernel summarize: a head dimension of 96 is not served: kernels exist for 64, 128, "
            "192, 256; the nearest is 64");
  request.spec.headDim = 128;
  request.arch = "sm_86";
  refused = lowerProgram(request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::Unsupported);
  EXPECT_EQ(refused.error().message,
            "keys and values of type fp8_e4m3 need a conversion that sm_86 has not: take kv_dtype "
            "same, or a GPU of compute capability 8.9 or newer");
}

} // namespace
