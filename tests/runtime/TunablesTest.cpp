// The table of tunables: a row per field, words and numbers that mean the same, texts that old keys
// and records were made with, and the values that were always legal.
#include "runtime/program/Tunables.h"
#include "runtime/tuned/TunedLadder.h"
#include "runtime/tuned/TuningRecord.h"
#include <cstring>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <map>
#include <set>

namespace winnow {
namespace {

Config withValue(const Tunable &tunable, int value) {
  Config config;
  tunable.set(config, value);
  return config;
}

TEST(Tunables, EveryFieldHasExactlyOneRow) {
  std::set<size_t> fields;
  for (const Tunable &tunable : tunables()) {
    Config plain, changed = withValue(tunable, 7);
    EXPECT_EQ(tunable.get(changed), 7);
    for (size_t i = 0; i < kTunableCount; ++i) {
      int before = 0, after = 0;
      std::memcpy(&before, reinterpret_cast<const char *>(&plain) + i * sizeof(int), sizeof(int));
      std::memcpy(&after, reinterpret_cast<const char *>(&changed) + i * sizeof(int), sizeof(int));
      if (before != after) {
        EXPECT_TRUE(fields.insert(i).second) << tunable.name << " has another one's field";
        EXPECT_EQ(&tunable, &tunables()[i]) << "rows have the order of the fields";
      }
    }
  }
  EXPECT_EQ(fields.size(), kTunableCount);
}

TEST(Tunables, RowsAreComplete) {
  std::set<std::string> names;
  for (const Tunable &tunable : tunables()) {
    EXPECT_TRUE(names.insert(tunable.name).second) << tunable.name;
    EXPECT_EQ(findTunable(tunable.name), &tunable);
    EXPECT_GT(std::strlen(tunable.meaning), 0u) << tunable.name;
    ASSERT_FALSE(tunable.values.empty()) << tunable.name;
    EXPECT_FALSE(tunable.searched.empty()) << tunable.name;
    for (const std::vector<int> &values : {tunable.values, tunable.searched})
      for (size_t i = 0; i < values.size(); ++i) {
        EXPECT_TRUE(tunable.isLegal(values[i])) << tunable.name;
        EXPECT_GT(values[i], i ? values[i - 1] : 0) << tunable.name;
      }
    if (tunable.words.empty())
      continue;
    ASSERT_EQ(tunable.words.size(), tunable.values.size()) << tunable.name;
    std::set<std::string> words;
    for (size_t i = 0; i < tunable.words.size(); ++i) {
      EXPECT_EQ(tunable.words[i].value, tunable.values[i]);
      std::string word = tunable.words[i].word;
      EXPECT_TRUE(words.insert(word).second) << word;
      EXPECT_EQ(word.find_first_not_of("abcdefghijklmnopqrstuvwxyz_"), std::string::npos) << word;
      EXPECT_GT(std::strlen(tunable.words[i].meaning), 0u) << word;
    }
  }
  EXPECT_EQ(findTunable("attend_wraps"), nullptr);
}

TEST(Tunables, WordsAndNumbersGiveTheSameConfig) {
  int words = 0;
  for (const Tunable &tunable : tunables())
    for (int value : tunable.values) {
      Result<Config> byNumber = Config::parse(fmt::format("{}={}", tunable.name, value));
      Result<Config> byText =
          Config::parse(fmt::format("{}={}", tunable.name, tunable.valueText(value)));
      ASSERT_TRUE(byNumber && byText) << tunable.name;
      EXPECT_EQ(tunable.get(*byNumber), value);
      EXPECT_EQ(byNumber->text(), byText->text());
      EXPECT_EQ(byNumber->text(), withValue(tunable, value).text());
      Result<Config> back = Config::parse(wordText(*byNumber));
      ASSERT_TRUE(back) << wordText(*byNumber);
      EXPECT_EQ(back->text(), byNumber->text());
      words += tunable.valueText(value) != std::to_string(value);
    }
  EXPECT_EQ(words, 33);
  Config config = *Config::parse("attend_form=warps attend_stages=3, attend_softmax=lazy "
                                 "attend_fma=three_quarters score_form=fused score_poly=eighth");
  EXPECT_EQ(config.attendForm, AttendForm::Warps);
  EXPECT_EQ(config.attendSoftmax, AttendSoftmax::Lazy);
  EXPECT_EQ(config.attendFma, AttendFma::ThreeQuarters);
  EXPECT_EQ(config.scoreForm, ScoreForm::Fused);
  EXPECT_EQ(config.scorePoly, ScorePoly::Eighth);
  EXPECT_EQ(shortText(config), "attend_form=2 attend_stages=3 attend_softmax=2 attend_fma=3 "
                               "score_form=2 score_poly=8");
  EXPECT_EQ(wordText(config), "attend_form=warps attend_stages=3 attend_softmax=lazy "
                              "attend_fma=three_quarters score_form=fused score_poly=eighth");
  EXPECT_EQ(wordText(Config()), "default");
}

// Cache keys, images and the keys of shipped records hold this text: names and numbers in it never
// change. A new tunable adds `name=0`, and with it every cache key is a new one.
TEST(Tunables, F09TheCanonicalTextKeepsNumbers) {
  EXPECT_EQ(Config().text(),
            "attend_form=0 attend_warps=0 attend_producers=0 attend_stages=0 attend_keys=0 "
            "attend_rows=0 attend_split=0 attend_softmax=0 attend_fma=0 score_form=0 "
            "score_tokens=0 score_chunk_mib=0 score_fold=0 score_poly=0 decode_stages=0 "
            "decode_resident=0 decode_part_tiles=0 decode_form=0 decode_ids=0 "
            "decode_clusters=0 "
            "decode_cluster_blocks=0 decode_select_warps=0 decode_exchange=0 decode_new_rows=0 "
            "backward_queries=0 backward_keys=0 backward_changes=0 backward_chunk_mib=0 "
            "backward_query_warps=0 backward_query_stages=0 "
            "backward_query_keys=0 backward_key_stages=0 backward_key_rows=0 "
            "backward_tile_keys=0 backward_range_tokens=0");
  EXPECT_EQ(Config::parse("attend_split=yes score_fold=no score_poly=quarter")->text(),
            "attend_form=0 attend_warps=0 attend_producers=0 attend_stages=0 attend_keys=0 "
            "attend_rows=0 attend_split=2 attend_softmax=0 attend_fma=0 score_form=0 "
            "score_tokens=0 score_chunk_mib=0 score_fold=1 score_poly=4 decode_stages=0 "
            "decode_resident=0 decode_part_tiles=0 decode_form=0 decode_ids=0 "
            "decode_clusters=0 "
            "decode_cluster_blocks=0 decode_select_warps=0 decode_exchange=0 decode_new_rows=0 "
            "backward_queries=0 backward_keys=0 backward_changes=0 backward_chunk_mib=0 "
            "backward_query_warps=0 backward_query_stages=0 "
            "backward_query_keys=0 backward_key_stages=0 backward_key_rows=0 "
            "backward_tile_keys=0 backward_range_tokens=0");
}

TEST(Tunables, F09EachFieldChangesTheTextAndComesBack) {
  std::set<std::string> texts = {Config().text()};
  for (const Tunable &tunable : tunables()) {
    Config config = withValue(tunable, 7);
    texts.insert(config.text());
    Result<Config> back = Config::parse(config.text());
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(tunable.get(*back), 7) << tunable.name;
    EXPECT_EQ(back->text(), config.text());
  }
  EXPECT_EQ(texts.size(), kTunableCount + 1);
}

TEST(Tunables, F13WhatWasLegalIsAndNothingElse) {
  const std::map<std::string, std::set<int>> legal = {
      {"attend_form", {1, 2}},
      {"attend_warps", {1, 2, 4, 6, 7, 8, 12, 16}},
      {"attend_producers", {1, 2, 4, 8}},
      {"attend_stages", {2, 3, 4, 5, 6, 7, 8, 9, 10}},
      {"attend_keys", {32, 64}},
      {"attend_rows", {16, 32}},
      {"attend_split", {1, 2}},
      {"attend_softmax", {1, 2}},
      {"attend_fma", {1, 2, 3}},
      {"score_form", {1, 2}},
      {"score_tokens", {16}},
      {"score_fold", {1, 2}},
      {"score_poly", {1, 4, 8}},
      {"decode_stages", {2, 3, 4, 6, 8}},
      {"decode_resident", {1, 2, 3, 4, 6}},
      {"decode_part_tiles", {1, 2, 3, 4, 6, 8}},
      {"decode_form", {1, 2}},
      {"decode_ids", {1, 2}},
      {"decode_clusters", {1, 2, 3}},
      {"decode_cluster_blocks", {2, 4, 8, 16}},
      {"decode_select_warps", {4, 8}},
      {"decode_exchange", {1, 2}},
      {"decode_new_rows", {1, 2}},
      {"backward_queries", {1, 2}},
      {"backward_keys", {1, 2}},
      {"backward_changes", {1, 2}},
      {"backward_query_warps", {1, 2, 4, 8}},
      {"backward_query_stages", {2, 3, 4, 5, 6, 7, 8, 9, 10}},
      {"backward_query_keys", {32, 64}},
      {"backward_key_stages", {2, 3, 4, 6}},
      {"backward_key_rows", {16, 32, 64}},
      {"backward_tile_keys", {16, 32, 64, 128}},
      {"backward_range_tokens", {4096, 8192, 16384, 32768, 65536}},
  };
  for (const Tunable &tunable : tunables())
    for (int value = -2; value <= 130; ++value) {
      auto own = legal.find(tunable.name);
      bool isLegal = own == legal.end() ? value >= 0 : value == 0 || own->second.count(value) > 0;
      Status status = withValue(tunable, value).check();
      EXPECT_EQ(status.has_value(), isLegal) << tunable.name << "=" << value;
      if (!status)
        EXPECT_EQ(status.error().kind, ErrorKind::Usage);
    }
  EXPECT_TRUE(Config::parse("score_chunk_mib=1048576")->check());
  EXPECT_EQ(Config::parse("score_chunk_mib=1048577")->check().error().message,
            "score_chunk_mib=1048577 is no legal tunable: it may be a whole number up to 1048576, "
            "or 0 for the default");
  EXPECT_EQ(Config::parse("attend_fma=7")->check().error().message,
            "attend_fma=7 is no legal tunable: it may be none (1), half (2), three_quarters (3), "
            "or 0 for the default");
  EXPECT_EQ(Config::parse("attend_rows=48")->check().error().message,
            "attend_rows=48 is no legal tunable: it may be 16, 32, or 0 for the default");
}

TEST(Tunables, ParseRefusesWhatItDoesNotKnow) {
  EXPECT_EQ(Config::parse("")->text(), Config().text());
  EXPECT_EQ(Config::parse("attend_warps=8, score_tokens=4")->scoreTokens, 4);
  const struct {
    const char *text, *message;
  } cases[] = {{"attend_wraps=8", "no tunable is called 'attend_wraps'"},
               {"attend_warps", "is not NAME=VALUE"},
               {"attend_warps=x", "takes a whole number"},
               {"attend_warps=-1", "takes a whole number"},
               {"attend_warps=8x", "takes a whole number"},
               {"attend_warps=99999999999", "takes a whole number"},
               {"attend_warps=lazy", "takes a whole number"},
               {"attend_softmax=quick",
                "config: attend_softmax takes eager (1), lazy (2), or 0 for the "
                "default, not 'quick'"},
               {"attend_softmax=Lazy", "takes eager (1), lazy (2)"},
               {"attend_softmax=-1", "takes eager (1), lazy (2)"},
               {"attend_softmax=", "takes eager (1), lazy (2)"},
               {"score_poly=half", "takes none (1), quarter (4), eighth (8), or 0 for the default"},
               {"attend_form=warps attend_form=2", "is given twice"},
               {"attend_warps=1 attend_warps=2", "is given twice"}};
  for (const auto &[text, message] : cases) {
    Result<Config> config = Config::parse(text);
    ASSERT_FALSE(config) << text;
    EXPECT_EQ(config.error().kind, ErrorKind::Usage);
    EXPECT_NE(config.error().message.find(message), std::string::npos) << config.error().message;
  }
}

TEST(Tunables, EachBelongsToOnePhase) {
  // As the shipped records were made.
  const std::map<std::string, std::string> prefixes = {{"select", "score_"},
                                                       {"attend", "attend_"},
                                                       {kDecodePhase, "decode_"},
                                                       {kBackwardPhase, "backward_"}};
  size_t count = 0;
  for (const auto &[phase, prefix] : prefixes)
    count += phaseTunables(phase).size();
  EXPECT_EQ(count, kTunableCount);
  EXPECT_TRUE(phaseTunables("append").empty());
  for (const Tunable &tunable : tunables()) {
    Config config = withValue(tunable, tunable.values.front());
    for (const auto &[phase, prefix] : prefixes)
      EXPECT_EQ(isOpen(config, phase), phase != tunable.phase) << tunable.name;
    EXPECT_EQ(std::string(tunable.name).rfind(prefixes.at(tunable.phase), 0), 0u);
  }
}

// Records say numbers, and are found by either.
TEST(Tunables, RecordsKeepNumbersAndReadWords) {
  TuningRecord record;
  record.key = {"attend", "infllm_v2", Spec(), 131072, 32, "sm_90a", "NVIDIA H200"};
  record.key.spec.valueDim = 128;
  record.config = *Config::parse("attend_stages=4 attend_split=no");
  record.effort = "full", record.verified = "all";
  record.ms = record.low = record.high = record.defaultMs = record.floorMs = 1;
  std::string line = recordLine(record), words = line;
  const std::string number = "attend_split=1", word = "attend_split=no";
  ASSERT_NE(line.find(number), std::string::npos) << line;
  words.replace(words.find(number), number.size(), word);
  for (const std::string &text : {line, words}) {
    TuningLines lines = parseTuningLines(text);
    ASSERT_EQ(lines.records.size(), 1u) << (lines.faults.empty() ? "" : lines.faults[0]);
    EXPECT_EQ(recordLine(lines.records[0]), line);
  }
}

} // namespace
} // namespace winnow
