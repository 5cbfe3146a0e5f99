// Sweeps with a worker that plays a GPU: candidates that crash, loop, exhaust memory or are wrong
// are rejected with a reason and the sweep goes on (F19, F29); the file is resumed; all failed is
// an error and nothing is stored (F41).
#include "autotune/search/Tuner.h"
#include <filesystem>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <unistd.h>

namespace winnow {
namespace {

using Json = nlohmann::json;

class TunerTest : public testing::Test {
protected:
  TunerTest() {
    folder = fmt::format("{}/tuner-{}", testing::TempDir(), ::getpid());
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    options.race.warmSeconds = 0;
    options.race.maxRounds = 8, options.race.finalRounds = 8;
    options.compileTimeout = options.runTimeout = 2;
    options.jobs = 2;
    options.scratch = folder + "/work";
    options.date = "2026-11-25";
    compiler.ranges = {{findTunable("attend_stages"), {2, 3, 4, 5, 6, 7, 8}},
                       {findTunable("attend_warps"), {4, 8}}};
    compiler.lower = [](const TuneTask &, const Config &config) -> Result<ProgramImage> {
      ProgramImage image;
      image.config = config;
      Kernel kernel;
      kernel.step = "attend";
      kernel.source = config.text();
      image.kernels = {kernel};
      return image;
    };
    for (int tokens : {2048, 16384}) {
      TuneTask task;
      task.key = {"attend", "m", Spec(), tokens, 32, "", ""};
      tasks.push_back(task);
    }
  }
  ~TunerTest() override { std::filesystem::remove_all(folder); }

  Result<TuneReport> sweep(const Json &script) {
    std::string path = folder + "/script.json";
    EXPECT_TRUE(publishFile(systemFiles(), path, script.dump()));
    options.compileCommand = {WINNOW_FAKE_WORKER, path, "compile"};
    options.measureCommand = {WINNOW_FAKE_WORKER, path, "measure"};
    auto file = TuningFile::open(folder + "/db.jsonl");
    EXPECT_TRUE(file);
    return tune(tasks, compiler, options, *file, stop, {});
  }

  TuningLines written() {
    auto file = TuningFile::open(folder + "/db.jsonl");
    return file ? file->lines() : TuningLines();
  }

  std::string reasonOf(const std::string &config) {
    for (const TuningTrial &trial : written().trials)
      if (shortText(trial.config) == config)
        return trial.outcome + ": " + trial.reason;
    return "no such trial";
  }

  std::string folder;
  TuneOptions options;
  TuneCompiler compiler;
  std::vector<TuneTask> tasks;
  std::atomic<bool> stop{false};
};

TEST_F(TunerTest, FindsTheBestAndWritesRecordAndTrials) {
  auto report = sweep({{"configs", {{"attend_stages=6", {{"ms", 9}}}}}});
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->done, 2);
  TuningLines lines = written();
  ASSERT_EQ(lines.records.size(), 2u);
  EXPECT_EQ(lines.trials.size(), 2u * 10);
  const TuningRecord &record = lines.records[0];
  EXPECT_EQ(shortText(record.config), "attend_stages=6");
  EXPECT_EQ(record.key.device, "Simulated GPU");
  EXPECT_EQ(record.key.arch, "sm_90a");
  EXPECT_NEAR(record.ms, 9, 0.2);
  EXPECT_NEAR(record.defaultMs, 10, 0.2);
  EXPECT_EQ(record.floorMs, 5);
  EXPECT_EQ(record.clockMhz, 1500);
  EXPECT_EQ(record.watts, 400);
  EXPECT_EQ(record.tried, 10);
  EXPECT_EQ(record.rejected, 0);
  EXPECT_EQ(record.pruned, 0);
  EXPECT_GE(record.rounds, 6);
  EXPECT_LE(record.low, record.ms);
  EXPECT_GE(record.high, record.ms);
  EXPECT_EQ(record.verified, "all");
  EXPECT_EQ(record.date, "2026-11-25");
  EXPECT_TRUE(record.edges.empty());
  EXPECT_FALSE(std::filesystem::exists(options.scratch));
}

/// What tells programs apart: each kind of task gets candidates of its own.
TEST_F(TunerTest, PhasesMethodsAndSpecsHaveTheirOwnCandidates) {
  compiler.ranges.push_back({findTunable("score_fold"), {1, 2}});
  compiler.lower = [](const TuneTask &task, const Config &config) -> Result<ProgramImage> {
    ProgramImage image;
    image.config = config;
    for (const char *step : {"score", "attend"}) {
      Kernel kernel;
      kernel.step = step;
      kernel.source = task.key.method + task.key.spec.text() + config.text();
      image.kernels.push_back(kernel);
    }
    return image;
  };
  tasks.resize(1);
  TuneTask select = tasks[0], method = tasks[0], spec = tasks[0];
  select.key.phase = "select", select.key.overlap = 0;
  method.key.method = "other";
  spec.key.spec.topk = 17;
  tasks.insert(tasks.end(), {select, method, spec});
  std::set<std::string> names;
  for (const TuneTask &task : tasks)
    names.insert(programOf(task));
  EXPECT_EQ(names.size(), 4u);
  auto report = sweep(Json::object());
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->done, 4);
  std::map<std::string, std::set<std::string>> configs;
  for (const TuningTrial &trial : written().trials)
    configs[trial.key.phase].insert(shortText(trial.config));
  EXPECT_EQ(configs["select"], (std::set<std::string>{"default", "score_fold=1", "score_fold=2"}));
  EXPECT_EQ(configs["attend"].size(), 10u);
  EXPECT_EQ(configs["attend"].count("score_fold=1"), 0u);
}

TEST_F(TunerTest, F28AnOptimumAtTheEdgeIsTold) {
  auto report = sweep({{"configs", {{"attend_stages=8", {{"ms", 8}}}}}});
  ASSERT_TRUE(report);
  EXPECT_EQ(report->records[0].edges, std::vector<std::string>{"attend_stages"});
}

TEST_F(TunerTest, F29CandidatesThatTrapLoopOrExhaustMemoryAreRejected) {
  auto report = sweep({{"configs",
                        {{"attend_stages=2", {{"at", "compile"}, {"do", "crash"}}},
                         {"attend_stages=3", {{"at", "load"}, {"do", "crash"}}},
                         {"attend_stages=4", {{"at", "cases"}, {"do", "exhaust"}}},
                         {"attend_stages=5", {{"at", "time"}, {"do", "crash"}, {"ms", 1}}},
                         {"attend_stages=6", {{"at", "time"}, {"do", "hang"}, {"ms", 1}}},
                         {"attend_stages=7", {{"at", "check"}, {"do", "wrong"}, {"ms", 1}}},
                         {"attend_warps=4", {{"ms", 9}}}}}});
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->done, 2);
  EXPECT_TRUE(report->failures.empty());
  ASSERT_EQ(written().records.size(), 2u);
  EXPECT_EQ(shortText(written().records[0].config), "attend_warps=4");
  EXPECT_EQ(written().records[0].rejected, 6);
  EXPECT_NE(reasonOf("attend_stages=2").find("rejected: compiling: the worker died of signal 11"),
            std::string::npos);
  EXPECT_NE(reasonOf("attend_stages=3").find("rejected: loading: the worker died"),
            std::string::npos);
  EXPECT_NE(reasonOf("attend_stages=4").find("rejected: the worker"), std::string::npos);
  EXPECT_NE(reasonOf("attend_stages=5").find("signal 11"), std::string::npos);
  EXPECT_NE(reasonOf("attend_stages=6").find("no answer within 2 s"), std::string::npos);
  EXPECT_NE(reasonOf("attend_stages=7").find("rejected: row 3 differs"), std::string::npos);
}

TEST_F(TunerTest, F29AnswersOfTheWrongTypesAreTheCandidatesFailure) {
  Json odd{{"attend_warps=4", {{"ms", 9}}}};
  const std::vector<std::string> steps = {"compile", "cases", "time", "check"};
  for (size_t i = 0; i < steps.size(); ++i)
    odd[fmt::format("attend_stages={}", i + 2)] = {{"at", steps[i]}, {"do", "odd"}, {"ms", 1}};
  auto report = sweep({{"configs", odd}});
  ASSERT_TRUE(report) << report.error().message;
  ASSERT_EQ(written().records.size(), 2u);
  EXPECT_EQ(shortText(written().records[0].config), "attend_warps=4");
  EXPECT_EQ(written().records[0].rejected, 4);
  EXPECT_EQ(reasonOf("attend_stages=2"),
            "rejected: compiling: the worker's answer: 'path' is not a text");
  EXPECT_EQ(reasonOf("attend_stages=3"), "rejected: the worker's answer: 'fault' is not a text");
  EXPECT_EQ(reasonOf("attend_stages=4"), "rejected: 'ms' is not a number");
  EXPECT_EQ(reasonOf("attend_stages=5"), "rejected: the worker's answer: 'fault' is not a text");
}

TEST_F(TunerTest, F19ACompilationThatTakesTooLongIsCancelledAndRecorded) {
  auto report = sweep({{"configs", {{"attend_stages=5", {{"at", "compile"}, {"do", "hang"}}}}}});
  ASSERT_TRUE(report);
  EXPECT_EQ(reasonOf("attend_stages=5"), "rejected: compiling: no answer within 2 s");
}

TEST_F(TunerTest, F26OnlyTheWinnerIsComparedWhereThatWasAskedFor) {
  options.verifyAll = false;
  auto report = sweep({{"configs",
                        {{"attend_stages=5", {{"at", "check"}, {"do", "wrong"}, {"ms", 5}}},
                         {"attend_stages=6", {{"ms", 8}}}}}});
  ASSERT_TRUE(report);
  EXPECT_EQ(shortText(written().records[0].config), "attend_stages=6");
  EXPECT_EQ(written().records[0].verified, "winner");
}

TEST_F(TunerTest, F41WhereEveryCandidateFailsNothingIsStored) {
  Json configs;
  for (const char *config : {"default", "attend_stages=2", "attend_stages=3", "attend_stages=4",
                             "attend_stages=5", "attend_stages=6", "attend_stages=7",
                             "attend_stages=8", "attend_warps=4", "attend_warps=8"})
    configs[config] = {{"at", "cases"}, {"do", "wrong"}};
  auto report = sweep({{"configs", configs}});
  ASSERT_TRUE(report);
  EXPECT_EQ(report->failures.size(), 2u);
  EXPECT_NE(report->failures[0].find("every candidate failed"), std::string::npos);
  EXPECT_TRUE(written().records.empty());
  EXPECT_TRUE(written().trials.empty());
}

TEST_F(TunerTest, F41ABetterThanNothingCandidateReplacesAFailingDefault) {
  auto report = sweep(
      {{"configs",
        {{"default", {{"at", "check"}, {"do", "wrong"}}}, {"attend_stages=4", {{"ms", 8}}}}}});
  ASSERT_TRUE(report);
  EXPECT_EQ(shortText(written().records[0].config), "attend_stages=4");
}

TEST_F(TunerTest, ResumingLeavesOutWhatIsInTheFile) {
  ASSERT_TRUE(sweep(Json::object()));
  options.resume = true;
  tasks.push_back(tasks[0]);
  tasks.back().key.tokens = 131072;
  auto report = sweep(Json::object());
  ASSERT_TRUE(report);
  EXPECT_EQ(report->skipped, 2);
  EXPECT_EQ(report->done, 1);
  EXPECT_EQ(written().records.size(), 3u);
  options.effort = Effort::Full; // more effort than the file has
  report = sweep(Json::object());
  ASSERT_TRUE(report);
  EXPECT_EQ(report->done, 3);
}

TEST_F(TunerTest, ResumingCompilesOnlyForWhatIsLeft) {
  tasks.resize(1);
  tasks.push_back(tasks[0]);
  tasks[1].key.spec.heads = 64;
  ASSERT_TRUE(sweep(Json::object()));
  tasks.insert(tasks.begin(), tasks[0]);
  tasks[0].key.spec.heads = 16;
  std::mutex mutex;
  std::set<int> lowered;
  compiler.lower = [&, lower = compiler.lower](const TuneTask &task, const Config &config) {
    std::lock_guard<std::mutex> lock(mutex);
    lowered.insert(task.key.spec.heads);
    return lower(task, config);
  };
  options.resume = true;
  auto report = sweep(Json::object());
  ASSERT_TRUE(report);
  EXPECT_EQ(report->skipped, 2);
  EXPECT_EQ(lowered, std::set<int>{16});
}

TEST_F(TunerTest, StoppingBeforeACompilationEndsTheSweep) {
  ASSERT_TRUE(sweep(Json::object()));
  tasks.push_back(tasks[0]);
  tasks.back().key.tokens = 131072;
  options.resume = true;
  auto file = TuningFile::open(folder + "/db.jsonl");
  // The first that is told is a task that the file has; then comes the compilation.
  auto report =
      tune(tasks, compiler, options, *file, stop, [&](const TuneProgress &) { stop = true; });
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->stopped);
  EXPECT_EQ(report->done, 0);
}

TEST_F(TunerTest, WithoutAGpuNothingIsWritten) {
  options.compileCommand = options.measureCommand = {"/no/such/worker"};
  auto file = TuningFile::open(folder + "/db.jsonl");
  auto report = tune(tasks, compiler, options, *file, stop, {});
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().kind, ErrorKind::DeviceFailed);
  EXPECT_FALSE(std::filesystem::exists(folder + "/db.jsonl"));
}

TEST_F(TunerTest, SeveralGpusShareTheTasks) {
  options.gpus = {0, 1, 2};
  for (int tokens : {1000, 3000, 5000})
    for (int heads : {16, 32}) {
      TuneTask task = tasks[0];
      task.key.tokens = tokens;
      task.key.spec.heads = heads;
      tasks.push_back(task);
    }
  auto report = sweep(Json::object());
  ASSERT_TRUE(report);
  EXPECT_EQ(report->done, 8);
  EXPECT_EQ(written().records.size(), 8u);
}

} // namespace
} // namespace winnow
