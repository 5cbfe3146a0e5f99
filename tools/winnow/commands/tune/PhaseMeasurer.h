// A phase in a measuring process whose launches are other ones than those of prefill: candidates
// loaded, compared with the reference and timed.
#pragma once
#include "runtime/JsonText.h"
#include "tools/winnow/backends/HostMemory.h"
#include "tools/winnow/commands/bench/BenchDevice.h"
#include <fmt/format.h>
#include <map>

namespace winnow {

class PhaseMeasurer {
public:
  virtual ~PhaseMeasurer() = default;
  virtual const DeviceInfo &device() const = 0;
  /// Begins a program without candidates. Errors: of its spec and method.
  virtual Status program(const std::string &methodName, const Spec &spec) = 0;
  /// Whatever is asked of a program and its candidates (autotune/search/Tuner.h).
  virtual Result<nlohmann::json> handle(const nlohmann::json &request) = 0;
};

/// What phases have alike whose launches `Bench` makes, a `Turn` of a candidate at a time.
template <class Bench, class Turn> class LaunchMeasurer : public PhaseMeasurer {
public:
  const DeviceInfo &device() const override { return bench->info(); }
  Result<nlohmann::json> handle(const nlohmann::json &request) override;

protected:
  struct Loaded {
    Variant variant;
    std::optional<Turn> turn; ///< of the present workload
  };
  struct Workload {
    int tokens = 0, overlap = 0, batch = 0; ///< 0: not given
  };
  /// `device` as of Bench::open.
  Status openBench(const std::string &device, bool allowsPtx) {
    ptx = allowsPtx;
    WINNOW_TRY(bench, Bench::open(device));
    return {};
  }
  /// Forgets candidates and workload.
  Status begin(const std::string &name, const Spec &given) {
    candidates.clear();
    hasWorkload = false;
    methodName = name, spec = given;
    WINNOW_TRY(method, readAxes(methodName, spec));
    return {};
  }
  void dropTurns() {
    for (auto &[id, loaded] : candidates)
      loaded.turn.reset();
  }
  /// What a tuner is told of the workload.
  virtual Result<nlohmann::json> place(const Workload &workload) = 0;
  /// The first fault on small inputs, and on the workload, or empty.
  virtual Result<std::string> tryCases(const Loaded &candidate) = 0;
  virtual Result<std::string> check(const Loaded &candidate) = 0;
  virtual Result<nlohmann::json> time(Loaded &candidate) = 0;

  std::unique_ptr<Bench> bench;
  bool ptx = false;
  std::string methodName;
  Spec spec;
  reference::Method method;
  std::map<int, Loaded> candidates;

private:
  bool hasWorkload = false;
};

template <class Bench, class Turn>
Result<nlohmann::json> LaunchMeasurer<Bench, Turn>::handle(const nlohmann::json &request) {
  using Json = nlohmann::json;
  JsonFields fields(request);
  const std::string what = fields.text("do"), path = fields.text("path");
  const Workload workload{fields.whole("tokens"), fields.whole("overlap"), fields.whole("batch")};
  const int id = fields.whole("candidate", -1);
  WINNOW_CHECK(fields.status());
  if (what == "load") {
    Loaded loaded;
    WINNOW_TRY(loaded.variant, bench->loadFile(fmt::format("{}", id), path, ptx));
    candidates.insert_or_assign(id, std::move(loaded));
    return Json::object();
  }
  if (what == "workload") {
    WINNOW_TRY(Json told, place(workload));
    hasWorkload = true;
    return told;
  }
  auto it = candidates.find(id);
  if (it == candidates.end())
    return fail(ErrorKind::Usage, fmt::format("candidate {} is not loaded", id));
  const bool tries = what == "cases";
  if (!tries && !hasWorkload)
    return fail(ErrorKind::Usage, "no workload was placed");
  if (what == "time")
    return time(it->second);
  if (what != "check" && !tries)
    return fail(ErrorKind::Usage, fmt::format("request '{}' is not known", what));
  WINNOW_TRY(const std::string fault, tries ? tryCases(it->second) : check(it->second));
  return Json{{"fault", fault}};
}

} // namespace winnow
