// The phase backward in a measuring process: candidates loaded, compared with the reference and
// timed, as `winnow bench backward` does it, launches of gradients of attention over given blocks.
#pragma once
#include "reference/conformance/Case.h"
#include "tools/winnow/commands/bench/BackwardBench.h"
#include "tools/winnow/commands/tune/PhaseMeasurer.h"

namespace winnow {

class BackwardMeasurer : public LaunchMeasurer<BackwardBench, BackwardTurn> {
public:
  /// `device` as of BackwardBench::open.
  static Result<std::unique_ptr<BackwardMeasurer>> open(const std::string &device, bool ptx);

  Status program(const std::string &methodName, const Spec &spec) override;

private:
  /// What lies in device memory, and is used in its place.
  struct Placed {
    std::optional<CaseInputs> trial; ///< else the workload:
    std::optional<BenchInputs> text;
    HostArray<int32_t> ids;
    std::vector<uint16_t> dout;
  };
  Result<nlohmann::json> place(const Workload &workload) override;
  Result<std::string> tryCases(const Loaded &candidate) override;
  Result<std::string> check(const Loaded &candidate) override;
  Result<nlohmann::json> time(Loaded &candidate) override;
  Status reserve(const Variant &variant);
  Status placeTrial(int index);
  Status placeWorkload();

  DeviceBuffer flush;
  Workload asked;
  std::optional<Placed> placed;
};

} // namespace winnow
