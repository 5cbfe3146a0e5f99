// Collections of tuned configurations: the best record of a key stays whatever the order of files,
// what is wrong with a file is told and nothing else lost (F12, F41).
#include "TestSupport.h"
#include "TunedSamples.h"
#include "runtime/Environment.h"
#include <algorithm>
#include <sys/stat.h>
#include <unistd.h>

using namespace winnow;
using namespace winnow::test;

namespace {

TuningTrial sampleTrial(int stages) {
  TuningTrial trial;
  trial.key = sampleKey();
  trial.config.attendStages = stages;
  trial.outcome = "kept";
  trial.ms = stages;
  return trial;
}

/// Three shards of one sweep that overlap: records of one key that differ in origin, effort, date
/// and time, and trials that two of them saw.
std::vector<std::string> shards() {
  TuningRecord quick = sampleRecord(sampleKey(), 2), full = quick, model = quick, tie = quick;
  full.effort = "full", full.config.attendStages = 3;
  model.origin = "model", model.effort = "exhaustive", model.config.attendStages = 5;
  tie.ms = 0.5, tie.config.attendStages = 4;
  TuningRecord select = sampleRecord(sampleKey("select"), 64);
  std::string trials = trialLine(sampleTrial(2)) + "\n" + trialLine(sampleTrial(3)) + "\n";
  return {recordLine(quick) + "\n" + trials, trials + recordLine(full) + "\n" + recordLine(select),
          recordLine(model) + "\n" + recordLine(tie) + "\n" + trialLine(sampleTrial(4))};
}

TEST(TunedDatabase, AnyOrderOfShardsGivesTheSameBytes) {
  std::vector<std::string> files = shards();
  std::vector<size_t> order = {0, 1, 2};
  std::string first;
  do {
    TunedDatabase database;
    for (size_t index : order)
      database.add("shard", parseTuningLines(files[index]));
    if (first.empty())
      first = database.text(/*withTrials=*/true);
    EXPECT_EQ(database.text(true), first);
    TunedDatabase again; // what was merged merges to itself
    again.add("merged", parseTuningLines(first));
    EXPECT_EQ(again.text(true), first);
  } while (std::next_permutation(order.begin(), order.end()));
  EXPECT_EQ(std::count(first.begin(), first.end(), '\n'), 2 + 3);
  TuningLines lines = parseTuningLines(first);
  ASSERT_EQ(lines.records.size(), 2u);
  EXPECT_EQ(lines.records[0].config.attendStages, 3) << "full effort beats quick and model";
  EXPECT_EQ(lines.trials.size(), 3u);
}

TEST(TunedDatabase, F38TheUsersFileIsNeverInThePresentDirectory) {
  auto fileFor = [](const char *data, const char *home) {
    setenv("XDG_DATA_HOME", data, 1);
    setenv("HOME", home, 1);
    return userTunedFile();
  };
  EXPECT_TRUE(exitedWith(runChild([&] {
                           bool right =
                               fileFor("/d", "/h") == "/d/winnow/tuned.jsonl" &&
                               fileFor("d", "/h") == "/h/.local/share/winnow/tuned.jsonl" &&
                               fileFor("", "h").empty() && fileFor(".", "").empty();
                           return right ? 0 : 1;
                         }),
                         0));
}

TEST(TunedDatabase, F12WhatAnotherBuildCanReadIsKept) {
  std::string newer = recordLine(sampleRecord(sampleKey(), 2));
  newer.replace(newer.find("\"schema\":1"), 10, "\"schema\":7");
  TunedDatabase database;
  database.add("mine", parseTuningLines(newer + "\n" + newer + "\nbroken\n" + shards()[0]));
  EXPECT_EQ(database.faults().size(), 3u);
  const std::string text = database.text(/*withTrials=*/true);
  EXPECT_EQ(text.substr(text.size() - newer.size() - 1), newer + "\n"); // once
  EXPECT_EQ(text.find(newer), text.size() - newer.size() - 1);
  EXPECT_EQ(text.find("broken"), std::string::npos);
  EXPECT_EQ(database.text(/*withTrials=*/false).find(newer), std::string::npos);
}

TEST(TunedDatabase, ExportHoldsRecordsAlone) {
  TunedDatabase database;
  for (const std::string &file : shards())
    database.add("shard", parseTuningLines(file));
  TuningLines lines = parseTuningLines(database.text(/*withTrials=*/false));
  EXPECT_EQ(lines.records.size(), 2u);
  EXPECT_TRUE(lines.trials.empty());
}

TEST(TunedDatabase, OfEqualRankTheFasterStays) {
  TuningRecord slow = sampleRecord(sampleKey(), 2), fast = sampleRecord(sampleKey(), 3);
  fast.ms = 0.5;
  EXPECT_TRUE(isBetter(fast, slow));
  EXPECT_FALSE(isBetter(slow, fast));
  EXPECT_FALSE(isBetter(slow, slow));
}

TEST(TunedDatabase, F12FilesOfAnotherSchemaAndBrokenOnesAreToldAndSkipped) {
  TempDir dir;
  std::string line = recordLine(sampleRecord(sampleKey(), 3)), other = line;
  other.replace(other.find("\"schema\":1"), 10, "\"schema\":0");
  writeBytes(dir / "old.jsonl", other + "\n");
  writeBytes(dir / "cut.jsonl", line + "\n" + line.substr(0, 40));
  TunedDatabase database = TunedDatabase::load(
      {dir / "old.jsonl", dir / "cut.jsonl", dir / "missing.jsonl", dir.path}, /*shipped=*/false);
  EXPECT_EQ(database.records().size(), 1u);
  ASSERT_EQ(database.faults().size(), 4u);
  EXPECT_EQ(database.faults()[0], dir / "old.jsonl" + ": line 1: schema 0; this build reads 1");
  EXPECT_NE(database.faults()[1].find("cut.jsonl: line 2: "), std::string::npos);
  EXPECT_EQ(database.faults()[2], dir / "missing.jsonl" + ": No such file or directory");
}

TEST(TunedDatabase, F38FilesThatOthersCanWriteAndHugeOnesAreToldAndNotRead) {
  TempDir dir;
  writeBytes(dir / "ours.jsonl", recordLine(sampleRecord(sampleKey(), 3)) + "\n");
  writeBytes(dir / "huge.jsonl", "");
  ASSERT_EQ(truncate((dir / "huge.jsonl").c_str(), off_t(8) << 40), 0);
  auto load = [&](mode_t mode, const char *file = "ours.jsonl") {
    EXPECT_EQ(chmod((dir / file).c_str(), mode), 0);
    return TunedDatabase::load({dir / file}, /*shipped=*/false);
  };
  EXPECT_EQ(load(0644).records().size(), 1u);
  for (mode_t mode : {0666, 0664, 0646}) {
    TunedDatabase database = load(mode);
    EXPECT_TRUE(database.records().empty()) << std::oct << mode;
    ASSERT_EQ(database.faults().size(), 1u);
    EXPECT_NE(database.faults()[0].find("chmod go-w"), std::string::npos);
  }
  TunedDatabase huge = load(0644, "huge.jsonl");
  ASSERT_EQ(huge.faults().size(), 1u);
  EXPECT_NE(huge.faults()[0].find("too large"), std::string::npos);
  if (::geteuid() != 0)
    return; // giving files away takes root
  load(0644);
  ASSERT_EQ(chown((dir / "ours.jsonl").c_str(), 12345, 12345), 0);
  EXPECT_TRUE(load(0644).records().empty());
}

TEST(TunedDatabase, ShippedFilesAreWhole) {
  for (const EmbeddedFile &file : shippedTunedFiles()) {
    TuningLines lines = parseTuningLines(file.text);
    EXPECT_TRUE(lines.faults.empty()) << file.name << ": " << lines.faults.front();
    EXPECT_TRUE(lines.trials.empty()) << file.name << " holds trials: `winnow db export` it";
    TunedDatabase database;
    database.add(file.name, lines);
    EXPECT_EQ(database.text(false), file.text) << file.name << " is not as exported";
    for (const TuningRecord &record : lines.records) // F41: the default is always a candidate
      EXPECT_TRUE(record.origin == "model" || record.ms <= record.defaultMs)
          << file.name << ": " << record.key.text();
  }
}

TEST(TunedDatabase, PathListsSplitAtColons) {
  EXPECT_EQ(splitPaths("a:b::c"), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_TRUE(splitPaths("").empty());
}

} // namespace
