// The tunables of the generated kernels as one table: what each is called, whose kernels it
// changes, which values it takes and what they mean. Texts, records, the compiler's checks, the
// tuner's search and `winnow tunables` read this table and nothing else, so a new tunable is a
// field of Config, a row here and the builder that reads it.
#pragma once
#include "runtime/program/Spec.h"
#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace winnow {

/// One way of a tunable that numbers ways.
struct TunableWord {
  int value;
  const char *word;    ///< what texts may say in place of the number
  const char *meaning; ///< continues Tunable::meaning
};

/// The phase of a whole launch of short query segments (append, selection, attention), of paged
/// programs; of a launch of gradients, of programs that have them; the others are "select" and
/// "attend".
inline constexpr const char *kDecodePhase = "decode", *kBackwardPhase = "backward";

struct Tunable {
  const char *name;    ///< as in Config::text
  const char *phase;   ///< whose kernels it changes, as TuningKey::phase
  const char *meaning; ///< for help
  int (*get)(const Config &config);
  void (*set)(Config &config, int value);
  std::vector<int>
      values; ///< legal besides 0, the default; ascending; examples where `upTo` is set
  std::vector<TunableWord> words; ///< one of each value where values are ways, else none
  int upTo = 0;                   ///< every value from 0 to this is legal
  std::vector<int> searched;      ///< the values that the tuner tries

  bool isLegal(int value) const; ///< 0, the default, always is
  /// Whether more and less have a meaning, so that a best value can lie at an edge of what was
  /// tried. Ways have no order, and more of a limit is never slower.
  bool isOrdered() const { return words.empty() && upTo == 0; }
  /// "eager" where values are ways, else the number.
  std::string valueText(int value) const;
  /// "eager (1), lazy (2)", "16, 32", "a whole number up to 1048576".
  std::string valuesText() const;
};

constexpr size_t kTunableCount = sizeof(Config) / sizeof(int);
/// One row per field of Config, in the order of Config::text.
const std::array<Tunable, kTunableCount> &tunables();
/// Null: no tunable has this name.
const Tunable *findTunable(std::string_view name);
/// The tunables of a phase, in the same order.
std::vector<const Tunable *> phaseTunables(std::string_view phase);

/// Only the tunables that are set, by number, as records have them: "attend_stages=4
/// attend_split=2"; "default" where none is.
std::string shortText(const Config &config);
/// The same for people: "attend_stages=4 attend_split=yes". Config::parse reads it too.
std::string wordText(const Config &config);

} // namespace winnow
