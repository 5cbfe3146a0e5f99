// The phase backward in a measuring process: candidates loaded, compared with the reference and
// timed, as `winnow bench backward` does it, launches of gradients of attention over given blocks.
#pragma once
#include "reference/conformance/Case.h"
#include "tools/winnow/commands/bench/BackwardBench.h"
#include "tools/winnow/commands/tune/PhaseMeasurer.h"
#include <map>

namespace winnow {

class BackwardMeasurer : public PhaseMeasurer {
public:
  /// `device` as of BackwardBench::open.
  static Result<std::unique_ptr<BackwardMeasurer>> open(const std::string &device, bool ptx);

  const DeviceInfo &device() const override { return bench->info(); }
  Status program(const std::string &methodName, const Spec &spec) override;
  Result<nlohmann::json> handle(const nlohmann::json &request) override;

private:
  struct Loaded {
    Side side;
    std::optional<BackwardTurn> turn; ///< of the workload
  };
  /// What lies in device memory, and is used in its place.
  struct Placed {
    std::optional<CaseInputs> trial; ///< else the workload:
    std::optional<BenchInputs> text;
    HostArray<int32_t> ids;
    std::vector<uint16_t> dout;
  };
  Status load(int id, const std::string &path);
  void dropTurns();
  Status reserve(const Variant &variant);
  Status placeTrial(int index);
  Status placeWorkload();
  Result<std::string> tryCases(const Loaded &loaded);
  Result<nlohmann::json> workload(int tokens, int overlap);
  Result<nlohmann::json> time(Loaded &loaded);

  std::unique_ptr<BackwardBench> bench;
  DeviceBuffer flush;
  bool ptx = false;
  std::string methodName;
  Spec spec;
  reference::Method method;
  std::map<int, Loaded> candidates;
  int tokens = 0, overlap = 0; ///< of the workload; 0: none was asked for
  std::optional<Placed> placed;
};

} // namespace winnow
