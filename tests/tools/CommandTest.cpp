// Commands that need neither GPU nor CPU target: compile, methods, doctor, cache, help; and the
// NumPy files.
#include "reference/recorded/Npy.h"
#include "runtime/cache/Digest.h"
#include "runtime/program/Tunables.h"
#include "tests/tools/ToolRunner.h"
#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <set>

using namespace winnow;

namespace {

TEST(Run, helpTeaches) {
  ToolRunner tool;
  for (const char *name : {"run", "compile", "check", "bench", "report", "methods", "doctor",
                           "cache", "prepare", "tune", "tunables", "db"}) {
    Outcome outcome = tool.run({name, "--help"});
    EXPECT_EQ(outcome.exitCode, 0);
    EXPECT_NE(outcome.out.find("Examples:\n  winnow"), std::string::npos) << name;
    EXPECT_EQ(outcome.err, "");
  }
}

TEST(Doctor, tellsEverythingAsJson) {
  ToolRunner tool;
  tool.environment["WINNOW_LIBCUDA"] = "/nowhere/libcuda.so";
  Outcome outcome = tool.run({"doctor", "--json"});
  ASSERT_EQ(outcome.exitCode, 0);
  auto facts = nlohmann::json::parse(outcome.out, nullptr, false);
  ASSERT_TRUE(facts.is_object());
  EXPECT_FALSE(facts["driver"]["found"]);
  EXPECT_EQ(facts["cache"]["directory"], tool.path("cache"));
  bool listed = false;
  for (const auto &entry : facts["environment"])
    listed |= entry["name"] == "WINNOW_LIBCUDA" && entry["value"] == "/nowhere/libcuda.so";
  EXPECT_TRUE(listed);
}

TEST(Check, findsItsCases) {
  ToolRunner tool;
  Outcome outcome = tool.run({"check", "--list"});
  EXPECT_EQ(outcome.exitCode, 0);
  EXPECT_NE(outcome.out.find("adversarial_ids"), std::string::npos);
  EXPECT_EQ(tool.run({"check", "--device", "cpu", "--filter", "no_such_case"}).exitCode, 2);
  EXPECT_EQ(tool.run({"check", "--filter", "("}).exitCode, 2);
}

TEST(Check, drawsAreTheSameEveryTime) {
  ToolRunner tool;
  Outcome many = tool.run({"check", "--random", "40", "--seed", "5", "--list"});
  ASSERT_EQ(many.exitCode, 0) << many.err;
  EXPECT_EQ(std::count(many.out.begin(), many.out.end(), '\n'), 40);
  Outcome one =
      tool.run({"check", "--random", "40", "--seed", "5", "--random-only", "17", "--list"});
  EXPECT_NE(many.out.find(one.out), std::string::npos) << one.out;
  EXPECT_NE(tool.run({"check", "--random", "40", "--seed", "6", "--list"}).out, many.out);
  EXPECT_EQ(tool.run({"check", "--random", "40", "--random-only", "40", "--list"}).exitCode, 2);
}

TEST(Check, givesEveryCaseTheTunablesOfConfig) {
  ToolRunner tool;
  const std::vector<std::string> fused = {"check",    "--arch",       "sm_90a",
                                          "--config", "score_form=2", "--list"};
  Outcome all = tool.run({"check", "--list"}), some = tool.run(fused);
  ASSERT_EQ(some.exitCode, 0) << some.err;
  auto count = [](const Outcome &o) { return std::count(o.out.begin(), o.out.end(), '\n'); };
  EXPECT_GT(count(some), 20);
  EXPECT_NE(some.err.find(fmt::format("{} cases are left out", count(all) - count(some))),
            std::string::npos)
      << some.err;
  std::vector<std::string> drawn = fused;
  drawn.insert(drawn.end(), {"--random", "24"});
  Outcome draws = tool.run(drawn);
  EXPECT_EQ(count(draws), 24);
  size_t found = 0;
  for (size_t at = 0; (at = draws.out.find("score_form=2 score_tokens", at)) != std::string::npos;
       ++at)
    ++found;
  EXPECT_EQ(found, 24u);
  EXPECT_EQ(tool.run({"check", "--list", "--config", "score_form=7"}).exitCode, 2);
  EXPECT_EQ(tool.run({"check", "--list", "--config", "no_such_tunable=1"}).exitCode, 2);
}

TEST(Check, preparesWithoutAGpu) {
  ToolRunner tool;
  std::vector<std::string> words = {"check", "--random", "16", "--prepare", "--json"};
  EXPECT_EQ(tool.run(words).exitCode, 2); // for which architecture?
  words.insert(words.end(), {"--arch", "sm_80"});
  for (int cached : {0, 2}) {
    Outcome outcome = tool.run(words);
    ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
    auto report = nlohmann::json::parse(outcome.out, nullptr, false);
    EXPECT_EQ(report["programs"], 2);
    EXPECT_EQ(report["cached"], cached);
  }
}

TEST(Npy, roundTrip) {
  ToolRunner tool;
  std::vector<float> data = {1, 2.5, -3, 0.1f, 1e-8f, 6};
  for (const std::vector<size_t> &shape : {std::vector<size_t>{6}, {2, 3}, {1, 2, 3}, {0, 4}}) {
    ASSERT_TRUE(writeNpy(tool.path("x.npy"), "<f4", shape, data.data()));
    Result<NpyArray> array = readNpy(tool.path("x.npy"));
    ASSERT_TRUE(array) << array.error().message;
    EXPECT_EQ(array->shape, shape);
    EXPECT_EQ(array->data,
              std::string(reinterpret_cast<const char *>(data.data()), array->elements() * 4));
  }
}

// WINNOW_DUMP: the way of each kernel as files, of what was compiled and of what the cache had.
TEST(Compile, leavesItsTextsWhereAskedTo) {
  ToolRunner tool;
  tool.environment["WINNOW_DUMP"] = tool.path("dump");
  for (std::vector<std::string> further :
       {std::vector<std::string>{"select.mlir", "kernels.mlir", "attend.tile.mlir", "attend.ptx"},
        std::vector<std::string>{}}) {
    Outcome outcome = tool.run({"compile", "dense", "--arch", "sm_80"});
    ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
    std::filesystem::path folder;
    for (const auto &entry : std::filesystem::directory_iterator(tool.path("dump")))
      folder = entry.path();
    EXPECT_EQ(folder.filename().string().rfind("dense-sm_80-", 0), 0u) << folder;
    further.insert(further.end(), {"attend.cu", "attend.cubin", "program.txt"});
    for (const std::string &name : further)
      EXPECT_FALSE(contentOf((folder / name).string()).empty()) << name;
    EXPECT_NE(contentOf((folder / "attend.cu").string()).find("__global__"), std::string::npos);
    std::filesystem::remove_all(folder); // the second time the cache answers
  }
  tool.environment["WINNOW_DUMP"] = "/dev/null";
  Outcome outcome = tool.run({"compile", "dense", "--arch", "sm_80"});
  EXPECT_EQ(outcome.exitCode, 0);
  const size_t told = outcome.err.find("WINNOW_DUMP: cannot write /dev/null/dense-sm_80-");
  EXPECT_NE(told, std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find("WINNOW_DUMP", told + 1), std::string::npos) << "told once";
}

// WINNOW_EMULATED_CODE. Nothing can be compiled where there is no folder for temporary files.
TEST(Emulated, codeIsKeptForOtherProcesses) {
  namespace fs = std::filesystem;
  ToolRunner tool;
  const fs::path code = tool.path("code");
  tool.environment["WINNOW_EMULATED_CODE"] = code.string();
  int runs = 0;
  auto check = [&](bool mayCompile) {
    tool.environment["WINNOW_CACHE_DIR"] = tool.path("programs" + std::to_string(runs++));
    tool.environment["TMPDIR"] = mayCompile ? tool.path("") : "/nonexistent";
    return tool.run({"check", "--device", "emulated", "--arch", "sm_80", "--filter", "^dense_few$"})
               .exitCode == 0;
  };
  EXPECT_FALSE(check(false));
  ASSERT_TRUE(check(true));
  EXPECT_TRUE(check(false));
  std::vector<fs::path> kept(fs::directory_iterator(code), fs::directory_iterator{});
  ASSERT_EQ(kept.size(), 1u);

  // What is broken, of another text, or may have been written by somebody else is as none.
  std::string right = contentOf(kept[0].string());
  auto write = [&](const fs::path &path, const std::string &bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  };
  write(kept[0], right.substr(0, right.size() - 1));
  EXPECT_FALSE(check(false));
  EXPECT_TRUE(check(true));
  right = contentOf(kept[0].string());
  write(kept[0], sha256Hex("another.emulated" + right.substr(64)) + right.substr(64));
  EXPECT_FALSE(check(false));
  write(kept[0], right);
  EXPECT_TRUE(check(false));
  fs::permissions(kept[0], fs::perms::group_write, fs::perm_options::add);
  EXPECT_FALSE(check(false));
  fs::permissions(kept[0], fs::perms::group_write, fs::perm_options::remove);
  fs::permissions(code, fs::perms::others_write, fs::perm_options::add);
  EXPECT_FALSE(check(false));
  fs::permissions(code, fs::perms::others_write, fs::perm_options::remove);

  // Files of our own that are older than a week go, and no other.
  const fs::path old = code / "old.emulated", mine = code / "mine";
  fs::create_directories(code / "folder.emulated");
  for (const fs::path &path : {old, mine}) {
    write(path, "x");
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::hours(24 * 8));
  }
  EXPECT_TRUE(check(false));
  EXPECT_FALSE(fs::exists(old));
  EXPECT_TRUE(fs::exists(mine) && fs::exists(code / "folder.emulated") && fs::exists(kept[0]));
}

TEST(Compile, secondTimeFromTheCache) {
  ToolRunner tool;
  std::vector<std::string> words = {"compile", WINNOW_TEST_METHOD, "--arch", "sm_80,sm_89,sm_90a",
                                    "--json"};
  for (const char *expected : {"miss", "hit"}) {
    Outcome outcome = tool.run(words);
    ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
    auto result = nlohmann::json::parse(outcome.out, nullptr, false);
    ASSERT_TRUE(result.is_object()) << outcome.out;
    ASSERT_GE(result["kernels"].size(), 12u);
    for (const auto &kernel : result["kernels"]) {
      EXPECT_EQ(kernel["cache"], expected);
      EXPECT_GT(kernel["registers"], 0);
      EXPECT_GT(kernel["facts"].size(), 2u);
    }
  }
  auto listed = nlohmann::json::parse(tool.run({"cache", "list", "--json"}).out, nullptr, false);
  EXPECT_EQ(listed["entries"].size(), 3u);
  EXPECT_EQ(tool.run({"cache", "clear"}).exitCode, 0);
  listed = nlohmann::json::parse(tool.run({"cache", "list", "--json"}).out, nullptr, false);
  EXPECT_EQ(listed["entries"].size(), 0u);
}

TEST(Compile, everyStageAsFiles) {
  ToolRunner tool;
  Outcome outcome =
      tool.run({"compile", WINNOW_TEST_METHOD, "--arch", "sm_80", "--emit", "all", "-o", "out"});
  ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  std::set<std::string> kinds;
  for (const auto &entry : std::filesystem::directory_iterator(tool.path("out"))) {
    std::string name = entry.path().filename().string();
    EXPECT_GT(entry.file_size(), 100u) << name;
    for (const char *kind :
         {".select.mlir", ".kernels.mlir", ".tile.mlir", ".cu", ".ptx", ".cubin", ".winnow"})
      if (name.size() > std::string(kind).size() &&
          name.substr(name.size() - std::string(kind).size()) == kind)
        kinds.insert(kind);
  }
  EXPECT_EQ(kinds.size(), 7u);
}

TEST(Compile, keyIsStableAndFollowsTheSpec) {
  ToolRunner tool;
  auto key = [&](std::vector<std::string> more) {
    std::vector<std::string> words = {"compile", WINNOW_TEST_METHOD, "--arch", "sm_80",
                                      "--print-key"};
    words.insert(words.end(), more.begin(), more.end());
    Outcome outcome = tool.run(words);
    EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
    return outcome.out;
  };
  EXPECT_EQ(key({}), key({}));
  EXPECT_NE(key({}), key({"--topk", "95"}));
  EXPECT_NE(key({}), key({"--set", "local=32"}));
}

TEST(Report, aPageOrFiguresOrAClearLine) {
  ToolRunner tool;
  std::ofstream(tool.path("tuned.jsonl")) << "{\"schema\": 9}\n";
  Outcome outcome = tool.run({"report", "tuned.jsonl", "--json"});
  ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  auto figures = nlohmann::json::parse(outcome.out, nullptr, false);
  EXPECT_EQ(figures["head"]["keys"], 0);
  EXPECT_EQ(figures["head"]["faults"][0], "tuned.jsonl: line 1: schema 9; this build reads 1");
  EXPECT_EQ(tool.run({"report", tool.path("tuned.jsonl"), "-o", "page.html"}).exitCode, 0);
  EXPECT_EQ(tool.files(), (std::vector<std::string>{"page.html", "tuned.jsonl"}));
  for (const std::vector<std::string> &words :
       {std::vector<std::string>{"report", "tuned.jsonl"},
        {"report", "missing.jsonl", "-o", "page.html"},
        {"report", "tuned.jsonl", "-o", "no_folder/page.html"}}) {
    outcome = tool.run(words);
    EXPECT_EQ(outcome.exitCode, 2);
    EXPECT_EQ(outcome.out, "");
  }
}

TEST(Tunables, listAndWords) {
  ToolRunner tool;
  Outcome text = tool.run({"tunables"});
  ASSERT_EQ(text.exitCode, 0) << text.err;
  auto list = nlohmann::json::parse(tool.run({"tunables", "--json"}).out, nullptr, false);
  ASSERT_EQ(list.size(), kTunableCount);
  for (const auto &row : list) {
    EXPECT_NE(text.out.find(row["name"].get<std::string>()), std::string::npos);
    EXPECT_NE(text.out.find(row["meaning"].get<std::string>()), std::string::npos);
  }
  auto key = [&](const std::string &config) {
    Outcome outcome =
        tool.run({"compile", "dense", "--arch", "sm_90a", "--config", config, "--print-key"});
    EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
    return outcome.out;
  };
  EXPECT_EQ(key("attend_softmax=eager attend_split=no"), key("attend_softmax=1 attend_split=1"));
  EXPECT_NE(key("attend_softmax=eager"), key("attend_softmax=lazy"));
  Outcome unknown = tool.run({"compile", "dense", "--config", "attend_softmax=quick"});
  EXPECT_EQ(unknown.exitCode, 2);
  EXPECT_NE(unknown.err.find("takes eager (1), lazy (2)"), std::string::npos) << unknown.err;
}

TEST(Methods, listAndText) {
  ToolRunner tool;
  auto list = nlohmann::json::parse(tool.run({"methods", "--json"}).out, nullptr, false);
  ASSERT_GE(list.size(), 5u);
  for (const auto &method : list) {
    EXPECT_FALSE(method["description"].get<std::string>().empty());
    Outcome text = tool.run({"methods", method["name"]});
    EXPECT_NE(text.out.find("select.method @" + method["name"].get<std::string>()),
              std::string::npos);
  }
}

} // namespace
