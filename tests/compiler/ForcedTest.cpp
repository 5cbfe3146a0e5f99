// Where forced blocks fill the budget no score decides anything: the program has no kernel and no
// workspace for scores.
#include "compiler/driver/Compile.h"
#include <gtest/gtest.h>

using namespace winnow;

static ProgramImage lowered(const char *method, const char *arch, int topk) {
  CompileRequest request;
  request.method = method;
  request.arch = arch;
  request.spec.topk = topk;
  request.spec.params = {{"init", "2"}, {"local", "6"}};
  auto result = lowerProgram(request);
  EXPECT_TRUE(result) << result.error().message;
  return result ? std::move(result->first) : ProgramImage();
}

TEST(Forced, NoScoresWhereNoneDecides) {
  // Scores as keys, as fp32 sums, raw, and raw through a region; on warps and on warpgroups.
  for (const char *method : {"infllm_v2", "nsa_select", "moba", "relu_select"})
    for (const char *arch : {"sm_80", "sm_89", "sm_90a"}) {
      SCOPED_TRACE(std::string(method) + " " + arch);
      ProgramImage image = lowered(method, arch, 8);
      std::vector<std::string> names;
      for (const Kernel &kernel : image.kernels)
        names.push_back(kernel.name);
      EXPECT_EQ(names, (std::vector<std::string>{"top_k", "attend"}));
      ASSERT_FALSE(image.kernels.empty());
      EXPECT_EQ(image.kernels.front().when, "1"); // rows of any length
      EXPECT_EQ(image.kernels.front().source.find("buffer["), std::string::npos);
      EXPECT_TRUE(image.buffers.empty());
      EXPECT_EQ(image.selectHeads, std::string(method) == "moba" ? 32 : 2);
      // One more block is one by score.
      image = lowered(method, arch, 9);
      EXPECT_GT(image.kernels.size(), 3u);
      EXPECT_FALSE(image.buffers.empty());
    }
}
