// The phase decode in a measuring process: candidates loaded, compared with the reference and
// timed, as `winnow bench decode` does it, whole steps (append, selection, attention) over pages.
#pragma once
#include "tools/winnow/commands/bench/DecodeBench.h"
#include "tools/winnow/commands/tune/PhaseMeasurer.h"
#include <map>

namespace winnow {

class DecodeMeasurer : public PhaseMeasurer {
public:
  /// `device` as of DecodeBench::open.
  static Result<std::unique_ptr<DecodeMeasurer>> open(const std::string &device, bool ptx);

  const DeviceInfo &device() const override { return bench->info(); }
  Status program(const std::string &methodName, const Spec &spec) override;
  Result<nlohmann::json> handle(const nlohmann::json &request) override;

private:
  struct Loaded {
    Variant variant;
    std::optional<DecodeTurn> turn; ///< of the present workload
  };
  Status load(int id, const std::string &path);
  void dropTurns();
  Status place(const DecodeShape &shape, const Variant &variant);
  Result<std::string> check(const Variant &variant, const DecodeShape &shape, int rows);
  DecodeShape smallShape() const;
  Result<nlohmann::json> workload(int tokens, int batch);
  Result<nlohmann::json> time(Loaded &loaded);

  std::unique_ptr<DecodeBench> bench;
  bool ptx = false;
  std::string methodName;
  Spec spec;
  reference::Method method;
  std::map<int, Loaded> candidates;
  std::optional<DecodeShape> asked; ///< the workload
  std::unique_ptr<BenchInputs> text;
  std::unique_ptr<DecodeInputs> inputs; ///< what lies in device memory
  DecodeShape placed;                   ///< its shape
};

} // namespace winnow
