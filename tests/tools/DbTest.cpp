// `winnow db` and what tuned configurations do to compile, run and bench: the whole way from a file
// of records to the kernel that is built with one (F12, F13, F40).
#include "runtime/tuned/TuningRecord.h"
#include "tests/tools/ToolRunner.h"
#include <algorithm>
#include <atomic>
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <thread>

using namespace winnow;
using nlohmann::json;

namespace {

/// A measurement of the default spec on an H200.
TuningRecord record(const std::string &phase, const std::string &config) {
  TuningRecord r;
  const bool overlaps = phase == "attend" || phase == kBackwardPhase;
  r.key = {phase, WINNOW_TEST_METHOD, Spec(), 131072, overlaps ? 32 : 0, "sm_90a", "NVIDIA H200"};
  r.config = *Config::parse(config);
  r.ms = 20.5, r.low = 20, r.high = 21, r.defaultMs = 22;
  r.rounds = 9;
  r.date = "2026-11-25";
  return r;
}

class Db : public testing::Test {
protected:
  void SetUp() override { tool.environment["XDG_DATA_HOME"] = tool.path("data"); }

  void write(const std::string &name, const std::vector<std::string> &lines) {
    std::ofstream file(tool.path(name));
    for (const std::string &line : lines)
      file << line << "\n";
  }
  json jsonOf(std::vector<std::string> words, int exitCode = 0) {
    words.push_back("--json");
    Outcome outcome = tool.run(words);
    EXPECT_EQ(outcome.exitCode, exitCode) << outcome.err;
    json value = json::parse(outcome.out, nullptr, false);
    EXPECT_FALSE(value.is_discarded()) << outcome.out;
    return value;
  }

  ToolRunner tool;
  std::string select = recordLine(record("select", "score_chunk_mib=64"));
  std::string attend = recordLine(record("attend", "attend_stages=3"));
};

TEST_F(Db, gradientsAreAPhaseOfProgramsThatHaveThem) {
  TuningRecord one = record(kBackwardPhase, "backward_key_stages=3");
  one.key.spec.backward = true;
  write("a.jsonl", {recordLine(one)});
  auto lookup = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"db", "lookup", WINNOW_TEST_METHOD, "--db", "a.jsonl", "--arch",
                                 "sm_90a", "--device-name", "NVIDIA H200"});
    return jsonOf(words)["sm_90a"];
  };
  const json answer = lookup({"--backward"});
  EXPECT_EQ(answer["backward"]["rung"], "exact");
  EXPECT_EQ(answer["backward"]["config"], "backward_key_stages=3");
  EXPECT_FALSE(lookup({}).contains("backward"));
}

TEST_F(Db, aPagedProgramIsAnsweredForItsBatch) {
  TuningRecord few = record(kDecodePhase, "decode_stages=3"), many = few;
  few.key.spec.paged = many.key.spec.paged = true;
  few.key.batch = 16, many.key.batch = 256;
  many.config = *Config::parse("decode_stages=2");
  write("a.jsonl", {recordLine(few), recordLine(many)});
  auto lookup = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"db", "lookup", WINNOW_TEST_METHOD, "--db", "a.jsonl", "--arch",
                                 "sm_90a", "--device-name", "NVIDIA H200"});
    return jsonOf(words)["sm_90a"];
  };
  EXPECT_EQ(lookup({"--paged"})["decode"]["config"], "decode_stages=3"); // 16 where unknown
  json answer = lookup({"--paged", "--batch", "200"});
  EXPECT_EQ(answer["decode"]["rung"], "exact");
  EXPECT_EQ(answer["decode"]["config"], "decode_stages=2");
  EXPECT_FALSE(lookup({}).contains("decode"));
  Outcome list = tool.run({"db", "ls", "a.jsonl"});
  EXPECT_NE(list.out.find(" 256 "), std::string::npos) << list.out;
}

TEST_F(Db, decodeOfGpusThatWereNotMeasuredIsTheModels) {
  for (const auto &[arch, device] :
       {std::pair("sm_80", "NVIDIA A100-SXM4-80GB"), {"sm_89", "NVIDIA GeForce RTX 4090"}}) {
    const json answer = jsonOf({"db", "lookup", WINNOW_TEST_METHOD, "--paged", "--batch", "64",
                                "--arch", arch, "--device-name", device})[arch]["decode"];
    EXPECT_EQ(answer["rung"], "model") << answer.dump();
    EXPECT_NE(answer.dump().find("nothing was run"), std::string::npos) << answer.dump();
  }
}

TEST_F(Db, listsAndShows) {
  TuningTrial trial;
  trial.key = record("attend", "").key;
  trial.config.attendStages = 10;
  trial.outcome = "rejected";
  trial.reason = "the worker died";
  write("a.jsonl", {select, trialLine(trial), attend});
  Outcome text = tool.run({"db", "ls", "--db", "a.jsonl"});
  EXPECT_EQ(text.exitCode, 0);
  EXPECT_NE(text.out.find("h32/2 d128 b64 k96 bf16"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("attend_stages=3"), std::string::npos);
  EXPECT_EQ(jsonOf({"db", "ls", "--db", "a.jsonl"}).size(), 2u);
  json shown = jsonOf({"db", "show", "attend ", "tokens=131072", "--db", "a.jsonl"});
  ASSERT_EQ(shown.size(), 1u);
  EXPECT_EQ(shown[0]["trials"][0]["reason"], "the worker died");
  EXPECT_NE(tool.run({"db", "show", "attend ", "--db", "a.jsonl"}).out.find("the worker died"),
            std::string::npos);
  EXPECT_EQ(tool.run({"db", "show", "nothing", "--db", "a.jsonl"}).exitCode, 2);
  EXPECT_EQ(tool.run({"db", "ls", "--db", "missing.jsonl"}).exitCode, 2);
}

TEST_F(Db, mergesInAnyOrderToTheSameBytes) {
  TuningRecord better = record("attend", "attend_stages=2");
  better.effort = "full";
  write("a.jsonl", {attend});
  write("b.jsonl", {select, attend, recordLine(better)});
  ASSERT_EQ(tool.run({"db", "merge", "a.jsonl", "b.jsonl", "-o", "ab.jsonl"}).exitCode, 0);
  ASSERT_EQ(tool.run({"db", "merge", "b.jsonl", "a.jsonl", "-o", "ba.jsonl"}).exitCode, 0);
  EXPECT_EQ(contentOf(tool.path("ab.jsonl")), contentOf(tool.path("ba.jsonl")));
  EXPECT_EQ(contentOf(tool.path("ab.jsonl")), recordLine(better) + "\n" + select + "\n");
  json changes = jsonOf({"db", "diff", "a.jsonl", "ab.jsonl"});
  ASSERT_EQ(changes.size(), 2u);
  EXPECT_EQ(changes[0]["a"]["config"], "attend_stages=3");
  EXPECT_EQ(changes[0]["b"]["config"], "attend_stages=2");
  EXPECT_TRUE(changes[1]["a"].is_null());
  EXPECT_NE(tool.run({"db", "diff", "a.jsonl", "ab.jsonl"}).out.find("+ select"),
            std::string::npos);
  EXPECT_EQ(tool.run({"db", "merge", "a.jsonl", "missing.jsonl", "-o", "x"}).exitCode, 2);
}

TEST_F(Db, F12F13VerifyListsEveryFault) {
  TuningRecord illegal = record("attend", "attend_stages=10");
  illegal.key.arch = "sm_80";
  std::string other = select;
  other.replace(other.find("\"schema\":1"), 10, "\"schema\":7");
  write("bad.jsonl", {attend, attend, recordLine(illegal), other, attend.substr(0, 50)});
  json verdict = jsonOf({"db", "verify", "bad.jsonl"}, 1);
  ASSERT_EQ(verdict["faults"].size(), 4u) << verdict;
  auto tells = [&](const char *words) {
    return std::any_of(verdict["faults"].begin(), verdict["faults"].end(), [&](const json &fault) {
      return fault.get<std::string>().find(words) != std::string::npos;
    });
  };
  EXPECT_TRUE(tells("line 4: schema 7; this build reads 1"));
  EXPECT_TRUE(tells("line 5: not a JSON object"));
  EXPECT_TRUE(tells("given twice: attend"));
  EXPECT_TRUE(tells("bytes of shared memory"));
  write("good.jsonl", {attend, select});
  EXPECT_EQ(tool.run({"db", "verify", "good.jsonl"}).exitCode, 0);
}

/// What is shipped was measured, checked, and is no slower than the default; and it is found.
TEST_F(Db, shippedMeasurementsAnswer) {
  TuningLines lines = parseTuningLines(contentOf(WINNOW_H200_DATABASE));
  EXPECT_TRUE(lines.faults.empty()) << lines.faults.front();
  EXPECT_GE(lines.records.size(), 24u * 6 + 3 * 6 - 6); // specs.json and models.json, which share 6
  for (const TuningRecord &r : lines.records) {
    EXPECT_EQ(r.origin, "measured");
    EXPECT_EQ(r.verified, "all") << r.key.text();
    EXPECT_LE(r.ms, r.defaultMs) << r.key.text();
    EXPECT_TRUE(r.low <= r.ms && r.ms <= r.high && r.floorMs < r.ms) << r.key.text();
    EXPECT_TRUE(r.rounds >= 5 && r.clockMhz > 0 && r.watts > 0 && r.tried > 4) << r.key.text();
  }
  json answer = jsonOf({"db", "lookup", WINNOW_TEST_METHOD, "--arch", "sm_90a", "--device-name",
                        "NVIDIA H200", "--tokens", "131072", "--overlap", "32"})["sm_90a"];
  EXPECT_EQ(answer["attend"]["rung"], "exact");
  EXPECT_EQ(answer["select"]["rung"], "exact");
}

TEST_F(Db, importsForTheLookUpOfEveryCommand) {
  // What is shipped for this problem gives way to more effort.
  TuningRecord best = record("attend", "attend_stages=3");
  best.effort = "exhaustive";
  attend = recordLine(best);
  TuningTrial trial;
  trial.key = record("attend", "").key;
  trial.outcome = "best";
  write("new.jsonl", {select, attend, trialLine(trial)});
  ASSERT_EQ(tool.run({"db", "import", "new.jsonl"}).exitCode, 0);
  EXPECT_NE(contentOf(tool.path("data/winnow/tuned.jsonl")).find("\"kind\":\"trial\""),
            std::string::npos);
  ASSERT_EQ(tool.run({"db", "import", "new.jsonl"}).exitCode, 0); // again: the same
  ASSERT_EQ(
      tool.run({"db", "export", tool.path("data/winnow/tuned.jsonl"), "-o", "out.jsonl"}).exitCode,
      0);
  EXPECT_EQ(contentOf(tool.path("out.jsonl")), attend + "\n" + select + "\n");

  std::vector<std::string> words = {"compile", WINNOW_TEST_METHOD, "--arch",     "sm_90a", "--emit",
                                    "cuda",    "--device-name",    "NVIDIA H200"};
  json tuned = jsonOf(words)["tuned"]["sm_90a"];
  EXPECT_EQ(tuned["attend"]["rung"], "exact");
  EXPECT_EQ(tuned["attend"]["config"], "attend_stages=3");
  words.insert(words.end(), {"--tuned", "off"});
  json plain = jsonOf(words);
  EXPECT_EQ(plain["tuned"]["sm_90a"]["attend"]["rung"], "default");
  words.back() = "on";
  words.insert(words.end(), {"--config", "attend_stages=2"});
  json mixed = jsonOf(words)["tuned"]["sm_90a"];
  EXPECT_EQ(mixed["attend"]["rung"], "given");
  EXPECT_EQ(mixed["select"]["rung"], "exact");

  // A file that WINNOW_TUNED names comes first.
  tool.environment["WINNOW_TUNED"] = tool.path("missing/x.jsonl") + ":" + tool.path("mine.jsonl");
  ASSERT_EQ(tool.run({"db", "import", "new.jsonl"}).exitCode, 0);
  EXPECT_FALSE(contentOf(tool.path("mine.jsonl")).empty());
}

TEST_F(Db, ImportsAtTheSameTimeLoseNothing) {
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (int i = 0; i < 8; ++i) {
    TuningRecord one = record("attend", "attend_stages=3");
    one.key.spec.topk = i + 1;
    write(std::to_string(i) + ".jsonl", {recordLine(one)});
    threads.emplace_back([&, i] {
      ToolRunner own;
      own.environment["XDG_DATA_HOME"] = tool.path("data");
      failures += own.run({"db", "import", tool.path(std::to_string(i) + ".jsonl")}).exitCode != 0;
    });
  }
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(jsonOf({"db", "ls", "--db", tool.path("data/winnow/tuned.jsonl")}).size(), 8u);
  EXPECT_EQ(tool.run({"db", "import", "none.jsonl"}).exitCode, 2);
}

TEST_F(Db, F40LookupSaysWhichRungAnswersAndWhy) {
  TuningRecord model = record("attend", "attend_stages=4");
  model.key.arch = "sm_80", model.key.device = "NVIDIA A100", model.origin = "model";
  TuningRecord illegal = record("attend", "attend_stages=10 attend_warps=16");
  illegal.key.arch = "sm_89", illegal.key.device = "NVIDIA GeForce RTX 4090";
  write("a.jsonl", {attend, select, recordLine(model), recordLine(illegal)});
  auto ask = [&](const std::string &arch, const std::string &device, const std::string &tokens) {
    return jsonOf({"db", "lookup", WINNOW_TEST_METHOD, "--db", "a.jsonl", "--arch", arch,
                   "--device-name", device, "--tokens", tokens})[arch]["attend"]["rung"];
  };
  EXPECT_EQ(ask("sm_90a", "NVIDIA H200", "100000"), "exact");
  EXPECT_EQ(ask("sm_90a", "NVIDIA H200", "2000"), "nearest");
  EXPECT_EQ(ask("sm_90a", "NVIDIA H100", "100000"), "other_device");
  EXPECT_EQ(ask("sm_80", "NVIDIA A100", "100000"), "model");
  EXPECT_EQ(ask("sm_89", "NVIDIA GeForce RTX 4090", "100000"), "default");
  Outcome text = tool.run({"db", "lookup", WINNOW_TEST_METHOD, "--db", "a.jsonl"});
  EXPECT_NE(text.out.find("chosen by the performance model of NVIDIA A100 for this problem"),
            std::string::npos)
      << text.out;
  EXPECT_NE(text.err.find("a tuned configuration is ignored: [attend_warps=16 attend_stages=10]"),
            std::string::npos)
      << text.err; // F13
}

TEST_F(Db, F13RecordsOfOtherParametersAreOnlyNear) {
  TuningRecord other = record("attend", "attend_stages=3");
  other.key.spec.params["local"] = "17"; // the method's own default is another
  write("a.jsonl", {recordLine(other)});
  json answer = jsonOf({"db", "lookup", WINNOW_TEST_METHOD, "--db", "a.jsonl", "--arch", "sm_90a",
                        "--device-name", "NVIDIA H200"});
  EXPECT_EQ(answer["sm_90a"]["attend"]["rung"], "nearest");
}

TEST_F(Db, benchComparesTunedWithTheDefault) {
  tool.environment["WINNOW_LIBCUDA"] = WINNOW_FAKE_CUDA_ANY;
  TuningRecord any = record("attend", "attend_stages=2");
  any.key.arch = "sm_80", any.key.device = "Some GPU";
  write("a.jsonl", {recordLine(any)});
  tool.environment["WINNOW_TUNED"] = tool.path("a.jsonl");
  Outcome outcome = tool.run({"bench", "attend", "--seq", "2048", "--rows", "0", "--rounds", "1",
                              "--variant", "tuned", "--json", "--arch", "sm_80"});
  ASSERT_EQ(outcome.exitCode, 0) << outcome.err;
  json results = json::parse(outcome.out, nullptr, false)["results"];
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0]["variant"], "sm_80");
  EXPECT_EQ(results[1]["variant"], "sm_80 tuned");
  EXPECT_NE(outcome.err.find("attend other_device, measured on Some GPU"), std::string::npos)
      << outcome.err;
}

} // namespace
