// The cache key and determinism: every field that changes code changes the key (F09, F11), nothing
// else does (F08), and the same request always gives the same key and the same text (F10).
#include "compiler/driver/Compile.h"
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <set>
#include <unistd.h>

using namespace winnow;

static CompileRequest request() {
  CompileRequest r;
  r.method = "infllm_v2";
  r.arch = "sm_80";
  return r;
}

static std::string keyOf(const CompileRequest &r) {
  auto key = programKey(r);
  EXPECT_TRUE(key) << key.error().message;
  return key ? *key : "";
}

TEST(Key, F09EveryFieldChangesIt) {
  std::vector<CompileRequest> variants(1, request());
  auto vary = [&](auto &&change) {
    variants.push_back(request());
    change(variants.back());
  };
  vary([](CompileRequest &r) { r.method = "nsa_select"; });
  vary([](CompileRequest &r) { r.arch = "sm_89"; });
  vary([](CompileRequest &r) { r.arch = "sm_90a"; });
  vary([](CompileRequest &r) { r.form = CodeForm::Ptx; });
  vary([](CompileRequest &r) { r.phase = "select"; });
  vary([](CompileRequest &r) { r.phase = "attend"; });
  vary([](CompileRequest &r) { r.spec.heads = 64; });
  vary([](CompileRequest &r) { r.spec.kvHeads = 4; });
  vary([](CompileRequest &r) { r.spec.headDim = 64; });
  vary([](CompileRequest &r) { r.spec.valueDim = 64; });
  vary([](CompileRequest &r) { r.spec.block = 128; });
  vary([](CompileRequest &r) { r.spec.topk = 64; });
  vary([](CompileRequest &r) { r.spec.dtype = Dtype::FP16; });
  vary([](CompileRequest &r) { r.spec.scale = 0.1; });
  vary([](CompileRequest &r) { r.spec.params["local"] = "3"; });
  vary([](CompileRequest &r) { r.spec.params["local"] = "4"; });
  vary([](CompileRequest &r) { r.config.attendStages = 3; });
  vary([](CompileRequest &r) { r.config.attendWarps = 4; });
  vary([](CompileRequest &r) { r.config.attendProducers = 2; });
  vary([](CompileRequest &r) { r.config.scoreChunkMiB = 64; });
  std::set<std::string> keys;
  for (const CompileRequest &variant : variants)
    keys.insert(keyOf(variant));
  EXPECT_EQ(keys.size(), variants.size());
}

TEST(Key, F08PathsDoNotChangeIt) {
  auto folder = std::filesystem::temp_directory_path() / ("winnow-key-" + std::to_string(getpid()));
  std::filesystem::create_directories(folder / "other");
  auto method = loadMethod("infllm_v2");
  ASSERT_TRUE(method);
  CompileRequest first = request(), second = request();
  first.method = folder / "a.mlir";
  second.method = folder / "other" / "b.mlir";
  std::ofstream(first.method) << method->text;
  std::ofstream(second.method) << method->text;
  EXPECT_EQ(keyOf(first), keyOf(second));
  EXPECT_EQ(keyOf(first), keyOf(request()));
  std::filesystem::remove_all(folder);
}

// The image carries what its key was made of, so that a miss can be explained; nothing of it is a
// path or a time.
TEST(Key, F08TheImageSaysWhatItsKeyWasMadeOf) {
  CompileRequest small = request();
  small.method = "dense";
  small.spec.headDim = 64;
  auto ingredients = programIngredients(small);
  ASSERT_TRUE(ingredients);
  EXPECT_EQ(keyFrom(*ingredients), keyOf(small));
  std::set<std::string> names;
  for (const auto &[name, content] : *ingredients) {
    names.insert(name);
    EXPECT_EQ(content.find('/'), std::string::npos) << name;
  }
  EXPECT_EQ(names, (std::set<std::string>{"arch", "config", "form", "generator", "headers",
                                          "method", "nvrtc", "spec"}));
  auto image = compileProgram(small);
  ASSERT_TRUE(image);
  EXPECT_EQ(image->ingredients, *ingredients);
}

TEST(Key, F10TextIsTheSameEveryTime) {
  auto first = lowerProgram(request());
  ASSERT_TRUE(first);
  for (int i = 0; i < 20; ++i) {
    auto again = lowerProgram(request());
    ASSERT_TRUE(again);
    ASSERT_EQ(first->second.size(), again->second.size());
    for (size_t s = 0; s < first->second.size(); ++s)
      EXPECT_EQ(first->second[s].text, again->second[s].text);
  }
}
