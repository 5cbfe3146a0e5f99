// One line of a file of tuned configurations (JSON lines): the best configuration of one phase of
// one program on one kind of GPU, how it was found and how sure that is; or one candidate of the
// sweep that found it. The tuner appends lines, `winnow db` sorts and merges files of them,
// TunedDatabase.h looks configurations up, `winnow report` draws them.
#pragma once
#include "runtime/program/Tunables.h"
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace winnow {

/// Raised whenever the meaning of a line changes; lines of other schemas are skipped (fault F12).
inline constexpr int kTuningSchema = 1;

/// What a configuration is tuned for. Phases are tuned apart, and each has its tunables
/// (Tunable::phase).
struct TuningKey {
  std::string phase;  ///< of Tunable::phase; of a CrossingRecord kCrossingPhase
  std::string method; ///< the method's name
  Spec spec;          ///< with every default filled in
  int tokens = 0;     ///< length of the sequences, see tokensBucket()
  int overlap =
      0; ///< likeness of neighbours' selections, see overlapBucket(); 0 where it does not matter
  std::string arch;   ///< of the code: Target::arch
  std::string device; ///< "NVIDIA H200"
  int batch = 0;      ///< of kDecodePhase: sequences of a launch, see batchBucket(); else 0

  /// Canonical one-line text: equal keys have equal text.
  std::string text() const;
};

/// The best configuration found for a key.
struct TuningRecord {
  TuningKey key;
  Config config;                   ///< the phase's tunables; 0: the compiler's default
  std::string origin = "measured"; ///< or "model": chosen by the performance model, nothing was run
  std::string effort = "quick";    ///< search space: "quick", "full" or "exhaustive"
  double ms = 0;                   ///< median time of a launch; of origin "model": its estimate
  double low = 0, high = 0;        ///< 95 % confidence interval of the median
  double defaultMs = 0;            ///< the default configuration's, measured beside it
  double floorMs = 0;              ///< useful operations at the rate of the device's tensor cores
  int rounds = 0;                  ///< timed launches of the winner
  int clockMhz = 0, watts = 0;     ///< medians while it ran; 0: unknown
  int tried = 0;                   ///< candidates that were compiled and run
  int rejected = 0;                ///< of those, the ones that failed, hung or were wrong
  int pruned = 0;                  ///< candidates that no kernel can be built for
  std::string verified;            ///< "all" or "winner": who was compared with the reference
  std::vector<std::string>
      edges;                ///< tunables whose best value is the last one of its range (fault F28)
  std::string protocol;     ///< how times were taken
  std::string code;         ///< first digits of the digest of generator and device headers
  std::string driver, date; ///< "580.159.04", "2026-11-25"
};

/// One candidate of a sweep.
struct TuningTrial {
  TuningKey key;
  Config config;
  std::string outcome; ///< "best", "kept" (to the last round), "dropped" (too slow to win),
                       ///< "pruned", "rejected"
  std::string reason;  ///< of "pruned" and "rejected": one sentence
  double ms = 0, low = 0, high = 0; ///< as in TuningRecord; 0 where nothing was timed
  int rounds = 0;
};

/// The phase of a CrossingRecord's key, which is of no configuration: it has neither tokens nor
/// overlap.
inline constexpr const char *kCrossingPhase = "dense_len";

/// From how many keys on a selection pays: what the value `auto` of a method's dense_len stands for
/// (runtime/program/CrossingPoints.h).
struct CrossingRecord {
  TuningKey key;                   ///< its spec without the parameter that is the dense_len
  std::string points;              ///< canonical: CrossingPoints::text()
  std::string origin = "measured"; ///< or "interpolated": between lengths that lie far apart
  std::string protocol;            ///< how times were taken
  std::string code, driver, date;  ///< as in TuningRecord
};

/// Few lengths are told apart, so that a serving engine never tunes or compiles per length (fault
/// F17): 2048, 16384, 131072 and 1048576 tokens, the nearest by ratio.
int tokensBucket(int64_t tokens);
/// How many neighbouring tokens select alike: 1, 8, 32 or 128, the nearest by ratio. 0 stays 0.
int overlapBucket(int overlap);
/// How many sequences a launch of decode has: 1, 4, 16, 64 or 256, the nearest by ratio.
int batchBucket(int batch);

/// One JSON object without line breaks, fields in a fixed order.
std::string recordLine(const TuningRecord &record);
std::string trialLine(const TuningTrial &trial);
std::string crossingLine(const CrossingRecord &record);

/// What is read at most of a file of tuned configurations; a large sweep has some MiB.
inline constexpr uint64_t kMaxTunedBytes = uint64_t(256) << 20;

/// What a file of tuned configurations holds.
struct TuningLines {
  std::vector<TuningRecord> records; ///< in the order of the file
  std::vector<TuningTrial> trials;
  std::vector<CrossingRecord> crossings;
  std::vector<std::string> faults;  ///< "line 3: ..." for each line that was skipped
  std::vector<std::string> foreign; ///< of those, the lines of another schema, as they are
};
/// Reads lines. One that is broken, half-written or of another schema is skipped and told, never an
/// error. `wanted`: only whole lines for which it holds; reading all of a large file takes
/// milliseconds.
TuningLines parseTuningLines(std::string_view text,
                             const std::function<bool(std::string_view line)> &wanted = {});

/// Whether `a` replaces `b`, both of one key: measured before model, then more effort, then the
/// later date.
bool outranks(const TuningRecord &a, const TuningRecord &b);
/// The same of crossing points: measured before interpolated, the later date, the text.
bool outranks(const CrossingRecord &a, const CrossingRecord &b);

} // namespace winnow
