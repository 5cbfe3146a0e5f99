// The phase decode in a measuring process: candidates loaded, compared with the reference and
// timed, as `winnow bench decode` does it, whole steps (append, selection, attention) over pages.
#pragma once
#include "tools/winnow/commands/bench/DecodeBench.h"
#include "tools/winnow/commands/tune/PhaseMeasurer.h"

namespace winnow {

class DecodeMeasurer : public LaunchMeasurer<DecodeBench, DecodeTurn> {
public:
  /// `device` as of DecodeBench::open.
  static Result<std::unique_ptr<DecodeMeasurer>> open(const std::string &device, bool ptx);

  Status program(const std::string &methodName, const Spec &spec) override;

private:
  Result<nlohmann::json> place(const Workload &workload) override;
  Result<std::string> tryCases(const Loaded &candidate) override;
  Result<std::string> check(const Loaded &candidate) override;
  Result<nlohmann::json> time(Loaded &candidate) override;
  Status placeBatch(const DecodeShape &shape, const Variant &variant);
  DecodeShape smallShape() const;

  DecodeShape asked; ///< the workload
  std::unique_ptr<BenchInputs> text;
  std::unique_ptr<DecodeInputs> inputs; ///< what lies in device memory
  DecodeShape placed;                   ///< its shape
};

} // namespace winnow
