// Whole kernels as text: what the printer makes of the MiniCPM4.1 shape, reviewed as one
// would a hand-written kernel. `compiler_tests --update-goldens` rewrites the files.
#include "compiler/Compile.h"
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>

using namespace winnow;

static bool updateGoldens = false;

static std::string readFile(const std::string &path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// A printed kernel; `file` without its ending.
struct Golden {
  const char *file, *kernel, *config;
};

class Goldens : public testing::TestWithParam<Golden> {};

TEST_P(Goldens, PrintedKernel) {
  CompileRequest request;
  request.method = "infllm_v2";
  request.arch = "sm_80";
  request.config = *Config::parse(GetParam().config);
  auto lowered = lowerProgram(request);
  ASSERT_TRUE(lowered) << lowered.error().message;
  std::string source;
  for (const Kernel &kernel : lowered->first.kernels)
    if (kernel.name == GetParam().kernel)
      source = kernel.source;
  ASSERT_FALSE(source.empty()) << "the program has no kernel " << GetParam().kernel;
  std::string path = std::string(WINNOW_GOLDENS) + "/" + GetParam().file + ".cu";
  if (updateGoldens)
    std::ofstream(path) << source;
  EXPECT_EQ(source, readFile(path))
      << "the printed kernel changed: if that is meant, run `make goldens` and review";
}

INSTANTIATE_TEST_SUITE_P(Kernels, Goldens,
                         testing::Values(Golden{"score", "score", ""},
                                         Golden{"top_k_2048", "top_k_2048", ""},
                                         Golden{"attend", "attend", ""},
                                         Golden{"attend_pairs", "attend", "attend_rows=32"}),
                         [](const auto &info) { return std::string(info.param.file); });

int main(int argc, char **argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i)
    updateGoldens |= std::string(argv[i]) == "--update-goldens";
  return RUN_ALL_TESTS();
}
