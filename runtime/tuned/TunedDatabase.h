// Tuned configurations, collected: the shipped files (autotune/db, embedded at build time) and the
// user's. Of several records of one key the best stays, whatever the order in which files came.
// Whatever is wrong with a file is told and skipped, never an error: tuning only saves time.
// TunedLadder.h looks configurations up, `winnow db` sorts and merges files.
#pragma once
#include "runtime/EmbeddedFile.h"
#include "runtime/cache/Files.h"
#include "runtime/tuned/TuningRecord.h"
#include <map>
#include <set>

namespace winnow {

/// autotune/db/*.jsonl as they were at build time; there may be none.
const std::vector<EmbeddedFile> &shippedTunedFiles();

/// The files that WINNOW_TUNED lists, then the user's own.
std::vector<std::string> defaultTunedFiles();
/// Where `winnow db import` writes and what is read without being listed:
/// $XDG_DATA_HOME/winnow/tuned.jsonl, else ~/.local/share/winnow/tuned.jsonl; empty without a home.
std::string userTunedFile();

/// Best record per key, and every trial once.
class TunedDatabase {
public:
  /// The shipped files and `files`. One that is missing is told, unless it is userTunedFile(), and
  /// so is one that others can write, which is not read (F38).
  /// `wanted` as in parseTuningLines; `complete` may add to each record's key.
  static TunedDatabase load(const std::vector<std::string> &files, bool shipped = true,
                            const std::function<bool(std::string_view line)> &wanted = {},
                            const std::function<void(TuningKey &)> &complete = {});

  /// Adds lines; `name` stands before each of their faults.
  void add(const std::string &name, TuningLines lines);
  void add(TuningRecord record);
  void add(CrossingRecord record);

  /// By the text of their keys.
  const std::map<std::string, TuningRecord> &records() const { return best; }
  const std::map<std::string, CrossingRecord> &crossings() const { return crossing; }
  std::vector<TuningTrial> trialsOf(const std::string &key) const; ///< by their text
  const std::vector<std::string> &faults() const { return told; }
  /// JSON lines in the order of their keys, each key's record before its trials: equal contents
  /// give equal bytes, in whatever order they came. With trials, lines of other schemas follow
  /// unread: who rewrites a file must not lose what another build can read (F12).
  std::string text(bool withTrials) const;

private:
  std::map<std::string, TuningRecord> best;
  std::map<std::string, CrossingRecord> crossing;
  std::map<std::string, std::map<std::string, TuningTrial>> trials; ///< by key, then by line
  std::set<std::string> foreign;                                    ///< lines of other schemas
  std::vector<std::string> told;
};

/// A total order on records of one key: outranks(), then the faster one, then the text.
bool isBetter(const TuningRecord &a, const TuningRecord &b);
inline bool isBetter(const CrossingRecord &a, const CrossingRecord &b) {
  return outranks(a, b) || (!outranks(b, a) && crossingLine(a) < crossingLine(b));
}

} // namespace winnow
