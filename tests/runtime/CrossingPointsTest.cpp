// From how many keys on it pays to select: the value `auto` as text, as a formula and as a record
// that is looked up, and what a launch does with it.
#include "runtime/program/CrossingPoints.h"
#include "LaunchFixture.h"
#include "TunedSamples.h"
#include "runtime/tuned/Decisions.h"
#include <cstdlib>
#include <fmt/format.h>
#include <gtest/gtest.h>

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr const char *kMeasured = "auto_12288_1x73728_16x11044_64x7642";

CrossingPoints read(const std::string &text) {
  Result<CrossingPoints> points = CrossingPoints::parse(text, Spec());
  EXPECT_TRUE(points) << text;
  return points.value_or(CrossingPoints());
}

int64_t keysFor(const CrossingPoints &points, int batch, int maxQ) {
  Result<Formula> formula = Formula::parse(points.formula(16), Variable::MaxK);
  EXPECT_TRUE(formula) << formula.error().message;
  Variables shape;
  shape[Variable::Batch] = batch;
  shape[Variable::MaxQ] = maxQ;
  return formula->evaluate(shape).value_or(-1);
}

TEST(CrossingPoints, TextAndPointsAreInverse) {
  for (const char *text : {"auto_0", "auto_12288", "auto_5_1x7", kMeasured})
    EXPECT_EQ(read(text).text(), text);
  EXPECT_EQ(read("auto").text(), CrossingPoints::byDefault(Spec()).text());
  EXPECT_TRUE(CrossingPoints::isAuto("auto"));
  EXPECT_TRUE(CrossingPoints::isAuto(kMeasured));
  for (const char *text : {"", "aut", "autos", "-1", "4096", "Auto"})
    EXPECT_FALSE(CrossingPoints::isAuto(text)) << text;
}

TEST(CrossingPoints, BrokenTextIsRefusedWithHowToWriteIt) {
  std::string many = "auto_1";
  for (int rows = 1; rows <= 17; ++rows)
    many += fmt::format("_{}x1", rows);
  for (const std::string &text :
       {std::string("auto_"), std::string("auto_-1"), std::string("auto_x"),
        std::string("auto_1x2"), std::string("auto_1_2"), std::string("auto_1_0x2"),
        std::string("auto_1_4x2_4x1"), std::string("auto_1_4x2_2x1"), std::string("auto_1_2x"),
        std::string("auto_1_2x3x4"), std::string("auto_9999999999"), std::string("auto_1_70000x1"),
        many}) {
    Result<CrossingPoints> points = CrossingPoints::parse(text, Spec());
    ASSERT_FALSE(points) << text;
    EXPECT_EQ(points.error().kind, ErrorKind::Usage);
    EXPECT_NE(points.error().message.find("write auto, or auto_KEYS"), std::string::npos);
  }
}

TEST(CrossingPoints, FormulaMeetsThePointsAndIsAPlusBOverRowsBetween) {
  const CrossingPoints points = read(kMeasured);
  EXPECT_EQ(keysFor(points, 1, 1), 73728);
  EXPECT_EQ(keysFor(points, 16, 1), 11044);
  EXPECT_EQ(keysFor(points, 64, 1), 7642);
  EXPECT_EQ(keysFor(points, 4, 4), 11044) << "query tokens count, not sequences";
  EXPECT_EQ(keysFor(points, 512, 1), 7642) << "behind the last point its own";
  EXPECT_EQ(keysFor(points, 1, 17), 12288) << "prefill";
  for (int batch : {2, 3, 5, 9, 15, 17, 33, 63}) {
    const bool low = batch < 16;
    const double r0 = low ? 1 : 16, k0 = low ? 73728 : 11044, r1 = low ? 16 : 64,
                 k1 = low ? 11044 : 7642;
    const double expected = k1 + (k0 - k1) * (1.0 / batch - 1 / r1) / (1 / r0 - 1 / r1);
    EXPECT_NEAR(static_cast<double>(keysFor(points, batch, 1)), expected, 2) << batch;
  }
}

TEST(CrossingPoints, FormulaTakesPointsThatRiseAndNone) {
  const CrossingPoints rising = read("auto_9_2x100_4x300");
  EXPECT_EQ(keysFor(rising, 1, 1), 100);
  EXPECT_EQ(keysFor(rising, 3, 1), 234); // 300 - 200 * 2 * (4 - 3) / (2 * 3), cut
  EXPECT_EQ(keysFor(rising, 9, 1), 300);
  EXPECT_EQ(keysFor(read("auto_9"), 3, 1), 9);
}

TEST(CrossingPoints, FormulaOfTheLargestPointsFits64Bits) {
  const CrossingPoints points = read("auto_1073741824_1x1073741824_65535x0_65536x1073741824");
  for (int batch : {1, 2, 65534, 65535, 65536, 2147483647})
    for (int maxQ : {0, 1, 16, 2147483647})
      EXPECT_GE(keysFor(points, batch, maxQ), 0) << batch << " " << maxQ;
}

TEST(CrossingPoints, DefaultFollowsTheBytesOfKeys) {
  Spec spec;
  const CrossingPoints few = CrossingPoints::byDefault(spec);
  EXPECT_EQ(few.prefill, 2 * 96 * 64);
  EXPECT_EQ(keysFor(few, 1, 1), 96 * 64 * 5 / 4 + 65536);
  const int64_t of16 = 96 * 64 * 5 / 4 + 65536 / 16;
  EXPECT_LE(std::abs(keysFor(few, 16, 1) - of16), 2);
  spec.kvHeads = 32;
  EXPECT_EQ(keysFor(CrossingPoints::byDefault(spec), 1, 1), 96 * 64 * 5 / 4 + 4096);
  spec.topk = spec.block = kMostSpecNumber, spec.kvHeads = 1;
  EXPECT_TRUE(CrossingPoints::parse(CrossingPoints::byDefault(spec).text(), spec));
}

CrossingRecord sampleCrossing(const std::string &points) {
  CrossingRecord record;
  record.key = sampleKey(kCrossingPhase);
  record.key.tokens = record.key.overlap = 0;
  record.points = points;
  record.date = "2026-11-29";
  return record;
}

TEST(CrossingRecord, LineAndRecordAreInverse) {
  const CrossingRecord record = sampleCrossing(kMeasured);
  const TuningLines lines = parseTuningLines(crossingLine(record));
  ASSERT_EQ(lines.crossings.size(), 1u) << lines.faults.front();
  EXPECT_EQ(crossingLine(lines.crossings[0]), crossingLine(record));
  EXPECT_TRUE(lines.records.empty());
}

TEST(CrossingRecord, BrokenLinesAreTold) {
  for (auto [from, to] : {std::pair("dense_len", "attend"),
                          {"measured", "guessed"},
                          {"auto_12288", "auto_many"},
                          {"\"points\"", "\"Points\""}}) {
    std::string line = crossingLine(sampleCrossing(kMeasured));
    line.replace(line.find(from), std::string(from).size(), to);
    const TuningLines lines = parseTuningLines(line);
    EXPECT_TRUE(lines.crossings.empty()) << line;
    EXPECT_EQ(lines.faults.size(), 1u) << line;
  }
}

TEST(CrossingRecord, MeasuredStaysThenTheLaterOne) {
  CrossingRecord measured = sampleCrossing("auto_1"), interpolated = sampleCrossing("auto_2"),
                 later = sampleCrossing("auto_3");
  interpolated.origin = "interpolated", interpolated.date = "2026-12-31";
  later.date = "2026-12-01";
  for (bool isReversed : {false, true}) {
    std::vector<CrossingRecord> all{measured, interpolated, later};
    if (isReversed)
      std::reverse(all.begin(), all.end());
    TunedDatabase database;
    for (const CrossingRecord &record : all)
      database.add(record);
    EXPECT_EQ(database.text(false), crossingLine(later) + "\n");
  }
}

TEST(CrossingRecord, LadderAnswersByRung) {
  const TuningKey wanted = sampleCrossing("").key;
  TunedDatabase database;
  CrossingAnswer answer = lookUpCrossing(database, wanted);
  EXPECT_EQ(answer.rung, Rung::Default);
  EXPECT_EQ(answer.points, CrossingPoints::byDefault(wanted.spec).text());

  CrossingRecord other = sampleCrossing("auto_1");
  other.key.device = "Another";
  database.add(other);
  EXPECT_EQ(lookUpCrossing(database, wanted).rung, Rung::OtherDevice);
  TuningKey unknown = wanted;
  unknown.device.clear();
  EXPECT_EQ(lookUpCrossing(database, unknown).points, "auto_1") << "compiled for no device";

  CrossingRecord near = sampleCrossing("auto_2");
  near.key.spec.topk = 64;
  database.add(near);
  answer = lookUpCrossing(database, wanted);
  EXPECT_EQ(answer.rung, Rung::Nearest);
  EXPECT_EQ(answer.points, "auto_2");
  EXPECT_NE(answer.why.find("top-k 64 instead of 96"), std::string::npos) << answer.why;

  database.add(sampleCrossing("auto_3"));
  EXPECT_EQ(lookUpCrossing(database, wanted).rung, Rung::Exact);
  EXPECT_EQ(lookUpCrossing(database, wanted).points, "auto_3");

  TuningKey strange = wanted;
  strange.method = "n";
  EXPECT_EQ(lookUpCrossing(database, strange).rung, Rung::Default);
}

TEST(CrossingRecord, F14DecisionsHoldThePoints) {
  Decision decision{"request", "device", Config()};
  EXPECT_EQ(decisionLine(decision).find("resolved"), std::string::npos);
  decision.resolved = {{"dense_len", kMeasured}};
  decision.crossing = Rung::Nearest;
  Result<std::vector<Decision>> back = parseDecisions(decisionLine(decision));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->at(0).resolved, decision.resolved);
  EXPECT_EQ(back->at(0).crossing, Rung::Nearest);
}

class DenseLengthLaunch : public LaunchFixture {
protected:
  void SetUp() override {
    LaunchFixture::SetUp();
    ProgramImage image = sampleImage();
    image.denseLength = "200 / batch";
    image.parts = "1 + (max_k < dense_length)";
    load(std::move(image));
  }
};

TEST_F(DenseLengthLaunch, ReachesTheKernelsAndOtherFormulas) {
  LaunchArgs args;
  args.q = address(1), args.k = address(2), args.v = address(3), args.out = address(4);
  args.ids = address<int>(6), args.cuQ = address<const int>(7), args.cuK = address<const int>(8);
  args.shape = {1, 100, 100, 100, 100};
  ASSERT_TRUE(launch(args));
  EXPECT_EQ(fakeDriver(kFake).launches.at(0).params.dense_length, 200);
  EXPECT_EQ(fakeDriver(kFake).launches.at(0).params.parts, 2);
  args.shape.batch = 2;
  ASSERT_TRUE(launch(args));
  EXPECT_EQ(fakeDriver(kFake).launches.at(0).params.dense_length, 100);
  EXPECT_EQ(fakeDriver(kFake).launches.at(0).params.parts, 1);
  EXPECT_EQ(*program->denseLength(4, 1), 50);
}

} // namespace
