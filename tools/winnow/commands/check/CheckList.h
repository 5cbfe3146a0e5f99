// What `winnow check` runs: the table of cases, recorded answers, or random draws; and the runner
// that takes several at a time, so that inputs and reference of one case are computed while the
// device works on another.
#pragma once
#include "reference/recorded/Recorded.h"
#include "tools/winnow/backends/Backend.h"
#include "tools/winnow/commands/check/CheckAnswers.h"
#include <atomic>
#include <mutex>

namespace winnow {

struct CheckItem {
  ConformanceCase test;
  const RecordedCase *recorded = nullptr; ///< judged against recorded answers instead
  std::string repeat;                     ///< the command that runs this item alone, and what it is
};

struct RandomChoice {
  int draws = 0;
  uint64_t seed = 1;
  int only = -1;         ///< this draw alone
  std::string arch;      ///< decides which tunables are served
  Config fixed;          ///< tunables that every draw has
  bool backward = false; ///< every draw has gradients
};
/// The draws; Unsupported where this build has no compiler to ask what is served.
Result<std::vector<CheckItem>> randomItems(const RandomChoice &choice);

/// The small cases that `arch` serves; `without`: tunables' values for which it has no kernels.
Result<std::vector<CheckItem>> smallItems(const std::string &arch,
                                          std::vector<std::string> &without);

/// Whether there are kernels for this; Unsupported or Usage where there are none.
Status isServed(CompileRequest request, const std::string &arch);

/// One program per item, as the compiler takes it.
CompileRequest requestFor(const ConformanceCase &test);

/// Runs items on a backend with one worker per core (one at a time where `serial`). `done` is
/// called in the order of the items, as soon as the results are there. After the device has failed
/// the rest is not run: its context is of no more use.
class CheckRunner {
public:
  CheckRunner(Backend &backend, double tolerance) : backend(backend), tolerance(tolerance) {}
  /// Where answers are kept, and where those lie that they are compared with; null: neither.
  void use(const AnswerFolder *save, const AnswerFolder *against) {
    saved = save;
    other = against;
  }
  void
  run(const std::vector<CheckItem> &items, bool serial,
      const std::function<void(const CheckItem &item, const Result<CaseResult> &result)> &done);

private:
  Result<CaseResult> judge(const CheckItem &item, int threads);
  Result<BackendAnswer> onDevice(const BackendCall &call);
  Status appendHistory(const ConformanceCase &test, const reference::Problem &problem,
                       Layout layout, StoredTensors &stored);
  Result<CaseAnswer> answer(const ConformanceCase &test, const CaseInputs &inputs);
  /// Adds to a result what the other device's answer says.
  Status compare(const ConformanceCase &test, const CaseAnswer &answer, CaseResult &result,
                 int threads);

  Backend &backend;
  double tolerance;
  const AnswerFolder *saved = nullptr, *other = nullptr;
  std::mutex device; ///< one launch at a time
  std::atomic<bool> broken{false};
};

} // namespace winnow
