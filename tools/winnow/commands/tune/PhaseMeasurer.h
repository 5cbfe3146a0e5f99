// A phase in a measuring process whose launches are other ones than those of prefill: candidates
// loaded, compared with the reference and timed.
#pragma once
#include "reference/Reference.h"
#include "runtime/device/Driver.h"
#include <nlohmann/json.hpp>

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

} // namespace winnow
