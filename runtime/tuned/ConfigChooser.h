// Chooses the tunables that a request leaves open: from decisions made earlier or elsewhere, else
// by the look-up ladder. Equal requests are answered equally for the life of the chooser, which
// can tell all its answers as text (Decisions.h).
#pragma once
#include "runtime/device/KernelStore.h"
#include "runtime/tuned/Decisions.h"
#include <mutex>

namespace winnow {

struct TuningOptions {
  /// False: tunables that a request leaves open are the compiler's. What its parameters leave open
  /// by `auto` is looked up nevertheless: that is no tunable.
  bool on = true;
  bool shipped = true; ///< read the files that came with this build
  std::vector<std::string> files = defaultTunedFiles();
  std::string decisions;   ///< JSON lines of ConfigChooser::decisions, used before any look-up
  bool replayOnly = false; ///< nothing is looked up: a request without a decision is an error
  /// One line for every program that does not run with an exact answer (fault F40), and one
  /// warning for each thing that is wrong with a tuned file. Empty: warnings go to stderr, lines
  /// nowhere. Called from any thread.
  std::function<void(const std::string &)> log;
};

/// The tunables of one program and where they come from.
struct ChosenConfig {
  Config config; ///< the caller's tunables and those that were looked up
  TunedAnswer select, attend;
  std::optional<TunedAnswer> decode;   ///< of a paged program: no other has kernels of decode
  std::optional<TunedAnswer> backward; ///< of a program with gradients
  /// All that are there, with their phases, in the order of tunedPhases().
  std::vector<std::pair<const char *, const TunedAnswer *>> answers() const;
  CrossingAnswer crossing; ///< where a parameter of the request is `auto`
  /// Those parameters, and in the place of `auto` the points that were looked up.
  std::map<std::string, std::string> resolved;
  /// The request's spec with them.
  Spec spec(Spec asked) const;
  std::string built; ///< text of what the program was built with, defaults filled in
  /// Whether something was looked up and found: config is not the caller's own.
  bool isTuned() const;
};

/// Thread-safe.
class ConfigChooser {
public:
  /// Error: Usage for a broken text of decisions.
  static Result<std::unique_ptr<ConfigChooser>> create(TuningOptions options,
                                                       const CompileHook &hook);

  /// Looks up the phases that the request leaves open, see isOpen(). `device` is the GPU's name;
  /// empty: not known yet. Error: NotReady in replay-only mode for a request without a decision.
  Result<ChosenConfig> choose(const ProgramRequest &request, const std::string &device);
  /// From now on the request runs with the caller's tunables alone: no program could be had with
  /// what choose() had found. Not where decisions are replayed: there they stand.
  ChosenConfig overrule(const ProgramRequest &request, const std::string &device,
                        const std::string &why);
  bool replays() const { return options.replayOnly; }
  /// Every decision made or imported, sorted, as JSON lines.
  std::string decisions() const;
  /// Tells options.log where a program's configuration comes from, unless every phase that it has
  /// got an exact answer or the caller's.
  void logChoice(const ProgramRequest &request, const std::string &device,
                 const ChosenConfig &choice, bool selects) const;

private:
  ConfigChooser(TuningOptions options, const CompileHook &hook);
  ChosenConfig answer(const ProgramRequest &request, const std::string &device);
  TunedAnswer search(const TuningKey &key, const LegalConfig &legal);
  std::optional<TunedAnswer> searchSame(const TuningKey &key, const LegalConfig &legal);
  const TunedDatabase &recordsFor(const TuningKey &key);
  TunedDatabase load(const std::function<bool(std::string_view)> &wanted);
  void fillIn(TuningKey &key);
  std::vector<std::string> takeAutos(TuningKey &key);
  void warn(const std::string &message);

  TuningOptions options;
  std::function<Status(const ProgramRequest &)> check;
  std::function<Result<std::map<std::string, std::string>>(const std::string &)> parameters;
  mutable std::mutex mutex; ///< guards the members below; never held over a look-up
  std::map<std::pair<std::string, std::string>, ChosenConfig>
      choices; ///< by request text and device
  std::map<std::string, std::unique_ptr<const TunedDatabase>>
      records; ///< what was read for one kind of tiles, see recordsFor
  std::map<std::string, std::map<std::string, std::string>> defaults; ///< by method
  std::set<std::string> warned;
};

} // namespace winnow
