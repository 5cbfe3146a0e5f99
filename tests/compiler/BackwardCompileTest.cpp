// Kernels of gradients on warpgroups: what is refused because it does not fit, and how much scratch
// there is.
#include "compiler/driver/Compile.h"
#include "runtime/program/Formula.h"
#include <gtest/gtest.h>

using namespace winnow;

namespace {

CompileRequest request(const std::string &method, const std::string &arch) {
  CompileRequest r;
  r.method = method;
  r.arch = arch;
  return r;
}

void expectError(const CompileRequest &r, ErrorKind kind, const std::string &part) {
  auto result = lowerProgram(r);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, kind) << result.error().message;
  EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
}

TEST(BackwardCompile, KeyGradientsOnWarpgroupsAreRefusedWhereTheyDoNotFit) {
  CompileRequest r = request("infllm_v2", "sm_90a");
  r.spec.backward = true;
  r.config.backwardKeys = BackwardForm::Warpgroups;
  EXPECT_TRUE(lowerProgram(r));
  for (const auto &[field, value] :
       {std::pair(&Spec::block, 32), {&Spec::headDim, 256}, {&Spec::heads, 6}}) { // groups of 3
    CompileRequest other = r;
    other.spec.*field = value;
    expectError(other, ErrorKind::Unsupported, "backward_keys=warpgroups needs");
    other.config.backwardKeys = BackwardForm::Default;
    auto lowered = lowerProgram(other);
    ASSERT_TRUE(lowered) << lowered.error().message;
    EXPECT_EQ(lowered->first.config.backwardKeys, BackwardForm::Warps);
  }
  CompileRequest small = r;
  small.spec.block = 32;
  expectError(small, ErrorKind::Unsupported,
              "needs blocks of 64 to 256 keys, not 32: leave it out");
  r.spec.heads = 8; // groups of 4
  EXPECT_TRUE(lowerProgram(r));
  r.arch = "sm_80";
  expectError(r, ErrorKind::Unsupported, "products of warpgroups, which sm_80 has not");
}

TEST(BackwardCompile, StoredChangesAreRefusedWhereTheyDoNotFit) {
  CompileRequest r = request("infllm_v2", "sm_90a");
  r.spec.backward = true;
  r.config.backwardChanges = BackwardChanges::Stored;
  auto lowered = lowerProgram(r);
  ASSERT_TRUE(lowered) << lowered.error().message;
  EXPECT_EQ(lowered->first.config.backwardChunkMiB, 8192);
  CompileRequest other = r;
  other.spec.heads = 16; // groups of 8
  expectError(other, ErrorKind::Unsupported,
              "backward_changes=stored needs 10 to 16 query heads per key/value head, not 8");
  other = r;
  other.config.backwardKeys = BackwardForm::Warps;
  expectError(other, ErrorKind::Unsupported, "needs backward_keys on warpgroups");
  other = r;
  other.config.backwardQueries = BackwardForm::Warps;
  expectError(other, ErrorKind::Unsupported, "leave out backward_queries=warps");
  other = request("dense", "sm_90a");
  other.spec.backward = true;
  other.config = r.config;
  expectError(other, ErrorKind::Unsupported, "needs a method that selects blocks");
  r.config = {};
  lowered = lowerProgram(r);
  ASSERT_TRUE(lowered) << lowered.error().message;
  EXPECT_EQ(lowered->first.config.backwardChanges, BackwardChanges::Remade);
}

// Chunks of tokens have as many changes as they are given room for, but a range at least.
TEST(BackwardCompile, StoredChangesKeepToTheirRoom) {
  CompileRequest r = request("infllm_v2", "sm_90a");
  r.spec.backward = true;
  auto roomOf = [&](int mib, int tokens) {
    r.config.backwardChanges = BackwardChanges::Stored;
    r.config.backwardChunkMiB = mib;
    auto lowered = lowerProgram(r);
    EXPECT_TRUE(lowered);
    const ProgramImage &image = lowered->first;
    Variables variables;
    variables[Variable::Batch] = 1;
    variables[Variable::TotalQ] = variables[Variable::TotalK] = tokens;
    variables[Variable::MaxQ] = variables[Variable::MaxK] = tokens;
    variables[Variable::Parts] = *Formula::parse(image.parts)->evaluate(variables);
    const int64_t chunk = *Formula::parse(image.backwardChunkTokens)->evaluate(variables);
    variables[Variable::ChunkTokens] = std::min<int64_t>(chunk, tokens);
    return std::pair(chunk,
                     *Formula::parse(image.backwardBuffers.at(7).bytes)->evaluate(variables));
  };
  constexpr int kRange = 4032;
  // 96 tiles of 2 KB for each token and each of two heads.
  constexpr int64_t kTokenBytes = 2 * 96 * 2048, kMiB = 1 << 20;
  const auto [chunk, bytes] = roomOf(8192, 131072);
  EXPECT_EQ(chunk, 5 * kRange);
  EXPECT_GE(bytes, chunk * kTokenBytes);
  EXPECT_LE(bytes, 8192 * kMiB + 32 * kMiB);
  EXPECT_EQ(roomOf(1, 131072).first, kRange);
  EXPECT_LE(roomOf(8192, 100).second, 100 * kTokenBytes + kMiB);
}

// Sums over ranges of tokens are added in place: their room does not grow with the ranges.
TEST(BackwardCompile, KeyGradientsOnWarpgroupsHaveSmallScratch) {
  CompileRequest r = request("infllm_v2", "sm_90a");
  r.spec.backward = true;
  auto lowered = lowerProgram(r);
  ASSERT_TRUE(lowered) << lowered.error().message;
  Variables variables;
  variables[Variable::Batch] = 1;
  variables[Variable::TotalQ] = variables[Variable::TotalK] = 131072;
  variables[Variable::MaxQ] = variables[Variable::MaxK] = 131072;
  variables[Variable::Parts] = *Formula::parse(lowered->first.parts)->evaluate(variables);
  EXPECT_EQ(variables[Variable::Parts], 32);
  int64_t bytes = 0;
  for (const Buffer &buffer : lowered->first.backwardBuffers)
    bytes += *Formula::parse(buffer.bytes)->evaluate(variables);
  EXPECT_LE(bytes, int64_t(1) << 30);
}

} // namespace
