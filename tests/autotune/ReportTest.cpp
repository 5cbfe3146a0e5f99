// The figures of `winnow report`: speed-ups, regret of each way of choosing, groups of reasons; and
// the page, which stays one document whatever the texts hold.
#include "autotune/report/Report.h"
#include "autotune/report/ReportPage.h"
#include "runtime/tuned/TunedLadder.h"
#include <cmath>
#include <gtest/gtest.h>

namespace winnow {
namespace {

TuningKey keyOf(int tokens, const std::string &device = "test device") {
  TuningKey key{"attend", "some_method", Spec(), tokens, 32, "test_arch", device};
  key.spec.valueDim = key.spec.headDim;
  key.spec.scale = key.spec.softmaxScale();
  return key;
}

Config stages(int count) {
  Config config;
  config.attendStages = count;
  return config;
}

TuningRecord record(const TuningKey &key, const Config &config, double ms, double defaultMs) {
  TuningRecord r;
  r.key = key, r.config = config, r.ms = ms, r.defaultMs = defaultMs;
  r.floorMs = ms / 2, r.tried = 10, r.pruned = 4, r.rejected = 1, r.date = "2026-11-25";
  return r;
}

TuningTrial trial(const TuningKey &key, const Config &config, double ms,
                  const std::string &outcome = "kept", const std::string &reason = "") {
  TuningTrial t;
  t.key = key, t.config = config, t.ms = ms, t.outcome = outcome, t.reason = reason;
  return t;
}

TEST(Report, NothingGivesEveryFigureItsPlace) {
  nlohmann::ordered_json figures = reportFigures({});
  EXPECT_EQ(figures["head"]["keys"], 0);
  EXPECT_TRUE(figures["head"]["geomean"].is_null());
  EXPECT_EQ(figures["regret"]["default"]["count"], 0);
  EXPECT_TRUE(figures["regret"]["model"]["median"].is_null());
  for (const char *list : {"keys", "pruned", "rejected"})
    EXPECT_TRUE(figures[list].empty()) << list;
}

TEST(Report, KeysTellGainAndShareOfTheFloor) {
  TuningLines lines;
  TuningRecord one = record(keyOf(2048), stages(3), 8, 10);
  one.low = 7.5, one.high = 8.5, one.floorMs = 2;
  one.rounds = 11, one.clockMhz = 1410, one.watts = 345;
  lines.records = {one};
  const nlohmann::ordered_json key = reportFigures(lines)["keys"][0];
  EXPECT_EQ(key["speedup"], 1.25);
  EXPECT_EQ(key["floor_share"], 0.25);
  const std::pair<const char *, double> numbers[] = {
      {"ms", 8},       {"low", 7.5},   {"high", 8.5},  {"default_ms", 10},
      {"floor_ms", 2}, {"rounds", 11}, {"tried", 10},  {"clock_mhz", 1410},
      {"watts", 345},  {"pruned", 4},  {"rejected", 1}};
  for (auto [name, number] : numbers)
    EXPECT_EQ(key[name], number) << name;
}

TEST(Report, HeadCountsMeasuredKeys) {
  TuningLines lines;
  lines.records = {record(keyOf(2048), stages(3), 1, 2),
                   record(keyOf(16384), stages(4), 10, 11.25)};
  TuningRecord guessed = record(keyOf(131072), stages(2), 1, 100);
  guessed.origin = "model";
  lines.records.push_back(guessed);
  lines.trials = {trial(keyOf(1048576), Config(), 5)};
  lines.faults = {"line 9: cut"};
  nlohmann::ordered_json head = reportFigures(lines)["head"];
  EXPECT_EQ(head["keys"], 3);
  EXPECT_EQ(head["measured"], 2);
  EXPECT_EQ(head["tried"], 20);
  EXPECT_EQ(head["pruned"], 8);
  EXPECT_EQ(head["unfinished"], 1);
  EXPECT_NEAR(head["geomean"], std::sqrt(2 * 1.125), 1e-5);
  EXPECT_EQ(head["best"]["key"], 0);
  EXPECT_EQ(head["worst"]["speedup"], 1.125);
  EXPECT_EQ(head["floor_share"], 0.5);
  EXPECT_EQ(head["faults"][0], "line 9: cut");
}

TEST(Report, OfSeveralRecordsTheBestStays) {
  TuningLines lines;
  TuningRecord guessed = record(keyOf(2048), stages(2), 0.1, 0);
  guessed.origin = "model";
  TuningRecord quick = record(keyOf(2048), stages(3), 1, 2);
  TuningRecord full = record(keyOf(2048), stages(4), 0.9, 2);
  full.effort = "full";
  lines.records = {guessed, full, quick};
  nlohmann::ordered_json figures = reportFigures(lines);
  ASSERT_EQ(figures["keys"].size(), 1u);
  EXPECT_EQ(figures["keys"][0]["effort"], "full");
}

TEST(Report, RegretOfEachWayOfChoosing) {
  TuningLines lines;
  TuningKey here = keyOf(16384), near = keyOf(2048), far = keyOf(1048576);
  lines.records = {record(here, stages(4), 10, 12), record(near, stages(3), 1, 1),
                   record(far, stages(2), 100, 150)};
  TuningRecord model = record(keyOf(16384, "another device"), stages(6), 1, 0);
  model.origin = "model";
  lines.records.push_back(model);
  lines.trials = {
      trial(here, Config(), 12.5),        trial(here, stages(3), 11),
      trial(here, stages(4), 10, "best"), trial(here, stages(6), 0, "pruned", "needs 9 bytes"),
      trial(near, stages(3), 1, "best"),  trial(near, stages(4), 1.5, "dropped")};
  nlohmann::ordered_json figures = reportFigures(lines);
  nlohmann::ordered_json choices;
  for (const auto &key : figures["keys"])
    if (key["tokens"] == 16384 && key["origin"] == "measured")
      choices = key["choices"];
  EXPECT_NEAR(choices["default"]["regret"], 0.2, 1e-9); // as measured beside the winner
  EXPECT_EQ(choices["neighbour"]["fate"], "measured");
  EXPECT_EQ(choices["neighbour"]["key"], 0);
  EXPECT_NEAR(choices["neighbour"]["regret"], 0.1, 1e-9);
  EXPECT_EQ(choices["model"]["fate"], "pruned");
  EXPECT_EQ(choices["model"]["device"], "another device");

  // Neighbours: 10 % here, 50 % at 2048; at 1048576 that of 16384 was not tried.
  const auto &neighbour = figures["regret"]["neighbour"];
  EXPECT_EQ(neighbour["count"], 2);
  EXPECT_NEAR(neighbour["median"], 0.3, 1e-9);
  EXPECT_NEAR(neighbour["worst"], 0.5, 1e-9);
  EXPECT_EQ(neighbour["missing"], 1);
  EXPECT_EQ(figures["regret"]["model"]["pruned"], 1);
  EXPECT_EQ(figures["regret"]["default"]["count"], 3);
  EXPECT_NEAR(figures["regret"]["default"]["median"], 0.2, 1e-9);
}

TEST(Report, TheModelOfThisDeviceComesFirst) {
  TuningLines lines;
  lines.records = {record(keyOf(2048), stages(4), 1, 2)};
  for (const char *device : {"another device", "test device"}) {
    TuningRecord model = record(keyOf(2048, device), stages(4), 1, 0);
    model.origin = "model";
    lines.records.push_back(model);
  }
  const auto figures = reportFigures(lines); // lives longer than the loop
  int measured = 0;
  for (const auto &key : figures["keys"])
    if (key["origin"] == "measured") {
      EXPECT_EQ(key["choices"]["model"]["device"], "test device");
      EXPECT_EQ(key["choices"]["model"]["regret"], 0); // the winner
      ++measured;
    }
  EXPECT_EQ(measured, 1);
}

TEST(Report, NeighboursHaveTheSameTilesAndGpu) {
  TuningKey a = keyOf(2048), b = keyOf(16384);
  EXPECT_NEAR(*tuningDistance(a, b), 1.5, 1e-9);
  EXPECT_EQ(*tuningDistance(a, a), 0);
  b.spec.headDim = b.spec.valueDim = 64;
  EXPECT_FALSE(tuningDistance(a, b));
  TuningLines lines;
  lines.records = {record(a, stages(4), 1, 2), record(b, stages(4), 1, 2),
                   record(keyOf(2048, "another device"), stages(4), 1, 2)};
  const auto figures = reportFigures(lines);
  EXPECT_EQ(figures["keys"].size(), 3u);
  for (const auto &key : figures["keys"])
    EXPECT_FALSE(key["choices"].contains("neighbour"));
}

TEST(Report, ReasonsAreGroupedWithoutTheirNumbers) {
  EXPECT_EQ(reasonPattern("attend_stages=6 needs 1,024.5 bytes of sm_90a, at most 4."),
            "attend_stages=# needs # bytes of sm_90a, at most #.");
  EXPECT_EQ(reasonPattern(""), "");
  TuningLines lines;
  Config both = stages(6);
  both.attendKeys = 128;
  lines.records = {record(keyOf(2048), stages(4), 1, 2), record(keyOf(16384), stages(4), 1, 2)};
  lines.trials = {trial(keyOf(2048), both, 0, "pruned", "needs 300 bytes"),
                  trial(keyOf(2048), stages(6), 0, "pruned", "needs 200 bytes"),
                  trial(keyOf(16384), stages(6), 0, "pruned", "needs 200 bytes"),
                  trial(keyOf(2048), stages(5), 0, "rejected", "wrong")};
  nlohmann::ordered_json figures = reportFigures(lines);
  ASSERT_EQ(figures["pruned"].size(), 1u);
  const auto &group = figures["pruned"][0];
  EXPECT_EQ(group["reason"], "needs # bytes");
  EXPECT_EQ(group["count"], 3);
  EXPECT_EQ(group["keys"], 2);
  EXPECT_EQ(group["example"], "needs 200 bytes"); // of the candidate that changes least
  EXPECT_EQ(figures["configs"][group["config"].get<size_t>()], "attend_stages=6");
  ASSERT_EQ(figures["rejected"].size(), 1u);
}

TEST(Report, ALaterTrialReplacesOneOfTheSameConfiguration) {
  TuningLines lines;
  lines.records = {record(keyOf(2048), stages(4), 1, 2)};
  lines.trials = {trial(keyOf(2048), stages(3), 5), trial(keyOf(2048), stages(3), 4)};
  nlohmann::ordered_json key = reportFigures(lines)["keys"][0];
  ASSERT_EQ(key["trials"].size(), 1u);
  EXPECT_EQ(key["trials"][0][3], 4.0);
}

TEST(ReportPage, TextsStayTexts) {
  TuningLines lines;
  TuningRecord r = record(keyOf(2048), stages(4), 1, 2);
  r.key.method = "</script><script>x<!-- {{title}} \xff";
  lines.records = {r};
  std::string page = reportPage(reportFigures(lines), "<b>&\" {{figures}}");
  EXPECT_NE(page.find("<title>&lt;b&gt;&amp;&quot; {{figures}}</title>"), std::string::npos);
  EXPECT_EQ(page.find("<script>x"), std::string::npos);
  EXPECT_NE(page.find("\\u003c/script>\\u003cscript>x\\u003c!-- {{title}}"), std::string::npos);
  // What stands between the marks is the JSON, whole.
  std::string begin = "id=\"figures\">";
  size_t at = page.find(begin) + begin.size();
  auto parsed =
      nlohmann::json::parse(page.substr(at, page.find("</script>", at) - at), nullptr, false);
  EXPECT_EQ(parsed["keys"].size(), 1u);
  for (const char *outside : {"http://", "https://", "src=", "@import", "url("})
    if (size_t found = page.find(outside); found != std::string::npos)
      EXPECT_EQ(page.compare(found, 26, "http://www.w3.org/2000/svg"), 0) << outside;
}

} // namespace
} // namespace winnow
