// Lines of tuned configurations: what is written comes back, what is broken is skipped and told,
// and lengths fall into few buckets.
#include "runtime/tuned/TuningRecord.h"
#include <gtest/gtest.h>
#include <random>
#include <set>

namespace winnow {
namespace {

TuningRecord sampleRecord() {
  TuningRecord record;
  record.key = {"attend", "infllm_v2", Spec(), 131072, 32, "sm_90a", "NVIDIA H200"};
  record.key.spec.valueDim = 128;
  record.key.spec.scale = record.key.spec.softmaxScale();
  record.key.spec.params["local"] = "33 %=";
  record.config.attendStages = 4;
  record.effort = "full";
  record.ms = 20.125, record.low = 20, record.high = 20.25, record.defaultMs = 21,
  record.floorMs = 16.25;
  record.rounds = 15, record.clockMhz = 1755, record.watts = 690;
  record.tried = 88, record.rejected = 3, record.pruned = 120;
  record.verified = "all";
  record.edges = {"attend_stages"};
  record.protocol = "graph", record.code = "ab12", record.driver = "580",
  record.date = "2026-11-25";
  return record;
}

TEST(TuningRecord, WhatIsWrittenComesBack) {
  TuningRecord record = sampleRecord();
  TuningTrial trial;
  trial.key = record.key;
  trial.outcome = "rejected";
  trial.reason = "the \"worker\" died\nof signal 11";
  std::string text = recordLine(record) + "\n" + trialLine(trial) + "\n";
  TuningLines lines = parseTuningLines(text);
  EXPECT_TRUE(lines.faults.empty());
  ASSERT_EQ(lines.records.size(), 1u);
  ASSERT_EQ(lines.trials.size(), 1u);
  EXPECT_EQ(lines.records[0].key.text(), record.key.text());
  EXPECT_EQ(lines.records[0].key.spec.params, record.key.spec.params);
  EXPECT_EQ(recordLine(lines.records[0]), recordLine(record));
  EXPECT_EQ(trialLine(lines.trials[0]), trialLine(trial));
}

TEST(TuningRecord, ADecodeRecordHasABatch) {
  TuningRecord record = sampleRecord();
  record.key.phase = kDecodePhase;
  record.key.overlap = 0, record.key.batch = 64;
  const std::string line = recordLine(record);
  TuningLines lines = parseTuningLines(line);
  ASSERT_EQ(lines.records.size(), 1u);
  EXPECT_EQ(lines.records[0].key.batch, 64);
  EXPECT_EQ(recordLine(lines.records[0]), line);
  EXPECT_NE(record.key.text().find("overlap=0 batch=64 sm_90a"), std::string::npos);
  std::string without = line;
  const std::string batch = "\"batch\":64,";
  without.erase(without.find(batch), batch.size());
  lines = parseTuningLines(without);
  ASSERT_EQ(lines.faults.size(), 1u);
  EXPECT_EQ(lines.faults[0], "line 1: 'batch' is not a number");
  // Lines of the other phases are as they were before there were batches.
  EXPECT_EQ(recordLine(sampleRecord()).find("batch"), std::string::npos);
}

TEST(TuningRecord, ARecordOfGradientsHasAnOverlap) {
  TuningRecord record = sampleRecord();
  record.key.phase = kBackwardPhase;
  record.key.spec.backward = true;
  record.config = *Config::parse("backward_range_tokens=8192");
  const std::string line = recordLine(record);
  TuningLines lines = parseTuningLines(line);
  ASSERT_EQ(lines.records.size(), 1u) << lines.faults.front();
  EXPECT_EQ(lines.records[0].key.overlap, record.key.overlap);
  EXPECT_TRUE(lines.records[0].key.spec.backward);
  EXPECT_EQ(recordLine(lines.records[0]), line);
}

TEST(TuningRecord, EveryTruncationIsSkippedAndTold) {
  std::string whole = recordLine(sampleRecord());
  for (size_t size = 1; size < whole.size(); ++size) {
    TuningLines lines = parseTuningLines(whole.substr(0, size) + "\n" + whole + "\n");
    EXPECT_EQ(lines.records.size(), 1u) << size;
    EXPECT_EQ(lines.faults.size(), 1u) << size;
  }
}

TEST(TuningRecord, F12LinesOfAnotherSchemaAreSkippedInWords) {
  std::string line = recordLine(sampleRecord());
  line.replace(line.find("\"schema\":1"), 10, "\"schema\":9");
  TuningLines lines = parseTuningLines(line);
  EXPECT_TRUE(lines.records.empty());
  ASSERT_EQ(lines.faults.size(), 1u);
  EXPECT_NE(lines.faults[0].find("schema 9"), std::string::npos) << lines.faults[0];
}

TEST(TuningRecord, MistypedFieldsAreNamed) {
  std::string line = recordLine(sampleRecord());
  line.replace(line.find("\"rounds\":15"), 11, "\"rounds\":-1");
  TuningLines lines = parseTuningLines(line);
  ASSERT_EQ(lines.faults.size(), 1u);
  EXPECT_NE(lines.faults[0].find("rounds"), std::string::npos) << lines.faults[0];
}

TEST(TuningRecord, MeasuredBeatsModelAndEffortBeatsLess) {
  TuningRecord measured = sampleRecord(), model = sampleRecord(), exhaustive = sampleRecord();
  model.origin = "model";
  model.effort = exhaustive.effort = "exhaustive";
  EXPECT_TRUE(outranks(measured, model));
  EXPECT_FALSE(outranks(model, measured));
  EXPECT_TRUE(outranks(exhaustive, measured));
  TuningRecord later = sampleRecord();
  later.date = "2026-12-01";
  EXPECT_TRUE(outranks(later, measured));
  EXPECT_FALSE(outranks(measured, measured));
}

TEST(TuningRecord, F17TenThousandLengthsFallIntoFewBuckets) {
  std::mt19937 random(1);
  std::set<std::pair<int, int>> seen;
  for (int i = 0; i < 10000; ++i)
    seen.insert({tokensBucket(1 + random() % 4000000),
                 overlapBucket(1 + static_cast<int>(random() % 1000))});
  EXPECT_LE(seen.size(), 16u);
  EXPECT_EQ(tokensBucket(16384), 16384);
  EXPECT_EQ(tokensBucket(131072), 131072);
  EXPECT_EQ(tokensBucket(0), 2048);
  EXPECT_EQ(overlapBucket(32), 32);
  EXPECT_EQ(overlapBucket(0), 0);
  std::set<int> batches;
  for (int batch = 0; batch < 10000; ++batch)
    batches.insert(batchBucket(batch));
  EXPECT_EQ(batches, (std::set<int>{1, 4, 16, 64, 256}));
  EXPECT_EQ(batchBucket(24), 16);
  EXPECT_EQ(batchBucket(40), 64);
}

} // namespace
} // namespace winnow
