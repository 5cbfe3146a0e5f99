// The look-up of tuned configurations for commands: as the library's engine does it, with the
// compiler's legality check where there is a compiler, and in words.
#pragma once
#include "compiler/driver/Compile.h"
#include "runtime/tuned/ConfigChooser.h"
#include <nlohmann/json.hpp>

namespace winnow {

class TunedConfigs {
public:
  /// `on` false: requests keep their configurations. What `cache` holds counts as legal unseen.
  explicit TunedConfigs(bool on, const Cache *cache = nullptr);
  /// options.decisions must be empty; the log goes to stderr.
  explicit TunedConfigs(TuningOptions options, const Cache *cache = nullptr);

  /// Sets the tunables that the request leaves open, and says where they come from. `device` is
  /// the GPU's name; empty: not known.
  ChosenConfig fill(CompileRequest &request, const Workload &workload, const std::string &device);

private:
  std::unique_ptr<ConfigChooser> chooser;
};

/// "select default; attend nearest, measured on ... for tokens 16384 instead of 131072". Without a
/// selection attention alone.
std::string choiceText(const ChosenConfig &choice, bool selects);
/// {"select": {"rung": ..., "config": ..., "why": ...}, "attend": ...}.
nlohmann::json choiceJson(const ChosenConfig &choice);

} // namespace winnow
