// The cache as a user meets it: lists of programs prepared, moved, bundled, checked, explained; and
// fresh processes that agree on every byte (F06, F08, F10, F16, F22, F38).
#include "tests/tools/ToolRunner.h"
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <set>

using namespace winnow;
namespace fs = std::filesystem;

namespace {

nlohmann::json parse(const std::string &text) {
  return nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
}

class CacheTool : public testing::Test {
protected:
  void write(const std::string &name, const std::string &text) {
    std::ofstream(tool.path(name)) << text;
  }
  /// Compiles two small programs into the runner's cache.
  void prepareTwo() {
    write("specs.json", R"([{"method": "dense", "arch": "sm_80", "head_dim": 64},
                            {"method": "dense", "arch": "sm_80", "head_dim": 64, "block": 32}])");
    Outcome outcome = tool.run({"prepare", "specs.json", "--json"});
    ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
    ASSERT_EQ(parse(outcome.out)["programs"], 2);
  }
  std::vector<fs::path> entries(const std::string &directory) {
    std::vector<fs::path> paths;
    for (const auto &entry : fs::directory_iterator(tool.path(directory)))
      if (entry.path().extension() == ".winnow")
        paths.push_back(entry.path());
    return paths;
  }
  static void damage(const fs::path &path, std::streamoff fromEnd) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-fromEnd, std::ios::end);
    file.put('\x55');
  }

  ToolRunner tool;
};

TEST_F(CacheTool, F08ACacheThatWasMovedHitsAlways) {
  prepareTwo();
  ToolRunner other; // another prefix, working directory and HOME
  fs::create_directories(other.path("home/.cache"));
  fs::copy(tool.path("cache"), other.path("home/.cache/winnow"));
  fs::permissions(other.path("home/.cache/winnow"), fs::perms::owner_all);
  for (const auto &entry : fs::directory_iterator(other.path("home/.cache/winnow")))
    fs::last_write_time(entry, fs::file_time_type::clock::now() - std::chrono::hours(24 * 400));
  fs::copy(tool.path("specs.json"), other.path("again.json"));
  other.environment["WINNOW_CACHE_DIR"] = "";
  other.environment["HOME"] = other.path("home");
  other.environment["LANG"] = "de_DE.UTF-8";
  Outcome outcome = other.run({"prepare", other.path("again.json"), "--json"});
  ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  EXPECT_EQ(parse(outcome.out)["cached"], 2) << outcome.out;
  EXPECT_EQ(outcome.err, "");
}

TEST_F(CacheTool, F08BundlesTravelAndServeWithoutACacheOfTheirOwn) {
  prepareTwo();
  ASSERT_EQ(tool.run({"cache", "export", "all.bundle"}).exitCode, 0);
  tool.environment["WINNOW_CACHE_DIR"] = tool.path("empty");
  tool.environment["WINNOW_CACHE_BUNDLES"] = tool.path("all.bundle");
  EXPECT_EQ(parse(tool.run({"prepare", "specs.json", "--json"}).out)["cached"], 2);
  tool.environment["WINNOW_CACHE_BUNDLES"] = "";
  EXPECT_EQ(parse(tool.run({"cache", "import", "all.bundle", "--json"}).out)["imported"], 2);
  EXPECT_EQ(parse(tool.run({"cache", "import", "all.bundle", "--json"}).out)["present"], 2);
  EXPECT_EQ(parse(tool.run({"prepare", "specs.json", "--json"}).out)["cached"], 2);
  EXPECT_EQ(tool.run({"cache", "export", "x", "--method", "moba"}).exitCode, 2);
  EXPECT_EQ(tool.run({"cache", "export", "x", "--arch", "sm_90a"}).exitCode, 2);
  EXPECT_FALSE(fs::exists(tool.path("x")));
  EXPECT_EQ(tool.run({"cache", "import", "none"}).exitCode, 2);
  EXPECT_EQ(tool.run({"cache", "import", "specs.json"}).exitCode, 2);
  fs::permissions(tool.path("all.bundle"), fs::perms::others_write, fs::perm_options::add);
  Outcome planted = tool.run({"cache", "import", "all.bundle"});
  EXPECT_EQ(planted.exitCode, 2);
  EXPECT_NE(planted.err.find("can be written by others"), std::string::npos) << planted.err;
}

TEST_F(CacheTool, F06VerifyDeletesWhatIsDamagedAndReportsWhatItMayNot) {
  prepareTwo();
  ASSERT_EQ(tool.run({"cache", "export", "all.bundle"}).exitCode, 0);
  EXPECT_EQ(tool.run({"cache", "verify"}).exitCode, 0);
  damage(entries("cache")[0], 10);
  Outcome outcome = tool.run({"cache", "verify", "--json"});
  EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
  EXPECT_EQ(parse(outcome.out)["deleted"].size(), 1u);
  EXPECT_EQ(entries("cache").size(), 1u);
  damage(tool.path("all.bundle"), 10);
  tool.environment["WINNOW_CACHE_BUNDLES"] = tool.path("all.bundle");
  outcome = tool.run({"cache", "verify", "--json"});
  EXPECT_EQ(outcome.exitCode, 1);
  EXPECT_EQ(parse(outcome.out)["damaged"].size(), 1u);
  EXPECT_EQ(parse(outcome.out)["programs"], 3);
  damage(tool.path("all.bundle"),
         static_cast<std::streamoff>(fs::file_size(tool.path("all.bundle"))));
  outcome = tool.run({"cache", "verify", "--json"});
  EXPECT_EQ(outcome.exitCode, 1);
  outcome = tool.run({"cache", "stat", "--json"});
  EXPECT_EQ(outcome.exitCode, 0);
  auto layers = parse(outcome.out)["layers"];
  ASSERT_EQ(layers.size(), 2u);
  EXPECT_EQ(layers[0]["programs"], 1);
  EXPECT_TRUE(layers[0]["used"]);
  EXPECT_FALSE(layers[1]["used"]);
}

TEST_F(CacheTool, F38VerifyReportsWhatItDoesNotTrustAndDeletesNoneOfIt) {
  prepareTwo();
  fs::permissions(entries("cache")[0], fs::perms::others_write, fs::perm_options::add);
  Outcome outcome = tool.run({"cache", "verify", "--json"});
  EXPECT_EQ(outcome.exitCode, 1);
  EXPECT_TRUE(parse(outcome.out)["deleted"].empty());
  EXPECT_EQ(parse(outcome.out)["damaged"].size(), 1u);
  EXPECT_EQ(entries("cache").size(), 2u);
  fs::permissions(tool.path("cache"), fs::perms::others_write, fs::perm_options::add);
  outcome = tool.run({"cache", "verify", "--json"});
  EXPECT_EQ(outcome.exitCode, 1);
  EXPECT_EQ(parse(outcome.out)["programs"], 0);
  EXPECT_EQ(parse(outcome.out)["damaged"].size(), 1u);
}

TEST_F(CacheTool, AnAbsurdLimitIsNoSmallOne) {
  prepareTwo();
  EXPECT_EQ(tool.run({"cache", "gc", "--limit-mib", "17592186044416"}).exitCode, 2); // 2^64 bytes
  EXPECT_EQ(entries("cache").size(), 2u);
}

TEST_F(CacheTool, F24LookingIsNotUsingAndGcKeepsWhatWasUsed) {
  prepareTwo();
  const auto longAgo = fs::file_time_type::clock::now() - std::chrono::hours(1000);
  for (const fs::path &entry : entries("cache"))
    fs::last_write_time(entry, longAgo);
  write("one.json", R"([{"method": "dense", "arch": "sm_80", "head_dim": 64, "block": 32}])");
  for (const char *looking : {"ls", "list", "stat", "verify"})
    ASSERT_EQ(tool.run({"cache", looking}).exitCode, 0);
  for (const fs::path &entry : entries("cache"))
    EXPECT_EQ(fs::last_write_time(entry), longAgo);
  ASSERT_EQ(tool.run({"prepare", "one.json"}).exitCode, 0);
  EXPECT_EQ(parse(tool.run({"cache", "gc", "--json"}).out)["removed"], 0);
  // Two programs of some 10 KB; a limit between one and two cannot be told in MiB, so by variable.
  auto listed = parse(tool.run({"cache", "ls", "--json"}).out)["entries"];
  ASSERT_EQ(listed.size(), 2u);
  EXPECT_NE(listed[0]["spec"].get<std::string>().find("block=32"), std::string::npos);
  EXPECT_EQ(parse(tool.run({"cache", "prune", "--limit-mib", "0", "--json"}).out)["removed"], 2);
}

TEST_F(CacheTool, WhyMissNamesWhatDiffers) {
  prepareTwo();
  auto why = [&](std::vector<std::string> more) {
    std::vector<std::string> words = {"cache", "why-miss", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    Outcome outcome = tool.run(words);
    EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
    return parse(outcome.out)[0];
  };
  EXPECT_TRUE(why({"dense", "--arch", "sm_80", "--head-dim", "64"})["hit"]);
  auto miss = why({"dense", "--arch", "sm_80", "--head-dim", "64", "--dtype", "fp16"});
  EXPECT_FALSE(miss["hit"]);
  ASSERT_EQ(miss["differences"].size(), 1u) << miss.dump(2);
  EXPECT_EQ(miss["differences"][0]["ingredient"], "spec");
  EXPECT_EQ(miss["differences"][0]["field"], "dtype");
  EXPECT_EQ(miss["differences"][0]["wanted"], "fp16");
  EXPECT_EQ(miss["differences"][0]["cached"], "bf16");
  miss = why({"dense", "--arch", "sm_89", "--head-dim", "64", "--config", "attend_stages=2"});
  std::set<std::string> names;
  for (const auto &difference : miss["differences"])
    names.insert(difference["ingredient"].get<std::string>() + " " +
                 difference["field"].get<std::string>());
  EXPECT_EQ(names, (std::set<std::string>{"arch ", "config attend_stages"}));
  ASSERT_EQ(tool.run({"methods", "dense"}).exitCode, 0);
  write("mine.mlir", tool.run({"methods", "dense"}).out + "// another text\n");
  miss = why({"mine.mlir", "--arch", "sm_80", "--head-dim", "64"});
  ASSERT_EQ(miss["differences"].size(), 1u);
  EXPECT_EQ(miss["differences"][0]["ingredient"], "method");
  tool.environment["WINNOW_CACHE_DIR"] = tool.path("empty");
  EXPECT_TRUE(why({"dense", "--arch", "sm_80"})["nearest"].is_null());
}

TEST_F(CacheTool, F16PrepareNamesTheEntryThatIsWrong) {
  auto refusal = [&](const std::string &list) {
    write("specs.json", list);
    Outcome outcome = tool.run({"prepare", "specs.json"});
    EXPECT_EQ(outcome.exitCode, 2) << list;
    EXPECT_EQ(outcome.errLines(), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    return outcome.err;
  };
  auto names = [](const std::string &text, const std::string &part) {
    return text.find(part) != std::string::npos;
  };
  EXPECT_TRUE(names(refusal("{"), "specs.json: this is no JSON list of specs"));
  EXPECT_TRUE(names(refusal(R"([{"method": "dense"}, 7])"), "entry 1: it must be an object"));
  EXPECT_TRUE(names(refusal(R"([{"heads": 4}])"), "entry 0: it has no method"));
  EXPECT_TRUE(names(refusal(R"([{"method": "dense", "topkk": 4}])"),
                    "entry 0 (dense): no field is called 'topkk'; known: method, arch"));
  EXPECT_TRUE(names(refusal(R"([{"method": "dense", "par": {}}])"), "no field is called 'par'"));
  EXPECT_TRUE(names(refusal(R"([{"method": "dense", "heads": "4"}])"), "heads must be a whole"));
  EXPECT_TRUE(names(refusal(R"([{"method": "dense", "heads": -4}])"), "heads must be a whole"));
  EXPECT_TRUE(names(refusal(R"([{"method": "dense", "heads": 1e300}])"), "heads must be a whole"));
  EXPECT_TRUE(names(refusal(R"([{"method": "dense", "heads": 5}])"), "cannot share"));
  EXPECT_TRUE(names(refusal(R"([{"method": "dense", "arch": []}])"), "arch is an empty list"));
  EXPECT_TRUE(names(refusal(R"([{"method": "dense", "dtype": "int8"}])"), "dtype 'int8'"));
  EXPECT_TRUE(names(refusal(R"([{"method": "dense", "config": "speed=1"}])"), "called 'speed'"));
  EXPECT_TRUE(names(refusal(R"([{"method": "dense", "config": {"speed": 1}}])"), "called 'speed'"));
  EXPECT_TRUE(names(refusal(R"([{"method": "dense", "params": {"a": []}}])"), "params.a must be"));
  write("specs.json", R"([{"method": "dense", "arch": "sm_1"}])");
  EXPECT_EQ(tool.run({"prepare", "specs.json"}).exitCode, 3);
  EXPECT_EQ(tool.run({"prepare", "none.json"}).exitCode, 2);
  // One that does not compile keeps no other from being compiled.
  write("specs.json", R"([{"method": "dense", "arch": "sm_80", "head_dim": 80},
                          {"method": "dense", "arch": "sm_80", "head_dim": 64}])");
  Outcome outcome = tool.run({"prepare", "specs.json", "--json"});
  EXPECT_EQ(outcome.exitCode, 4);
  EXPECT_NE(outcome.err.find("head_dim=80"), std::string::npos) << outcome.err;
  EXPECT_EQ(entries("cache").size(), 1u);
  EXPECT_EQ(parse(outcome.out)["failures"].size(), 1u);
}

TEST_F(CacheTool, F10AHundredFreshProcessesGiveTheSameKeyAndCudaText) {
  std::set<std::string> texts, keys;
  for (int i = 0; i < 100; ++i) {
    // A different place and size of the environment moves every address of the process.
    tool.environment["WINNOW_PADDING"] = std::string(static_cast<size_t>(i) * 37 % 4000 + 1, 'x');
    texts.insert(tool.run({"compile", "infllm_v2", "--arch", "sm_90a", "--emit", "cuda"}).out);
    if (i % 4 == 0)
      keys.insert(tool.run({"compile", "infllm_v2", "--arch", "sm_90a", "--print-key"}).out);
  }
  EXPECT_EQ(texts.size(), 1u);
  EXPECT_EQ(keys.size(), 1u);
  EXPECT_GT(texts.begin()->size(), 1000u);
  EXPECT_GT(keys.begin()->size(), 64u);
}

TEST_F(CacheTool, F22AnEmptyEnvironmentNeedsOnlyNvrtc) {
  auto facts = parse(tool.run({"doctor", "--json"}).out);
  ASSERT_TRUE(facts["nvrtc"]["found"]);
  tool.environment.clear();
  Outcome nowhere = tool.run({"compile", "dense", "--head-dim", "64", "--arch", "sm_80", "--nvrtc",
                              facts["nvrtc"]["path"].get<std::string>(), "--json"});
  ASSERT_EQ(nowhere.exitCode, 0) << nowhere.err;
  EXPECT_EQ(parse(nowhere.out)["kernels"][0]["cache"], "miss");
  EXPECT_EQ(nowhere.errLines(), 1) << nowhere.err; // that kernels live in memory only
  EXPECT_NE(nowhere.err.find("memory only"), std::string::npos);
}

} // namespace
