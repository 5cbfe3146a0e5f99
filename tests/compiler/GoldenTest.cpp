// Whole programs as text: how they are launched, and what the printer makes of their kernels,
// reviewed as one would a hand-written kernel. `compiler_tests --update-goldens` rewrites the
// files.
#include "compiler/driver/Compile.h"
#include "tests/compiler/Goldens.h"
#include "tests/compiler/RecipeText.h"
#include <algorithm>
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

/// A program: its recipe is goldens/NAME.recipe, its printed kernels are files of their own.
struct Golden {
  const char *name, *arch, *method, *spec, *config;
  std::vector<std::pair<const char *, const char *>> kernels; ///< name, file without its ending
};

static std::ostream &operator<<(std::ostream &stream, const Golden &golden) {
  return stream << golden.name;
}

class Goldens : public testing::TestWithParam<Golden> {};

void winnow::expectGolden(const std::string &file, const std::string &text, const char *what) {
  if (updatesGoldens())
    writeGolden(file, text);
  EXPECT_EQ(text, goldenText(file))
      << "the " << what << " changed: if that is meant, run `make goldens` and review";
}

TEST_P(Goldens, RecipeAndPrintedKernels) {
  const Golden &golden = GetParam();
  CompileRequest request;
  request.method = golden.method;
  request.arch = golden.arch;
  request.spec = *Spec::parse(golden.spec);
  request.config = *Config::parse(golden.config);
  auto lowered = lowerProgram(request);
  ASSERT_TRUE(lowered) << lowered.error().message;
  const ProgramImage &image = lowered->first;
  expectGolden(std::string(golden.name) + ".recipe",
               "# How " + image.method + " is launched on " + image.arch +
                   ".\nspec: " + image.spec.text() + "\nconfig: " + image.config.text() + "\n" +
                   recipeText(image),
               "recipe");
  for (auto [name, file] : golden.kernels) {
    const auto kernel = std::find_if(image.kernels.begin(), image.kernels.end(),
                                     [&, name = name](const Kernel &k) { return k.name == name; });
    ASSERT_NE(kernel, image.kernels.end()) << "the program has no kernel " << name;
    expectGolden(std::string(file) + ".cu", kernel->source, "printed kernel");
  }
}

// The first three: MiniCPM4.1. Then what these do not have: fp32 scores and their top_k; the
// published kernel's visibility; short sequences that attend to every key; rows that a host keeps;
// fp8 keys; gradients, on both levels.
INSTANTIATE_TEST_SUITE_P(
    Programs, Goldens,
    testing::Values(Golden{"infllm_v2_sm_80",
                           "sm_80",
                           "infllm_v2",
                           "",
                           "",
                           {{"score", "score"},
                            {"top_k_2048", "top_k_2048"},
                            {"top_k_32768", "top_k_32768"},
                            {"attend", "attend"}}},
                    Golden{"infllm_v2_sm_80_pairs",
                           "sm_80",
                           "infllm_v2",
                           "",
                           "attend_rows=32",
                           {{"attend", "attend_pairs"}}},
                    Golden{"infllm_v2_sm_90a",
                           "sm_90a",
                           "infllm_v2",
                           "",
                           "",
                           {{"attend", "attend_warpgroups"},
                            {"score", "score_warpgroups"},
                            {"summarize_0", "summarize_images"}}},
                    Golden{"nsa_select_sm_80",
                           "sm_80",
                           "nsa_select",
                           "topk=16",
                           "",
                           {{"score", "score_fp32"}, {"top_k_32768", "top_k_fp32_32768"}}},
                    Golden{"infllm_v2_sm_80_compat",
                           "sm_80",
                           "infllm_v2",
                           "set.compat=infllmv2 set.dense_len=8192",
                           "",
                           {{"score", "score_compat"}, {"attend", "attend_dense_len"}}},
                    Golden{"infllm_v2_sm_80_paged",
                           "sm_80",
                           "infllm_v2",
                           "paged=1",
                           "",
                           {{"append", "append"},
                            {"weigh", "weigh"},
                            {"top_k_decode_16x1", "top_k_decode"},
                            {"attend_decode", "attend_decode"},
                            {"merge", "merge"}}},
                    Golden{"infllm_v2_sm_90a_paged",
                           "sm_90a",
                           "infllm_v2",
                           "paged=1",
                           "",
                           {{"attend", "attend_pages"}}},
                    Golden{"infllm_v2_sm_90a_step",
                           "sm_90a",
                           "infllm_v2",
                           "paged=1",
                           "decode_form=step",
                           {{"decode_step", "decode_step"}}},
                    Golden{"infllm_v2_sm_90a_paged_auto",
                           "sm_90a",
                           "infllm_v2",
                           "paged=1 set.dense_len=auto_12288_1x73869_16x11061_64x7642",
                           "",
                           {{"attend_decode", "attend_decode_auto"}, {"merge", "merge_auto"}}},
                    Golden{"relu_select_sm_80_paged",
                           "sm_80",
                           "relu_select",
                           "paged=1",
                           "",
                           {{"score_decode", "score_decode"}}},
                    Golden{"infllm_v2_sm_90a_fp8",
                           "sm_90a",
                           "infllm_v2",
                           "paged=1 kv_dtype=fp8_e4m3",
                           "",
                           {{"append", "append_fp8"},
                            {"attend", "attend_fp8"},
                            {"attend_decode", "attend_decode_fp8"}}},
                    Golden{"infllm_v2_sm_80_backward",
                           "sm_80",
                           "infllm_v2",
                           "backward=1",
                           "",
                           {{"backward_rows", "backward_rows"},
                            {"backward_marks", "backward_marks"},
                            {"backward_lists", "backward_lists"},
                            {"backward_queries", "backward_queries"},
                            {"backward_keys", "backward_keys"},
                            {"backward_join", "backward_join"}}},
                    Golden{"infllm_v2_sm_90a_backward",
                           "sm_90a",
                           "infllm_v2",
                           "backward=1",
                           "",
                           {{"backward_queries", "backward_queries_warpgroups"},
                            {"backward_keys", "backward_keys_warpgroups"}}},
                    Golden{"infllm_v2_sm_90a_stored",
                           "sm_90a",
                           "infllm_v2",
                           "backward=1",
                           "backward_changes=stored",
                           {{"backward_places", "backward_places"},
                            {"backward_keys", "backward_keys_stored"},
                            {"backward_queries", "backward_queries_stored"}}},
                    Golden{"infllm_v2_sm_89_fp8",
                           "sm_89",
                           "infllm_v2",
                           "paged=1 kv_dtype=fp8_e4m3",
                           "",
                           {{"summarize_0", "summarize_fp8"}}}),
    [](const auto &info) { return std::string(info.param.name); });

int main(int argc, char **argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i)
    updateGoldens |= std::string(argv[i]) == "--update-goldens";
  return RUN_ALL_TESTS();
}
