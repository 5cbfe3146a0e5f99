// Whole kernels as text: what the printer makes of the MiniCPM4.1 shape, reviewed as one would a
// hand-written kernel. `compiler_tests --update-goldens` rewrites the files.
#include "compiler/Compile.h"
#include "tests/compiler/Goldens.h"
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>

using namespace winnow;

static bool updateGoldens = false;

static std::string pathOf(const std::string &file) {
  return std::string(WINNOW_GOLDENS) + "/" + file;
}

bool winnow::updatesGoldens() { return updateGoldens; }

std::string winnow::goldenText(const std::string &file) {
  std::ifstream stream(pathOf(file));
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

void winnow::writeGolden(const std::string &file, const std::string &text) {
  std::ofstream(pathOf(file)) << text;
}

/// A printed kernel; `file` without its ending.
struct Golden {
  const char *file, *arch, *kernel, *config = "";
};

class Goldens : public testing::TestWithParam<Golden> {};

TEST_P(Goldens, PrintedKernel) {
  CompileRequest request;
  request.method = "infllm_v2";
  request.arch = GetParam().arch;
  request.config = *Config::parse(GetParam().config);
  auto lowered = lowerProgram(request);
  ASSERT_TRUE(lowered) << lowered.error().message;
  std::string source;
  for (const Kernel &kernel : lowered->first.kernels)
    if (kernel.name == GetParam().kernel)
      source = kernel.source;
  ASSERT_FALSE(source.empty()) << "the program has no kernel " << GetParam().kernel;
  const std::string file = std::string(GetParam().file) + ".cu";
  if (updatesGoldens())
    writeGolden(file, source);
  EXPECT_EQ(source, goldenText(file))
      << "the printed kernel changed: if that is meant, run `make goldens` and review";
}

INSTANTIATE_TEST_SUITE_P(
    Kernels, Goldens,
    testing::Values(Golden{"score", "sm_80", "score"}, Golden{"top_k_2048", "sm_80", "top_k_2048"},
                    Golden{"top_k_32768", "sm_80", "top_k_32768"},
                    Golden{"attend", "sm_80", "attend"},
                    Golden{"attend_pairs", "sm_80", "attend", "attend_rows=32"},
                    Golden{"attend_warpgroups", "sm_90a", "attend"},
                    Golden{"score_warpgroups", "sm_90a", "score"},
                    Golden{"summarize_images", "sm_90a", "summarize_0"}),
    [](const auto &info) { return std::string(info.param.file); });

int main(int argc, char **argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i)
    updateGoldens |= std::string(argv[i]) == "--update-goldens";
  return RUN_ALL_TESTS();
}
