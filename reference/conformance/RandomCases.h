// Random conformance cases: specs, tunables, shapes and data drawn from a seed. The same seed gives
// the same draws on every machine and for any number of draws, so a failing one is repeated by its
// number. What is drawn from (methods, tunables, what the compiler serves) comes in from outside.
#pragma once
#include "reference/conformance/Case.h"
#include <functional>

namespace winnow {

struct DrawSpace {
  struct Method {
    std::string name;
    std::map<std::string, std::string> parameters; ///< declared, with defaults
  };
  struct Tunable {
    std::string name;
    std::vector<int> values;
    std::string phase; ///< winnow::Tunable::phase
  };
  std::vector<Method> methods;
  std::vector<Tunable> tunables;
  Config fixed;          ///< tunables that are not 0 here have this value in every draw
  bool backward = false; ///< every draw has gradients; else one in kBackwardShare of packed ones
  /// Whether there are kernels for this. Unsupported and Usage: another draw; any other error stays
  /// with the draw.
  std::function<Status(const std::string &method, const Spec &spec, const Config &config)> serves;
};

/// Whether an answer of DrawSpace::serves means that there are no such kernels. Any other error is
/// a fault, which the run must tell.
bool isRefusal(const Status &served);

/// What is compiled once and used by several draws.
struct DrawnProgram {
  std::string method;
  Spec spec;
  Config config;
};

constexpr int kBackwardShare = 4;
/// Draw i is a case of program i / kDrawsPerProgram.
constexpr int kDrawsPerProgram = 8;

/// Error: Unsupported where nothing that was drawn is served.
Result<DrawnProgram> drawProgram(const DrawSpace &space, uint64_t seed, int index);
/// Shape and data of draw `index`. `selects`: the method selects blocks, so ids can be given to it.
ConformanceCase drawCase(const DrawnProgram &program, bool selects, uint64_t seed, int index);
/// `config` with every tunable that is not 0 in `fixed` replaced by it.
Config withFixed(Config config, const Config &fixed);
/// Everything about a case in one line.
std::string describe(const ConformanceCase &test);

} // namespace winnow
