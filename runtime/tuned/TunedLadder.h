// The look-up ladder of tuned configurations: the measurement of exactly this problem, the nearest
// one on this GPU, another GPU's of the same architecture, what the performance model chose, the
// compiler's default. Every answer says which rung it stands on, and why (fault F40).
#pragma once
#include "runtime/tuned/TunedDatabase.h"
#include <functional>
#include <optional>

namespace winnow {

/// Where a configuration comes from, the surest first.
enum class Rung {
  Exact,       ///< measured: this problem on this GPU
  Nearest,     ///< measured on this GPU, for a problem like it
  OtherDevice, ///< measured on another GPU of the architecture, or on one that is not known
  Model,       ///< chosen by the performance model; nothing was run
  Default,     ///< the compiler's own choice
  Given,       ///< set by the caller
};
/// "exact", "nearest", "other_device", "model", "default", "given".
const char *name(Rung rung);
/// Error: Usage with the text.
Result<Rung> parseRung(const std::string &text);

/// What a caller expects to run, as far as it knows: a hint for the choice of a configuration,
/// never a limit. 0: unknown.
struct Workload {
  int64_t tokens = 0; ///< of a typical sequence; unknown counts as 131072
  int overlap = 0;    ///< over how many tokens a selection turns into a new one; unknown: 32
  int batch = 0;      ///< sequences of a launch of decode; unknown: 16
  /// In the few values that are told apart (fault F17), the unknown filled in.
  Workload bucket() const;
};

/// The phases that a program is tuned for: decode is one of paged programs, backward one of
/// programs with gradients, which alone have kernels for it.
std::vector<const char *> tunedPhases(const Spec &spec);
/// Whether a phase's time depends on how alike neighbours' selections are: it reads their blocks.
bool dependsOnOverlap(std::string_view phase);
/// Whether a configuration sets none of a phase's tunables: only then is one looked up for it.
bool isOpen(const Config &config, const std::string &phase);
/// Whether any of them is looked up.
bool hasOpenPhase(const Config &config, const Spec &spec);

/// How unlike two problems of one phase are for the purpose of tuning: 0 where nothing that
/// matters differs. Nothing where they cannot be compared: another phase, method, architecture,
/// head_dim, value_dim or block (the kernels have other tiles then). A sum of
///   |log2| of the ratio of   tokens * 0.5    overlap * 0.5 (attend, backward)  kv_heads * 0.25
///                            top-k * 0.25 (select), else 0.5           group * 2
///                            batch * 0.5 (decode)
///   and                      another dtype 0.25
///                            a method parameter of another value 0.25 each
/// The softmax scale counts nothing; a parameter that only one of the two names is taken to have
/// the same value (ConfigChooser fills in what it knows of the method). The device counts nothing
/// here: it decides the rung.
std::optional<double> tuningDistance(const TuningKey &wanted, const TuningKey &have);
/// Records that are farther away do not count.
inline constexpr double kTuningReach = 6;

/// The configuration of one phase.
struct TunedAnswer {
  Config config; ///< the phase's tunables; 0 where the compiler chooses
  Rung rung = Rung::Default;
  std::optional<TuningRecord> record; ///< what the answer rests on
  bool isOwn = false; ///< the record is of this very problem on this GPU, so that its time holds
  std::string why;    ///< one line
};

/// Refuses configurations of the phase that no kernel can be built with (fault F13).
using LegalConfig = std::function<Status(const Config &)>;

/// The first legal configuration from the top of the ladder. `wanted` has bucketed sizes; its
/// device may be empty, for a GPU that is not known yet: then the best of any device answers, as
/// OtherDevice. Equal inputs give equal answers. `legal` may be empty; what it refuses is told to
/// `warn`, and the next rung answers.
TunedAnswer lookUp(const TunedDatabase &database, const TuningKey &wanted, const LegalConfig &legal,
                   const std::function<void(const std::string &)> &warn);

/// What `auto` stands for in a program whose dense_len it is.
struct CrossingAnswer {
  std::string points; ///< CrossingPoints::text()
  Rung rung = Rung::Default;
  std::string why; ///< one line
};
/// The points of the nearest record from the top of the ladder, which has no model here; else those
/// of CrossingPoints::byDefault. `wanted` is a CrossingRecord's key, its device as above.
CrossingAnswer lookUpCrossing(const TunedDatabase &database, const TuningKey &wanted);

} // namespace winnow
