// The look-up ladder: a test per rung (F40), the legality of what is loaded (F13), and that equal
// questions get equal answers.
#include "TunedSamples.h"
#include <gtest/gtest.h>

using namespace winnow;
using namespace winnow::test;

namespace {

class Ladder : public testing::Test {
protected:
  /// Adds a record of the sample problem after `change`, with `value` as its tunable.
  template <typename Change> void have(int value, Change change) {
    TuningRecord record = sampleRecord(sampleKey(), value);
    change(record);
    database.add(record);
  }
  TunedAnswer ask(const TuningKey &wanted = sampleKey()) {
    return lookUp(database, wanted, legal,
                  [this](const std::string &message) { warnings.push_back(message); });
  }
  /// All rungs at once, so that each test must pass over the lower ones.
  void everyRung() {
    have(10, [](TuningRecord &r) { r.origin = "model"; });
    have(4, [](TuningRecord &r) { r.key.device = "Another"; });
    have(3, [](TuningRecord &r) { r.key.tokens = 16384; });
    have(2, [](TuningRecord &) {});
  }

  TunedDatabase database;
  LegalConfig legal;
  std::vector<std::string> warnings;
};

TEST_F(Ladder, F40ExactIsTheMeasurementOfThisProblemOnThisGpu) {
  everyRung();
  TunedAnswer answer = ask();
  EXPECT_EQ(answer.rung, Rung::Exact);
  EXPECT_EQ(answer.config.attendStages, 2);
  ASSERT_TRUE(answer.record);
  EXPECT_EQ(answer.record->key.text(), sampleKey().text());
  EXPECT_EQ(answer.why, "measured on Fake 80GB for this problem");
}

TEST_F(Ladder, F40NearestSaysWhatDiffers) {
  have(3, [](TuningRecord &r) { r.key.tokens = 16384; });
  have(4, [](TuningRecord &r) { r.key.tokens = 2048; });
  have(5, [](TuningRecord &r) { r.key.device = "Another"; });
  TunedAnswer answer = ask();
  EXPECT_EQ(answer.rung, Rung::Nearest);
  EXPECT_EQ(answer.config.attendStages, 3);
  EXPECT_EQ(answer.why, "measured on Fake 80GB for tokens 16384 instead of 131072 (distance 1.50 "
                        "of at most 6)");
}

TEST_F(Ladder, F40OtherDeviceOfTheArchitecture) {
  have(10, [](TuningRecord &r) { r.origin = "model"; });
  have(4, [](TuningRecord &r) { r.key.device = "Another"; });
  have(5, [](TuningRecord &r) { r.key.device = "Another", r.key.arch = "sm_90a"; });
  TunedAnswer answer = ask();
  EXPECT_EQ(answer.rung, Rung::OtherDevice);
  EXPECT_EQ(answer.config.attendStages, 4);
  EXPECT_EQ(answer.why, "measured on Another, another sm_80 for this problem");
}

TEST_F(Ladder, F40ModelWhereNothingWasMeasured) {
  have(10, [](TuningRecord &r) { r.origin = "model"; });
  have(9, [](TuningRecord &r) { r.origin = "model", r.key.device = "Another"; });
  TunedAnswer answer = ask();
  EXPECT_EQ(answer.rung, Rung::Model);
  EXPECT_EQ(answer.config.attendStages, 10);
  EXPECT_NE(answer.why.find("nothing was run"), std::string::npos);
}

TEST_F(Ladder, F40DefaultWhereNothingIsNear) {
  EXPECT_EQ(ask().rung, Rung::Default);
  have(2, [](TuningRecord &r) { r.key.phase = "select"; });
  have(3, [](TuningRecord &r) { r.key.spec.headDim = 64; });
  have(4, [](TuningRecord &r) { r.key.spec.valueDim = 128; });
  have(5, [](TuningRecord &r) { r.key.spec.block = 32; });
  have(6, [](TuningRecord &r) { r.key.arch = "sm_90a"; });
  have(7, [](TuningRecord &r) { r.key.spec.kvHeads = 32; }); // groups of 1: beyond reach
  TunedAnswer answer = ask();
  EXPECT_EQ(answer.rung, Rung::Default);
  EXPECT_FALSE(answer.record);
  EXPECT_EQ(answer.config.text(), Config().text());
  EXPECT_EQ(answer.why, "no tuned configuration is near enough");
}

TEST_F(Ladder, F40TheReachIncludesItsEnd) {
  have(3, [](TuningRecord &r) { r.key.tokens = 131072 >> 12; }); // 12 octaves at one half
  TunedAnswer answer = ask();
  EXPECT_EQ(answer.rung, Rung::Nearest);
  EXPECT_EQ(*tuningDistance(sampleKey(), answer.record->key), kTuningReach);
  database = {};
  have(3, [](TuningRecord &r) { r.key.tokens = (131072 >> 12) - 1; });
  EXPECT_EQ(ask().rung, Rung::Default);
}

TEST(TuningDistance, EachDifferenceCountsItsOwn) {
  auto distance = [](const char *phase, const std::function<void(TuningKey &)> &change) {
    TuningKey wanted = sampleKey(phase), have = wanted;
    wanted.spec.params["local"] = have.spec.params["local"] = "4";
    change(have);
    std::optional<double> there = tuningDistance(wanted, have), back = tuningDistance(have, wanted);
    EXPECT_EQ(there, back);
    return there;
  };
  for (const char *phase : {"select", "attend"}) {
    const bool attends = std::string(phase) == "attend";
    EXPECT_EQ(distance(phase, [](TuningKey &) {}), 0.0);
    EXPECT_EQ(distance(phase, [](TuningKey &k) { k.tokens *= 4; }), 1.0);
    EXPECT_EQ(distance(phase, [](TuningKey &k) { k.overlap = k.overlap ? k.overlap * 4 : 4; }),
              attends ? 1.0 : 0.0);
    EXPECT_EQ(distance(phase, [](TuningKey &k) { k.spec.topk *= 2; }), attends ? 0.5 : 0.25);
    EXPECT_EQ(distance(phase, [](TuningKey &k) { k.spec.heads *= 2; }), 2.0);
    EXPECT_EQ(distance(phase, [](TuningKey &k) { k.spec.heads *= 2, k.spec.kvHeads *= 2; }), 0.25);
    EXPECT_EQ(distance(phase, [](TuningKey &k) { k.spec.dtype = Dtype::FP16; }), 0.25);
    EXPECT_EQ(distance(phase, [](TuningKey &k) { k.spec.params["local"] = "5"; }), 0.25);
    EXPECT_EQ(distance(phase, [](TuningKey &k) { k.spec.params.clear(); }), 0.0); // not known
    EXPECT_EQ(distance(phase, [](TuningKey &k) { k.device = "Another"; }), 0.0);  // the rung tells
    const std::function<void(TuningKey &)> others[] = {
        [](TuningKey &k) { k.phase = k.phase == "select" ? "attend" : "select"; },
        [](TuningKey &k) { k.method = "other"; },
        [](TuningKey &k) { k.arch = "sm_90a"; },
        [](TuningKey &k) { k.spec.headDim = 64; },
        [](TuningKey &k) { k.spec.valueDim = 128; },
        [](TuningKey &k) { k.spec.block = 32; }};
    for (const auto &change : others)
      EXPECT_FALSE(distance(phase, change));
  }
}

TEST(TuningDistance, AtDecodeTheBatchCounts) {
  const TuningKey wanted = sampleKey(kDecodePhase);
  TuningKey have = wanted;
  have.batch = 64;
  EXPECT_EQ(tuningDistance(wanted, have), 1.0);
  have.spec.topk *= 2;
  EXPECT_EQ(tuningDistance(wanted, have), 1.5);
  EXPECT_FALSE(tuningDistance(wanted, sampleKey("attend")));
}

TEST(TuningDistance, OfGradientsTheOverlapCounts) {
  const TuningKey wanted = sampleKey(kBackwardPhase);
  TuningKey have = wanted;
  have.overlap = 8;
  EXPECT_EQ(tuningDistance(wanted, have), 1.0);
  have.spec.topk *= 2;
  EXPECT_EQ(tuningDistance(wanted, have), 1.5);
  EXPECT_FALSE(tuningDistance(wanted, sampleKey("attend")));
}

TEST_F(Ladder, AnUnknownGpuIsAnsweredByAnyOfItsArchitecture) {
  everyRung();
  TuningKey wanted = sampleKey();
  wanted.device.clear();
  TunedAnswer answer = ask(wanted);
  EXPECT_EQ(answer.rung, Rung::OtherDevice);
  EXPECT_EQ(answer.record->key.tokens, 131072);
}

TEST_F(Ladder, F13AnIllegalConfigurationGivesWayWithOneWarning) {
  everyRung();
  legal = [](const Config &config) -> Status {
    if (config.attendStages == 2 || config.attendStages == 3)
      return fail(ErrorKind::Usage, "too many stages");
    return {};
  };
  TunedAnswer answer = ask();
  EXPECT_EQ(answer.rung, Rung::OtherDevice);
  EXPECT_EQ(answer.config.attendStages, 4);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("[attend_stages=2]"), std::string::npos) << warnings[0];
  EXPECT_NE(warnings[0].find("too many stages"), std::string::npos);
  legal = [](const Config &config) -> Status {
    return config.attendStages == 0 ? Status() : Status(fail(ErrorKind::Usage, "no"));
  };
  EXPECT_EQ(ask().why, "no tuned configuration that is near enough is legal here");
}

TEST_F(Ladder, F13AProblemWithoutAnyKernelIsNotBlamedOnARecord) {
  everyRung();
  int checks = 0;
  legal = [&](const Config &) -> Status {
    ++checks;
    return fail(ErrorKind::Unsupported, "no such head_dim");
  };
  EXPECT_EQ(ask().rung, Rung::Default);
  EXPECT_TRUE(warnings.empty());
  EXPECT_EQ(checks, 2);
}

TEST_F(Ladder, F13ARecordDoesNotReachIntoTheOtherPhase) {
  have(2, [](TuningRecord &r) { r.config.scoreFold = YesNo::Yes; });
  EXPECT_EQ(shortText(ask().config), "attend_stages=2");
}

TEST_F(Ladder, ParametersCountWhereBothNameThem) {
  have(2, [](TuningRecord &r) { r.key.spec.params = {{"local", "33"}, {"init", "1"}}; });
  TuningKey wanted = sampleKey();
  wanted.spec.params = {{"local", "33"}};
  wanted.spec.scale = 0.5; // does not matter
  EXPECT_EQ(ask(wanted).rung, Rung::Exact);
  wanted.spec.params = {{"local", "17"}};
  EXPECT_EQ(ask(wanted).rung, Rung::Nearest);
  EXPECT_NE(ask(wanted).why.find("local 33 instead of 17"), std::string::npos);
}

TEST_F(Ladder, SelectionDoesNotLookAtTheOverlap) {
  TuningKey a = sampleKey("select"), b = a;
  b.overlap = 128;
  EXPECT_EQ(tuningDistance(a, b), 0.0);
  b.method = "n";
  EXPECT_FALSE(tuningDistance(a, b)); // another method may attend to something else
  EXPECT_FALSE(tuningDistance(a, sampleKey("attend")));
}

TEST_F(Ladder, TiesAreBrokenByContentNotByOrder) {
  auto twoEqual = [](bool swapped) {
    TuningRecord a = sampleRecord(sampleKey(), 2), b = sampleRecord(sampleKey(), 3);
    a.key.tokens = 16384, b.key.tokens = 1048576; // as far below as above
    TunedDatabase database;
    database.add(swapped ? b : a);
    database.add(swapped ? a : b);
    return lookUp(database, sampleKey(), {}, {}).config.attendStages;
  };
  EXPECT_EQ(twoEqual(false), twoEqual(true));
}

TEST(Workload, UnknownIsFilledIn) {
  EXPECT_EQ(Workload().bucket().tokens, 131072);
  EXPECT_EQ(Workload().bucket().overlap, 32);
  Workload known{5000, 2};
  EXPECT_EQ(known.bucket().tokens, 2048);
  EXPECT_EQ(known.bucket().overlap, 1);
}

TEST(Rung, NamesComeBack) {
  for (Rung rung :
       {Rung::Exact, Rung::Nearest, Rung::OtherDevice, Rung::Model, Rung::Default, Rung::Given})
    EXPECT_EQ(parseRung(name(rung)), rung);
  EXPECT_FALSE(parseRung("best"));
}

} // namespace
