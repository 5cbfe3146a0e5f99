// From method text to cubins, without a GPU: resource facts agree with the plan, bad input gets one
// clear error of the right kind, and a missing NVRTC says so.
#include "compiler/driver/Compile.h"
#include "compiler/cuda/CubinInfo.h"
#include "compiler/cuda/Nvrtc.h"
#include "runtime/program/Formula.h"
#include "runtime/program/Tunables.h"
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <set>
#include <unistd.h>

using namespace winnow;

/// Head and value dimensions: every served length, and the unequal pairs at the ends.
static constexpr std::pair<int, int> kDims[] = {{64, 64},   {96, 96},   {128, 128}, {192, 192},
                                                {256, 256}, {192, 128}, {64, 256},  {256, 64}};

static CompileRequest request(const std::string &method, const std::string &arch = "sm_80") {
  CompileRequest r;
  r.method = method;
  r.arch = arch;
  return r;
}

static void expectError(const CompileRequest &r, ErrorKind kind, const std::string &part) {
  auto result = lowerProgram(r);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, kind) << result.error().message;
  EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
}

TEST(Compile, EveryBuiltinMethodGivesCubins) {
  for (const MethodInfo &method : builtinMethods()) {
    EXPECT_FALSE(method.description.empty()) << method.name;
    auto image = compileProgram(request(method.name));
    ASSERT_TRUE(image) << image.error().message;
    for (const Kernel &kernel : image->kernels) {
      EXPECT_GT(kernel.registers, 0) << kernel.name;
      EXPECT_EQ(kernel.cubin.substr(0, 4), "\177ELF") << kernel.name;
      EXPECT_LE(kernel.spillBytes, 64) << method.name << " " << kernel.name;
    }
  }
}

TEST(Compile, PtxIsTextForTheVirtualArchitecture) {
  CompileRequest r = request("dense");
  r.form = CodeForm::Ptx;
  auto image = compileProgram(r);
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_NE(image->kernels.front().cubin.find(".target sm_80"), std::string::npos);
}

TEST(Compile, RefusalsNameReasonAndNearest) {
  CompileRequest r;
  for (auto [number, value, why] :
       {std::tuple(&Spec::headDim, 112,
                   "kernel summarize: a head dimension of 112 is not served: kernels exist for 64, "
                   "96, 128, 192, 256; the nearest is 96"),
        {&Spec::valueDim, 512,
         "kernel attend: a value head dimension of 512 is not served: kernels exist for 64, 96, "
         "128, 192, 256; the nearest is 256"},
        {&Spec::heads, 22,
         "kernel score: a group of query heads per key/value head of 11 is not served: kernels "
         "exist for 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32, 64; the nearest is 12"},
        {&Spec::block, 8,
         "kernel score: a block size of 8 is not served: kernels exist for 16, 32, 64, 128, 256, "
         "512, 1024, 2048, 4096; the nearest is 16"},
        {&Spec::topk, 300,
         "kernel top_k: a top-k of 300 is not served: it must lie in 1..256; the nearest is "
         "256"}}) {
    r = request("infllm_v2");
    r.spec.*number = value;
    expectError(r, ErrorKind::Unsupported, why);
  }
  r = request("infllm_v2");
  r.spec.topk = 20;
  expectError(r, ErrorKind::Usage, "raise --topk to 34");
  r = request("infllm_v2");
  r.spec.params["radius"] = "1";
  expectError(r, ErrorKind::Usage, "no parameter 'radius'");
  r = request("infllm_v2");
  r.config.attendWarps = 40;
  expectError(r, ErrorKind::Usage, "attend_warps=40 is no legal tunable");
  r = request("infllm_v2");
  r.config.attendProducers = 3;
  expectError(r, ErrorKind::Usage, "1, 2, 4, 8");
  expectError(request("infllm_v2", "sm_75"), ErrorKind::Unsupported, "sm_75");
  expectError(request("no_such_method"), ErrorKind::Usage, "neither a built-in");
}

TEST(Compile, BrokenTextNamesLineAndColumn) {
  auto path = std::filesystem::temp_directory_path() /
              ("winnow-broken-" + std::to_string(getpid()) + ".mlir");
  std::ofstream(path)
      << "select.method @m params() (%q, %k, %v) {\n  %o = select.atend %q, %k, %v\n}\n";
  auto result = lowerProgram(request(path));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::Usage);
  EXPECT_NE(result.error().message.find(":2:"), std::string::npos) << result.error().message;
  std::filesystem::remove(path);
}

TEST(Compile, F22MissingNvrtcSaysWhatToDo) {
  CompileRequest r = request("dense");
  r.nvrtcPath = "/nonexistent/libnvrtc.so.13";
  auto image = compileProgram(r);
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().kind, ErrorKind::CompileFailed);
  EXPECT_NE(image.error().message.find("WINNOW_NVRTC"), std::string::npos) << image.error().message;
}

TEST(Compile, SharedMemoryFitsTheTarget) {
  for (const char *arch : {"sm_80", "sm_89", "sm_90a"})
    for (int group : {1, 2, 3, 4, 5, 6, 7, 8, 12, 16})
      for (int block : {16, 32, 64, 128})
        for (auto [dim, valueDim] : kDims) {
          CompileRequest r = request("infllm_v2", arch);
          r.spec.heads = 2 * group;
          r.spec.kvHeads = 2;
          r.spec.headDim = dim;
          r.spec.valueDim = valueDim;
          r.spec.block = block;
          SCOPED_TRACE(r.spec.text() + " " + arch);
          auto lowered = lowerProgram(r);
          ASSERT_TRUE(lowered) << lowered.error().message;
          for (const Kernel &kernel : lowered->first.kernels)
            EXPECT_LE(kernel.sharedBytes, (*findTarget(arch))->sharedPerBlock) << kernel.name;
        }
}

// Every legal tunable gives kernels that NVRTC takes and that fit the smallest target.
TEST(Compile, F18LegalTunablesCompile) {
  for (const char *text :
       {"attend_warps=4 attend_producers=1 attend_stages=2", "attend_warps=12 attend_producers=8",
        "attend_warps=16 attend_producers=2 attend_stages=3", "attend_warps=6", "attend_warps=1",
        "attend_rows=32", "attend_rows=32 attend_warps=4", "attend_rows=32 attend_producers=2",
        "attend_keys=32 attend_stages=6"}) {
    CompileRequest r = request("infllm_v2", "sm_89");
    r.config = *Config::parse(text);
    auto image = compileProgram(r);
    ASSERT_TRUE(image) << text << ": " << image.error().message;
    EXPECT_LE(image->kernels.back().sharedBytes, (*findTarget("sm_89"))->sharedPerBlock) << text;
  }
}

// What a config asks for is built or refused, never quietly changed; what is accepted fits.
TEST(Compile, F13TunablesThatDoNotFitAreRefused) {
  for (const char *arch : {"sm_80", "sm_89", "sm_90a"})
    for (auto [dim, valueDim] : kDims)
      for (int group : {1, 3, 6, 16})
        for (int block : {16, 64})
          for (const char *warps : {"1", "8", "16"})
            for (int stages : {2, 3, 4, 8}) {
              CompileRequest r = request("dense", arch);
              r.spec.heads = 2 * group;
              r.spec.headDim = dim;
              r.spec.valueDim = valueDim;
              r.spec.block = block;
              std::string text =
                  std::string("attend_warps=") + warps + " attend_stages=" + std::to_string(stages);
              SCOPED_TRACE(r.spec.text() + " " + text + " " + arch);
              r.config = *Config::parse(text);
              auto lowered = lowerProgram(r);
              if (lowered) {
                EXPECT_EQ(lowered->first.config.attendStages, stages);
                continue;
              }
              EXPECT_EQ(lowered.error().kind, ErrorKind::Unsupported);
              // Kernels of warpgroups have other numbers of warps.
              const char *cause = std::string(arch) == "sm_90a" && warps != std::string("8")
                                      ? "made of warpgroups"
                                      : "bytes of shared memory";
              EXPECT_NE(lowered.error().message.find(cause), std::string::npos)
                  << lowered.error().message;
            }
  CompileRequest r = request("infllm_v2", "sm_89");
  r.config.attendStages = 4;
  expectError(r, ErrorKind::Unsupported,
              "attend_stages=4 needs 131280 bytes of shared memory, sm_89 has 101376: at most 3 "
              "stages of 64 keys fit");
  r.config = {};
  r.config.attendRows = 32;
  r.config.attendKeys = 64;
  expectError(r, ErrorKind::Unsupported,
              "attend_rows=32 needs 287 registers per thread for rows of 128 and 128 elements and "
              "64 keys, 8 warps leave 255: take attend_rows=16");
  // Ten warps are three in two quarters of the multiprocessor.
  r.spec.headDim = r.spec.valueDim = 64;
  r.config.attendWarps = 8, r.config.attendProducers = 2;
  expectError(r, ErrorKind::Unsupported,
              "attend_rows=32 needs 191 registers per thread for rows of 64 and 64 elements and 64 "
              "keys, 10 warps leave 168: take attend_rows=16 or fewer warps");
  r.spec.valueDim = 0;
  r.config = {};
  r.spec.headDim = 256;
  r.config.scoreTokens = 16;
  expectError(r, ErrorKind::Unsupported, "score_tokens=16 needs 197632 bytes of shared memory");
}

// Every number at its limit, and one behind it.
TEST(Compile, F13NumbersAreTakenUpToTheirLimitsAndNoFurther) {
  CompileRequest r = request("infllm_v2", "sm_80");
  r.spec.topk = 256;
  EXPECT_TRUE(lowerProgram(r));
  r.spec.topk = 257;
  expectError(r, ErrorKind::Unsupported, "a top-k of 257 is not served: it must lie in 1..256");
  r = request("moba", "sm_80");
  r.spec.topk = 1;
  r.spec.params = {{"init", "0"}, {"local", "1"}};
  EXPECT_TRUE(lowerProgram(r));
  for (auto [forced, legal] : {std::pair(7, true), {8, false}}) { // with the first block: 8, 9
    r = request("infllm_v2", "sm_80");
    r.spec.topk = 8;
    r.spec.params = {{"local", std::to_string(forced)}};
    EXPECT_EQ(static_cast<bool>(lowerProgram(r)), legal) << forced;
  }
  for (auto [window, legal] : {std::pair(48, true), {64, true}, {80, true}, {96, false}}) {
    r = request("nsa_select", "sm_80"); // blocks of 64 keys at stride 16
    r.spec.params = {{"window", std::to_string(window)}};
    EXPECT_EQ(static_cast<bool>(lowerProgram(r)), legal) << window;
  }
  for (const Tunable &tunable : tunables()) {
    std::set<int> legal(tunable.values.begin(), tunable.values.end());
    std::set<int> tried = {-1, 0, tunable.upTo, tunable.upTo + 1};
    for (int value : legal)
      tried.insert({value - 1, value, value + 1});
    for (int value : tried) {
      r = request("infllm_v2", "sm_80");
      tunable.set(r.config, value);
      auto lowered = lowerProgram(r);
      const bool taken = lowered || lowered.error().kind != ErrorKind::Usage;
      const bool isLegal = tunable.upTo > 0 ? value >= 0 && value <= tunable.upTo
                                            : value == 0 || legal.count(value) > 0;
      EXPECT_EQ(taken, isLegal) << tunable.name << "=" << value;
    }
  }
}

// Of the kernels that select, exactly one runs for any length, up to the longest; rescore runs
// wherever scores decide.
TEST(Compile, EveryLengthHasOneKernelThatSelects) {
  for (const char *method : {"infllm_v2", "nsa_select", "moba", "relu_select"})
    for (const char *arch : {"sm_80", "sm_90a"})
      for (int block : {16, 64, 128}) {
        CompileRequest r = request(method, arch);
        r.spec.block = block, r.spec.topk = 12;
        r.spec.params = {{"init", "0"}, {"local", "1"}};
        if (std::string(method) == "moba")
          r.spec.params.clear(); // its window is the block
        if (block == 16 && method != std::string("moba"))
          r.spec.params.insert({{"window", "16"}, {"stride", "8"}});
        auto lowered = lowerProgram(r);
        if (!lowered)
          continue; // not every method has every block
        std::set<int64_t> lengths = {1, 1 << 20, 12 * block, 12 * block + 1, 13 * block};
        for (const Kernel &kernel : lowered->first.kernels)
          if (kernel.name.rfind("top_k_", 0) == 0) {
            const int64_t keys = int64_t(*kernel.facts.rowBlocks) * block;
            for (int64_t tokens :
                 {keys - block, keys - 1, keys, keys + 1, keys + block, keys + block + 1})
              if (tokens <= 1 << 20)
                lengths.insert(tokens);
          }
        ASSERT_GT(lengths.size(), 4u) << method << " " << arch;
        for (int64_t tokens : lengths) {
          Variables shape;
          shape[Variable::SmCount] = 108, shape[Variable::Batch] = 1;
          shape[Variable::TotalQ] = shape[Variable::TotalK] = tokens;
          shape[Variable::MaxQ] = shape[Variable::MaxK] = tokens;
          shape[Variable::TokenCount] = tokens;
          int selecting = 0;
          for (const Kernel &kernel : lowered->first.kernels) {
            const int64_t runs = *Formula::parse(kernel.when, kLastVariable)->evaluate(shape);
            selecting += kernel.step == "top_k" && runs != 0;
            if (kernel.step == "rescore") {
              EXPECT_EQ(runs != 0, (tokens + block - 1) / block > r.spec.topk) << tokens;
            }
          }
          EXPECT_EQ(selecting, 1) << method << " " << arch << " block " << block << ": " << tokens;
        }
      }
}

// Each block of threads of rescore has a row of octaves, one of 4 bytes for each block of keys.
TEST(Compile, OctavesHaveRoomForEveryBlockOfThreads) {
  for (const char *arch : {"sm_80", "sm_90a"}) {
    auto lowered = lowerProgram(request("infllm_v2", arch));
    ASSERT_TRUE(lowered) << lowered.error().message;
    const ProgramImage &image = lowered->first;
    for (int tokens : {1, 100, 8192, 131072, 1 << 20})
      for (int multiprocessors : {1, 108}) {
        Variables shape;
        shape[Variable::SmCount] = multiprocessors, shape[Variable::Batch] = 1;
        shape[Variable::TotalQ] = shape[Variable::MaxQ] = tokens;
        shape[Variable::TotalK] = shape[Variable::MaxK] = 2 * tokens;
        int64_t grid = -1, bytes = -1;
        for (const Kernel &kernel : image.kernels)
          if (kernel.step == "rescore")
            grid = *Formula::parse(kernel.gridX)->evaluate(shape);
        for (const Buffer &buffer : image.buffers)
          if (buffer.name == "octaves")
            bytes = *Formula::parse(buffer.bytes)->evaluate(shape);
        ASSERT_GE(grid, 1);
        EXPECT_EQ(bytes, 4 * grid * ((2 * tokens + 63) / 64)) << arch << " " << tokens;
      }
  }
}

// The budget of block scores is counted in MiB, of 2 bytes where scores are kept as keys.
TEST(Compile, ChunksFillTheirMebibytes) {
  for (auto [method, bytes] : {std::pair("infllm_v2", 2), {"relu_select", 4}})
    for (int mebibytes : {1, 64}) {
      CompileRequest r = request(method, "sm_80");
      r.config.scoreChunkMiB = mebibytes;
      auto lowered = lowerProgram(r);
      ASSERT_TRUE(lowered) << lowered.error().message;
      const ProgramImage &image = lowered->first;
      Variables shape;
      shape[Variable::SmCount] = 108, shape[Variable::Batch] = 1;
      shape[Variable::TotalQ] = shape[Variable::TotalK] = 1 << 20;
      shape[Variable::MaxQ] = shape[Variable::MaxK] = 1 << 20;
      const int64_t stride = *Formula::parse(image.scoreStride)->evaluate(shape);
      shape[Variable::ScoreStride] = stride;
      const int64_t tokens = *Formula::parse(image.chunkTokens)->evaluate(shape);
      const int64_t budget = int64_t(mebibytes) << 20, row = bytes * stride * image.selectHeads;
      EXPECT_EQ(tokens, std::max<int64_t>(256, budget / row)) << method << " " << mebibytes;
    }
}

// The same for the tunables of kernels on warpgroups.
TEST(Compile, F18LegalScoreTunablesCompile) {
  for (const char *text : {"score_fold=1", "score_poly=1", "score_poly=4", "score_chunk_mib=64"}) {
    CompileRequest r = request("infllm_v2", "sm_90a");
    r.config = *Config::parse(text);
    auto image = compileProgram(r);
    ASSERT_TRUE(image) << text << ": " << image.error().message;
  }
  CompileRequest r = request("infllm_v2", "sm_90a");
  r.config = *Config::parse("score_poly=3");
  expectError(r, ErrorKind::Usage, "score_poly=3 is no legal tunable");
  r = request("infllm_v2", "sm_80");
  r.config.scoreForm = ScoreForm::Fused;
  expectError(r, ErrorKind::Unsupported, "score_form=fused needs products of warpgroups");
  r.config = {};
  r.config.attendForm = AttendForm::Warpgroups;
  expectError(r, ErrorKind::Unsupported, "attend_form=warpgroups needs products of warpgroups");
}

// One kernel scores and selects: nothing is spilled, exactly one kernel selects for any length, and
// scratch neither grows with the tokens nor exceeds 64 MB.
TEST(Compile, FusedSelectionHasSmallScratch) {
  CompileRequest r = request("infllm_v2", "sm_90a");
  r.config.scoreForm = ScoreForm::Fused;
  auto image = compileProgram(r);
  ASSERT_TRUE(image) << image.error().message;
  auto evaluate = [&](const std::string &text, int tokens) {
    Variables variables;
    variables[Variable::SmCount] = 132;
    variables[Variable::Batch] = 1;
    variables[Variable::TotalQ] = variables[Variable::TotalK] = tokens;
    variables[Variable::MaxQ] = variables[Variable::MaxK] = tokens;
    for (const auto &[variable, formula] : {std::pair(Variable::ScoreStride, image->scoreStride),
                                            {Variable::ChunkTokens, image->chunkTokens}})
      variables[variable] = *Formula::parse(formula)->evaluate(variables);
    return *Formula::parse(text)->evaluate(variables);
  };
  for (int tokens : {1000, 16384, 131072, 131073, 1 << 20}) {
    int selecting = 0;
    bool fused = false;
    for (const Kernel &kernel : image->kernels)
      if (kernel.step == "top_k" && evaluate(kernel.when, tokens)) {
        ++selecting;
        fused |= kernel.name == "score_top_k";
        EXPECT_EQ(kernel.spillBytes, 0);
      }
    EXPECT_EQ(selecting, 1) << tokens;
    EXPECT_EQ(fused, tokens <= 131072) << tokens;
  }
  const auto scores =
      std::find_if(image->buffers.begin(), image->buffers.end(),
                   [](const Buffer &buffer) { return buffer.name == "block_scores"; });
  ASSERT_NE(scores, image->buffers.end());
  const std::string &scratch = scores->bytes;
  EXPECT_EQ(evaluate(image->chunkTokens, 131072), 131072);
  EXPECT_LE(evaluate(scratch, 131072), 64 << 20);
  EXPECT_GT(evaluate(scratch, 131073), 64 << 20);
}

// Images of summaries begin anew with each sequence: a ragged batch must not outgrow the buffer.
TEST(Compile, SummaryImagesOfRaggedBatchesFit) {
  auto lowered = lowerProgram(request("infllm_v2", "sm_90a"));
  ASSERT_TRUE(lowered) << lowered.error().message;
  for (int summary : {0, 1}) {
    const int imageKeys = 128 * (summary == 0 ? 16 : 64);
    Result<Formula> bytes = Formula::parse(lowered->first.buffers[summary].bytes);
    ASSERT_TRUE(bytes);
    for (const std::vector<int> &lengths : {std::vector<int>{0},
                                            {1},
                                            {2047, 1},
                                            {2048, 2048},
                                            {0, 0, 1, 0},
                                            {8191, 8193, 5, 16383}}) {
      int first = 0, end = 0;
      for (size_t s = 0; s < lengths.size(); ++s) {
        EXPECT_LE(end, first / imageKeys + static_cast<int>(s)); // what the sequence before took
        end = first / imageKeys + static_cast<int>(s) + (lengths[s] + imageKeys - 1) / imageKeys;
        first += lengths[s];
      }
      Variables shape;
      shape[Variable::TotalK] = first;
      shape[Variable::Batch] = static_cast<int64_t>(lengths.size());
      EXPECT_GE(*bytes->evaluate(shape), int64_t(end) * 32768 * 2);
    }
  }
}

TEST(CubinInfo, RefusesWhatIsNoCubin) {
  EXPECT_FALSE(readCubinInfo("", "k"));
  EXPECT_FALSE(readCubinInfo(std::string(64, '\0'), "k"));
  auto image = compileProgram(request("dense"));
  ASSERT_TRUE(image);
  std::string cubin = image->kernels.front().cubin;
  EXPECT_FALSE(readCubinInfo(cubin, "no_such_kernel"));
  for (size_t size : {size_t(10), size_t(100), cubin.size() / 2})
    EXPECT_NO_FATAL_FAILURE((void)readCubinInfo(std::string_view(cubin).substr(0, size), "attend"));
}
