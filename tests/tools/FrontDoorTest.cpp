// What a user types that cannot work: one sentence that says what would, from every command that
// takes it; and what no command checks (memory, names that are no UTF-8) ends in a sentence too.
#include "tests/tools/ToolRunner.h"
#include <algorithm>
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

using namespace winnow;
using nlohmann::json;

namespace {

using Words = std::vector<std::string>;

bool holds(const std::string &text, const std::string &part) {
  return text.find(part) != std::string::npos;
}

class FrontDoor : public testing::Test {
protected:
  /// Exit code 2 and one line that holds all of `parts`.
  void expectUsage(const Words &words, const Words &parts) { expectRefusal(words, 2, parts); }
  void expectRefusal(const Words &words, int code, const Words &parts) {
    Outcome outcome = tool.run(words);
    std::string line = testing::PrintToString(words) + ": " + outcome.err;
    EXPECT_EQ(outcome.exitCode, code) << line;
    EXPECT_EQ(outcome.errLines(), 1) << line;
    EXPECT_EQ(outcome.out, "") << line;
    for (const std::string &part : parts)
      EXPECT_TRUE(holds(outcome.err, part)) << "no '" << part << "' in " << line;
  }
  void write(const std::string &name, const std::string &content) {
    std::ofstream(tool.path(name)) << content;
  }

  ToolRunner tool;
};

Words operator+(Words a, const Words &b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST_F(FrontDoor, EveryCommandRefusesASpecThatIsNone) {
  const Words commands[] = {{"compile", "dense", "--print-key"},
                            {"compile", "dense", "--emit", "cuda"},
                            {"run", "dense", "--device", "cpu", "--arch", "none"},
                            {"bench", "prefill", "--prepare", "--arch", "sm_80"},
                            {"prepare", "dense"},
                            {"model", "explain", "dense", "--device-profile", "a100"},
                            {"model", "choose", "dense", "--device-profile", "a100", "--db", "x"},
                            {"tune", "dense", "--list"},
                            {"cache", "why-miss", "dense"},
                            {"db", "lookup", "dense"}};
  const std::pair<const char *, const char *> values[] = {
      {"--kv-heads", "0"},       {"--head-dim", "-1"}, {"--value-dim", "-1"},
      {"--heads", "2147483640"}, {"--block", "0"},     {"--topk", "-3"}};
  for (const Words &command : commands)
    for (auto [flag, value] : values)
      expectUsage(command + Words{flag, value}, {flag, std::string("'") + value + "'", "from"});
  for (const Words &command : commands)
    expectUsage(command + Words{"--heads", "3", "--kv-heads", "2"},
                {"3 query heads cannot share 2"});
  for (const char *scale : {"inf", "1e300", "nan", "-1", "1e-9"})
    expectUsage({"compile", "dense", "--print-key", "--scale", scale}, {"scale"});
}

TEST_F(FrontDoor, SpecListsAndGridsAreCheckedAlike) {
  const std::pair<const char *, const char *> fields[] = {{"kv_heads", "0"},
                                                          {"head_dim", "-1"},
                                                          {"value_dim", "-1"},
                                                          {"heads", "2147483640"},
                                                          {"heads", "18446744073709551615"},
                                                          {"heads", "3"}};
  for (auto [field, value] : fields) {
    write("specs.json", std::string(R"([{"method": "dense", ")") + field + "\": " + value + "}]");
    expectUsage({"prepare", "specs.json"}, {"entry 0", field});
    expectUsage({"tune", "specs.json", "--list"}, {"specs.json, entry 1"});
  }
  write("specs.json", R"([{"method": "dense", "scale": 1e300}])");
  expectUsage({"prepare", "specs.json"}, {"scale"});
}

TEST_F(FrontDoor, AKeyNamesOnlyWhatCanBeBuilt) {
  for (const Words &command : {Words{"compile", "infllm_v2", "--print-key", "--arch", "sm_80"},
                               Words{"cache", "why-miss", "infllm_v2", "--arch", "sm_80"},
                               Words{"db", "lookup", "infllm_v2", "--arch", "sm_80"}}) {
    expectRefusal(command + Words{"--head-dim", "72"}, 3, {"72"});
    expectRefusal(command + Words{"--topk", "300"}, 3, {"300"});
    expectUsage(command + Words{"--topk", "8"}, {"forced"});
    expectUsage(command + Words{"--config", "attend_stages=77"}, {"attend_stages=77"});
  }
}

TEST_F(FrontDoor, EveryNumberHasARange) {
  const Words run = {"run", "dense", "--device", "cpu", "--arch", "none"};
  expectUsage(run + Words{"--threads", "-1"}, {"--threads", "'-1'"});
  expectUsage(run + Words{"--threads", "010"}, {"--threads", "'010'"}); // octal to some
  expectUsage(run + Words{"--seq", ""}, {"--seq", "empty"});
  expectUsage(run + Words{"--seq", "64,,64"}, {"--seq", "empty"});
  expectUsage(run + Words{"--seq", "99999999999"}, {"--seq", "10000000"});
  expectUsage(run + Words{"--seed", "-1"}, {"--seed"});
  expectUsage({"compile", "dense", "--tokens", "-1"}, {"--tokens", "from 0 to 10000000"});
  expectUsage({"compile", "dense", "--arch", "sm_80,"}, {"--arch", "empty"});
  expectUsage({"check", "--tolerance", "nan"}, {"--tolerance"});
  expectUsage({"tune", "dense", "--timeout-run", "nan"}, {"--timeout-run"});
  expectUsage({"tune", "dense", "--gpus", "0,,1"}, {"--gpus", "empty"});
  expectUsage({"bench", "prefill", "--peak", "inf"}, {"--peak"});
  expectUsage({"bench", "prefill", "--device", "-1"}, {"--device"});
  expectUsage({"model", "explain", "dense", "--device-profile", "a100", "--seq", "0"}, {"--seq"});
}

/// What a number may be at most, and at least; the next one behind either is refused.
TEST_F(FrontDoor, EveryRangeEndsWhereItSays) {
  const Words run = {"run", "dense"}, compile = {"compile", "dense"}, bench = {"bench", "prefill"},
              check = {"check"}, tune = {"tune", "dense"}, gc = {"cache", "gc"},
              judge = {"model", "check", "trials", "--device-profile", "a100"},
              explain = {"model", "explain", "dense", "--device-profile", "a100"};
  struct Range {
    Words command;
    const char *flag, *least, *below, *most, *above;
  };
  const char *most = "32768", *above = "32769", *tokens = "10000000", *over = "10000001";
  const Range ranges[] = {
      {run, "--threads", "0", "-1", "4096", "4097"},
      {run, "--seq", "0", "-1", tokens, over},
      {run, "--seed", "0", "-1", "18446744073709551615", "18446744073709551616"},
      {compile, "--heads", "1", "0", most, above},
      {compile, "--kv-heads", "1", "0", most, above},
      {compile, "--head-dim", "1", "0", most, above},
      {compile, "--value-dim", "0", "-1", most, above},
      {compile, "--block", "1", "0", most, above},
      {compile, "--topk", "1", "0", most, above},
      {compile, "--scale", "0", "-0.001", "1000000", "1000000.1"},
      {compile, "--tokens", "0", "-1", tokens, over},
      {compile, "--overlap", "0", "-1", tokens, over},
      {bench, "--topk", "1", "0", most, above},
      {bench, "--device", "0", "-1", "1023", "1024"},
      {bench, "--seq", "1", "0", tokens, over},
      {bench, "--overlap", "1", "0", tokens, over},
      {bench, "--rounds", "1", "0", "100000", "100001"},
      {bench, "--rows", "0", "-1", "100000", "100001"},
      {bench, "--peak", "0", "-0.1", "1000000000", "1000000001"},
      {check, "--threads", "0", "-1", "4096", "4097"},
      {check, "--tolerance", "0", "-0.001", "1", "1.001"},
      {check, "--random", "1", "0", "1000000", "1000001"},
      {check, "--random-only", "0", "-1", "1000000", "1000001"},
      {tune, "--heads", "1", "0", most, above},
      {tune, "--kv-heads", "1", "0", most, above},
      {tune, "--group", "1", "0", most, above},
      {tune, "--head-dim", "1", "0", most, above},
      {tune, "--value-dim", "0", "-1", most, above},
      {tune, "--block", "1", "0", most, above},
      {tune, "--topk", "1", "0", most, above},
      {tune, "--seq", "1", "0", tokens, over},
      {tune, "--overlap", "1", "0", tokens, over},
      {tune, "--jobs", "1", "0", "1024", "1025"},
      {tune, "--timeout-compile", "0.001", "0.0009", "1000000", "1000000.1"},
      {tune, "--timeout-run", "0.001", "0.0009", "1000000", "1000000.1"},
      {judge, "--median", "0", "-0.1", "1000000", "1000000.1"},
      {judge, "--worst", "0", "-0.1", "1000000", "1000000.1"},
      {judge, "--least", "0", "-1", "1000000", "1000001"},
      {explain, "--seq", "1", "0", tokens, over},
      {explain, "--overlap", "1", "0", tokens, over},
      {gc, "--limit-mib", "0", "-1", "8796093022208", "8796093022209"}};
  for (const Range &range : ranges) {
    // Ranges are looked at before unknown flags are, and these before any work.
    for (const char *inside : {range.least, range.most}) {
      Outcome outcome = tool.run(range.command + Words{range.flag, inside, "--no-such-flag"});
      EXPECT_EQ(outcome.exitCode, 2) << range.flag << " " << inside;
      EXPECT_TRUE(holds(outcome.err, "no flag --no-such-flag"))
          << range.flag << " " << inside << ": " << outcome.err;
    }
    for (const char *outside : {range.below, range.above}) {
      Outcome outcome = tool.run(range.command + Words{range.flag, outside, "--no-such-flag"});
      EXPECT_EQ(outcome.exitCode, 2) << range.flag << " " << outside;
      EXPECT_TRUE(holds(outcome.err, range.flag) && holds(outcome.err, "number"))
          << range.flag << " " << outside << ": " << outcome.err;
    }
  }
}

TEST_F(FrontDoor, EveryPieceOfAListIsChecked) {
  for (const char *list : {"0,64", "64,0", "64,0,64", "64,64,0", "64,,64", ",64", "64,"})
    for (const Words &command : {Words{"bench", "prefill"}, {"tune", "dense"}}) {
      Outcome outcome = tool.run(command + Words{"--topk", list});
      EXPECT_EQ(outcome.exitCode, 2) << list;
      EXPECT_TRUE(holds(outcome.err, "--topk")) << list << ": " << outcome.err;
    }
  expectUsage({"run", "dense", "--device", "cpu", "--arch", "none", "--seq", "64,10000001"},
              {"--seq", "'10000001'"});
}

TEST_F(FrontDoor, AFlagThatNeedsAnotherSaysSo) {
  const Words run = {"run", "dense", "--device", "cpu", "--arch", "none"};
  for (const char *flag : {"--cu-seqlens", "--cu-seqlens-k", "--use-ids"})
    expectUsage(run + Words{flag, "x.npy"}, {flag, "--q"});
  expectUsage(run + Words{"--q", "x", "--k", "x", "--v", "x", "--seq", "5"}, {"--seq", "--q"});
  expectUsage({"run", "--image", "x.winnow", "--heads", "4"}, {"--heads", "--image"});
  expectUsage({"compile", "dense", "-o", "out"}, {"--output", "--emit"});
  expectUsage({"compile", "dense", "--print-key", "--emit", "cuda"}, {"--print-key", "--emit"});
  expectUsage({"tune", "dense", "--ptx"}, {"--ptx", "--arch"});
  expectUsage({"check", "--seed", "4", "--list"}, {"--seed", "--random"});
  write("specs.json", R"({"method": "dense"})");
  expectUsage({"prepare", "specs.json", "--heads", "4"}, {"--heads", "specs.json"});
}

TEST_F(FrontDoor, MisspeltNamesAreAnsweredWithTheNearest) {
  expectUsage({"complie"}, {"complie", "did you mean compile?"});
  expectUsage({"db", "lss"}, {"winnow db", "lss", "did you mean ls?"});
  expectUsage({"db"}, {"`winnow db` needs a command: ls, show"});
  expectUsage({}, {"`winnow` needs a command: compile, run"});
  expectUsage({"run", "dense", "--sequence", "4"}, {"no flag --sequence", "did you mean --seq?"});
  expectUsage({"run", "dense", "--kv-head=4"}, {"no flag --kv-head;", "did you mean --kv-heads?"});
  expectUsage({"doctor", "--jsno"}, {"--jsno", "did you mean --json?"});
  expectUsage({"xyzzy"}, {"xyzzy", "known: compile, run"});
  expectUsage({"compile", "dense", "moba"}, {"`winnow compile` takes no 'moba'"});
  expectUsage({"prepare", "infllm_v3"}, {"infllm_v3", "did you mean the method infllm_v2?"});
}

TEST_F(FrontDoor, PrepareTakesAMethodOrASingleSpec) {
  const Words flags = {"--arch", "sm_80", "--json"};
  Outcome first = tool.run(Words{"prepare", "dense", "--head-dim", "64"} + flags);
  ASSERT_EQ(first.exitCode, 0) << first.err;
  write("one.json", R"({"method": "dense", "head_dim": 64})");
  Outcome second = tool.run(Words{"prepare", "one.json"} + flags);
  ASSERT_EQ(second.exitCode, 0) << second.err;
  json report = json::parse(second.out, nullptr, false);
  EXPECT_EQ(report["programs"], 1);
  EXPECT_EQ(report["cached"], 1);
}

TEST_F(FrontDoor, MemoryThatIsNotThereIsASentence) {
  const Words run = {"run",  "dense",      "--device", "cpu",        "--arch",
                     "none", "--head-dim", "128",      "--no-dense", "--seq"};
  tool.addressSpaceLimit = 3'000'000L << 10;
  expectRefusal(run + Words{"1000000"}, 5, {"out of memory", "1000000 tokens", "GiB"});
  // Whatever runs out first: the JIT, a thread, a tensor.
  for (long mebibytes : {150, 250, 350, 450, 600}) {
    tool.addressSpaceLimit = mebibytes << 20;
    Outcome outcome = tool.run(run + Words{"512", "--heads", "2", "--kv-heads", "1"});
    EXPECT_TRUE(outcome.exitCode == 0 || outcome.exitCode == 5)
        << mebibytes << ": " << outcome.exitCode << " " << outcome.err;
    EXPECT_LE(outcome.errLines(), 1) << outcome.err;
    if (outcome.exitCode == 5) {
      EXPECT_TRUE(holds(outcome.err, "out of memory")) << outcome.err;
    }
  }
}

TEST_F(FrontDoor, BytesThatAreNoTextAreReplacedInJson) {
  const std::string odd = "a\xff\xfe.jsonl";
  write(odd, "");
  for (const Words &words : {Words{"db", "merge", odd, "-o", "b\xff.jsonl"}, Words{"doctor"},
                             Words{"db", "verify", odd}, Words{"report", odd}}) {
    tool.environment["WINNOW_TUNED"] = tool.path(odd);
    Outcome outcome = tool.run(words + Words{"--json"});
    EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
    EXPECT_FALSE(json::parse(outcome.out, nullptr, false).is_discarded()) << outcome.out;
  }
  tool.environment["WINNOW_CACHE_DIR"] = tool.path("c\xff");
  Outcome stat = tool.run({"cache", "stat", "--json"});
  EXPECT_EQ(stat.exitCode, 0) << stat.err;
  EXPECT_TRUE(holds(stat.out, "c\xef\xbf\xbd")) << stat.out;
}

TEST_F(FrontDoor, SettingsOfTheCacheThatCannotWorkAreToldOnce) {
  const Words words = {"compile", "dense", "--arch", "sm_80", "--heads", "2", "--head-dim", "64"};
  ASSERT_EQ(tool.run(words).exitCode, 0);
  EXPECT_FALSE(holds(tool.run(words).err, "warning"));
  write("text.bundle", "no bundle");
  const std::pair<const char *, std::string> settings[] = {
      {"WINNOW_CACHE_LIMIT_MB", "lots"},
      {"WINNOW_CACHE_LIMIT_MB", "-5"},
      {"WINNOW_CACHE_LIMIT_MB", "99999999999999"},
      {"WINNOW_CACHE_READONLY", "nowhere/of/all"},
      {"WINNOW_CACHE_READONLY", tool.path("text.bundle")},
      {"WINNOW_CACHE_BUNDLES", "/nowhere/x.bundle"},
      {"WINNOW_CACHE_BUNDLES", tool.path("text.bundle")}};
  for (const auto &[name, value] : settings) {
    tool.environment[name] = value;
    Outcome outcome = tool.run({"cache", "why-miss", "dense", "--arch", "sm_80"});
    EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
    EXPECT_EQ(outcome.errLines(), 1) << name << "=" << value << ": " << outcome.err;
    EXPECT_TRUE(holds(outcome.err, "warning") && holds(outcome.err, value)) << outcome.err;
    Outcome doctor = tool.run({"doctor"});
    EXPECT_EQ(doctor.err, "");
    EXPECT_TRUE(holds(doctor.out, "not used: ") || holds(doctor.out, "warning: ")) << doctor.out;
    tool.environment[name] = "";
  }
}

TEST_F(FrontDoor, FilesOfTunedConfigurationsAreTakenAsTheyAreTyped) {
  std::ifstream trials(WINNOW_TRIALS);
  std::string text, line;
  while (std::getline(trials, line) && text.size() < 4000)
    if (holds(line, "\"kind\":\"trial\"") || holds(line, "\"trial\""))
      text += line + "\n";
  ASSERT_FALSE(text.empty());
  write("trials.jsonl", text);
  Outcome report = tool.run({"report", "trials.jsonl", "-o", "page.html"});
  EXPECT_EQ(report.exitCode, 0) << report.err;
  EXPECT_TRUE(holds(report.err, "no task is finished in trials.jsonl") &&
              holds(report.err, "--resume"))
      << report.err;
  Outcome shipped = tool.run({"db", "ls", WINNOW_H200_DATABASE, "--json"});
  ASSERT_EQ(shipped.exitCode, 0) << shipped.err;
  EXPECT_EQ(shipped.out, tool.run({"db", "ls", "--db", WINNOW_H200_DATABASE, "--json"}).out);
}

TEST_F(FrontDoor, AWorkerThatIsAskedNonsenseAnswers) {
  tool.input = "{\"spec\":7}\n{\"method\":[],\"spec\":\"\"}\n[]\nnonsense\n";
  Outcome outcome = tool.run({"tune", "--serve", "compile"});
  EXPECT_EQ(outcome.exitCode, 0) << outcome.err;
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 4) << outcome.out;
  EXPECT_FALSE(holds(outcome.out, "\"ok\":true")) << outcome.out;
}

} // namespace
