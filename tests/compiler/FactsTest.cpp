// What builders say of their kernels, against the constants and names that are printed. Here alone
// is printed text read.
#include "compiler/driver/Compile.h"
#include "runtime/program/Budgets.h"
#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <regex>

namespace winnow {
namespace {

std::map<std::string, int> constantsOf(const std::string &source) {
  static const std::regex line("\nconstexpr int (k[A-Za-z0-9]+) = (-?[0-9]+);");
  std::map<std::string, int> constants;
  for (std::sregex_iterator i(source.begin(), source.end(), line), end; i != end; ++i)
    constants[(*i)[1]] = std::stoi((*i)[2]);
  return constants;
}

struct Printed {
  const char *step, *constant;
  KernelFacts::Fact KernelFacts::*fact;
};
/// Steps whose kernels print a fact as a constant; "" for all.
const Printed kPrinted[] = {
    {"", "kDim", &KernelFacts::headDim},
    {"", "kInit", &KernelFacts::init},
    {"", "kTopK", &KernelFacts::topk},
    {"attend", "kTileHeads", &KernelFacts::group},
    {"attend", "kValueDim", &KernelFacts::valueDim},
    {"attend", "kTilesPerBlock", &KernelFacts::tilesPerBlock},
    {"attend", "kKeys", &KernelFacts::keys},
    {"attend", "kPartKeys", &KernelFacts::tileKeys},
    {"attend", "kRowTokens", &KernelFacts::rowTokens},
    {"attend", "kWarpTokens", &KernelFacts::rowTokens},
    {"attend", "kTokens", &KernelFacts::tokens},
    {"attend", "kBitmapTiles", &KernelFacts::bitmapTiles},
    {"attend", "kEntries", &KernelFacts::listEntries},
    {"attend", "kStages", &KernelFacts::stages},
    {"attend", "kConsumerWarps", &KernelFacts::warps},
    {"score", "kGroup", &KernelFacts::group},
    {"score", "kLocal", &KernelFacts::local},
    {"score", "kWindow", &KernelFacts::summaryKeys},
    {"score", "kStride", &KernelFacts::summaryStride},
    {"score", "kCoarseStride", &KernelFacts::normalizerStride},
    {"score", "kRowsPerBlock", &KernelFacts::blockSummaries},
    {"score", "kPairs", &KernelFacts::headPairs},
    {"score", "kTokens", &KernelFacts::tokens},
    {"score", "kQueryRows", &KernelFacts::queryRows},
    {"score", "kRows", &KernelFacts::tileSummaries},
    {"score", "kMmaTiles", &KernelFacts::rowTiles},
    {"top_k", "kLocal", &KernelFacts::local},
    {"top_k", "kTokens", &KernelFacts::tokens},
    {"top_k", "kWarps", &KernelFacts::rowWarps},
    {"summarize", "kWindow", &KernelFacts::summaryKeys},
    {"summarize", "kStride", &KernelFacts::summaryStride},
    {"append", "kWindow", &KernelFacts::summaryKeys},
    {"append", "kStride", &KernelFacts::summaryStride},
    {"rescore", "kWindow", &KernelFacts::summaryKeys},
    {"rescore", "kStride", &KernelFacts::summaryStride},
    {"rescore", "kCoarseStride", &KernelFacts::normalizerStride},
};

const char *nameOf(KernelFacts::Fact KernelFacts::*fact) {
  for (const FactField &field : factFields())
    if (field.member == fact)
      return field.name;
  return "";
}

void checkAttend(const Kernel &kernel, const std::map<std::string, int> &constants) {
  const KernelFacts &facts = kernel.facts;
  const int warpgroups = constants.count("kWarpgroups") ? constants.at("kWarpgroups") : 0;
  EXPECT_EQ(facts.mmaWarps, warpgroups ? 4 : 1);
  EXPECT_EQ(*facts.topk == 0, constants.count("kTopK") == 0);
  EXPECT_EQ(*facts.rowTiles * *facts.rowTokens * *facts.warps, *facts.tokens);
  if (warpgroups) {
    EXPECT_EQ(facts.warps, 4 * warpgroups);
    return;
  }
  EXPECT_EQ(facts.producers, constants.at("kProducerThreads") / 32);
  EXPECT_EQ(32 * (*facts.warps + *facts.producers), kernel.blockThreads);
  EXPECT_EQ(facts.laneRegisters,
            attendLaneRegisters(*facts.rowTiles, *facts.headDim, *facts.valueDim, *facts.keys));
}

void checkScore(const Kernel &kernel, const std::map<std::string, int> &constants) {
  const KernelFacts &facts = kernel.facts;
  auto names = [&](const char *word) { return kernel.source.find(word) != std::string::npos; };
  EXPECT_EQ(*facts.softmax != 0, names("NormalizerTable"));
  EXPECT_EQ(facts.normalizerStride.has_value(), names("NormalizerTable"));
  EXPECT_EQ(facts.scoreBytes, names("ScoreRank") ? 2 : 4);
  if (facts.softmax == 1 && !constants.count("kCoarseStride"))
    EXPECT_EQ(facts.normalizerStride, constants.at("kStride"));
  if (facts.mmaWarps != 1)
    return;
  EXPECT_EQ(*facts.folded != 0, names("add_powers"));
  EXPECT_EQ(facts.rowTiles, constants.at("kSets") * constants.at("kPairs"));
  EXPECT_EQ(32 * *facts.warps, kernel.blockThreads);
}

void checkKernel(const Kernel &kernel) {
  const std::map<std::string, int> constants = constantsOf(kernel.source);
  ASSERT_FALSE(constants.empty());
  EXPECT_NE(kernel.facts.text(), "");
  for (const Printed &printed : kPrinted) {
    auto constant = constants.find(printed.constant);
    if (constant == constants.end() || (*printed.step && kernel.step != printed.step))
      continue;
    const KernelFacts::Fact &fact = kernel.facts.*printed.fact;
    ASSERT_TRUE(fact) << nameOf(printed.fact);
    EXPECT_EQ(*fact, constant->second) << nameOf(printed.fact);
  }
  if (kernel.step == "attend")
    checkAttend(kernel, constants);
  if (kernel.step == "score")
    checkScore(kernel, constants);
}

TEST(Facts, AreWhatIsPrinted) {
  const char *const specs[] = {"heads=32 kv_heads=2 head_dim=128 block=64 topk=96",
                               "heads=12 kv_heads=2 head_dim=96 value_dim=64 block=128 topk=64",
                               "heads=4 kv_heads=4 head_dim=64 block=16 topk=64",
                               "heads=8 kv_heads=1 head_dim=256 block=32 topk=64"};
  const char *const configs[] = {"", "attend_rows=32", "attend_keys=32 attend_stages=2",
                                 "attend_form=2 score_fold=1", "score_form=2"};
  int kernels = 0;
  for (const MethodInfo &method : builtinMethods())
    for (const char *spec : specs)
      for (const char *config : configs)
        for (const char *arch : {"sm_80", "sm_89", "sm_90a"}) {
          CompileRequest request;
          request.method = method.name;
          request.spec = *Spec::parse(spec);
          request.config = *Config::parse(config);
          request.arch = arch;
          auto lowered = lowerProgram(request);
          if (!lowered) {
            EXPECT_EQ(lowered.error().kind, ErrorKind::Unsupported);
            continue;
          }
          for (const Kernel &kernel : lowered->first.kernels) {
            SCOPED_TRACE(
                fmt::format("{} {} {} {} {}", method.name, spec, config, arch, kernel.name));
            checkKernel(kernel);
            kernels++;
          }
        }
  EXPECT_GT(kernels, 700);
}

TEST(Facts, AKernelThatWasGivenHasNone) {
  CompileRequest request;
  request.method = builtinMethods().front().name;
  request.arch = "sm_80";
  const std::string path = testing::TempDir() + "/given_attend.cu";
  std::ofstream(path) << "// by hand\n";
  request.kernelFiles = {{"attend", path}};
  auto lowered = lowerProgram(request);
  ASSERT_TRUE(lowered) << lowered.error().message;
  EXPECT_EQ(lowered->first.kernels.back().source, "// by hand\n");
  EXPECT_EQ(lowered->first.kernels.back().facts.text(), "");
}

} // namespace
} // namespace winnow
