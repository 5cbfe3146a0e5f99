// Files that a user names, as the tool meets them: outputs onto what is no regular file, inputs of
// absurd size, and text in files that plays with the terminal.
#include "runtime/tuned/TuningRecord.h"
#include "tests/tools/ToolRunner.h"
#include <fstream>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

using namespace winnow;
namespace fs = std::filesystem;

namespace {

class UserFiles : public testing::Test {
protected:
  void SetUp() override { tool.environment["XDG_DATA_HOME"] = tool.path("data"); }

  static TuningRecord record() {
    TuningRecord r;
    r.key = {"attend", WINNOW_TEST_METHOD, Spec(), 131072, 32, "sm_90a", "NVIDIA H200"};
    r.config = *Config::parse("attend_stages=3");
    r.ms = 20.5, r.low = 20, r.high = 21, r.defaultMs = 22;
    r.rounds = 9;
    r.date = "2026-11-25";
    return r;
  }
  void write(const std::string &name, const std::string &text) {
    std::ofstream(tool.path(name)) << text;
  }
  void makeHuge(const std::string &name) {
    write(name, "");
    ASSERT_EQ(::truncate(tool.path(name).c_str(), off_t(8) << 40), 0);
  }
  mode_t modeOf(const std::string &name) const {
    struct stat info{};
    return ::lstat(tool.path(name).c_str(), &info) == 0 ? info.st_mode : 0;
  }
  void prepareOne() {
    write("specs.json", R"([{"method": "dense", "arch": "sm_80", "head_dim": 64}])");
    Outcome outcome = tool.run({"prepare", "specs.json"});
    ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  }

  ToolRunner tool;
};

TEST_F(UserFiles, OutputsNeverReplaceALinkADeviceOrAFifo) {
  prepareOne();
  write("a.jsonl", recordLine(record()) + "\n");
  fs::create_directory(tool.path("real"));
  const bool hasDevice =
      ::mknod(tool.path("full").c_str(), S_IFCHR | 0666, makedev(1, 7)) == 0; // takes root
  ASSERT_EQ(::mkfifo(tool.path("fifo").c_str(), 0600), 0);
  fs::create_symlink("real/target", tool.path("link"));
  const std::vector<std::vector<std::string>> commands = {
      {"db", "merge", "a.jsonl", "-o"},
      {"db", "export", "a.jsonl", "-o"},
      {"report", "a.jsonl", "-o"},
      {"cache", "export"},
      {"model", "choose", "dense", "--device-profile", "a100", "--space", "quick", "--head-dim",
       "64", "--seq", "16384", "--db"}};
  for (std::vector<std::string> words : commands) {
    const std::string what = words[0] + " " + words[1];
    auto writeTo = [&](const char *name) {
      words.emplace_back(name);
      Outcome outcome = tool.run(words);
      words.pop_back();
      return outcome;
    };
    fs::remove(tool.path("real/target"));
    Outcome outcome = writeTo("link");
    EXPECT_EQ(outcome.exitCode, 0) << what << ": " << outcome.err;
    EXPECT_FALSE(contentOf(tool.path("real/target")).empty()) << what;
    EXPECT_TRUE(S_ISLNK(modeOf("link"))) << what;
    outcome = writeTo("fifo");
    EXPECT_EQ(outcome.exitCode, 2) << what;
    EXPECT_NE(outcome.err.find("cannot write fifo: nobody reads"), std::string::npos)
        << what << ": " << outcome.err;
    EXPECT_TRUE(S_ISFIFO(modeOf("fifo"))) << what;
    if (!hasDevice)
      continue;
    outcome = writeTo("full");
    EXPECT_EQ(outcome.exitCode, 2) << what;
    EXPECT_NE(outcome.err.find("cannot write full: "), std::string::npos) << what << outcome.err;
    EXPECT_TRUE(S_ISCHR(modeOf("full"))) << what;
  }
  // compile names its files itself; one of them may be a link.
  fs::create_directory(tool.path("out"));
  Outcome outcome = tool.run(
      {"compile", "dense", "--arch", "sm_80", "--head-dim", "64", "--emit", "cuda", "-o", "out"});
  ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  const fs::path emitted = fs::directory_iterator(tool.path("out"))->path();
  const std::string text = contentOf(emitted);
  fs::remove(emitted);
  fs::create_symlink("../real/kernel", emitted);
  outcome = tool.run(
      {"compile", "dense", "--arch", "sm_80", "--head-dim", "64", "--emit", "cuda", "-o", "out"});
  EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
  EXPECT_TRUE(fs::is_symlink(emitted));
  EXPECT_EQ(contentOf(tool.path("real/kernel")), text);
}

TEST_F(UserFiles, InputsOfEightTerabytesAreRefusedInOneLine) {
  prepareOne();
  makeHuge("huge");
  makeHuge("huge.mlir");
  write("a.jsonl", recordLine(record()) + "\n");
  const std::vector<std::vector<std::string>> commands = {
      {"db", "ls", "--db", "huge"},
      {"db", "merge", "a.jsonl", "huge", "-o", "out"},
      {"db", "import", "huge"},
      {"db", "verify", "huge"},
      {"report", "huge", "-o", "out"},
      {"prepare", "huge"},
      {"tune", "huge.mlir", "--db", "out"},
      {"run", "--image", "huge"},
      {"compile", "huge.mlir", "--arch", "sm_80"},
      {"cache", "import", "huge"}};
  for (const std::vector<std::string> &words : commands) {
    Outcome outcome = tool.run(words);
    EXPECT_EQ(outcome.exitCode, 2) << words[0] << " " << words[1] << ": " << outcome.err;
    EXPECT_EQ(outcome.errLines(), 1) << words[0] << " " << words[1] << ": " << outcome.err;
    EXPECT_NE(outcome.err.find("huge"), std::string::npos) << outcome.err;
    EXPECT_EQ(modeOf("out"), 0u) << words[0] << " " << words[1];
  }
  // In the cache it is one damaged program among others.
  makeHuge("cache/" + std::string(64, 'a') + ".winnow");
  fs::permissions(tool.path("cache/" + std::string(64, 'a') + ".winnow"), fs::perms::owner_all);
  Outcome listed = tool.run({"cache", "ls"});
  EXPECT_EQ(listed.exitCode, 0) << listed.err;
  EXPECT_NE(listed.out.find("dense"), std::string::npos) << listed.out;
  EXPECT_NE(listed.err.find("too many for a program image"), std::string::npos) << listed.err;
}

TEST_F(UserFiles, AMethodThatIsAFifoDoesNotHang) {
  ASSERT_EQ(::mkfifo(tool.path("m.mlir").c_str(), 0600), 0);
  Outcome outcome = tool.run({"compile", "m.mlir", "--arch", "sm_80"});
  EXPECT_EQ(outcome.exitCode, 2);
  EXPECT_NE(outcome.err.find("m.mlir: it is no regular file"), std::string::npos) << outcome.err;
}

TEST_F(UserFiles, F38ImportedRecordsAreForTheUserAlone) {
  write("a.jsonl", recordLine(record()) + "\n");
  const mode_t mask = ::umask(0);
  Outcome imported = tool.run({"db", "import", "a.jsonl"});
  Outcome merged = tool.run({"db", "merge", "a.jsonl", "-o", "b.jsonl"});
  ::umask(mask);
  EXPECT_EQ(imported.exitCode, 0) << imported.err;
  EXPECT_EQ(modeOf("data/winnow/tuned.jsonl") & 0777, 0600u);
  EXPECT_EQ(modeOf("data/winnow") & 0777, 0700u);
  EXPECT_EQ(merged.exitCode, 0) << merged.err;
  EXPECT_EQ(modeOf("b.jsonl") & 0777, 0644u);

  const std::string before = contentOf(tool.path("data/winnow/tuned.jsonl"));
  ASSERT_EQ(::chmod(tool.path("data/winnow/tuned.jsonl").c_str(), 0666), 0);
  Outcome refused = tool.run({"db", "import", "a.jsonl"}); // would take over what others wrote
  EXPECT_EQ(refused.exitCode, 2);
  EXPECT_NE(refused.err.find("chmod go-w"), std::string::npos) << refused.err;
  EXPECT_EQ(contentOf(tool.path("data/winnow/tuned.jsonl")), before);
  Outcome listed = tool.run({"db", "ls"});
  EXPECT_NE(listed.err.find("skipped: " + tool.path("data/winnow/tuned.jsonl")), std::string::npos)
      << listed.err;
}

TEST_F(UserFiles, NoControlCharacterOfAFileReachesTheTerminal) {
  TuningRecord evil = record();
  evil.key.device = "GPU\x1b[2J\x1b]0;owned\a\r\nline";
  evil.key.method = "m\x1b[31m";
  write("evil.jsonl", recordLine(evil) + "\n{\"schema\":1,\"\x1b[2J\n");
  write("other.jsonl", "");
  write("evil.mlir", "select.method @m doc \"\x1b[2J\" (%q, %k, %v) { \x1b[2J\n}\n");
  fs::create_directory(tool.path("a\x1b[2J"));
  const std::vector<std::vector<std::string>> commands = {
      {"db", "ls", "--db", "evil.jsonl"},          {"db", "show", "attend", "--db", "evil.jsonl"},
      {"db", "diff", "evil.jsonl", "other.jsonl"}, {"db", "verify", "evil.jsonl"},
      {"report", "evil.jsonl", "-o", "page.html"}, {"methods", "evil.mlir"},
      {"compile", "evil.mlir", "--arch", "sm_80"}, {"db", "ls", "--db", "a\x1b[2J"}};
  for (const std::vector<std::string> &words : commands) {
    Outcome outcome = tool.run(words);
    const std::string shown = outcome.out + outcome.err;
    EXPECT_FALSE(shown.empty()) << words[0] << " " << words[1];
    for (char c : shown)
      ASSERT_TRUE(c == '\n' || c == '\t' || static_cast<unsigned char>(c) >= 0x20)
          << words[0] << " " << words[1] << " printed " << int(c);
  }
  EXPECT_NE(tool.run({"db", "ls", "--db", "evil.jsonl"}).out.find("GPU\\x1b[2J"),
            std::string::npos);
}

} // namespace
